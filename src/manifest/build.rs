//! Building a manifest in one pass over its entries in path order.

use super::encode::NodeItem;
use super::entry::Entry;
use super::levels::{Levels, directory};
use super::node::Node;
use super::node_ref::NodeRef;
use super::node_store::NodeSink;
use super::totals::Totals;
use crate::error::{Error, Result, show_bytes};
use crate::types::{Digest, Location, MAX_PATH, RelPath, is_entry_name};
use std::sync::Arc;

/// A finished manifest.
#[derive(Clone, Debug)]
pub struct RootNode {
    /// The root node of the root directory's tree. It is stored like any other node, however small.
    pub node: Arc<Node>,
    /// Where the sink stored it.
    pub place: Option<Location>,
}

impl RootNode {
    pub(super) fn store(node: Arc<Node>, sink: &mut dyn NodeSink) -> Result<RootNode> {
        let place = sink.store(&node)?;
        Ok(RootNode { node, place })
    }

    /// The version's root digest.
    pub fn digest(&self) -> Digest {
        self.node.digest()
    }

    /// The sums over the version.
    pub fn totals(&self) -> Totals {
        *self.node.totals()
    }

    /// A reference to the root node.
    pub fn node_ref(&self) -> NodeRef {
        NodeRef { digest: self.digest(), place: self.place }
    }
}

/// Builds a manifest from entries in pre-order, names in byte order within each directory. Holds about one and a half
/// nodes for each level of each open directory, whatever the number of entries.
///
/// ```
/// use cairn::internals::manifest::{Builder, MemoryNodes};
/// use cairn::manifest::Entry;
/// use cairn::types::Digest;
/// let mut nodes = MemoryNodes::new();
/// let mut b = Builder::new(&mut nodes);
/// b.enter(b"data")?;
/// b.entry(b"x", Entry::File { digest: Digest::of(b"hello"), size: 5, exec: false, place: None })?;
/// b.leave()?;
/// let root = b.finish()?;
/// assert_eq!(root.totals().entries, 2);
/// # Ok::<(), cairn::error::Error>(())
/// ```
pub struct Builder<'a> {
    sink: &'a mut dyn NodeSink,
    open: Vec<BuildDir>,
    path: Vec<u8>,
}

impl std::fmt::Debug for Builder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}

struct BuildDir {
    levels: Levels,
    /// The last name added to this directory.
    last: Vec<u8>,
    /// Length of the path of this directory.
    path_len: usize,
}

impl BuildDir {
    fn new(path_len: usize) -> BuildDir {
        BuildDir { levels: Levels::new(0), last: Vec::new(), path_len }
    }
}

impl<'a> Builder<'a> {
    /// Begins at the root directory.
    pub fn new(sink: &'a mut dyn NodeSink) -> Self {
        Builder { sink, open: vec![BuildDir::new(0)], path: Vec::new() }
    }

    fn top(&mut self) -> &mut BuildDir {
        self.open.last_mut().expect("the root directory stays open until the builder is finished")
    }

    /// Checks the next name and remembers it. `below` is the length of the longest path below it.
    fn name(&mut self, name: &[u8], below: usize) -> Result<()> {
        let shown = |path: &[u8]| {
            if path.is_empty() { show_bytes(name) } else { format!("{}/{}", show_bytes(path), show_bytes(name)) }
        };
        if !is_entry_name(name) {
            return Err(Error::usage(format!("`{}` is not allowed as a name in a version", shown(&self.path))));
        }
        let slash = |n: usize| if n > 0 { n + 1 } else { 0 };
        if slash(self.path.len()) + name.len() + slash(below) > MAX_PATH {
            return Err(Error::usage(format!(
                "path `{}`, or one below it, is longer than 4,096 bytes",
                shown(&self.path)
            )));
        }
        let top = self.open.last_mut().expect("the root directory stays open until the builder is finished");
        if name <= top.last.as_slice() {
            let why = if name == top.last { "comes twice" } else { "comes out of order" };
            return Err(Error::usage(format!("path `{}` {why}", shown(&self.path))));
        }
        top.last.clear();
        top.last.extend_from_slice(name);
        Ok(())
    }

    /// Opens a directory in the current one.
    ///
    /// # Errors
    /// Usage: the name is not allowed, comes twice or out of order, or makes the path too long.
    pub fn enter(&mut self, name: &[u8]) -> Result<()> {
        self.name(name, 0)?;
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        self.open.push(BuildDir::new(self.path.len()));
        Ok(())
    }

    /// Adds an entry to the current directory. An [`Entry::Directory`] is added with everything below it, which is not
    /// read.
    ///
    /// # Errors
    /// As [`Builder::enter`]. Usage: the entry is not allowed. Those of the sink.
    pub fn entry(&mut self, name: &[u8], entry: Entry) -> Result<()> {
        entry.check()?;
        let below = if let Entry::Directory(dir) = &entry { usize::from(dir.totals().longest) } else { 0 };
        self.name(name, below)?;
        let open = self.open.last_mut().expect("the root directory stays open until the builder is finished");
        open.levels.push(NodeItem::new(name, entry), self.sink)
    }

    /// Closes the current directory, which may be empty.
    ///
    /// # Errors
    /// Usage: the current directory is the root. Those of the sink.
    pub fn leave(&mut self) -> Result<()> {
        if self.open.len() == 1 {
            return Err(Error::usage("the root directory of a manifest cannot be closed"));
        }
        let done = self.open.pop().expect("more than one is open");
        let root = done.levels.finish(self.sink)?.unwrap_or_else(Node::empty);
        let dir = directory(Arc::new(root), self.sink)?;
        let parent_len = self.top().path_len;
        self.path.truncate(parent_len);
        let open = self.open.last_mut().expect("more than one was open");
        let item = NodeItem::new(&open.last, Entry::Directory(dir));
        open.levels.push(item, self.sink)
    }

    /// Adds an entry by its path: leaves and enters directories as needed. Paths must come in [`super::path_order`].
    ///
    /// # Errors
    /// As [`Builder::enter`] and [`Builder::entry`]. Usage: the path is the root's.
    pub fn add(&mut self, path: &RelPath, entry: Entry) -> Result<()> {
        let Some(parent) = path.parent() else {
            return Err(Error::usage("the root directory cannot be an entry"));
        };
        self.go_to(&parent)?;
        self.entry(path.name(), entry)
    }

    /// Adds the directory `path`, which stays empty unless entries below it follow. In path order, as [`Builder::add`].
    ///
    /// # Errors
    /// As [`Builder::enter`].
    pub fn add_directory(&mut self, path: &RelPath) -> Result<()> {
        self.go_to(path)
    }

    /// Leaves and enters until `directory` is the current one.
    fn go_to(&mut self, directory: &RelPath) -> Result<()> {
        let want = directory.as_bytes();
        let within = |open: &[u8]| {
            open.is_empty() || want == open || (want.starts_with(open) && want.get(open.len()) == Some(&b'/'))
        };
        while !within(&self.path) {
            self.leave()?;
        }
        let rest = want[self.path.len()..].to_vec();
        rest.split(|b| *b == b'/').filter(|name| !name.is_empty()).try_for_each(|name| self.enter(name))
    }

    /// Closes the open directories and stores the root node.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self) -> Result<RootNode> {
        while self.open.len() > 1 {
            self.leave()?;
        }
        let root = self.open.pop().expect("the root directory is open");
        let node = root.levels.finish(self.sink)?.unwrap_or_else(Node::empty);
        RootNode::store(Arc::new(node), self.sink)
    }
}
