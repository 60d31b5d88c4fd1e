//! A node-local cache: a directory of files by key, shared by the processes of a node.
//!
//! ```text
//! DIR/ab/cdef…     a cached file, by its key; mode of the directory without the write bits
//! DIR/tmp/TOKEN    files being written
//! DIR/lock         ranges of it are locked: one for each key that a process fills, one for the process that trims
//! ```
//!
//! - *Publishing.* A file is written under a temporary name and renamed. Readers see it whole or not at all, also after
//!   a kill. After a power cut it may be torn, and a disk may damage it, so a reader of a file checks it and calls
//!   [`Cache::remove`] if it is wrong. That is all it takes to heal: the next reader fills it again.
//! - *Bounds.* A process counts what it adds. When the cache may be over its limit, it removes what was used least
//!   recently (by modification time, which a use sets), down to nine tenths of the limit.
//! - *Full disk.* [`Cache::put`] frees half of the cache and tries once more, then fails. Nothing needs a cached file,
//!   so the caller serves the bytes without it.
//! - *Trust.* A user who may write to the directory decides what its users read, as far as they cannot check it: see
//!   [`Cache::is_open_to_all`].
//! - *Single flight.* [`Flights`] lets one thread of a process make a value that others wait for, and
//!   [`Cache::lock`] one process of the node. A lock ends with its process.

mod directory;
mod flights;
mod node_lock;

pub(crate) use directory::{Cache, cache_directory};
pub use directory::{Trimmed, Usage};
pub(crate) use flights::Flights;
pub(crate) use node_lock::NodeLock;
