//! What was read of an artifact's names, and how little of it must be read again.
//!
//! A directory that has the same times as when it was read is not read again, on a local file system. Version numbers
//! are dense, so new ones are found by looking for the next number; a listing would cost more with each version.

use crate::catalog::alias::AliasRecord;
use crate::catalog::{log, numbers, removal};
use crate::disk;
use crate::error::Result;
use crate::store::Store;
use crate::types::{ArtifactName, VersionNumber};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Two changes in less than this may leave the same times.
const RESOLUTION: Duration = Duration::from_millis(2100);
/// How often all numbers are listed: a lost number that was repaired shows after that.
const LIST_ALL: Duration = Duration::from_secs(60);

/// Times of a directory's last change: of its content, and of itself.
type Stamp = [i64; 4];

/// Something that was read from a directory.
#[derive(Clone)]
struct Dated<T> {
    value: Arc<T>,
    /// The directory's times when the reading began; `None`: it did not exist, or times prove nothing there.
    stamp: Option<Stamp>,
    /// When these times were first seen.
    since: Instant,
    read: Instant,
}

impl<T> Dated<T> {
    /// What `read` returns, or what it returned `before` if the directory's times show no change since.
    fn read(
        store: &Store,
        dir: &Path,
        before: Option<&Dated<T>>,
        read: impl FnOnce(Option<&Dated<T>>) -> Result<T>,
    ) -> Result<Dated<T>> {
        let (stamp, now) = (stamp_of(store, dir)?, Instant::now());
        let same = before.filter(|before| stamp.is_some() && before.stamp == stamp);
        if let Some(same) = same.filter(|same| same.read.duration_since(same.since) >= RESOLUTION) {
            return Ok(Dated { value: same.value.clone(), ..*same });
        }
        let since = same.map_or(now, |same| same.since);
        Ok(Dated { value: Arc::new(read(before)?), stamp, since, read: now })
    }
}

fn stamp_of(store: &Store, dir: &Path) -> Result<Option<Stamp>> {
    if !store.disk().kind().is_local() {
        return Ok(None);
    }
    Ok(disk::lstat(dir)?.map(|m| [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()]))
}

/// An alias and where it points, if it does.
type Pointer = Option<(String, VersionNumber)>;

/// The names of one artifact.
pub(super) struct NamesRead {
    versions: Dated<Vec<VersionNumber>>,
    /// When all of them were listed.
    listed: Instant,
    removed: Dated<Vec<VersionNumber>>,
    alias_dirs: Dated<Vec<OsString>>,
    aliases: HashMap<OsString, Dated<Pointer>>,
}

impl NamesRead {
    /// Reads what may have changed since `before`.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(super) fn read(store: &Store, name: &ArtifactName, before: Option<&NamesRead>) -> Result<NamesRead> {
        let layout = store.layout();
        let mut listed = before.map_or_else(Instant::now, |before| before.listed);
        let dir = layout.versions(name);
        let versions = Dated::read(store, &dir, before.map(|b| &b.versions), |before| {
            if let Some(before) = before.filter(|_| listed.elapsed() < LIST_ALL)
                && let Some(all) = extended(store, name, &before.value)?
            {
                return Ok(all);
            }
            listed = Instant::now();
            numbers::versions(&dir)
        })?;
        let dir = layout.removed(name);
        let removed = Dated::read(store, &dir, before.map(|b| &b.removed), |_| removal::removed(store, name))?;
        let dir = layout.aliases(name);
        let alias_dirs = Dated::read(store, &dir, before.map(|b| &b.alias_dirs), |_| disk::list(&dir))?;
        let mut aliases = HashMap::new();
        for entry in alias_dirs.value.iter() {
            let (log, before) = (dir.join(entry), before.and_then(|b| b.aliases.get(entry)));
            let pointer = Dated::read(store, &log, before, |_| {
                let last = log::last::<AliasRecord>(&log)?;
                Ok(last.and_then(|r| Some((r.alias.as_str().to_owned(), r.version?))))
            })?;
            aliases.insert(entry.clone(), pointer);
        }
        Ok(NamesRead { versions, listed, removed, alias_dirs, aliases })
    }

    /// The versions that are not removed, ascending.
    pub(super) fn live(&self) -> Vec<VersionNumber> {
        let is_live = |n: &VersionNumber| self.removed.value.binary_search(n).is_err();
        self.versions.value.iter().copied().filter(is_live).collect()
    }

    /// The aliases that point somewhere.
    pub(super) fn aliases(&self) -> impl Iterator<Item = (String, VersionNumber)> {
        self.aliases.values().filter_map(|pointer| (*pointer.value).clone())
    }

    /// When a directory that has names of the artifact was last changed, in seconds; 0 if none is there.
    pub(super) fn changed(&self, store: &Store, name: &ArtifactName) -> Result<i64> {
        let layout = store.layout();
        let logs = self.alias_dirs.value.iter().zip(std::iter::repeat(layout.aliases(name)));
        let logs = logs.map(|(entry, dir)| (self.aliases.get(entry).and_then(|alias| alias.stamp), dir.join(entry)));
        let dirs = [
            (self.versions.stamp, layout.versions(name)),
            (self.removed.stamp, layout.removed(name)),
            (self.alias_dirs.stamp, layout.aliases(name)),
        ];
        let mut seconds = 0;
        for (stamp, dir) in dirs.into_iter().chain(logs) {
            let changed = match stamp {
                Some(stamp) => stamp[0],
                None => disk::lstat(&dir)?.map_or(0, |m| m.mtime()),
            };
            seconds = seconds.max(changed);
        }
        Ok(seconds)
    }
}

