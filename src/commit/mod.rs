//! VersionDraft versions: artifacts in the making, runs, and the one door through which a version is published.

mod annotations;
mod artifact;
mod chain;
mod changes;
mod collect;
mod content_check;
mod copy;
mod draft;
mod finish;
mod help;
mod patch;
mod publish;
mod run;
mod simple;
mod stage;
mod survey;
mod upsert;

pub use annotations::Annotations;
pub use artifact::{Artifact, FileWriter};
pub use changes::{Change, parse_changes};
pub use collect::scan_dir;
pub use copy::copy;
pub use finish::{FinishOptions, OpenRun};
pub use help::help;
pub use publish::{Published, SaveOptions};
pub use run::{Run, RunOptions};
#[doc(hidden)]
pub use simple::publish_generated;
pub use survey::{OpenDraft, Survey, no_draft, survey};
pub use upsert::{Sealing, UpsertInProgress, UpsertOptions, Upserted, refuse_if_finished, sealed};
