//! What a save has to remember of each file: in memory while it is little, then in a temporary file without a name, so
//! that the memory of a process does not grow with the number of files.

use crate::disk;
use crate::error::{Error, Result};
use crate::locks::RwLock;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What is kept in memory: about 120,000 files. A put has three of these.
const IN_MEMORY: usize = if cfg!(test) { 200 } else { 8 << 20 };

/// Bytes that are written and read again by this process. When they become too many, all of them go to the file.
#[derive(Debug)]
pub(crate) struct Spill {
    /// A directory on the file system of the temporary file.
    dir: PathBuf,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Empty if there is a file.
    memory: Vec<u8>,
    file: Option<File>,
    /// Where the next bytes come.
    end: u64,
}

/// Where bytes are in a [`Spill`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    at: u64,
    len: u32,
}

impl Spill {
    /// An empty one, whose temporary file is made on the file system of `dir`.
    pub(crate) fn new(dir: &Path) -> Spill {
        Spill { dir: dir.to_path_buf(), state: RwLock::new(State::default()) }
    }

    /// Adds bytes; several threads may do so at once.
    ///
    /// # Errors
    /// I/O: the temporary file cannot be written.
    pub(crate) fn append(&self, bytes: &[u8]) -> Result<Span> {
        let mut state = self.state.write();
        let len = u32::try_from(bytes.len()).map_err(|_| Error::usage("a directory's entries are too long"))?;
        let span = Span { at: state.end, len };
        if state.file.is_none() && state.memory.len() + bytes.len() > IN_MEMORY {
            let moved = disk::unnamed_file(&self.dir).and_then(|file| state.move_to(file));
            moved.map_err(|e| self.failed("write", e))?;
        }
        match &state.file {
            Some(file) => file.write_all_at(bytes, span.at).map_err(|e| self.failed("write", e))?,
            None => state.memory.extend_from_slice(bytes),
        }
        state.end += u64::from(len);
        Ok(span)
    }

    /// Reads bytes that were added.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn read(&self, span: Span) -> Result<Vec<u8>> {
        self.read_part(span, 0, span.len as usize)
    }

    /// Reads up to `most` bytes from `from` on.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn read_part(&self, span: Span, from: usize, most: usize) -> Result<Vec<u8>> {
        let state = self.state.read();
        let len = most.min((span.len as usize).saturating_sub(from));
        let at = span.at as usize + from;
        let Some(file) = &state.file else { return Ok(state.memory[at..at + len].to_vec()) };
        let mut out = vec![0; len];
        file.read_exact_at(&mut out, at as u64).map_err(|e| self.failed("read", e))?;
        Ok(out)
    }

    fn failed(&self, what: &str, e: std::io::Error) -> Error {
        Error::io(&format!("{what} a temporary file in"), &self.dir, e)
    }
}

impl State {
    /// Writes what is in memory to a file, where what follows comes too.
    fn move_to(&mut self, file: File) -> std::io::Result<()> {
        file.write_all_at(&self.memory, 0)?;
        self.memory = Vec::new();
        self.file = Some(file);
        Ok(())
    }
}

/// Reads records that this process has written.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.bytes(N)?.try_into().map_err(|_| cut())
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn digest(&mut self) -> Result<crate::types::Digest> {
        self.array().map(crate::types::Digest)
    }

    /// Bytes with their length before them.
    pub(crate) fn text(&mut self) -> Result<&'a [u8]> {
        let len = self.u32()?;
        self.bytes(len as usize)
    }
}

/// The error for a record that this process cannot have written.
pub(crate) fn changed() -> Error {
    Error::io_message("a temporary file of this process was changed")
}

fn cut() -> Error {
    Error::io_message("a temporary file of this process was changed or cut")
}

/// Appends bytes with their length before them.
pub(crate) fn put_text(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_read_again_from_memory_and_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let spill = Spill::new(dir.path());
        let text = |n: usize| format!("text {n} {}", "x".repeat(n % 50)).into_bytes();
        let mut spans = Vec::new();
        for (count, is_in_memory) in [(10, true), (100, false)] {
            spans.extend((spans.len()..count).map(|n| spill.append(&text(n)).unwrap()));
            assert_eq!(spill.state.read().file.is_none(), is_in_memory);
            assert_eq!(spill.state.read().memory.capacity() > 0, is_in_memory, "memory is freed");
            for (n, span) in spans.iter().enumerate() {
                assert_eq!(spill.read(*span).unwrap(), text(n));
                assert_eq!(spill.read_part(*span, 5, 2).unwrap(), text(n)[5..7]);
            }
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn a_full_disk_is_an_error_with_a_hint_and_what_was_added_before_can_be_read() {
        let spill = Spill::new(Path::new("/somewhere"));
        let before = spill.append(b"before").unwrap();
        let full = || File::options().read(true).write(true).open("/dev/full").unwrap();
        assert_eq!(spill.state.write().move_to(full()).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(spill.read(before).unwrap(), b"before");
        let spill = Spill::new(Path::new("/somewhere"));
        spill.state.write().file = Some(full());
        let e = spill.append(b"more").unwrap_err();
        assert_eq!(e.to_string(), "cannot write a temporary file in /somewhere");
        assert_eq!(e.errno(), Some(libc::ENOSPC));
        assert!(e.hint().is_some_and(|hint| hint.contains("free some space")), "{e:?}");
    }
}
