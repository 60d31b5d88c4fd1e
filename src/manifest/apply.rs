//! Changing a manifest: edits by path, at a cost of O(d log n).

use super::build::RootNode;
use super::entry::{Entry, Subtree};
use super::levels::directory;
use super::node::Node;
use super::node_store::{CachedNodes, NodeSink, NodeSource};
use super::path::path_order;
use super::recut::{self, ItemEdit};
use super::tree::{Tree, find_in};
use crate::error::{Error, Result};
use crate::types::{MAX_PATH, RelPath};
use std::sync::Arc;

/// One change of a manifest.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The path to change.
    pub path: RelPath,
    /// What to do there.
    pub action: Action,
}

/// What an [`Edit`] does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Adds the entry, or replaces one of the same sort. A directory and something else do not replace each other. An
    /// empty directory put over a directory changes nothing; any other directory must not meet one.
    Put(Entry),
    /// Puts the entry there and replaces whatever exists, also a whole subtree.
    Replace(Entry),
    /// Removes what exists there, also a whole subtree. It is an error if nothing exists.
    Remove,
}

impl Edit {
    /// [`Action::Put`].
    pub fn put(path: RelPath, entry: Entry) -> Edit {
        Edit { path, action: Action::Put(entry) }
    }

    /// [`Action::Replace`].
    pub fn replace(path: RelPath, entry: Entry) -> Edit {
        Edit { path, action: Action::Replace(entry) }
    }

    /// [`Action::Remove`].
    pub fn remove(path: RelPath) -> Edit {
        Edit { path, action: Action::Remove }
    }
}

/// Applies edits, given in any order, to the manifest `base`. The result is the same as if it were built from scratch.
/// Creates missing parents; a directory that loses its last entry stays, empty. Stores only nodes that are new.
///
/// # Errors
/// Usage: a path is edited twice or cannot be in a manifest. Conflict: a file meets a directory. Not found: there is
/// nothing to remove. Damaged; those of source and sink. Each names the path.
pub fn apply(base: &Tree, mut edits: Vec<Edit>, sink: &mut dyn NodeSink) -> Result<RootNode> {
    edits.sort_by(|a, b| path_order(&a.path, &b.path));
    let source = base.source().clone();
    let recent = CachedNodes::new(&*source);
    let mut applier = Applier::new(base, &recent, sink);
    edits.into_iter().try_for_each(|edit| applier.edit(edit))?;
    applier.finish()
}

/// As [`apply`], for a stream of edits in [`path_order`]. Holds only the edits of open directories.
///
/// # Errors
/// As [`apply`], and those of the stream.
pub fn apply_sorted(
    base: &Tree,
    edits: impl IntoIterator<Item = Result<Edit>>,
    sink: &mut dyn NodeSink,
) -> Result<RootNode> {
    let source = base.source().clone();
    let recent = CachedNodes::new(&*source);
    let mut applier = Applier::new(base, &recent, sink);
    edits.into_iter().try_for_each(|edit| applier.edit(edit?))?;
    applier.finish()
}

struct Applier<'a> {
    base: &'a Tree,
    source: &'a dyn NodeSource,
    sink: &'a mut dyn NodeSink,
    open: Vec<EditedDir>,
    last: Option<RelPath>,
}

/// A directory with edits below it.
struct EditedDir {
    path: RelPath,
    was: Subtree,
    root: Arc<Node>,
    edits: Vec<ItemEdit>,
}

impl EditedDir {
    /// The entry `name` after the edits so far.
    fn now(&self, name: &[u8], source: &dyn NodeSource) -> Result<Option<Entry>> {
        match self.edits.last().filter(|e| *e.name == *name) {
            Some(edit) => Ok(edit.to.clone()),
            None => Ok(find_in(self.root.clone(), 0, name, source)?.map(|found| found.entry)),
        }
    }

    fn set(&mut self, name: &[u8], to: Option<Entry>) {
        self.edits.pop_if(|e| *e.name == *name);
        self.edits.push(ItemEdit::new(name, to));
    }
}

impl<'a> Applier<'a> {
    fn new(base: &'a Tree, source: &'a dyn NodeSource, sink: &'a mut dyn NodeSink) -> Self {
        let root = EditedDir { path: RelPath::root(), was: base.dir(), root: base.root().clone(), edits: Vec::new() };
        Applier { base, source, sink, open: vec![root], last: None }
    }

    fn top(&mut self) -> &mut EditedDir {
        self.open.last_mut().expect("the root directory stays open to the end")
    }

