//! What the store has by name: artifacts, versions, aliases, notes, removals, drafts; and the way from `NAME:V` to a
//! version.

pub mod alias;
pub(crate) mod artifact;
mod assign;
pub mod draft;
mod event;
pub(crate) mod given;
pub mod history;
pub mod info;
pub mod lineage;
pub(crate) mod log;
pub(crate) mod lost;
pub(crate) mod manifest_file;
pub mod note;
mod note_log;
mod note_record;
pub(crate) mod noted_runs;
pub(crate) mod numbers;
pub mod origin;
pub(crate) mod passed_record;
pub(crate) mod removal;
pub mod remove;
pub(crate) mod removed_version;
mod resolve;
pub mod retention;
pub mod search;
pub mod shared;
mod shared_entries;
pub(crate) mod similar;
pub mod sole_content;
pub mod stage;
mod stored_as;
pub mod usage;
pub mod uses;
pub(crate) mod version;
pub(crate) mod version_record;

pub(crate) use artifact::no_artifact;
pub use draft::{Contribution, Draft, DraftState, OnConflict};
pub use note::{Annotations, Metadata, Note, Recorded, parse_metadata};
pub use note_record::NoteSummary;
pub use resolve::{Selector, VersionSpec, resolve, resolve_number};
pub use shared::{SharedRecord, SourceRecord};
pub use shared_entries::SharedEntries;
pub(crate) use similar::distance;
pub use version::Version;
pub use version_record::{Mode, RunRecord, VersionRecord};
