//! Where the content of a source goes.

use crate::objects::ObjectWriter;
use crate::progress::{Activity, Progress};
use std::path::PathBuf;

/// Where blobs go: into a store, or nowhere when only digests are wanted.
pub enum Sink<'a> {
    /// Into a store.
    Store(&'a ObjectWriter),
    /// Hashed only.
    Nowhere,
}

impl Sink<'_> {
    /// Where temporary files are made.
    pub fn temporary(&self) -> PathBuf {
        match self {
            Sink::Store(writer) => writer.directory().to_path_buf(),
            Sink::Nowhere => std::env::temp_dir(),
        }
    }

    /// What follows is the manifest and the writes to disk.
    pub(super) fn stored(&self, progress: &Progress) {
        if matches!(self, Sink::Store(_)) {
            progress.set_activity(Activity::MakingDurable);
        }
    }
}
