//! The directory tree being put together from sources, before it is hashed and after.

use super::name_index::NameIndex;
use super::stored::{Step, Stored, StoredTree};
use crate::disk::{self, FileStat};
use crate::error::{Error, Result};
use crate::manifest::Reference;
use crate::types::RelPath;
use std::path::PathBuf;
use std::sync::Arc;

/// What a file was when it was found: it is read again, or refused, when this no longer holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct SourceStat {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: i64,
    /// Nanoseconds since 1970.
    pub ctime: i64,
}

impl SourceStat {
    /// The part of a file's metadata that tells a change.
    pub fn of(meta: &std::fs::Metadata) -> SourceStat {
        use std::os::unix::fs::MetadataExt;
        SourceStat {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.len(),
            mtime: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            ctime: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl From<FileStat> for SourceStat {
    fn from(stat: FileStat) -> SourceStat {
        SourceStat { dev: stat.dev, ino: stat.ino, size: stat.size, mtime: stat.mtime, ctime: stat.ctime }
    }
}

fn nanoseconds(seconds: i64, more: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(more)
}

/// Where a file's bytes come from, and later what they were stored as.
#[derive(Clone, Debug)]
pub enum FileBody {
    /// A file anywhere, as found.
    Disk(Arc<PathBuf>, SourceStat),
    /// Bytes given.
    Bytes(Arc<[u8]>),
    /// What a reference names.
    Fetched(Arc<Reference>),
    /// Stored.
    Stored(Stored),
}

/// One entry.
#[derive(Clone, Debug)]
pub enum Body {
    File {
        exec: bool,
        body: FileBody,
    },
    Symlink(Box<[u8]>),
    Reference(Box<Reference>),
    /// By its index in [`SourceTree::dirs`].
    Directory(u32),
}

/// A named entry of a directory.
#[derive(Clone, Debug)]
pub struct SourceEntry {
    pub name: Box<[u8]>,
    pub body: Body,
}

/// A directory: its entries.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    pub items: Vec<SourceEntry>,
}

/// All directories; the root is number 0.
#[derive(Debug)]
pub struct SourceTree {
    pub dirs: Vec<Directory>,
    names: NameIndex,
}

/// What happens when a path is added twice with other content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overwrite {
    /// An error that names the path.
    Refuse,
    /// The later one counts.
    Allow,
}

impl Default for SourceTree {
    fn default() -> Self {
        SourceTree { dirs: vec![Directory::default()], names: NameIndex::default() }
    }
}

impl SourceTree {
    /// The directory at `path`, made if it is missing.
    ///
    /// # Errors
    /// Usage: a file is on the way.
    pub fn directory(&mut self, path: &RelPath) -> Result<u32> {
        let mut at = 0;
        for name in path.parts() {
            let items = &self.dirs[at as usize].items;
            let found = self.names.find(at, items, name, |item| &item.name);
            at = match found.map(|found| &items[found].body) {
                Some(Body::Directory(child)) => *child,
                Some(_) => return Err(clash(path)),
                None => {
                    let child = u32::try_from(self.dirs.len())
                        .map_err(|_| Error::usage("a version has at most 2^32 directories"))?;
                    self.dirs.push(Directory::default());
                    self.dirs[at as usize].items.push(SourceEntry { name: name.into(), body: Body::Directory(child) });
                    child
                }
            };
        }
        Ok(at)
    }

    /// Adds one entry at `path`; duplicates are resolved by [`SourceTree::settle`].
    ///
    /// # Errors
    /// Usage: the root, or a file on the way.
    pub fn add(&mut self, path: &RelPath, body: Body) -> Result<()> {
        let parent = path.parent().ok_or_else(|| Error::usage("a version's root is a directory"))?;
        let dir = self.directory(&parent)?;
        self.dirs[dir as usize].items.push(SourceEntry { name: path.name().into(), body });
        Ok(())
    }

    /// Adds all of a directory below `at`.
    ///
    /// # Errors
    /// Usage: a file on the way. I/O.
    pub fn graft(&mut self, at: &RelPath, stored: &StoredTree) -> Result<()> {
        let mut open = vec![self.directory(at)?];
        stored.walk(|step| {
            let (name, body) = match step {
                Step::Leave => {
                    open.pop();
                    return Ok(());
                }
                Step::Enter(name) => {
                    let child = u32::try_from(self.dirs.len())
                        .map_err(|_| Error::usage("a version has at most 2^32 directories"))?;
                    self.dirs.push(Directory::default());
                    (name, Body::Directory(child))
                }
                Step::Symlink(name, target) => (name, Body::Symlink(target.into())),
                Step::File(name, exec, stored) => (name, Body::File { exec, body: FileBody::Stored(stored) }),
            };
            let into = *open.last().expect("a walk leaves only what it has entered");
            if let Body::Directory(child) = body {
                open.push(child);
            }
            self.dirs[into as usize].items.push(SourceEntry { name: name.into(), body });
            Ok(())
        })
    }

