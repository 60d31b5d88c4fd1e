//! From directories, files and bytes to stored content and a manifest: scan, filter, hash and store in one pass, build.

mod build;
mod earlier;
mod fetched;
mod filter;
mod name_index;
mod scan;
mod source;
mod stat_cache;
mod store;
mod tree;

pub use build::build;
pub use earlier::{EarlierBelow, EarlierFiles};
pub(crate) use filter::{Filter, IGNORE_FILE};
pub use scan::{ScanOptions, scan};
pub use stat_cache::StatCache;
pub use store::{Sink, store_files};
pub use tree::{Body, FileBody, Overwrite, SourceStat, SourceTree, Stored, lstat_source};
