//! How versions are made: artifacts in the making, runs, and the modes in which they are published.
//!
//! Three layers, each using those before it: `artifact` (what is added to a version in the making), `publication`
//! (the one way in which a record gets its number, for versions and draft logs) and `modes` (put, patch, copy,
//! upsert, finish). `run` is who does it.

mod artifact;
mod content_writer;
mod modes;
mod publication;
mod run;

pub use artifact::{
    Artifact, ArtifactAnnotations, Changes, FileWriter, MAX_OBJECTS, ReferenceOptions, parse_changes, scan_dir,
};
#[doc(hidden)]
pub use modes::publish_generated;
pub use modes::{
    DraftPreview, FinishOptions, OpenDraft, OpenRun, Sealing, Survey, UpsertInProgress, UpsertOptions, Upserted, copy,
    no_draft, refuse_if_finished, remove_all, restore, sealed, survey,
};
pub use publication::{Published, SaveOptions, recover};
pub use run::{Run, RunOptions};