    /// Removes the entry at `path`, a directory with all below it.
    ///
    /// # Errors
    /// Not found.
    pub fn remove(&mut self, path: &RelPath) -> Result<()> {
        let missing = || Error::not_found(format!("cannot remove {path}: it was not added"));
        let mut at = 0u32;
        for name in path.parent().ok_or_else(missing)?.parts() {
            match self.dirs[at as usize].items.iter().find(|i| *i.name == *name).map(|i| &i.body) {
                Some(Body::Directory(child)) => at = *child,
                _ => return Err(missing()),
            }
        }
        self.names = NameIndex::default();
        let items = &mut self.dirs[at as usize].items;
        let before = items.len();
        items.retain(|i| *i.name != *path.name());
        if items.len() == before { Err(missing()) } else { Ok(()) }
    }

    /// Sorts every directory and folds what was added twice: equal content is one entry, directories unite.
    /// Contents must be stored (see [`FileBody::Stored`]).
    ///
    /// # Errors
    /// Usage: the same path with other content (unless overwriting is allowed), or as a file and as a directory.
    pub fn settle(&mut self, overwrite: Overwrite) -> Result<()> {
        self.names = NameIndex::default();
        self.settle_dir(0, &RelPath::root(), overwrite)
    }

    fn settle_dir(&mut self, dir: u32, path: &RelPath, overwrite: Overwrite) -> Result<()> {
        let mut items = std::mem::take(&mut self.dirs[dir as usize].items);
        let sorted = items.is_sorted_by(|a, b| a.name < b.name);
        if !sorted {
            items.sort_by(|a, b| a.name.cmp(&b.name)); // stable: the later of two stays the later
            let mut out: Vec<SourceEntry> = Vec::with_capacity(items.len());
            for item in items {
                match out.last_mut().filter(|last| last.name == item.name) {
                    Some(last) => self.fold(last, item, path, overwrite)?,
                    None => out.push(item),
                }
            }
            items = out;
        }
        let below: Vec<(u32, Box<[u8]>)> = items
            .iter()
            .filter_map(|i| match i.body {
                Body::Directory(d) => Some((d, i.name.clone())),
                _ => None,
            })
            .collect();
        self.dirs[dir as usize].items = items;
        for (child, name) in below {
            self.settle_dir(child, &path.join(&name)?, overwrite)?;
        }
        Ok(())
    }

    fn fold(
        &mut self,
        first: &mut SourceEntry,
        second: SourceEntry,
        parent: &RelPath,
        overwrite: Overwrite,
    ) -> Result<()> {
        let path = parent.join(&second.name)?;
        match (&first.body, second.body) {
            (Body::Directory(a), Body::Directory(b)) => {
                let more = std::mem::take(&mut self.dirs[b as usize].items);
                self.dirs[*a as usize].items.extend(more);
            }
            (Body::Directory(_), _) | (_, Body::Directory(_)) => return Err(clash(&path)),
            (a, b) if same(a, &b) => {}
            (_, b) if overwrite == Overwrite::Allow => first.body = b,
            _ => {
                return Err(Error::usage(format!("{path} was added twice with different content"))
                    .with_hint("add it once, or add each under a path of its own"));
            }
        }
        Ok(())
    }
}

fn same(a: &Body, b: &Body) -> bool {
    match (a, b) {
        (Body::File { exec: e1, body: FileBody::Stored(a) }, Body::File { exec: e2, body: FileBody::Stored(b) }) => {
            e1 == e2 && a.digest == b.digest
        }
        (Body::Symlink(a), Body::Symlink(b)) => a == b,
        (Body::Reference(a), Body::Reference(b)) => a == b,
        _ => false,
    }
}

fn clash(path: &RelPath) -> Error {
    Error::usage(format!("{path} would be a file and a directory at once")).with_hint("add one of them elsewhere")
}

/// The attributes of a source.
///
/// # Errors
/// Not found when nothing is there; I/O.
pub fn lstat_source(path: &std::path::Path) -> Result<std::fs::Metadata> {
    disk::lstat(path)?.ok_or_else(|| Error::not_found(format!("there is no {}", crate::error::show_path(path))))
}
