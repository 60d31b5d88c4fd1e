//! The modes in which versions are made, and what they share.

mod annotations;
mod checked_changes;
mod conflicts;
mod content_check;
mod copy;
mod edit_session;
mod fetch;
mod finish;
mod merging;
mod open_drafts;
mod pack_retention;
mod patch;
mod preview;
mod put;
mod remove;
mod restore;
mod retract;
mod save;
mod upsert;

pub use copy::copy;
pub use finish::FinishOptions;
pub(super) use finish::finish;
pub use merging::DraftPreview;
pub use open_drafts::{OpenDraft, OpenRun, Survey, no_draft, survey};
#[doc(hidden)]
pub use put::publish_generated;
pub use remove::remove_all;
pub use restore::restore;
pub use upsert::{Sealing, UpsertInProgress, UpsertOptions, Upserted, refuse_if_finished, sealed};
pub(super) use upsert::{begin, upsert};
