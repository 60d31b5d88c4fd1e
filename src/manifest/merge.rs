//! Uniting manifests, path by path, in the order of a log.

use super::build::{Builder, Root};
use super::cursor::Cursor;
use super::entry::{Dir, Entry};
use super::nodes::NodeSink;
use super::tree::Tree;
use crate::error::Result;
use crate::words::RelPath;

/// Two manifests that say different things about one path: other content, or a directory against something else.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// Where.
    pub path: RelPath,
    /// The number of the earlier tree, and what it has.
    pub earlier: (usize, Entry),
    /// The number of the later tree, and what it has.
    pub later: (usize, Entry),
}

/// What to do about a [`Conflict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The later one stands; a subtree is replaced whole.
    Later,
    /// There will be no merge; the search for conflicts goes on.
    Refuse,
}

/// The union of the trees, in log order. Directories unite, equal entries are one, and for anything else `decide` is asked.
/// `None` when it has refused. Trees that are equal at a place are read once there, a directory that one tree alone
/// has, or that is equal in all that have it, is not read at all.
///
/// # Errors
/// What the sources and the sink say; damage.
pub fn merge(trees: &[Tree], decide: &mut dyn FnMut(&Conflict) -> Choice, sink: &mut dyn NodeSink) -> Result<Option<Root>> {
    let sides = trees.iter().enumerate().map(|(tree, t)| Side { tree, cursor: Cursor::new(t.root().clone()) }).collect();
    let mut frames = vec![Frame { path: RelPath::root(), sides: distinct(sides, |s| trees[s.tree].digest()) }];
    let mut builder = Builder::new(sink);
    let mut refused = false;
    while let Some(frame) = frames.last_mut() {
        let Some(name) = frame.next_name(trees)? else {
            frames.pop();
            if !frames.is_empty() {
                builder.leave()?;
            }
            continue;
        };
        let path = frame.path.join(&name)?;
        // What stands so far: one thing, or directories to unite, each with the number of its tree.
        let mut standing: Vec<(usize, Entry)> = Vec::new();
        for side in &mut frame.sides {
            let Some(entry) = side.take(&name) else { continue };
            let Some((earlier, first)) = standing.first() else {
                standing.push((side.tree, entry));
                continue;
            };
            if first.is_directory() && entry.is_directory() {
                standing.push((side.tree, entry));
            } else if !first.same(&entry) {
                let conflict = Conflict { path: path.clone(), earlier: (*earlier, first.clone()), later: (side.tree, entry) };
                match decide(&conflict) {
                    Choice::Later => standing = vec![conflict.later],
                    Choice::Refuse => refused = true,
                }
            }
        }
        let directories: Vec<(usize, &Dir)> =
            standing.iter().filter_map(|(tree, e)| if let Entry::Directory(dir) = e { Some((*tree, dir)) } else { None }).collect();
        let directories = distinct(directories, |(_, dir)| dir.digest());
        if directories.len() > 1 {
            let open = |(tree, dir): (usize, &Dir)| {
                Ok(Side { tree, cursor: Cursor::new(dir.open(&**trees[tree].source())?) })
            };
            let sides = directories.into_iter().map(open).collect::<Result<_>>()?;
            builder.enter(&name)?;
            frames.push(Frame { path, sides });
        } else if let Some((_, entry)) = standing.pop() {
            builder.entry(&name, entry)?;
        }
    }
    let root = builder.finish()?;
    Ok((!refused).then_some(root))
}

/// Of equals only the last stays: what an earlier one says, it says again, and later.
fn distinct<T, K: PartialEq>(all: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let keys: Vec<K> = all.iter().map(key).collect();
    all.into_iter().enumerate().filter(|(i, _)| !keys[i + 1..].contains(&keys[*i])).map(|(_, item)| item).collect()
}

/// A directory that several trees have.
struct Frame {
    path: RelPath,
    sides: Vec<Side>,
}

/// One tree's part of it.
struct Side {
    tree: usize,
    cursor: Cursor,
}

impl Side {
    /// The entry called `name`, if the cursor stands there.
    fn take(&mut self, name: &[u8]) -> Option<Entry> {
        let (node, i) = self.cursor.here()?;
        if !node.is_leaf() || node.name(i) != name {
            return None;
        }
        let entry = node.entry(i);
        self.cursor.advance();
        Some(entry)
    }
}

impl Frame {
    /// The smallest name at which any side stands; every side that has it is at its entry.
    fn next_name(&mut self, trees: &[Tree]) -> Result<Option<Vec<u8>>> {
        loop {
            let Some(name) = self.sides.iter().filter_map(|s| s.cursor.name()).min().map(<[u8]>::to_vec) else { return Ok(None) };
            let here: Vec<usize> = (0..self.sides.len()).filter(|i| self.sides[*i].cursor.name() == Some(&name)).collect();
            let level = |i: usize| self.sides[i].cursor.here().map_or(0, |(node, _)| node.level());
            let highest = here.iter().map(|i| level(*i)).max().unwrap_or(0);
            if highest == 0 {
                return Ok(Some(name));
            }
            let down: Vec<usize> = here.into_iter().filter(|i| level(*i) == highest).collect();
            let child = |i: &usize| self.sides[*i].cursor.here().map(|(node, at)| node.child(at).at.digest);
            let stays = distinct(down.clone(), child);
            for i in down {
                let side = &mut self.sides[i];
                if stays.contains(&i) {
                    side.cursor.expand(&**trees[side.tree].source())?;
                } else {
                    side.cursor.advance();
                }
            }
        }
    }
}
