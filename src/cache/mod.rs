//! A node-local cache: a directory of content by key, shared by the processes of a node. It has blocks of references,
//! and blocks of the packs and object files of stores that are slow to read.
//!
//! ```text
//! DIR/ab/cdef…/data  the bytes of a content; blocks that are missing are holes
//! DIR/ab/cdef…/sums  its size, and the sums of the blocks that are there; its time is that of the last use
//! DIR/ab/cdef…       (a file) a small record: what a local file was found to hold, or the beginnings of a content
//! DIR/tmp/TOKEN      what is being made or removed
//! DIR/limit          how many bytes the cache may have
//! DIR/lock           ranges of it are locked: one for each key that a process fills, one for the process that trims
//! ```
//!
//! - *Publishing.* What is made gets its name by a rename. A block counts when its sum is written, after its bytes. So
//!   a kill leaves a block that is missing; a power cut or a failing disk one with a wrong sum. A reader takes a block
//!   only if its sum is right. Otherwise it reads the source, and writes the block again: that is how damage heals.
//! - *Whole content.* When all blocks of an object are there, its digest is checked once, and the state of the file
//!   (inode and time of change) is noted. While it is in that state, the kernel may read the file by itself.
//! - *Bounds.* A process counts what it adds. When the cache may be over its limit, it removes what was used least
//!   recently, down to nine tenths of the limit. Content that is larger than a quarter of the limit is cached in parts.
//! - *Full disk.* A block that cannot be written is served without the cache. At most every ten seconds, half of the
//!   cache is removed then.
//! - *Trust.* A user who may write to the directory decides what its users read, as far as they cannot check it: see
//!   [`Cache::for_stores`].
//! - *Single flight.* [`Flights`] lets one thread of a process make a value that others wait for, and [`Cache::lock`]
//!   one process of the node. A lock ends with its process.

mod content;
mod directory;
mod flights;
mod node_lock;
mod options;
mod reading;
mod size;
mod trim;

pub(crate) use content::BLOCK;
pub use directory::{Cache, cache_directory, put_cache_directory};
pub(crate) use flights::Flights;
pub use options::CacheOptions;
pub(crate) use reading::Item;
pub use size::parse_size;
pub use trim::{Trimmed, Usage};
