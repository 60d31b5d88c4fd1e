//! What the store has by name: artifacts, versions, aliases, notes, removals, drafts; and the way from `NAME:V` to a
//! version.

pub mod alias;
pub mod artifact;
pub mod draft;
pub mod log;
pub mod manifest_file;
pub mod note;
pub mod numbers;
pub mod removal;
pub mod remove;
mod resolve;
pub mod retention;
mod similar;
pub mod sole_content;
pub mod stage;
pub mod version;
pub(crate) mod version_record;

pub(crate) use artifact::no_artifact;
pub use draft::{Contribution, Draft, DraftState, OnConflict};
pub use note::{Annotations, Metadata, Note, Recorded, parse_metadata};
pub use resolve::{Selector, VersionSpec, resolve, resolve_number};
pub(crate) use similar::distance;
pub use version::Version;
pub use version_record::{Mode, RunRecord, VersionRecord};
