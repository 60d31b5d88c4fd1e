//! The directories on the way to where a walk of a version is, held open: each is opened in the one above it, without
//! following a symlink.

use crate::disk::Dir;
use crate::error::Result;
use crate::types::RelPath;
use std::sync::Arc;

/// How many directories are held open: those above them are opened again when the walk comes back.
const KEPT: usize = 32;

/// The open directories, and with each what its walker keeps of it.
pub(super) struct OpenDirs<T> {
    levels: Vec<Level<T>>,
}

struct Level<T> {
    name: Vec<u8>,
    dir: Option<Arc<Dir>>,
    with: T,
}

impl<T> OpenDirs<T> {
    /// The root of a walk.
    pub(super) fn new(root: Arc<Dir>, with: T) -> Self {
        OpenDirs { levels: vec![Level { name: Vec::new(), dir: Some(root), with }] }
    }

    /// The next directory that a walk which comes to `path` has left. To be called until there is none.
    pub(super) fn leave_for(&mut self, path: &RelPath) -> Result<Option<(Arc<Dir>, T)>> {
        if self.levels.len() <= depth(path) { Ok(None) } else { self.leave() }
    }

    /// Leaves the innermost directory.
    pub(super) fn leave(&mut self) -> Result<Option<(Arc<Dir>, T)>> {
        let Some(last) = self.levels.len().checked_sub(1) else { return Ok(None) };
        let dir = self.open(last)?;
        Ok(self.levels.pop().map(|level| (dir, level.with)))
    }

    /// The innermost directory.
    pub(super) fn last(&mut self) -> Result<(Arc<Dir>, &mut T)> {
        let last = self.levels.len() - 1;
        let dir = self.open(last)?;
        Ok((dir, &mut self.levels[last].with))
    }

    /// Goes into a directory of the innermost one.
    pub(super) fn enter(&mut self, name: &[u8], dir: Arc<Dir>, with: T) {
        self.levels.push(Level { name: name.to_vec(), dir: Some(dir), with });
        if let Some(far) = self.levels.len().checked_sub(KEPT + 1).filter(|far| *far > 0) {
            self.levels[far].dir = None;
        }
    }

    fn open(&mut self, at: usize) -> Result<Arc<Dir>> {
        if let Some(dir) = &self.levels[at].dir {
            return Ok(dir.clone());
        }
        let from = (0..at).rev().find(|i| self.levels[*i].dir.is_some()).unwrap_or(0);
        let mut dir = self.levels[from].dir.clone().expect("the root stays open");
        for level in &self.levels[from + 1..=at] {
            dir = Arc::new(dir.dir(&level.name)?);
        }
        self.levels[at].dir = Some(dir.clone());
        Ok(dir)
    }
}

/// How many directories are above an entry, the root among them.
fn depth(path: &RelPath) -> usize {
    path.as_bytes().iter().filter(|b| **b == b'/').count() + 1
}
