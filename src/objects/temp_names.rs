//! Names of one transaction's temporary files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives each temporary file of a transaction a name of its own in the token's directory.
pub(super) struct TempNames {
    dir: PathBuf,
    next: AtomicU64,
}

impl TempNames {
    pub(super) fn new(dir: &Path) -> TempNames {
        TempNames { dir: dir.to_path_buf(), next: AtomicU64::new(0) }
    }

    /// The token's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The next name: `what` and a number.
    pub(super) fn next(&self, what: char) -> PathBuf {
        self.dir.join(format!("{what}{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }
}
