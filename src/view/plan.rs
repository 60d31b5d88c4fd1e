//! Before a checkout into a directory that has something in it: what is right, what differs, what the version does not
//! have.

use super::batches::{Batch, Batches};
use super::names;
use super::opened::OpenDirs;
use super::options::{CheckoutOptions, Link, selected};
use super::prune::{Extra, first_protected, is_below, is_in_scope};
use super::written::WrittenAs;
use crate::catalog::Version;
use crate::disk::{Dir, EntryStat, hash_file};
use crate::error::{Error, Result, SHOWN, show_first, show_path};
use crate::ingest::Filter;
use crate::layout::is_unfinished;
use crate::locks::Mutex;
use crate::manifest::{Reference, Visit};
use crate::progress::Progress;
use crate::remote::read_whole;
use crate::threads::{self, Feeder};
use crate::types::{Digest, Hasher, RelPath};
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What has the name of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Existing {
    /// The entry itself.
    Right,
    /// The right content with the wrong exec bit.
    WrongMode,
    /// The right content in a file that the store, or something else, shares: it is made anew.
    Shared,
    /// A file or symlink with other content.
    Differs,
    /// Another kind of thing.
    OtherKind,
}

/// What has the names of the entries that are asked for, by their numbers in a walk of these. `None`: nothing has.
#[derive(Debug, Default)]
pub(super) struct Found(Vec<Option<Existing>>);

impl Found {
    /// What has the name of this entry.
    pub(super) fn of(&self, number: usize) -> Option<Existing> {
        self.0.get(number).copied().flatten()
    }

    /// The first of the paths whose content or kind is another, and how many there are, for a message. `None`: none.
    pub(super) fn differing(&self, version: &Version, options: &CheckoutOptions) -> Result<Option<String>> {
        let differs = |found: &Option<Existing>| matches!(found, Some(Existing::Differs | Existing::OtherKind));
        let count = self.0.iter().filter(|found| differs(found)).count();
        if count == 0 {
            return Ok(None);
        }
        let visits = selected(version, options)?.zip(&self.0).filter(|(_, found)| differs(found));
        let first = visits.take(SHOWN).map(|(visit, _)| Ok(visit?.path)).collect::<Result<Vec<RelPath>>>()?;
        Ok(Some(show_first(&first, count)))
    }
}

/// The result of comparing the target with the version.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub found: Found,
    /// What the version does not have, where it would be pruned.
    pub extra: Vec<Extra>,
    /// What a killed checkout left: the directory and the name. All that the version does not have, if the target is
    /// the checkout's own.
    pub unfinished: Vec<(RelPath, Vec<u8>)>,
}

/// The state of the comparison in one directory.
struct Listed {
    path: RelPath,
    /// Names of it that no entry had yet.
    names: HashSet<Vec<u8>>,
    filter: Arc<Filter>,
    /// A put would leave it out.
    hidden: bool,
}

struct TargetComparison<'a> {
    version: &'a Version,
    options: &'a CheckoutOptions,
    /// The target is the checkout's own: nothing else may be in it.
    own: bool,
    store: Option<RelPath>,
}

/// An entry that is to be compared with what is there.
struct Compared {
    /// Its number in the walk.
    number: usize,
    visit: Visit,
    /// Whether the directory lists its name.
    listed: bool,
    filter: Arc<Filter>,
}

/// Compares the target with what is asked for, and searches for extras if they are to be pruned, or if the target is
/// the checkout's `own`.
pub(super) fn compare(version: &Version, target: &Arc<Dir>, options: &CheckoutOptions, own: bool) -> Result<Plan> {
    let at = TargetComparison { version, options, own, store: store_below(version, target.path())? };
    let (found, mut plan) = (Mutex::new(Vec::new()), Plan::default());
    let work = |(): &mut (), batch: Batch<Compared>| {
        batch.into_iter().try_for_each(|(dir, entry)| {
            let existing = at.compare(&dir, &entry)?;
            found.lock()[entry.number] = existing;
            Ok(())
        })
    };
    let walk = |feeder: Feeder<'_, _>| at.walk(target, &found, &mut plan, Batches::new(feeder));
    threads::feed(threads::count(), walk, || (), work, |()| ())?;
    plan.extra.sort_by(|a, b| (&a.dir, &a.name).cmp(&(&b.dir, &b.name)));
    plan.found = Found(found.into_inner());
    Ok(plan)
}

