//! Composed content as one file, where that costs nearly nothing: the file shares its blocks with the objects, on file
//! systems that can (xfs, btrfs). The kernel can read such a file by itself. It has no name, so it is gone with the
//! process, and nothing of the store changes.

use super::composed_file::ComposedFile;
use super::content_store::Objects;
use crate::disk::UnnamedFile;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

/// The most bytes of a content that are copied because their blocks cannot be shared.
const MAX_COPIED: u64 = 16 << 20;
/// At least this part of a content must be shared.
const MIN_SHARED: u64 = 2;
/// The most ranges that are shared: each is a system call.
const MAX_RANGES: usize = 4096;
/// How many bytes are copied at once.
const BUFFER: u64 = 1 << 20;

/// What becomes of a composed content.
#[derive(Debug)]
pub enum OneFile {
    /// A file with all its bytes.
    File(File),
    /// Too much of it would have to be copied.
    Costly,
    /// No content of this store becomes one file here.
    Impossible,
}

/// Blocks of the content that an object has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shared {
    source: usize,
    at: Range<u64>,
    offset: u64,
}

impl Objects {
    /// Makes one file of a composed content, if that copies little.
    ///
    /// # Errors
    /// I/O while bytes are copied.
    pub fn one_file(&self, composed: &ComposedFile) -> Result<OneFile> {
        let shared = composed.shared_blocks()?;
        let copied = composed.size() - shared.iter().map(|blocks| blocks.at.end - blocks.at.start).sum::<u64>();
        if shared.len() > MAX_RANGES || copied > MAX_COPIED || copied > composed.size() - composed.size() / MIN_SHARED {
            return Ok(OneFile::Costly);
        }
        // A user who may not write there, or a file system without such files.
        let Ok(file) = UnnamedFile::make(&self.layout().objects(), composed.size()) else {
            return Ok(OneFile::Impossible);
        };
        let mut at = 0;
        for blocks in &shared {
            let Some(source) = composed.object(blocks.source) else { return Ok(OneFile::Impossible) };
            if file.share(blocks.at.start, source.file(), blocks.offset, blocks.at.end - blocks.at.start).is_err() {
                return Ok(OneFile::Impossible);
            }
            copy(&file, composed, at..blocks.at.start)?;
            at = blocks.at.end;
        }
        copy(&file, composed, at..composed.size())?;
        Ok(OneFile::File(file.into_file()))
    }
}

impl ComposedFile {
    /// The blocks that objects have at an offset that is a multiple of the block size, too.
    fn shared_blocks(&self) -> Result<Vec<Shared>> {
        let (mut shared, mut blocks) = (Vec::new(), HashMap::new());
        for object in self.objects() {
            let meta = object.file().metadata().map_err(|e| Error::io("read the attributes of", object.path(), e))?;
            blocks.insert(object.digest(), meta.blksize().max(1));
        }
        for part in self.parts() {
            let source = part.source as usize;
            let Some(object) = self.object(source) else { continue };
            let Some(block) = blocks.get(&object.digest()).copied() else { continue };
            if part.at % block != part.offset % block {
                continue;
            }
            let (start, end) = (part.at.next_multiple_of(block), part.at + part.len);
            // The last block of both files may be a part of one.
            let is_last = end == self.size() && part.offset + part.len == object.size();
            let end = if is_last { end } else { end - end % block };
            if start < end {
                let offset = part.offset + (start - part.at);
                shared.push(Shared { source, at: start..end, offset });
            }
        }
        Ok(shared)
    }
}

fn copy(to: &UnnamedFile, from: &ComposedFile, range: Range<u64>) -> Result<()> {
    let mut buffer = Vec::new();
    for at in range.clone().step_by(BUFFER as usize) {
        buffer.resize((range.end - at).min(BUFFER) as usize, 0);
        let copied = from.read_at(&mut buffer, at).and_then(|n| to.write_at(&buffer[..n], at));
        copied.map_err(|e| Error::io_message("cannot copy parts of a large file").with_source(e))?;
    }
    Ok(())
}
