//! Which cache to use.

use super::directory::Cache;
use crate::error::Result;
use std::path::PathBuf;
use std::sync::Arc;

/// A directory on a disk of this node, in which content is kept that was read. Processes and mounts share it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheOptions {
    /// The directory. A missing one is made, for this user alone.
    pub dir: PathBuf,
    /// How many bytes it may have; it holds for all processes that use the directory. Without it the limit stays as it
    /// was set before; at first it is 10 GiB.
    pub size: Option<u64>,
}

impl CacheOptions {
    /// The cache in a directory.
    pub fn new(dir: impl Into<PathBuf>) -> CacheOptions {
        CacheOptions { dir: dir.into(), size: None }
    }

    /// The same with an absolute path, for a daemon, whose working directory is `/`.
    ///
    /// # Errors
    /// I/O: the working directory.
    #[cfg(feature = "fuse")]
    pub(crate) fn absolute(&self) -> Result<CacheOptions> {
        let dir = std::path::absolute(&self.dir).map_err(|e| crate::error::Error::io("resolve", &self.dir, e))?;
        Ok(CacheOptions { dir, size: self.size })
    }

    /// Opens it.
    ///
    /// # Errors
    /// As [`Cache::for_stores`].
    pub(crate) fn open(&self) -> Result<Arc<Cache>> {
        Cache::for_stores(&self.dir, self.size).map(Arc::new)
    }

    /// Sets how many bytes it may have.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> CacheOptions {
        self.size = Some(bytes);
        self
    }
}
