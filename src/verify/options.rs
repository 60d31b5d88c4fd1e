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
    /// Counters to move.
    pub progress: Arc<Progress>,
}

setters! {
    VerifyOptions {
        quick: bool,
        progress: Arc<Progress>,
    }
}
