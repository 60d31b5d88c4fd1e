//! Reading a manifest: by path, by rank, and by listing directories.

use super::build::RootNode;
use super::cursor::{Cursor, Listing};
use super::entry::{DirAt, Entry, Subtree};
use super::node::Node;
use super::node_ref::NodeRef;
use super::node_store::NodeSource;
use super::path::path_error;
use super::totals::Totals;
use super::walk::{Visit, Walk};
use crate::error::{Error, Result};
use crate::types::{Digest, RelPath};
use std::ops::Range;
use std::sync::Arc;

/// A manifest: its root node and the source of the other nodes. Cheap to clone, and immutable.
#[derive(Clone)]
pub struct Tree {
    root: Arc<Node>,
    at: NodeRef,
    source: Arc<dyn NodeSource>,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("root", &self.at).finish_non_exhaustive()
    }
}

/// The result of a lookup.
#[derive(Clone, Debug)]
pub struct FoundEntry {
    /// What it is.
    pub entry: Entry,
    /// Its pre-order rank: 0 is the root directory.
    pub rank: u64,
}

/// An entry found by its rank.
#[derive(Clone, Debug)]
pub struct RankedEntry {
    /// Its path.
    pub path: RelPath,
    /// What it is.
    pub entry: Entry,
    /// The rank of its directory; 0 for the root.
    pub parent: u64,
}

impl Tree {
    /// Opens the manifest with that root node.
    ///
    /// # Errors
    /// Those of the source. Damaged: the node cannot be a root.
    #[doc(hidden)]
    pub fn open(at: NodeRef, source: Arc<dyn NodeSource>) -> Result<Tree> {
        let root = source.load(&at)?;
        root.check_root()?;
        Ok(Tree { root, at, source })
    }

    /// A manifest that was just built into what `source` reads.
    #[doc(hidden)]
    pub fn of(root: &RootNode, source: Arc<dyn NodeSource>) -> Tree {
        Tree { root: root.node.clone(), at: root.node_ref(), source }
    }

    /// A directory's tree as a manifest of its own.
    pub(super) fn over(root: Arc<Node>, at: NodeRef, source: Arc<dyn NodeSource>) -> Tree {
        Tree { root, at, source }
    }

    /// This manifest as something that was built.
    #[doc(hidden)]
    pub fn as_root(&self) -> RootNode {
        RootNode { node: self.root.clone(), place: self.at.place }
    }

    /// The root directory's root node.
    #[doc(hidden)]
    pub fn root(&self) -> &Arc<Node> {
        &self.root
    }

    /// Where the nodes come from.
    #[doc(hidden)]
    pub fn source(&self) -> &Arc<dyn NodeSource> {
        &self.source
    }

    /// The version's digest.
    pub fn digest(&self) -> Digest {
        self.at.digest
    }

    /// What the version adds up to.
    pub fn totals(&self) -> Totals {
        *self.root.totals()
    }

    /// The root directory as an entry.
    pub fn dir(&self) -> Subtree {
        Subtree(if self.root.fits_inline() {
            DirAt::Inline(self.root.clone())
        } else {
            DirAt::Stored(self.root.stored(self.at.place))
        })
    }

    /// Loads the root node of a directory of this tree. (The root directory's is at hand.)
    pub(super) fn open_dir(&self, dir: &Subtree) -> Result<Arc<Node>> {
        dir.open(&*self.source)
    }

    /// The entry called `name` in `dir`, whose own rank is `rank`.
    ///
    /// # Errors
    /// Those of the source; damaged.
    pub fn child(&self, dir: &Subtree, rank: u64, name: &[u8]) -> Result<Option<FoundEntry>> {
        find_in(self.open_dir(dir)?, rank, name, &*self.source)
    }

