//! What an earlier version has at the paths of new files and near them, so that these are compared with it.

use super::tree::{Body, SourceTree};
use crate::error::Result;
use crate::objects::{Earlier, EarlierContents};
use crate::types::RelPath;

/// The files of an earlier version, which new ones at the same paths probably resemble.
pub trait EarlierFiles: Sync {
    /// The content at a path; `None` if there is none, or it cannot be found out.
    fn content_at(&self, path: &RelPath) -> Option<Earlier>;

    /// A few contents at other paths that a new file of `size` bytes at `path` is probably similar to, by their names
    /// and sizes. The most similar one is the first.
    fn contents_near(&self, path: &RelPath, size: u64) -> Vec<Earlier>;

    /// Whether content may be composed of parts of other contents.
    ///
    /// # Errors
    /// I/O.
    fn may_compose(&self) -> Result<bool>;

    /// Whether a recipe may name long contents that are packed.
    ///
    /// # Errors
    /// I/O.
    fn may_pack_parts(&self) -> Result<bool>;
}

/// The earlier files for a tree that will be below `at`.
#[derive(Clone, Copy)]
pub struct EarlierBelow<'a> {
    /// Those of the whole version.
    pub files: &'a dyn EarlierFiles,
    /// Where the tree will be.
    pub at: &'a RelPath,
}

/// What a file at a path, of a size, is compared with.
pub(super) struct EarlierNear<'a> {
    pub files: &'a dyn EarlierFiles,
    pub path: &'a RelPath,
    pub size: u64,
}

impl EarlierContents for EarlierNear<'_> {
    fn at_same_path(&self) -> Option<Earlier> {
        self.files.content_at(self.path)
    }

    fn at_other_paths(&self) -> Vec<Earlier> {
        self.files.contents_near(self.path, self.size)
    }

    fn may_compose(&self) -> Result<bool> {
        self.files.may_compose()
    }

    fn may_pack_parts(&self) -> Result<bool> {
        self.files.may_pack_parts()
    }
}

/// Finds the paths of a tree's files in a version.
pub(super) struct PathLookup<'a> {
    tree: &'a SourceTree,
    at: &'a RelPath,
    /// For each directory its parent, and the number of its entry there.
    parents: Vec<(u32, u32)>,
}

impl<'a> PathLookup<'a> {
    /// For a tree that is at `at` in the version.
    pub(super) fn new(tree: &'a SourceTree, at: &'a RelPath) -> PathLookup<'a> {
        let mut parents = vec![(0, 0); tree.dirs.len()];
        for (dir, directory) in (0..).zip(&tree.dirs) {
            for (i, item) in (0..).zip(&directory.items) {
                if let Body::Directory(child) = item.body {
                    parents[child as usize] = (dir, i);
                }
            }
        }
        PathLookup { tree, at, parents }
    }

    /// The path of an entry, by its directory and number there; `None` if a version cannot have it.
    pub(super) fn path_of(&self, mut dir: u32, item: u32) -> Option<RelPath> {
        let name = |dir: u32, item: u32| &*self.tree.dirs[dir as usize].items[item as usize].name;
        let mut names = vec![name(dir, item)];
        while dir != 0 {
            let (parent, item) = self.parents[dir as usize];
            names.push(name(parent, item));
            dir = parent;
        }
        names.iter().rev().try_fold(self.at.clone(), |path, name| path.join(name).ok())
    }
}
