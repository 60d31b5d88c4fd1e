//! Content of another version: found in this store, else stored again from there.

use super::builder::AddedEntry;
use crate::catalog::Version;
use crate::error::{Error, Result};
use crate::ingest::{Body, FileBody, Sink, SourceTree, Stored};
use crate::manifest::Entry;
use crate::objects::{Content, SMALL_MAX, ThreadWriter};
use crate::progress::Progress;
use crate::types::{Digest, Location, RelPath};

/// Stores a file's content, unless it is here already. Returns its location, if it is packed.
///
/// # Errors
/// Damaged: the source has it no more. I/O.
pub(in crate::commit) fn bring(
    source: &Version,
    lane: &mut ThreadWriter<'_>,
    digest: &Digest,
    size: u64,
    place: Option<Location>,
    progress: &Progress,
) -> Result<Option<Location>> {
    if let Some(found) = lane.find(digest, size)? {
        return Ok(found);
    }
    match source.store().objects().content(digest, size, place)? {
        Content::Small(bytes) if size < SMALL_MAX => lane.put_small(*digest, &bytes).map(|put| Some(put.place)),
        Content::Small(bytes) => lane.put_large_bytes(*digest, &bytes).map(|_| None),
        Content::Composed(composed) => {
            let put = lane.put_composed(&composed, &mut |_| progress.check_cancelled())?;
            if put.digest != *digest {
                return Err(Error::damaged(format!("the parts of {digest} of {source} are {} together", put.digest)));
            }
            Ok(None)
        }
        Content::Large(large) => {
            let put = lane.put_large(large.file(), large.path(), &mut |_| progress.check_cancelled())?;
            if put.digest != *digest {
                return Err(Error::damaged(format!("object {digest} of {source} holds {}", put.digest)));
            }
            Ok(None)
        }
    }
}

/// Adds an entry of a version, with all that is below it. The content is looked for after the token was made, so no
/// collection frees it.
pub(super) fn add_entries(
    tree: &mut SourceTree,
    added: &AddedEntry,
    sink: &Sink<'_>,
    progress: &Progress,
) -> Result<()> {
    let AddedEntry { at, version, path, .. } = added;
    let mut lane = match sink {
        Sink::Store(writer) => Some(writer.thread_writer()),
        Sink::Nowhere => None,
    };
    let mut add = |to: &RelPath, entry: &Entry| {
        progress.check_cancelled()?;
        let body = match entry {
            Entry::File { digest, size, exec, place } => {
                progress.add_total(1, *size);
                let place = match &mut lane {
                    Some(lane) => bring(version, lane, digest, *size, *place, progress)?,
                    None => None,
                };
                progress.add_done(1, *size);
                Body::File { exec: *exec, body: FileBody::Stored(Stored { digest: *digest, size: *size, place }) }
            }
            Entry::Symlink { target } => Body::Symlink(target.as_slice().into()),
            Entry::Reference(reference) => Body::Reference(reference.clone()),
            Entry::Directory(_) => return tree.directory(to).map(drop),
        };
        tree.add(to, body)
    };
    let from = version.tree()?;
    let added = match from.lookup(path)?.map(|found| found.entry) {
        Some(entry) if !entry.is_directory() => add(at, &entry),
        _ => from.walk_below(path)?.try_for_each(|visit| {
            let visit = visit?;
            add(&visit.path.seen_from(path).below(at)?, &visit.entry)
        }),
    };
    let closed = lane.map_or(Ok(()), |lane| lane.close().map(drop));
    added.and(closed)
}
