//! Files of an artifact that are written by the caller, a piece at a time.

use super::builder::Artifact;
use super::spool::Spool;
use crate::disk;
use crate::error::{Error, Result};
use crate::ingest::{Body, FileBody, SourceStat};
use crate::objects::SMALL_MAX;
use crate::store::Store;
use crate::types::RelPath;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use tempfile::NamedTempFile;

impl Artifact {
    /// A writer whose bytes become the file at `at` when it is finished. If there are many, they are spooled to the
    /// system's temporary directory; [`Artifact::new_file_in`] uses the store's file system.
    ///
    /// # Errors
    /// Usage: a path that is not allowed; I/O.
    ///
    /// # Example
    /// ```
    /// use std::io::Write;
    /// let mut artifact = cairn::Artifact::new("numbers", None)?;
    /// let mut file = artifact.new_file("one-to-three.csv")?;
    /// writeln!(file, "1,2,3").unwrap();
    /// file.finish()?;
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn new_file(&mut self, at: impl AsRef<[u8]>) -> Result<FileWriter<'_>> {
        let at = RelPath::parse(at.as_ref())?;
        Ok(FileWriter { artifact: self, at, store: None, exec: false, held: Vec::new(), spool: None })
    }

    /// [`Artifact::new_file`], spooled on the file system of `store`, which has room for what is to be stored. The
    /// temporary file has no name, so nothing is left of it when the process ends.
    ///
    /// # Errors
    /// Usage: a path that is not allowed. Refused: this process may not write to the store.
    pub fn new_file_in(&mut self, at: impl AsRef<[u8]>, store: &Store) -> Result<FileWriter<'_>> {
        store.check_writable()?;
        let at = RelPath::parse(at.as_ref())?;
        Ok(FileWriter { artifact: self, at, store: Some(store.clone()), exec: false, held: Vec::new(), spool: None })
    }
}

/// A file of an artifact being written; see [`Artifact::new_file`]. Dropped unfinished, it adds nothing.
#[derive(Debug)]
pub struct FileWriter<'a> {
    artifact: &'a mut Artifact,
    at: RelPath,
    /// Whose file system has the spool; none: the system's temporary directory.
    store: Option<Store>,
    exec: bool,
    /// The bytes, until their number requires a spool file.
    held: Vec<u8>,
    spool: Option<BufWriter<Spool>>,
}

impl FileWriter<'_> {
    /// Sets whether the file may be executed; it may not unless this is called.
    pub fn set_executable(&mut self, may_be: bool) {
        self.exec = may_be;
    }

    /// Adds what was written.
    ///
    /// # Errors
    /// I/O.
    pub fn finish(self) -> Result<()> {
        let dir = self.store.as_ref().map_or_else(std::env::temp_dir, |s| s.layout().work());
        let failed = |e: std::io::Error| Error::io("write to a temporary file in", &dir, e);
        let (body, spool) = match self.spool {
            None => (FileBody::Bytes(self.held.into()), None),
            Some(spool) => {
                let spool = spool.into_inner().map_err(|e| failed(e.into_error()))?;
                let meta = spool.file().metadata().map_err(failed)?;
                (FileBody::Disk(Arc::new(spool.path()), SourceStat::of(&meta)), Some(spool))
            }
        };
        self.artifact.entry(self.at.as_bytes(), Body::File { exec: self.exec, body }, spool).map(drop)
    }

    fn spill(&mut self) -> std::io::Result<&mut BufWriter<Spool>> {
        let spool = match &self.store {
            Some(store) => Spool::Unnamed(disk::unnamed_file(&store.layout().work())?),
            None => Spool::Named(NamedTempFile::new()?),
        };
        let mut spool = BufWriter::with_capacity(1 << 20, spool);
        spool.write_all(&std::mem::take(&mut self.held))?;
        Ok(self.spool.insert(spool))
    }
}

impl Write for FileWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(spool) = &mut self.spool {
            return spool.write(bytes);
        }
        if ((self.held.len() + bytes.len()) as u64) < SMALL_MAX {
            self.held.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        self.spill()?.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.spool.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}
