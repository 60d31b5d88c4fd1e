//! Typed objects in versions: tables, images, classes, HTML pages and JSON, stored as files in the formats of W&B
//! Artifacts, so that W&B reads what cairn writes and the other way round.
//!
//! [`Artifact::add`](crate::Artifact::add) adds an object, [`Version::get`](crate::Version::get) gives it back.

mod asset;
mod boxes;
mod classes;
mod column;
mod html;
mod image;
mod image_type;
mod import;
mod mask;
mod object;
mod pixels;
mod python_json;
mod table;
mod value;

pub use asset::{Asset, AssetFile};
pub use classes::Classes;
pub use html::Html;
pub use object::{Json, Object};
pub use table::Table;
pub use value::{BoundingBox, Boxes, Image, Mask, Value};
