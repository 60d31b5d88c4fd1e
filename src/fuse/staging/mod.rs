//! Staging directories, served to the kernel: a writable connection of its own, beside the read-only one that shows
//! versions.
//!
//! A run's directory behaves as a local directory (SEMANTICS.md lists each exception): every change is made at once in
//! the stage's own files, in the name of who asked, and `fsync` reaches them. While a stage is sealed and afterwards
//! every change of it is EROFS. Never on one connection with versions: there, without opens, a write by root would
//! poison what others read.

mod adapter;
mod admission;
mod attributes;
mod companion;
mod connection;
mod daemon;
mod entries;
mod file_io;
mod handles;
mod left_open;
mod listing;
mod metadata;
mod namespace_changes;
mod open_stage;
mod passthrough;
mod permissions;
mod removed_inodes;
mod reply;
mod request;
mod run_namespace;
mod seal;
mod seal_requests;
mod sealed_view;
mod table;
mod tree;
mod watch;

pub(super) use companion::Companion;
pub use daemon::{StagingOptions, mount_staging};
pub use left_open::{LeftOpen, open_in};
pub use request::{MountedRun, RunState, SealRequest, SealedBy, ask_to_seal, run_at, seal_at};
