//! What a store is and has, in numbers.

use super::{artifact, draft, version};
use crate::disk::{self, FsKind};
use crate::error::Result;
use crate::store::{Config, Store};
use std::path::{Path, PathBuf};

/// Files of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Files {
    /// How many.
    pub count: u64,
    /// Their sizes added up.
    pub bytes: u64,
}

/// What a store is and has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreInfo {
    /// Its directory.
    pub root: PathBuf,
    /// Its configuration: format, id, cache bound, group, features.
    pub config: Config,
    /// Whether other hosts may use its file system.
    pub is_shared: bool,
    /// Artifacts with a version.
    pub artifacts: u64,
    /// Versions that are not removed.
    pub versions: u64,
    /// Drafts that are not finished; damaged ones count.
    pub drafts: u64,
    /// Packs: small files and manifests, many to a file.
    pub packs: Files,
    /// Large files, one object each.
    pub objects: Files,
    /// What garbage collections moved to the trash and have not freed.
    pub trash: Files,
    /// Bytes that ordinary users can still write on its file system.
    pub free_bytes: u64,
}

/// Counts what a store has. Lists all its files of content, and opens none.
///
/// # Errors
/// I/O.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(dir.path().join("s"), &Default::default())?;
/// let info = cairn::catalog::info::info(&store)?;
/// assert_eq!((info.artifacts, info.packs.count), (0, 0));
/// # Ok::<(), cairn::Error>(())
/// ```
pub fn info(store: &Store) -> Result<StoreInfo> {
    let (mut versions, mut drafts, mut artifacts) = (0, 0, 0);
    for name in artifact::all(store)? {
        artifacts += 1;
        versions += version::live_numbers(store, &name)?.len() as u64;
        for draft in draft::all(store, &name)? {
            let is_finished = draft.and_then(|draft| draft.is_finished()).unwrap_or(false);
            drafts += u64::from(!is_finished);
        }
    }
    let layout = store.layout();
    let space = disk::space(store.root())?;
    Ok(StoreInfo {
        root: store.root().to_path_buf(),
        config: store.config().clone(),
        is_shared: !FsKind::of(store.root())?.is_local(),
        artifacts,
        versions,
        drafts,
        packs: files_below(&layout.packs())?,
        objects: files_below(&layout.objects())?,
        trash: files_below(&layout.trash())?,
        free_bytes: space.available_bytes(),
    })
}

/// Counts files. One that is freed meanwhile does not count.
fn files_below(dir: &Path) -> Result<Files> {
    let mut files = Files::default();
    for entry in walkdir::WalkDir::new(dir) {
        let meta = entry.and_then(|entry| entry.metadata());
        match meta {
            Ok(meta) if meta.is_file() => {
                files.count += 1;
                files.bytes += meta.len();
            }
            Ok(_) => {}
            Err(e) if e.io_error().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound) => {}
            Err(e) => return Err(crate::error::Error::io("list", dir, e.into())),
        }
    }
    Ok(files)
}