    /// The entry at `path`; the root has rank 0. `None` below anything that is not a directory.
    ///
    /// # Errors
    /// Those of the source; damaged.
    pub fn lookup(&self, path: &RelPath) -> Result<Option<FoundEntry>> {
        let mut found = FoundEntry { entry: Entry::Directory(self.dir()), rank: 0 };
        for (depth, name) in path.parts().enumerate() {
            let Entry::Directory(dir) = &found.entry else { return Ok(None) };
            let root = if depth == 0 { self.root.clone() } else { self.open_dir(dir)? };
            match find_in(root, found.rank, name, &*self.source)? {
                Some(next) => found = next,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// The entry of pre-order rank `rank`; `None` past the last. Costs O(log n) for each directory on its path.
    ///
    /// # Errors
    /// Those of the source; damaged.
    pub fn by_rank(&self, rank: u64) -> Result<Option<RankedEntry>> {
        let mut at = RankedEntry { path: RelPath::root(), entry: Entry::Directory(self.dir()), parent: 0 };
        if rank > self.totals().entries {
            return Ok(None);
        }
        // Rank of the directory we are in, and its tree.
        let (mut base, mut root) = (0, self.root.clone());
        while base < rank {
            let mut cursor = Cursor::new(root.clone());
            let before = cursor.seek_rank(root, rank - base - 1, &*self.source)?;
            let (leaf, i) = cursor.here().ok_or_else(|| Error::damaged("manifest: a rank leads past the end"))?;
            at.path = at.path.join(leaf.name(i)).map_err(path_error)?;
            at.entry = leaf.entry(i);
            at.parent = base;
            base += 1 + before;
            if base == rank {
                break;
            }
            let Entry::Directory(dir) = &at.entry else {
                return Err(Error::damaged("manifest: a rank leads below something that is not a directory"));
            };
            root = self.open_dir(dir)?;
        }
        Ok(Some(at))
    }

    /// File or reference number `n` in pre-order, from 0; `None` past the last. Costs O(log n) for each directory on
    /// its path.
    ///
    /// # Errors
    /// Those of the source; damaged.
    pub fn file_at(&self, n: u64) -> Result<Option<Visit>> {
        if n >= self.totals().files {
            return Ok(None);
        }
        let (mut path, mut rank) = (RelPath::root(), 0);
        let (mut root, mut left) = (self.root.clone(), n);
        loop {
            let mut cursor = Cursor::new(root.clone());
            let (before, rest) = cursor.seek_file(root, left, &*self.source)?;
            let (leaf, i) =
                cursor.here().ok_or_else(|| Error::damaged("manifest: a file's number leads to no file"))?;
            path = path.join(leaf.name(i)).map_err(path_error)?;
            rank += 1 + before;
            match leaf.entry(i) {
                Entry::Directory(dir) => (root, left) = (self.open_dir(&dir)?, rest),
                entry => return Ok(Some(Visit { path, entry, rank })),
            }
        }
    }

    /// The numbers, as [`Tree::file_at`] counts, of the files and references at and below `path`; `None` if there is no
    /// such path. Costs O(log² n).
    ///
    /// # Errors
    /// Those of the source; damaged.
    pub fn file_numbers(&self, path: &RelPath) -> Result<Option<Range<u64>>> {
        let Some(FoundEntry { entry, rank }) = self.lookup(path)? else { return Ok(None) };
        let count = match &entry {
            Entry::Directory(dir) => dir.totals().files,
            Entry::File { .. } | Entry::Reference(_) => 1,
            Entry::Symlink { .. } => 0,
        };
        // The first file that is not before the path.
        let (mut low, mut high) = (0, self.totals().files - count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.file_at(middle)? {
                Some(visit) if visit.rank < rank => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(Some(low..low + count))
    }

    /// The entries of `dir`, whose own rank is `rank`.
    ///
    /// # Errors
    /// Those of the source; damaged.
    pub fn list(&self, dir: &Subtree, rank: u64) -> Result<Listing> {
        Listing::new(self.source.clone(), dir, rank)
    }

    /// The entries of the root directory.
    pub fn list_root(&self) -> Listing {
        Listing::of_root(self.source.clone(), self.root.clone(), 0)
    }

    /// Every entry but the root, in pre-order.
    pub fn walk(&self) -> Walk {
        Walk::new(RelPath::root(), self.list_root())
    }

    /// Every entry from `path` on (that one included, if it is there), in pre-order.
    ///
    /// # Errors
    /// Those of the source; damaged.
    pub fn walk_from(&self, path: &RelPath) -> Result<Walk> {
        let mut walk = Walk::new(RelPath::root(), self.list_root());
        walk.seek(path)?;
        Ok(walk)
    }

    /// Every entry below the directory `path`, in pre-order, with whole paths. Empty if there is no such directory.
    ///
    /// # Errors
    /// Those of the source; damaged.
    pub fn walk_below(&self, path: &RelPath) -> Result<Walk> {
        match self.lookup(path)? {
            _ if path.is_root() => Ok(self.walk()),
            Some(FoundEntry { entry: Entry::Directory(dir), rank }) => {
                Ok(Walk::new(path.clone(), self.list(&dir, rank)?))
            }
            _ => Ok(Walk::empty()),
        }
    }
}

/// Finds `name` in the directory with that root node and rank.
pub(super) fn find_in(root: Arc<Node>, rank: u64, name: &[u8], source: &dyn NodeSource) -> Result<Option<FoundEntry>> {
    let mut cursor = Cursor::new(root.clone());
    cursor.seek_node(root, name, 0, source)?;
    let Some((leaf, _)) = cursor.here() else { return Ok(None) };
    let Ok(i) = leaf.find(name) else { return Ok(None) };
    let entry = leaf.entry(i);
    // The cursor is at the leaf's first entry.
    let before = cursor.before().1 + leaf.before(i);
    Ok(Some(FoundEntry { entry, rank: rank + 1 + before }))
}
