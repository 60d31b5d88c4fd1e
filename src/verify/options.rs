//! How a store is verified.

use crate::progress::Progress;
use crate::setters::setters;
use std::sync::Arc;

/// Whether a verification can continue an interrupted one. Its checkpoint is a file in the user's cache directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Checkpoint {
    /// It writes no checkpoint.
    #[default]
    Off,
    /// It reads everything, and writes a checkpoint now and then.
    Write,
    /// It continues from the checkpoint of an interrupted verification, if there is one: packs and objects that were
    /// read and found right, and did not change since, are not read again.
    Resume,
}

/// How it is verified.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Read manifests, records and footers only; content is taken on its name, size and time.
    pub quick: bool,
    /// Read content no faster than this, in bytes per second.
    pub limit: Option<u64>,
    /// Of a whole store, read and hash only this share of the packs and objects, chosen at random, and check the others
    /// as a quick check does. From 0 to 1.
    pub sample: Option<f64>,
    /// Of a whole store: whether it can be interrupted and continued. Not used if `quick` or `sample` is set.
    pub checkpoint: Checkpoint,
    /// Ask the sources of references whether they still have what was recorded.
    pub references: bool,
    /// Counters to move.
    pub progress: Arc<Progress>,
}

setters! {
    VerifyOptions {
        quick: bool,
        limit: Option<u64>,
        sample: Option<f64>,
        checkpoint: Checkpoint,
        references: bool,
        progress: Arc<Progress>,
    }
}
