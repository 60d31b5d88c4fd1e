//! Reads and stores what an artifact has, as one tree.

use super::bring::add_entries;
use super::builder::{Add, Artifact};
use super::newest_files::NewestFiles;
use super::own_files::OwnFiles;
use crate::catalog::Version;
use crate::error::{Error, Kind, Result};
use crate::ingest::{self, EarlierBelow, NewNodes, ScanOptions, Sink, SourceTree, Sources, StatCache, StoredTree};
use crate::manifest;
use crate::objects::ObjectWriter;
use crate::progress::Progress;
use crate::store::Store;
use crate::threads;
use crate::types::RelPath;
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Everything that was added, stored through `sink`. `removed` are the paths that a patch removed from its
/// base: they need not have been added before.
pub(in crate::commit) fn collect(
    store: &Store,
    artifact: &Artifact,
    removed: &HashSet<RelPath>,
    sink: &Sink<'_>,
    progress: &Progress,
) -> Result<Sources> {
    let newest = matches!(sink, Sink::Store(_)).then(|| NewestFiles::new(store, &artifact.name));
    let earlier = |at| newest.as_ref().map(|files| EarlierBelow { files, at });
    let root = RelPath::root();
    let own = std::fs::metadata(store.root()).map(|m| (m.dev(), m.ino())).ok();
    let mut own_files = OwnFiles::of(store);
    if let [Add::Directory { at, source, options }] = &artifact.adds[..]
        && at.is_root()
    {
        own_files.refuse(&artifact.adds[0])?;
        return Ok(Sources::Directory(stored_dir(source, options, own, sink, earlier(at), progress)?));
    }
    let mut tree = SourceTree::default();
    for add in &artifact.adds {
        own_files.refuse(add)?;
        match add {
            Add::Entry { at, body, .. } => {
                progress.add_total(1, 0);
                tree.add(at, body.clone())?;
            }
            Add::Directory { at, source, options } => {
                let part = stored_dir(source, options, own, sink, earlier(at), progress)?;
                tree.graft(at, &part)?;
            }
            Add::Version(added) => add_entries(&mut tree, added, sink, progress)?,
            Add::Remove { at } => match tree.remove(at) {
                Err(e) if e.kind() == Kind::NotFound && removed.contains(at) => {}
                Err(e) if e.kind() == Kind::NotFound && artifact.basis.is_some() => {
                    return Err(Error::not_found(format!("{at} cannot be removed: it is not in the version"))
                        .with_hint("nothing was published"));
                }
                other => other?,
            },
        }
    }
    ingest::store_files(&mut tree, sink, earlier(&root), threads::count, progress)?;
    tree.settle(artifact.overwrite)?;
    Ok(Sources::Tree(tree))
}

/// [`collect`] into the store, and [`or_keep`].
pub(in crate::commit) fn collect_or_keep(
    store: &Store,
    artifact: &Artifact,
    writer: ObjectWriter,
    progress: &Progress,
) -> Result<(Sources, ObjectWriter)> {
    let collected = collect(store, artifact, &HashSet::new(), &Sink::Store(&writer), progress);
    or_keep(collected, writer, progress)
}

/// Returns what was stored through `writer`. If the work was interrupted, complete contents become visible first, so
/// that the next attempt does not store them again.
pub(in crate::commit) fn or_keep<T>(
    stored: Result<T>,
    writer: ObjectWriter,
    progress: &Progress,
) -> Result<(T, ObjectWriter)> {
    match stored {
        Err(e) if progress.is_cancelled() => {
            writer.seal(&[], &[])?;
            Err(e)
        }
        stored => Ok((stored?, writer)),
    }
}

/// One source directory, scanned and stored.
fn stored_dir(
    source: &Path,
    options: &ScanOptions,
    skip: Option<(u64, u64)>,
    sink: &Sink<'_>,
    earlier: Option<EarlierBelow<'_>>,
    progress: &Progress,
) -> Result<StoredTree> {
    let temporary = sink.temporary();
    let tree = ingest::scan(source, options, skip, threads::count(), &temporary, progress)?;
    let cache = (!options.no_stat_cache).then(|| StatCache::open(source, options.rehash, &temporary));
    let stored = ingest::store_scanned(&tree, sink, cache.as_ref(), earlier, threads::count, progress)?;
    drop(tree); // saving the cache takes memory
    if let Some(cache) = cache {
        cache.save();
    }
    Ok(stored)
}

/// The manifest that a put of this directory would make, without storing anything: for a diff against a directory.
///
/// # Errors
/// Those of a put that concern the source.
pub fn scan_dir(
    dir: &Path,
    options: &ScanOptions,
    skip_store: Option<&Store>,
    progress: &Progress,
) -> Result<manifest::Tree> {
    let skip = skip_store.and_then(|s| std::fs::metadata(s.root()).ok()).map(|m| (m.dev(), m.ino()));
    let stored = stored_dir(dir, options, skip, &Sink::Nowhere, None, progress)?;
    let mut nodes = NewNodes::new(&Sink::Nowhere.temporary(), None);
    let root = Sources::Directory(stored).build(&mut nodes)?;
    Ok(manifest::Tree::of(&root, Arc::new(nodes)))
}

impl Version {
    /// What changed from this version to a directory, which is hashed but not stored, in path order.
    ///
    /// # Errors
    /// Those of a put that concern the source. Damaged; I/O.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// let mut artifact = cairn::Artifact::new("images", None)?;
    /// artifact.add_bytes("a.txt", "a")?.add_bytes("b.txt", "b")?;
    /// let version = artifact.save(&store)?.version;
    /// let out = dir.path().join("out");
    /// std::fs::create_dir(&out).unwrap();
    /// std::fs::write(out.join("a.txt"), "a").unwrap();
    /// let changes: Vec<_> = version.diff_directory(&out, &Default::default(), &Default::default())?.collect();
    /// assert_eq!(changes[0].as_ref().unwrap().path.to_string(), "b.txt");
    /// assert_eq!(changes.len(), 1);
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn diff_directory(&self, dir: &Path, options: &ScanOptions, progress: &Progress) -> Result<manifest::Diff> {
        Ok(manifest::diff(&self.tree()?, &scan_dir(dir, options, Some(self.store()), progress)?))
    }
}