impl TargetComparison<'_> {
    /// Walks the version and the target. Compares directories; files and symlinks are handed out.
    fn walk(
        &self,
        target: &Arc<Dir>,
        results: &Mutex<Vec<Option<Existing>>>,
        plan: &mut Plan,
        mut batches: Batches<'_, Compared>,
    ) -> Result<()> {
        let filter = self.filter(&Arc::new(Filter::root(target.path(), &[])?), target)?;
        let mut open = OpenDirs::new(target.clone(), self.list(RelPath::root(), target, filter, false)?);
        // Below what is missing or of another kind there is nothing to compare.
        let mut blind: Option<RelPath> = None;
        for (number, visit) in selected(self.version, self.options)?.enumerate() {
            self.options.progress.check_cancelled()?;
            let visit = visit?;
            if batches.has_failed() {
                return Ok(());
            }
            results.lock().push(None);
            if let Some(store) = &self.store {
                spare(store, self.version, &visit)?;
            }
            if blind.as_ref().is_some_and(|b| is_below(&visit.path, b)) {
                continue;
            }
            blind = None;
            while let Some((_, left)) = open.leave_for(&visit.path)? {
                self.left(left, plan)?;
            }
            let (dir, listed) = open.last()?;
            let is_listed = listed.names.remove(visit.path.name());
            let entry = Compared { number, visit, listed: is_listed, filter: listed.filter.clone() };
            if !entry.visit.entry.is_directory() {
                batches.add(dir, entry);
                continue;
            }
            let (found, visit) = (self.compare(&dir, &entry)?, entry.visit);
            results.lock()[number] = found;
            if found == Some(Existing::Right) {
                let below = Arc::new(dir.dir(visit.path.name())?);
                let hidden = listed.hidden || listed.filter.leaves_out(below.path(), true);
                let filter = self.filter(&listed.filter, &below)?;
                let listed = self.list(visit.path.clone(), &below, filter, hidden)?;
                open.enter(visit.path.name(), below, listed);
            } else {
                blind = Some(visit.path);
            }
        }
        while let Some((_, left)) = open.leave()? {
            self.left(left, plan)?;
        }
        batches.end();
        Ok(())
    }

    fn list(&self, path: RelPath, dir: &Dir, filter: Arc<Filter>, hidden: bool) -> Result<Listed> {
        Ok(Listed { path, names: dir.names()?.into_iter().collect(), filter, hidden })
    }

    /// The patterns in a directory. They are needed wherever something may be removed: an extra, or a directory that
    /// is in the way of a file.
    fn filter(&self, above: &Arc<Filter>, dir: &Dir) -> Result<Arc<Filter>> {
        if (self.options.prune || self.options.force) && !self.own {
            Filter::enter(above, dir.handle(), dir.path())
        } else {
            Ok(above.clone())
        }
    }

    /// What is left of a directory's names when all entries had theirs.
    fn left(&self, listed: Listed, plan: &mut Plan) -> Result<()> {
        let Listed { path: dir, names, filter, hidden } = listed;
        for name in names {
            if self.own || is_unfinished(&name, false) {
                plan.unfinished.push((dir.clone(), name));
                continue;
            }
            if !self.options.prune || hidden || !is_in_scope(&dir, self.options.path.as_ref()) {
                continue;
            }
            let path = dir.join(&name)?;
            match &self.store {
                Some(store) if path == *store => continue, // skipped by put, left alone by get
                Some(store) if is_below(store, &path) => {
                    let why =
                        format!("to remove {path}, which is not in {}, would remove the store in it", self.version);
                    return Err(Error::conflict(why).with_hint("omit --prune, or move the store"));
                }
                _ => plan.extra.push(Extra { dir: dir.clone(), name, before: filter.clone() }),
            }
        }
        Ok(())
    }

    /// What has the name of an entry; `None` when nothing does.
    fn compare(&self, dir: &Dir, entry: &Compared) -> Result<Option<Existing>> {
        let Compared { visit, listed, filter, .. } = entry;
        let name = visit.path.name();
        let Some(found) = dir.lstat(name)? else { return Ok(None) };
        if !listed && let Some(other) = names::other_name(dir, name)? {
            return Err(names::clash(dir, name, &other));
        }
        Ok(Some(match self.options.written(&visit.entry)? {
            WrittenAs::Nothing => Existing::Right, // what is there is not compared
            WrittenAs::Directory if found.is_dir() => Existing::Right,
            WrittenAs::Symlink(target) if found.is_symlink() => {
                if dir.read_link(name)? == *target {
                    Existing::Right
                } else {
                    Existing::Differs
                }
            }
            WrittenAs::File { digest, size, exec, .. } if found.is_file() => {
                if found.size() != size || hash(dir, name, &self.options.progress)? != Some(digest) {
                    Existing::Differs
                } else {
                    self.right(found, &digest, exec)?
                }
            }
            WrittenAs::Fetched(reference) if found.is_file() => {
                if holds(dir, name, reference, &self.options.progress)? { Existing::Right } else { Existing::Differs }
            }
            _ if found.is_dir() => {
                let filters = vec![filter.clone()];
                if !self.own
                    && let Some(kept) = first_protected(dir, name, &filters, &self.options.progress)?
                {
                    let why = format!(
                        "{} is in the way of a file, and has {} in it, which a get leaves alone",
                        show_path(&dir.path_of(name)),
                        show_path(&kept)
                    );
                    return Err(Error::conflict(why).with_hint("nothing was changed; move it away"));
                }
                Existing::OtherKind
            }
            WrittenAs::Directory => Existing::OtherKind,
            _ => Existing::Differs,
        }))
    }

    /// A file with the right content.
    fn right(&self, found: EntryStat, digest: &Digest, exec: bool) -> Result<Existing> {
        let right_mode = (found.mode() & 0o111 != 0) == exec;
        if found.links() > 1
            && (!right_mode || self.options.link != Link::Hardlink && self.is_the_stores(found, digest))
        {
            return Ok(Existing::Shared);
        }
        Ok(if right_mode { Existing::Right } else { Existing::WrongMode })
    }

    /// Whether a file with several names is an object of this store, or, being read-only, of another.
    fn is_the_stores(&self, found: EntryStat, digest: &Digest) -> bool {
        let object = std::fs::symlink_metadata(self.version.store().layout().object(digest));
        found.mode() & 0o222 == 0 || object.is_ok_and(|m| (m.dev(), m.ino()) == found.id())
    }
}

