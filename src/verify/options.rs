//! How a store is verified.

use crate::progress::Progress;
use crate::setters::setters;
use std::sync::Arc;

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
    /// Counters to move.
    pub progress: Arc<Progress>,
}

setters! {
    VerifyOptions {
        quick: bool,
        limit: Option<u64>,
        sample: Option<f64>,
        progress: Arc<Progress>,
    }
}
