//! A source directory whose files are stored: what its manifest is made of, in path order, spilled.

use super::spill::{Fields, Span, Spill, changed, put_text};
use crate::error::Result;
use crate::manifest::{Builder, Entry, NodeSink, RootNode};
use crate::types::{Digest, Location, PackRef};

const LEAVE: u8 = 0;
const ENTER: u8 = 1;
const SYMLINK: u8 = 2;
const FILE: u8 = 3;
/// Flags of a file.
const EXEC: u8 = 4;
const PACKED: u8 = 8;

/// Stored content: digest, size, and its location if it is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    pub digest: Digest,
    pub size: u64,
    pub place: Option<Location>,
}

/// All of a directory, stored.
#[derive(Debug)]
pub struct StoredTree {
    pub(super) spill: Spill,
    /// In path order.
    pub(super) pieces: Vec<Span>,
}

/// A step of a walk in path order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Into a directory.
    Enter(&'a [u8]),
    /// Out of the innermost directory.
    Leave,
    Symlink(&'a [u8], &'a [u8]),
    File(&'a [u8], bool, Stored),
}

impl Step<'_> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Step::Leave => out.push(LEAVE),
            Step::Enter(name) => {
                out.push(ENTER);
                put_text(name, out);
            }
            Step::Symlink(name, target) => {
                out.push(SYMLINK);
                put_text(name, out);
                put_text(target, out);
            }
            Step::File(name, exec, stored) => {
                out.push(FILE | if *exec { EXEC } else { 0 } | if stored.place.is_some() { PACKED } else { 0 });
                put_text(name, out);
                out.extend_from_slice(&stored.digest.0);
                out.extend_from_slice(&stored.size.to_le_bytes());
                if let Some(place) = stored.place {
                    out.extend_from_slice(&place.pack.0.to_le_bytes());
                    out.extend_from_slice(&place.offset.to_le_bytes());
                }
            }
        }
    }

    fn decode<'a>(from: &mut Fields<'a>) -> Result<Step<'a>> {
        let kind = from.u8()?;
        Ok(match kind & !(EXEC | PACKED) {
            LEAVE => Step::Leave,
            ENTER => Step::Enter(from.text()?),
            SYMLINK => Step::Symlink(from.text()?, from.text()?),
            FILE => {
                let (name, digest, size) = (from.text()?, from.digest()?, from.u64()?);
                let is_packed = kind & PACKED != 0;
                let place = is_packed.then(|| Ok(Location { pack: PackRef(from.u32()?), offset: from.u32()? }));
                Step::File(name, kind & EXEC != 0, Stored { digest, size, place: place.transpose()? })
            }
            _ => return Err(changed()),
        })
    }
}

impl StoredTree {
    /// Walks it in path order.
    ///
    /// # Errors
    /// I/O; those of `each`.
    pub(super) fn walk(&self, mut each: impl FnMut(Step<'_>) -> Result<()>) -> Result<()> {
        for piece in &self.pieces {
            let bytes = self.spill.read(*piece)?;
            let mut fields = Fields(&bytes);
            while !fields.0.is_empty() {
                each(Step::decode(&mut fields)?)?;
            }
        }
        Ok(())
    }

    /// Builds its manifest.
    ///
    /// # Errors
    /// Usage: an entry that a version cannot hold. I/O; those of the sink.
    pub(super) fn build(&self, sink: &mut dyn NodeSink) -> Result<RootNode> {
        let mut builder = Builder::new(sink);
        self.walk(|step| match step {
            Step::Enter(name) => builder.enter(name),
            Step::Leave => builder.leave(),
            Step::Symlink(name, target) => builder.entry(name, Entry::Symlink { target: target.to_vec() }),
            Step::File(name, exec, stored) => {
                let Stored { digest, size, place } = stored;
                builder.entry(name, Entry::File { digest, size, exec, place })
            }
        })?;
        builder.finish()
    }
}
