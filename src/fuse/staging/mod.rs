//! Staging directories, served to the kernel: a writable connection of its own, beside the read-only one that shows
//! versions.
//!
//! A run's directory behaves as a local directory (SEMANTICS.md lists each exception): every change is made at once in
//! the stage's own files, in the name
//! of who asked, and `fsync` reaches them. While a stage is sealed and afterwards every change of it is EROFS. Never on
//! one connection with versions: there,
//! without opens, a write by root would poison what others read.

mod above;
mod adapter;
mod admission;
mod attributes;
mod beside;
mod gone;
mod handles;
mod left;
mod life;
mod request;
mod seal;
mod table;
mod tree;
mod watch;

pub(super) use beside::Beside;
pub use left::{LeftOpen, open_in};
pub use life::{StagingOptions, mount_staging};
pub use request::{MountedRun, RunState, SealRequest, SealedBy, ask_to_seal, run_at, seal_at};
