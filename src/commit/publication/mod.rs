//! Publication: the one way in which a version, or a record of a draft's log, gets its number (FORMAT.md, "The claim"),
//! and how anyone completes it for a writer that died.

mod completion;
mod dead_writers;
pub(super) mod draft_log;
mod newest;
mod outcome;
mod publish;
mod recover;
mod version_numbers;

pub(super) use completion::{complete, version_at};
pub(super) use newest::{newest, newest_unrelied};
pub use outcome::{Published, SaveOptions};
pub(super) use publish::{VersionDraft, publish, unchanged, write_version};
pub use recover::recover;
pub(super) use recover::{recover_abandoned, retry_with_recovery};
