//! An artifact in the making: what is added to it, and how that is read and stored.

mod added;
mod annotations;
mod basis;
mod bring;
mod builder;
mod change_record;
mod change_runs;
mod changes;
mod collect;
mod file_writer;
mod newest_files;
mod own_files;
mod references;
mod similar_paths;
mod spool;

pub use annotations::ArtifactAnnotations;
pub(super) use basis::{BaseOp, Basis};
pub(super) use bring::bring;
pub(super) use builder::Add;
pub use builder::Artifact;
pub(super) use change_record::Side;
pub(super) use change_runs::ChangeIter;
pub use change_runs::Changes;
pub use changes::parse_changes;
pub use collect::scan_dir;
pub(super) use collect::{collect, collect_or_keep, or_keep};
pub use file_writer::FileWriter;
pub use references::{MAX_OBJECTS, ReferenceOptions};
