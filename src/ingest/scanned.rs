//! What a scan found: the entries of each directory, sorted by name, in the form in which they are spilled.

use super::source::SourceDir;
use super::spill::{Fields, Span, Spill, changed, put_text};
use super::tree::SourceStat;
use crate::error::Result;
use std::sync::Arc;

const FILE: u8 = 0;
const SYMLINK: u8 = 1;
const DIRECTORY: u8 = 2;
/// Flags of a file.
const EXEC: u8 = 4;
const HERE: u8 = 8;

/// All directories of a source; the root is number 0.
#[derive(Debug)]
pub struct ScannedTree {
    pub(super) dirs: Vec<ScannedDir>,
    pub(super) spill: Spill,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// A directory: where it was scanned, and its entries in pieces, in the order of their names.
#[derive(Debug)]
pub(super) struct ScannedDir {
    pub source: Arc<SourceDir>,
    pub pieces: Box<[Span]>,
}

/// An entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ScannedEntry<'a> {
    pub name: &'a [u8],
    pub body: ScannedBody<'a>,
}

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ScannedBody<'a> {
    /// `here`: it is on the mount of its directory.
    File {
        exec: bool,
        here: bool,
        stat: SourceStat,
    },
    Symlink(&'a [u8]),
    /// By its number.
    Directory(u32),
}

impl ScannedEntry<'_> {
    /// Appends it. Returns where the number of a directory is.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> usize {
        let kind = match &self.body {
            ScannedBody::File { exec, here, .. } => FILE | if *exec { EXEC } else { 0 } | if *here { HERE } else { 0 },
            ScannedBody::Symlink(_) => SYMLINK,
            ScannedBody::Directory(_) => DIRECTORY,
        };
        out.push(kind);
        put_text(self.name, out);
        let at = out.len();
        match &self.body {
            ScannedBody::File { stat, .. } => {
                for n in [stat.dev, stat.ino, stat.size, stat.mtime as u64, stat.ctime as u64] {
                    out.extend_from_slice(&n.to_le_bytes());
                }
            }
            ScannedBody::Symlink(target) => put_text(target, out),
            ScannedBody::Directory(number) => out.extend_from_slice(&number.to_le_bytes()),
        }
        at
    }

    /// Takes the first entry off `from`.
    ///
    /// # Errors
    /// I/O: it is not an entry.
    pub(super) fn decode<'a>(from: &mut Fields<'a>) -> Result<ScannedEntry<'a>> {
        let kind = from.u8()?;
        let name = from.text()?;
        let body = match kind & !(EXEC | HERE) {
            FILE => {
                let (dev, ino, size) = (from.u64()?, from.u64()?, from.u64()?);
                let (mtime, ctime) = (from.u64()? as i64, from.u64()? as i64);
                let stat = SourceStat { dev, ino, size, mtime, ctime };
                ScannedBody::File { exec: kind & EXEC != 0, here: kind & HERE != 0, stat }
            }
            SYMLINK => ScannedBody::Symlink(from.text()?),
            DIRECTORY => ScannedBody::Directory(from.u32()?),
            _ => return Err(changed()),
        };
        Ok(ScannedEntry { name, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let stat = SourceStat { dev: 1, ino: 2, size: 3, mtime: -4, ctime: 5 };
        let entries = [
            ScannedEntry { name: b"a", body: ScannedBody::File { exec: true, here: false, stat } },
            ScannedEntry { name: b"", body: ScannedBody::File { exec: false, here: true, stat } },
            ScannedEntry { name: b"b\xff", body: ScannedBody::Symlink(b"to") },
            ScannedEntry { name: b"c", body: ScannedBody::Directory(7) },
        ];
        let mut bytes = Vec::new();
        let places: Vec<usize> = entries.iter().map(|entry| entry.encode(&mut bytes)).collect();
        assert_eq!(bytes[places[3]], 7);
        let mut fields = Fields(&bytes);
        for entry in &entries {
            assert_eq!(ScannedEntry::decode(&mut fields).unwrap(), *entry);
        }
        assert!(ScannedEntry::decode(&mut fields).is_err());
    }
}
