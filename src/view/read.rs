//! Reading entries and files of a version.

use crate::catalog::Version;
use crate::error::{Detail, Error, Missing, Result};
use crate::manifest::{Entry, Walk};
use crate::objects::{Content, Objects};
use crate::types::{Digest, Location, RelPath};
use std::fs::File;
use std::io::{self, Read};

/// A file of a version, open for reading. Packed content was checked whole; an object file was checked by size and
/// time.
#[derive(Debug)]
pub struct FileReader {
    from: From,
    left: u64,
    path: RelPath,
}

#[derive(Debug)]
enum From {
    Memory(io::Cursor<Vec<u8>>),
    Disk(File),
}

impl FileReader {
    /// Bytes not read yet.
    pub fn remaining(&self) -> u64 {
        self.left
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = match &mut self.from {
            From::Memory(bytes) => bytes.read(&mut buffer[..want])?,
            From::Disk(file) => file.read(&mut buffer[..want])?,
        };
        if n == 0 && want > 0 {
            return Err(io::Error::other(Error::damaged(format!(
                "{} ends {} bytes early: its object was cut while it was read",
                self.path, self.left
            ))));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

impl Version {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// Not found; usage: no file. Damaged; I/O.
    ///
    /// # Example
    /// ```
    /// # use std::io::Read;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// let mut artifact = cairn::Artifact::new("a", None)?;
    /// artifact.add_bytes("x/y.txt", "hello")?;
    /// let version = artifact.save(&store)?.version;
    /// let mut text = String::new();
    /// version.open("x/y.txt")?.read_to_string(&mut text).unwrap();
    /// assert_eq!(text, "hello");
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn open(&self, path: impl AsRef<[u8]>) -> Result<FileReader> {
        let path = RelPath::parse(path.as_ref())?;
        match self.entry(&path)? {
            Entry::File { digest, size, place, .. } => {
                open_content(self.store().objects(), &path, &digest, size, place)
            }
            Entry::Directory(_) => Err(Error::usage(format!("{path} in {self} is a directory"))
                .with_hint(format!("`cairn ls {self} {path}` lists it"))),
            Entry::Symlink { target } => {
                Err(Error::usage(format!("{path} in {self} is a symlink to {}", crate::error::show_bytes(&target)))
                    .with_hint("name the file it points at"))
            }
            Entry::Reference(r) => Err(Error::usage(format!(
                "{path} in {self} is a reference to {}: its bytes are not in the store",
                r.uri
            ))),
        }
    }

    /// The entry at `path`.
    ///
    /// # Errors
    /// Not found; damaged; I/O.
    pub fn entry(&self, path: &RelPath) -> Result<Entry> {
        let found = self.tree()?.lookup(path)?;
        found.map(|f| f.entry).ok_or_else(|| {
            let (what, name) = (Missing::Path, path.to_string());
            Error::not_found(format!("there is no {path} in {self}"))
                .with_detail(Detail::NotFound { what, name, candidates: Vec::new() })
                .with_hint(format!("`cairn ls {self}` lists it"))
        })
    }

    /// All entries in path order, streaming.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn entries(&self) -> Result<Walk> {
        Ok(self.tree()?.walk())
    }
}

fn open_content(
    objects: &Objects,
    path: &RelPath,
    digest: &Digest,
    size: u64,
    place: Option<Location>,
) -> Result<FileReader> {
    let from = match objects.content(digest, size, place)? {
        Content::Small(bytes) => From::Memory(io::Cursor::new(bytes)),
        Content::Large(large) => From::Disk(large.into_file()),
    };
    Ok(FileReader { from, left: size, path: path.clone() })
}