/// Refuses an entry that would be written where the store is, or in place of a directory it is in.
fn spare(store: &RelPath, version: &Version, visit: &Visit) -> Result<()> {
    let within = visit.path == *store || is_below(&visit.path, store);
    let instead = is_below(store, &visit.path) && !visit.entry.is_directory();
    if within || instead {
        return Err(Error::conflict(format!("{version} has {} where the store itself is", visit.path))
            .with_hint("nothing was changed; name another directory"));
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
    let real: PathBuf = real.join(target.strip_prefix(above).unwrap_or(Path::new("")));
    if real.starts_with(store) {
        return Err(Error::conflict(format!("{} is in the store itself", show_path(target)))
            .with_hint("name a directory outside of it"));
    }
    store.strip_prefix(&real).ok().map(|below| RelPath::parse(below.as_os_str().as_bytes())).transpose()
}

/// The digest of a file; `None` when it may not be read.
pub(super) fn hash(dir: &Dir, name: &[u8], progress: &Progress) -> Result<Option<Digest>> {
    match dir.file(name) {
        Ok(Some(file)) => {
            hash_file(&file, &dir.path_of(name), &mut |_| progress.check_cancelled()).map(|(digest, _)| Some(digest))
        }
        Ok(None) => Ok(None),
        Err(e) if e.errno() == Some(libc::EACCES) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether a file has the content of a reference. If its digest is not recorded, the source is read.
pub(super) fn holds(dir: &Dir, name: &[u8], reference: &Reference, progress: &Progress) -> Result<bool> {
    let Some(found) = dir.lstat(name)?.filter(|found| found.is_file()) else { return Ok(false) };
    if reference.size.is_some_and(|size| size != found.size()) {
        return Ok(false);
    }
    let Some(mine) = hash(dir, name, progress)? else { return Ok(false) };
    if let Some(digest) = &reference.digest {
        return Ok(mine == *digest);
    }
    let mut hasher = Hasher::new();
    read_whole(reference, &mut |piece| {
        hasher.update(piece);
        progress.check_cancelled()
    })?;
    Ok(hasher.finish() == mine)
}
