//! Before a checkout into a directory that has something in it: what is right, what differs, what the version does not have.

use super::checkout::{CheckoutOptions, selected};
use crate::catalog::Version;
use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::manifest::{Entry, Visit};
use crate::words::{Digest, Hasher, RelPath};
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What stands where an entry will be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// The entry itself.
    Right,
    /// The right content with the wrong exec bit.
    WrongMode,
    /// A file or symlink with other content.
    Differs,
    /// Another kind of thing.
    OtherKind,
}

/// What a look at the target found. What is not in `found` is missing there.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub found: HashMap<RelPath, Found>,
    /// Paths whose content or kind is another, in path order.
    pub differing: Vec<RelPath>,
    /// What the version does not have, where it would be pruned.
    pub extra: Vec<PathBuf>,
}

/// Compares the target with what is asked for, and looks for extras if they are to be pruned.
pub(super) fn look(version: &Version, target: &Path, options: &CheckoutOptions) -> Result<Plan> {
    let mut plan = Plan::default();
    let store = store_below(version, target)?;
    // Below what is missing or of another kind there is nothing to look at.
    let mut blind: Option<RelPath> = None;
    let mut wanted: HashMap<RelPath, HashSet<Vec<u8>>> = HashMap::new();
    for visit in selected(version, options)? {
        let visit = visit?;
        if let Some(store) = &store {
            spare(store, version, &visit)?;
        }
        let parent = visit.path.parent().unwrap_or_default();
        if options.prune {
            wanted.entry(parent).or_default().insert(visit.path.name().to_vec());
            if visit.entry.is_directory() {
                wanted.entry(visit.path.clone()).or_default();
            }
        }
        if blind.as_ref().is_some_and(|b| is_below(&visit.path, b)) {
            continue;
        }
        blind = None;
        let at = visit.path.on_disk(target);
        let found = compare(&at, &visit.entry)?;
        if visit.entry.is_directory() && found != Some(Found::Right) {
            blind = Some(visit.path.clone());
        }
        if let Some(found) = found {
            if matches!(found, Found::Differs | Found::OtherKind) {
                plan.differing.push(visit.path.clone());
            }
            if !visit.entry.is_directory() || found != Found::Right {
                plan.found.insert(visit.path, found);
            }
        }
    }
    if options.prune {
        let root = options.path.clone().unwrap_or_default();
        wanted.entry(RelPath::root()).or_default();
        for (dir, names) in &wanted {
            if *dir != root && !is_below(dir, &root) {
                continue;
            }
            let at = dir.on_disk(target);
            if !disk::look(&at)?.is_some_and(|m| m.is_dir()) {
                continue;
            }
            for name in disk::list(&at)?.into_iter().filter(|n| !names.contains(n.as_bytes())) {
                let path = dir.join(name.as_bytes())?;
                match &store {
                    Some(store) if path == *store => {} // skipped by put, left alone by get
                    Some(store) if is_below(store, &path) => {
                        return Err(Error::refused(format!("to remove {path}, which is not in {version}, would remove the store in it")).hint("leave out --prune, or move the store"));
                    }
                    _ => plan.extra.push(at.join(name)),
                }
            }
        }
        plan.extra.sort();
    }
    Ok(plan)
}

/// Refuses an entry that would be written where the store is, or in place of a directory it is in.
fn spare(store: &RelPath, version: &Version, visit: &Visit) -> Result<()> {
    let within = visit.path == *store || is_below(&visit.path, store);
    let instead = is_below(store, &visit.path) && !visit.entry.is_directory();
    if within || instead {
        return Err(Error::refused(format!("{version} has {} where the store itself is", visit.path)).hint("nothing was changed; name another directory"));
    }
    Ok(())
}

/// Where below `target` the version's own store is.
///
/// # Errors
/// Refused: the target is the store, or in it.
pub(super) fn store_below(version: &Version, target: &Path) -> Result<Option<RelPath>> {
    let store = version.store().root();
    let there = target.ancestors().find_map(|a| Some((a, a.canonicalize().ok()?)));
    let Some((above, real)) = there else { return Ok(None) };
    let real = real.join(target.strip_prefix(above).unwrap_or(Path::new("")));
    if real.starts_with(store) {
        return Err(Error::refused(format!("{} is in the store itself", show_path(target))).hint("name a directory outside of it"));
    }
    store.strip_prefix(&real).ok().map(|below| RelPath::parse(below.as_os_str().as_bytes())).transpose()
}

fn is_below(path: &RelPath, dir: &RelPath) -> bool {
    dir.is_root() || path.as_bytes().strip_prefix(dir.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// What stands at `at`, against `entry`; `None` when nothing does.
fn compare(at: &Path, entry: &Entry) -> Result<Option<Found>> {
    let Some(meta) = disk::look(at)? else { return Ok(None) };
    Ok(Some(match entry {
        Entry::Directory(_) if meta.is_dir() => Found::Right,
        Entry::Directory(_) => Found::OtherKind,
        Entry::Symlink { target } if meta.is_symlink() => {
            let text = std::fs::read_link(at).map_err(|e| Error::io("read symlink", at, e))?;
            if text.as_os_str().as_bytes() == target { Found::Right } else { Found::Differs }
        }
        Entry::File { digest, size, exec, .. } if meta.is_file() => {
            if meta.len() != *size || hash(at)? != *digest {
                Found::Differs
            } else if (meta.mode() & 0o111 != 0) != *exec {
                Found::WrongMode
            } else {
                Found::Right
            }
        }
        _ if meta.is_dir() => Found::OtherKind,
        _ => Found::Differs,
    }))
}

fn hash(path: &Path) -> Result<Digest> {
    let mut file = std::fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).map_err(|e| Error::io("read", path, e))? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
