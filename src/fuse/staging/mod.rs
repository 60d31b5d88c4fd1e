//! Mounts of staging directories, which are writable. They have a connection of their own.
//!
//! A run's directory behaves like a local directory (SEMANTICS.md lists each exception): each change is made at once in
//! the stage's own files, with the credentials of the process, and `fsync` reaches them. During and after a seal each
//! change fails with EROFS. Staging directories are never on the same connection as versions: because files are not
//! opened there, root could write to cached pages that all users read.

mod adapter;
mod admission;
mod attributes;
mod companion;
mod connection;
mod daemon;
mod entries;
mod file_io;
mod handles;
mod known_names;
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