/// The numbers with those that came after the last one; `None`: one is lost, or none was known.
fn extended(store: &Store, name: &ArtifactName, known: &[VersionNumber]) -> Result<Option<Vec<VersionNumber>>> {
    let Some(last) = known.last() else { return Ok(None) };
    let mut next = VersionNumber::after(Some(*last));
    let mut all = known.to_vec();
    while disk::lstat_revalidated(&store.layout().version(name, next))?.is_some() {
        all.push(next);
        next = VersionNumber::after(Some(next));
    }
    let is_gap = disk::lstat(&store.layout().version(name, VersionNumber::after(Some(next))))?.is_some();
    Ok((!is_gap).then_some(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::alias::{self, Expected};
    use crate::catalog::remove::Force;
    use crate::types::AliasName;

    struct Place {
        _dir: tempfile::TempDir,
        store: Store,
        name: ArtifactName,
    }

    impl Place {
        fn new() -> Place {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::init(dir.path().join("s"), &Default::default()).unwrap();
            Place { _dir: dir, store, name: ArtifactName::parse("x").unwrap() }
        }

        fn put(&self, content: &str) {
            let mut artifact = crate::Artifact::new("x", None).unwrap();
            artifact.add_bytes("f", content).unwrap();
            artifact.save(&self.store).unwrap();
        }

        fn alias(&self, alias: &str, to: Option<u64>) {
            let alias = AliasName::parse(alias).unwrap();
            alias::set(&self.store, &self.name, &alias, Expected::Any, to.map(VersionNumber)).unwrap();
        }

        fn read(&self, before: Option<&NamesRead>) -> NamesRead {
            NamesRead::read(&self.store, &self.name, before).unwrap()
        }

        fn shown(&self, names: &NamesRead) -> (Vec<u64>, Vec<(String, u64)>) {
            let mut aliases: Vec<_> = names.aliases().map(|(alias, to)| (alias, to.0)).collect();
            aliases.sort();
            (names.live().iter().map(|n| n.0).collect(), aliases)
        }
    }

    #[test]
    fn each_change_shows_in_what_is_read_after_it() {
        let place = Place::new();
        place.put("0");
        let mut names = place.read(None);
        let changes: [&dyn Fn(); 7] = [
            &|| place.put("1"),
            &|| place.alias("prod", Some(0)),
            &|| place.alias("prod", Some(1)),
            &|| place.put("2"),
            &|| place.alias("old", Some(0)),
            &|| place.alias("old", None),
            &|| place.store.remove("x", VersionNumber(0), Force::No).unwrap(),
        ];
        for change in changes {
            change();
            names = place.read(Some(&names));
            assert_eq!(place.shown(&names), place.shown(&place.read(None)));
        }
        assert_eq!(place.shown(&names), (vec![1, 2], vec![("prod".to_owned(), 1)]));
    }

    #[test]
    fn what_did_not_change_is_not_read_again() {
        let place = Place::new();
        (0..3).for_each(|n| place.put(&n.to_string()));
        place.alias("prod", Some(1));
        let names = place.read(None);
        std::thread::sleep(RESOLUTION);
        let names = place.read(Some(&names));
        // A record that is damaged in its place leaves the directory's times alone; a lost number changes them.
        let log = place.store.layout().alias(&place.name, &AliasName::parse("prod").unwrap());
        std::fs::write(std::fs::canonicalize(log.join("000001")).unwrap(), "damaged").unwrap();
        std::fs::remove_file(place.store.layout().version(&place.name, VersionNumber(0))).unwrap();
        place.put("3");
        let again = place.read(Some(&names));
        assert_eq!(place.shown(&again), (vec![0, 1, 2, 3], vec![("prod".to_owned(), 1)]));
        assert!(NamesRead::read(&place.store, &place.name, None).is_err());
    }
}
