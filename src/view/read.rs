//! Reading entries and files of a version.

use crate::catalog::Version;
use crate::error::{Detail, Error, Missing, Result, shell_path};
use crate::manifest::{Entry, Visit, Walk};
use crate::objects::{ComposedFile, Content};
use crate::remote::{OpenReference, shown_uri};
use crate::types::RelPath;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// A file of a version, open for reading. Packed content was checked whole; an object file was checked by size and
/// time. Of a reference, each part is read from its source when it is asked for, and checked against what was recorded.
///
/// It has a position, as a [`File`] has: [`Read`] and [`Seek`] move it, [`FileReader::read_at`] does not, so threads
/// can read parts of one file at once.
///
/// # Example
/// ```
/// # use std::io::{Read, Seek, SeekFrom};
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
/// let mut artifact = cairn::Artifact::new("a", None)?;
/// artifact.add_bytes("letters", "abcdefgh")?;
/// let version = artifact.save(&store)?.version;
/// let mut file = version.open("letters")?;
/// let (mut part, mut end) = ([0; 3], String::new());
/// assert_eq!(file.read_at(&mut part, 2).unwrap(), 3);
/// file.seek(SeekFrom::End(-2)).unwrap();
/// file.read_to_string(&mut end).unwrap();
/// assert_eq!((&part, end.as_str()), (b"cde", "gh"));
/// # Ok::<(), cairn::Error>(())
/// ```
#[derive(Debug)]
pub struct FileReader {
    from: From,
    size: u64,
    at: u64,
    path: RelPath,
}

#[derive(Debug)]
enum From {
    Memory(Vec<u8>),
    Disk(File),
    Parts(Box<ComposedFile>),
    Elsewhere(Box<OpenReference>),
}

impl FileReader {
    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes between the position and the end.
    pub fn remaining(&self) -> u64 {
        self.size.saturating_sub(self.at)
    }

    /// Reads at `offset`, without regard to the position. It may read less than the buffer holds; it reads nothing
    /// only at the end of the file or into an empty buffer.
    ///
    /// # Errors
    /// I/O. If the object was cut while it was read, or the source of a reference changed, is missing or cannot be
    /// reached: the error is a [`cairn::Error`](crate::Error), which says which and why.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.size.saturating_sub(offset);
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = match &self.from {
            From::Memory(bytes) => {
                let start = bytes.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
                (&bytes[start..]).read(&mut buffer[..want])?
            }
            From::Disk(file) => file.read_at(&mut buffer[..want], offset)?,
            From::Parts(parts) => parts.read_at(&mut buffer[..want], offset)?,
            From::Elsewhere(open) => open.read_at(&mut buffer[..want], offset).map_err(io::Error::other)?,
        };
        if n == 0 {
            return Err(io::Error::other(Error::damaged(format!(
                "{} ends {left} bytes early: its object was cut while it was read",
                self.path
            ))));
        }
        Ok(n)
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for FileReader {
    /// Moves the position; it may lie behind the end, where nothing is read.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "the position would be before the file's start");
        self.at = moved.ok_or_else(before)?;
        Ok(self.at)
    }
}

impl Version {
    /// Opens the file or reference at `path`.
    ///
    /// # Errors
    /// Not found; usage: it is not a file, or a reference that cannot be read. Damaged; I/O.
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
        self.open_entry(&path, &self.entry(&path)?)
    }

    /// Opens a file whose entry is known: from a walk, or from [`Version::file_at`]. Its path is only for messages.
    ///
    /// # Errors
    /// Usage: the entry is not a file. Damaged; I/O.
    pub fn open_entry(&self, path: &RelPath, entry: &Entry) -> Result<FileReader> {
        if let Entry::Reference(reference) = entry {
            let open = OpenReference::open(reference);
            let open = open.map_err(|e| e.context(format!("cannot read {path} in {self}")))?;
            return Ok(FileReader {
                size: open.size(),
                from: From::Elsewhere(Box::new(open)),
                at: 0,
                path: path.clone(),
            });
        }
        let from = match self.content(path, entry)? {
            Content::Small(bytes) => From::Memory(bytes),
            Content::Large(large) => From::Disk(large.into_file()),
            Content::Composed(composed) => From::Parts(Box::new(composed)),
        };
        let size = if let Entry::File { size, .. } = entry { *size } else { 0 };
        Ok(FileReader { from, size, at: 0, path: path.clone() })
    }

    /// The content of a file whose entry is known.
    ///
    /// # Errors
    /// As [`Version::open_entry`].
    pub(super) fn content(&self, path: &RelPath, entry: &Entry) -> Result<Content> {
        match entry {
            Entry::File { digest, size, place, .. } => self.store().objects().content(digest, *size, *place),
            Entry::Directory(_) => Err(Error::usage(format!("{path} in {self} is a directory"))
                .with_hint(format!("`cairn ls {self} {}` lists it", shell_path(&path.on_disk("".as_ref()))))),
            Entry::Symlink { target } => {
                Err(Error::usage(format!("{path} in {self} is a symlink to {}", crate::error::show_bytes(target)))
                    .with_hint("name the file it points at"))
            }
            Entry::Reference(reference) => {
                let uri = shown_uri(&reference.uri);
                Err(Error::usage(format!("{path} in {self} is a reference to {uri}: its bytes are not in the store"))
                    .with_hint("Version::open reads it; `cairn fetch` stores it"))
            }
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

    /// The entries from `path` on, in path order, streaming; the one at `path` is the first, if there is one. So a walk
    /// is continued where it ended, in O(log n).
    ///
    /// # Errors
    /// Usage: a path that is not allowed. Damaged; I/O.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// let mut artifact = cairn::Artifact::new("a", None)?;
    /// artifact.add_bytes("1", "")?.add_bytes("2", "")?.add_bytes("4", "")?;
    /// let version = artifact.save(&store)?.version;
    /// for (from, first) in [("2", "2"), ("3", "4")] {
    ///     assert_eq!(version.entries_from(from)?.next().unwrap()?.path.to_string(), first);
    /// }
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn entries_from(&self, path: impl AsRef<[u8]>) -> Result<Walk> {
        self.tree()?.walk_from(&RelPath::parse_or_root(path.as_ref())?)
    }

    /// How many files and references it has: the numbers that [`Version::file_at`] takes are below this.
    pub fn file_count(&self) -> u64 {
        self.record().files
    }

    /// File or reference number `n` in path order, from 0; `None` if there are fewer. It costs O(log n), so a reader in
    /// random order needs no list of paths. A caller with many numbers keeps the [`Version::tree`] and asks that.
    ///
    /// # Errors
    /// Damaged; I/O.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// let mut artifact = cairn::Artifact::new("a", None)?;
    /// artifact.add_bytes("train/1", "")?.add_bytes("train/2", "")?.add_bytes("val/1", "")?;
    /// let version = artifact.save(&store)?.version;
    /// assert_eq!(version.file_count(), 3);
    /// assert_eq!(version.file_at(2)?.unwrap().path.to_string(), "val/1");
    /// assert!(version.file_at(3)?.is_none());
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn file_at(&self, n: u64) -> Result<Option<Visit>> {
        self.tree()?.file_at(n)
    }
}
