//! From directories, files and bytes to stored content and a manifest: scan, filter, hash and store in one pass, build.

mod build;
mod earlier;
mod fetched;
mod filter;
mod name_index;
mod new_nodes;
mod scan;
mod scanned;
mod sink;
mod source;
mod spill;
mod stat_cache;
mod stat_records;
mod store;
mod store_scanned;
mod stored;
mod tree;
mod worker;

pub use build::Sources;
pub use earlier::{EarlierBelow, EarlierFiles};
pub(crate) use filter::{Filter, IGNORE_FILE};
pub use new_nodes::NewNodes;
pub use scan::{ScanOptions, scan};
pub use sink::Sink;
pub(crate) use spill::{Fields, Span, Spill, changed, put_text};
pub use stat_cache::StatCache;
pub use store::store_files;
pub use store_scanned::store_scanned;
pub use stored::{Stored, StoredTree};
pub use tree::{Body, FileBody, Overwrite, SourceStat, SourceTree, lstat_source};
