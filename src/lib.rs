//! cairn: a versioned artifact store on plain disk.
#![warn(missing_docs)]

pub mod catalog;
pub mod clock;
pub mod commit;
pub mod disk;
pub mod error;
pub mod fuse;
mod ingest;
pub mod layout;
pub mod lock;
pub mod manifest;
pub mod mount;
pub mod objects;
pub mod pins;
pub mod progress;
mod recent_cache;
pub mod record;
pub mod staging;
pub mod store;
mod threads;
pub mod txn;
pub mod types;
pub mod verify;
pub mod view;

pub use catalog::{Draft, OnConflict, Version, VersionSpec, resolve};
pub use commit::{Artifact, FinishOptions, Published, Run, RunOptions, SaveOptions, UpsertOptions, Upserted};
pub use error::{Error, Kind, Result};
pub use ingest::ScanOptions;
pub use store::{InitOptions, Store};
