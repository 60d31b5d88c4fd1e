//! The content of a reference on its way into a store: in memory, or in a temporary file if it is large, since only its
//! end shows whether it is what was recorded.

use crate::disk;
use crate::error::{Error, Result};
use crate::manifest::Reference;
use crate::objects::SMALL_MAX;
use crate::progress::Progress;
use crate::remote::read_whole;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Content that was fetched and checked.
pub(super) enum Fetched {
    Small(Vec<u8>),
    /// A file without a name.
    Large(File),
}

/// Fetches all of a reference. Large content goes to the file system of `dir`. Counts the bytes as done.
pub(super) fn fetch(reference: &Reference, dir: &Path, progress: &Progress) -> Result<(Fetched, u64)> {
    let failed = |e| Error::io("write a temporary file in", dir, e);
    let (mut held, mut spool, mut bytes) = (Vec::new(), None::<File>, 0);
    read_whole(reference, &mut |piece| {
        progress.check_cancelled()?;
        progress.add_done(0, piece.len() as u64);
        bytes += piece.len() as u64;
        if spool.is_none() && bytes >= SMALL_MAX {
            let mut file = disk::unnamed_file(dir).map_err(failed)?;
            file.write_all(&held).map_err(failed)?;
            spool = Some(file);
        }
        match &mut spool {
            Some(file) => file.write_all(piece).map_err(failed),
            None => {
                held.extend_from_slice(piece);
                Ok(())
            }
        }
    })?;
    Ok((spool.map_or(Fetched::Small(held), Fetched::Large), bytes))
}
