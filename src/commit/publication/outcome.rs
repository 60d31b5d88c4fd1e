//! The options and the result of a save.

use crate::catalog::{Recorded, RunRecord, Version};
use crate::lock::Purpose;
use crate::progress::Progress;
use crate::setters::setters;
use crate::types::{ArtifactName, VersionNumber};
use std::sync::Arc;

/// How an artifact is saved.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SaveOptions {
    /// The run that saves it.
    pub run: Option<RunRecord>,
    /// Whether that run is recorded next to the producer if the content is not new: for a run that the user named.
    pub note_run: bool,
    /// Make a version even if the newest one has the same content.
    pub always_new: bool,
    /// Counters to move.
    pub progress: Arc<Progress>,
}

setters! {
    SaveOptions {
        run: RunRecord => Some(run),
        note_run: bool,
        always_new: bool,
        progress: Arc<Progress>,
    }
}

impl SaveOptions {
    /// What a lock says while a version of `artifact` is made in this way.
    pub(in crate::commit) fn purpose<'a>(&'a self, purpose: &'a str, artifact: &'a ArtifactName) -> Purpose<'a> {
        let run = self.run.as_ref().map(|r| r.id.as_str());
        Purpose { purpose, artifact: Some(artifact.as_str()), run, ..Purpose::default() }
    }
}

/// The result of a save.
#[derive(Debug)]
#[non_exhaustive]
pub struct Published {
    /// The version that has the content.
    pub version: Version,
    /// Whether this save made it.
    pub created: bool,
    /// Bytes of content that were not in the store before.
    pub new_bytes: u64,
    /// For a patch whose base was no longer the newest version: the version that it was made on instead.
    pub rebased: Option<VersionNumber>,
    /// For a put: the newest version before it, if there was one.
    pub previous: Option<Version>,
    /// For a version that existed before: which annotations changed.
    pub recorded: Recorded,
}

impl Published {
    pub(in crate::commit) fn new(version: Version, created: bool, new_bytes: u64) -> Published {
        Published { version, created, new_bytes, rebased: None, previous: None, recorded: Recorded::default() }
    }
}