    fn edit(&mut self, Edit { path, action }: Edit) -> Result<()> {
        let Some(parent) = path.parent() else {
            return Err(Error::usage("the root directory itself cannot be edited"));
        };
        if let Some(last) = &self.last {
            match path_order(last, &path) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Err(Error::usage(format!("path `{path}` is edited twice"))),
                std::cmp::Ordering::Greater => return Err(Error::usage(format!("path `{path}` comes out of order"))),
            }
        }
        self.go_to(&parent, &path, &action)?;
        let source = self.source;
        let top = self.top();
        let now = top.now(path.name(), source)?;
        match action {
            Action::Remove if now.is_none() => return Err(absent(&path)),
            Action::Remove => top.set(path.name(), None),
            Action::Put(entry) => {
                check(&path, &entry)?;
                if may_put(&path, now.as_ref(), &entry)? {
                    top.set(path.name(), Some(entry));
                }
            }
            Action::Replace(entry) => {
                check(&path, &entry)?;
                top.set(path.name(), Some(entry));
            }
        }
        self.last = Some(path);
        Ok(())
    }

    /// Closes and opens directories until `parent` is the last open one.
    fn go_to(&mut self, parent: &RelPath, path: &RelPath, action: &Action) -> Result<()> {
        while !is_within(parent, &self.top().path) {
            self.close()?;
        }
        let depth = self.open.len() - 1;
        for name in parent.parts().skip(depth) {
            let source = self.source;
            let top = self.top();
            let at = top.path.join(name)?;
            let dir = match top.now(name, source)? {
                Some(Entry::Directory(dir)) => dir,
                Some(other) => {
                    let what = other.kind_name();
                    return Err(Error::conflict(format!(
                        "path `{path}` cannot be edited: `{at}` is a {what}, not a directory"
                    )));
                }
                None if matches!(action, Action::Remove) => return Err(absent(path)),
                None => {
                    top.set(name, Some(Entry::Directory(Subtree::empty())));
                    Subtree::empty()
                }
            };
            let root = dir.open(source)?;
            self.open.push(EditedDir { path: at, was: dir, root, edits: Vec::new() });
        }
        Ok(())
    }

    /// Applies the edits of the last open directory and passes the result to its parent.
    fn close(&mut self) -> Result<()> {
        let done = self.open.pop().expect("the root directory is not closed here");
        let root = recut::edit(&done.root, done.edits, self.source, self.sink)?;
        let dir = if Arc::ptr_eq(&root, &done.root) { done.was } else { directory(root, self.sink)? };
        self.top().set(done.path.name(), Some(Entry::Directory(dir)));
        Ok(())
    }

    fn finish(mut self) -> Result<RootNode> {
        while self.open.len() > 1 {
            self.close()?;
        }
        let done = self.open.pop().expect("the root directory is open");
        let root = recut::edit(&done.root, done.edits, self.source, self.sink)?;
        if Arc::ptr_eq(&root, &done.root) { Ok(self.base.as_root()) } else { RootNode::store(root, self.sink) }
    }
}

/// Whether `path` is `directory` or below it.
fn is_within(path: &RelPath, directory: &RelPath) -> bool {
    path == directory || path.is_inside(directory)
}

fn absent(path: &RelPath) -> Error {
    Error::not_found(format!("path `{path}` cannot be removed: it is not in the version"))
}

fn check(path: &RelPath, entry: &Entry) -> Result<()> {
    entry.check().map_err(|e| e.context(format!("path `{path}` cannot be put")))?;
    match entry {
        Entry::Directory(dir)
            if dir.totals().own > 0 && path.as_bytes().len() + 1 + usize::from(dir.totals().longest) > MAX_PATH =>
        {
            Err(Error::usage(format!("a path below `{path}` would be longer than 4,096 bytes")))
        }
        _ => Ok(()),
    }
}

/// Whether `entry` changes anything.
fn may_put(path: &RelPath, now: Option<&Entry>, entry: &Entry) -> Result<bool> {
    let refused = |why: &str| Err(Error::conflict(format!("path `{path}` cannot be put: {why}")));
    match (now, entry) {
        (Some(Entry::Directory(old)), Entry::Directory(new)) => {
            if new.totals().own > 0 && !new.same(old) {
                return refused("another directory exists there").hint_replace();
            }
            Ok(false)
        }
        (Some(Entry::Directory(_)), _) => refused("a directory exists there").hint_replace(),
        (Some(other), Entry::Directory(_)) => refused(&format!("a {} exists there", other.kind_name())).hint_replace(),
        _ => Ok(true),
    }
}

/// One hint for all refusals to put.
trait HintReplace {
    fn hint_replace(self) -> Self;
}

impl HintReplace for Result<bool> {
    fn hint_replace(self) -> Self {
        self.map_err(|e| e.with_hint("remove it first, or replace it knowingly"))
    }
}
