//! What a save is asked for and what comes of it.

use crate::catalog::{Recorded, RunRecord, Version};
use crate::progress::Progress;
use crate::types::VersionNumber;
use std::sync::Arc;

/// How an artifact is saved.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// The run that makes it.
    pub run: Option<RunRecord>,
    /// Whether that run is recorded beside the producer when the content is not new: a run that somebody named.
    pub note_run: bool,
    /// Make a version although the newest has the same content.
    pub always_new: bool,
    /// Counters to move.
    pub progress: Arc<Progress>,
}

/// What came of a save.
#[derive(Debug)]
pub struct Published {
    /// The version that has the content.
    pub version: Version,
    /// Whether it was made now.
    pub created: bool,
    /// Bytes of content that were not in the store before.
    pub new_bytes: u64,
    /// For a patch whose base was no longer the newest: the version it was put on instead.
    pub rebased: Option<VersionNumber>,
    /// For a put: the newest version before it, if there was one.
    pub previous: Option<Version>,
    /// For a version that existed before: what was recorded of it now.
    pub recorded: Recorded,
}

impl Published {
    pub(in crate::commit) fn new(version: Version, created: bool, new_bytes: u64) -> Published {
        Published { version, created, new_bytes, rebased: None, previous: None, recorded: Recorded::default() }
    }
}
