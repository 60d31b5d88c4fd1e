//! A version's content as a version of another name, or in another store, at the cost of what is not there yet.

use super::artifact::Artifact;
use super::patch::{settle, tree_of};
use super::help::help;
use super::publish::{self, Ended, Making, Published, SaveOptions};
use super::stage::Stage;
use crate::catalog::{Mode, Version, artifact as catalog_artifact, numbers, removal};
use crate::error::{Error, Result};
use crate::lock::Purpose;
use crate::manifest::{Change, Dir, Edit, Entry, diff};
use crate::objects::{Content, Lane};
use crate::store::Store;
use crate::words::{RelPath, VersionNumber};
use crate::work::Work;

/// Publishes the content of `source` as the next version of `artifact` in `store`, the same or another. `artifact` gives the name, the type
/// (the source's if it has none) and what is said of the new version; what is added to it does not count. As with a put there is no new
/// version when the newest has that content.
///
/// # Errors
/// Refused: another type; the source is removed. Damaged; I/O.
pub fn copy(store: &Store, source: &Version, artifact: &Artifact, options: &SaveOptions) -> Result<Published> {
    store.check_writable()?;
    let kind = artifact.kind.as_ref();
    catalog_artifact::check_type(store, &artifact.name, kind.or(Some(&source.record().kind)))?;
    loop {
        help(store, &artifact.name)?;
        if let Ended::Published(published) = attempt(store, source, artifact, options)? {
            publish::annotate(store, artifact, options, &published)?;
            return Ok(published);
        }
    }
}

/// One token's try.
fn attempt(store: &Store, source: &Version, artifact: &Artifact, options: &SaveOptions) -> Result<Ended> {
    let name = &artifact.name;
    let purpose = Purpose { purpose: "copy", artifact: Some(name.as_str()), run: options.run.as_ref().map(|r| r.id.as_str()), ..Purpose::default() };
    let work = Work::begin(store, &purpose)?;
    let here = source.store().root() == store.root();
    if here {
        work.rely_on(source.artifact(), source.number())?;
    }
    if removal::is_removed(source.store(), source.artifact(), source.number())? {
        return Err(Error::refused(format!("{source} cannot be copied: it is removed")));
    }
    let from = numbers::highest(&store.layout().versions(name))?.map_or(VersionNumber(0), |n| VersionNumber(n.0 + 1));
    let newest = Version::newest(store, name)?;
    let writer = store.objects().writer(&work.dir())?;
    if let Some(newest) = newest.as_ref().filter(|n| n.digest() == source.digest() && !options.always_new) {
        return publish::unchanged(store, writer, newest.clone());
    }
    let (stage, target) = if here {
        (Stage::new(&source.tree()?), Some(source))
    } else {
        // What the newest version there has, is there: only the rest is read.
        let there = tree_of(newest.as_ref(), store)?;
        if let Some(newest) = &newest {
            work.rely_on(name, newest.number())?;
            if removal::is_removed(store, name, newest.number())? {
                return Ok(Ended::Fenced); // removed since it was looked at: everything again
            }
        }
        let mut stage = Stage::new(&there);
        let mut lane = writer.lane();
        let tree = source.tree()?;
        let mut gone: Option<RelPath> = None;
        let edits = diff(&there, &tree).filter_map(|change| change.and_then(|c| brought(c, &mut gone, source, &mut lane, options)).transpose());
        stage.apply(edits)?;
        lane.close()?;
        (stage, newest.as_ref())
    };
    if stage.tree.digest() != source.digest() {
        return Err(Error::damaged(format!("{source}: its content has another digest here")));
    }
    let root = settle(store, &writer, &stage, target)?;
    let making = Making { artifact, options, mode: Mode::Simple, base: None, from, exact: false, kind: Some(source.record().kind.clone()), distributed_id: None, met: newest.as_ref() };
    let record = making.record(store, &work, &root, &writer)?;
    publish::publish(store, work, writer, &root, record)
}

/// A change as an edit, its content brought over. What is below a directory that goes is gone with it.
fn brought(change: Change, gone: &mut Option<RelPath>, source: &Version, lane: &mut Lane<'_>, options: &SaveOptions) -> Result<Option<Edit>> {
    let Change { path, old, new } = change;
    let inside = |dir: &RelPath| path.as_bytes().strip_prefix(dir.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'));
    if gone.as_ref().is_some_and(inside) {
        return Ok(None);
    }
    *gone = old.as_ref().filter(|e| e.is_directory()).map(|_| path.clone());
    let Some(new) = new else { return Ok(Some(Edit::remove(path))) };
    let entry = match new {
        Entry::Directory(_) => Entry::Directory(Dir::empty()),
        Entry::File { digest, size, exec, place } => {
            options.progress.expect(1, size);
            let place = match lane.find(&digest, size)? {
                Some(there) => there,
                None => match source.store().objects().content(&digest, size, place)? {
                    Content::Small(bytes) if size < crate::objects::SMALL_MAX => Some(lane.put_small(digest, &bytes)?.place),
                    Content::Small(bytes) => lane.put_large_bytes(digest, &bytes).map(|_| None)?,
                    Content::Large(large) => {
                        let put = lane.put_large(large.file(), large.path(), &mut |_| Ok(()))?;
                        if put.digest != digest {
                            return Err(Error::damaged(format!("object {digest} of {source} holds {}", put.digest)));
                        }
                        None
                    }
                },
            };
            options.progress.done(1, size);
            Entry::File { digest, size, exec, place }
        }
        other => other,
    };
    Ok(Some(if old.is_some() { Edit::replace(path, entry) } else { Edit::put(path, entry) }))
}
