//! Removing versions: refused while an alias names one or a mount shows it, unless forced.

use super::origin::Actor;
use super::removal::{self, ChangeRecord, RemovalRecord, State};
use super::removed_version::removed_error;
use super::{alias, artifact, lost};
use crate::disk::{self, ReserveUse};
use crate::error::{Detail, Error, Kind, Result, shell_word, show_list, show_path};
use crate::pins;
use crate::store::Store;
use crate::txn::{OnePlace, Place, Prepared, Unfenced};
use crate::types::{AliasName, ArtifactName, VersionNumber};
use crate::{clock, record};
use std::collections::HashSet;
use std::path::Path;

/// Whether a removal is refused because of aliases that name the version, and mounts that show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Force {
    /// Refuse while an alias names it or a mount uses it.
    No,
    /// Remove it anyway, and remove those aliases.
    Yes,
}

/// Checks what [`remove_all`] would refuse, and changes nothing. The aliases are read once for all versions.
///
/// # Errors
/// As [`remove`], for the first version that would be refused.
pub fn check_all(store: &Store, name: &ArtifactName, numbers: &[VersionNumber], force: Force) -> Result<()> {
    store.check_writable()?;
    let mut lost = None;
    for number in numbers {
        let version = store.layout().version(name, *number);
        if let Some(e) = removed_error(store, name, *number)? {
            return Err(e);
        }
        if disk::lstat_revalidated(&version)?.is_some() {
            continue;
        }
        // A version whose number is lost is removed by its marker alone.
        let lost = match &mut lost {
            Some(lost) => lost,
            none => none.insert(lost::lost_numbers(store, name)?),
        };
        if !lost.contains_key(number) {
            return Err(Error::not_found(format!("there is no version {name}:{number}"))
                .with_hint(format!("`cairn list {name}` lists its versions")));
        }
    }
    if force == Force::Yes {
        return Ok(());
    }
    refuse_if_named(store, name, numbers, None)?;
    refuse_if_read(store, name, numbers)
}

/// Removes a version. [`Store::remove`] also restores it if an alias moved to it at the same moment.
///
/// # Errors
/// Not found: there is no such version, or it is removed already. Conflict: an alias names it or a mount uses it,
/// unless forced; also if an alias moved to it meanwhile (the version is removed then, and the alias's move is undone).
/// Damaged; I/O.
pub fn remove(store: &Store, name: &ArtifactName, number: VersionNumber, force: Force) -> Result<()> {
    remove_all(store, name, &[number], force, &mut Vec::new())
}

/// [`remove`] for several versions of an artifact. All of them are checked before the first is removed. The aliases are
/// read twice, however many versions there are. `removed` gets each version that was removed, also if there is an error
/// later.
///
/// # Errors
/// As [`remove`].
pub fn remove_all(
    store: &Store,
    name: &ArtifactName,
    numbers: &[VersionNumber],
    force: Force,
    removed: &mut Vec<VersionNumber>,
) -> Result<()> {
    check_all(store, name, numbers, force)?;
    let _reserve = store.disk().use_reserve(ReserveUse::Removal);
    let dir = store.layout().removed(name);
    artifact::ensure_dir(store, &dir)?;
    for number in numbers {
        let marked = mark(store, name, &dir, *number);
        // If only the last sync failed, it is removed all the same.
        if marked.is_ok() || removal::is_removed(store, name, *number).unwrap_or(false) {
            removed.push(*number);
        }
        marked?;
    }
    // An alias that moved to one of them after the first check is found now, or its mover finds the marker.
    match force {
        Force::No => refuse_if_named(store, name, numbers, Some("the version is removed; move that alias")),
        Force::Yes => remove_aliases(store, name, numbers),
    }
}

/// Removes the aliases of these versions. One that moves meanwhile is left alone, unless it moves to another of them.
fn remove_aliases(store: &Store, name: &ArtifactName, numbers: &[VersionNumber]) -> Result<()> {
    let wanted: HashSet<_> = numbers.iter().collect();
    loop {
        let named = alias::readable(store, name)?.0.into_iter().filter(|(_, version)| wanted.contains(version));
        let mut moved = false;
        for (alias, version) in named {
            match alias::set(store, name, &alias, alias::Expected::Exactly(Some(version)), None) {
                Err(e) if e.kind() == Kind::Conflict => moved = true,
                done => drop(done?),
            }
        }
        if !moved {
            return Ok(());
        }
    }
}

/// Makes the marker of one version, or, if it was restored, its next change. If another process did it first, that is
/// the same.
fn mark(store: &Store, name: &ArtifactName, dir: &Path, number: VersionNumber) -> Result<()> {
    let (at, by) = (clock::now(), Actor::of(store));
    match removal::changes(store, name, number)? {
        None => {
            let record = RemovalRecord { version: number, at, by };
            claim(store, removal::place_of_marker(dir, number), &record)
        }
        Some(changes) if removal::is_removed_after(changes) => store.disk().sync_dir(dir),
        Some(changes) => {
            let from = changes + 1;
            let record = ChangeRecord { version: number, from, state: State::Removed, at, by };
            claim(store, removal::place_of_change(dir, number, from), &record)
        }
    }
}

/// A removal relies on no content, so one claim decides it.
fn claim(store: &Store, place: OnePlace<true>, record: &impl serde::Serialize) -> Result<()> {
    let prepared = Prepared::one_file(store, Unfenced::begin(), place, &record::encode(record)?)?;
    match prepared.durable()?.place()?.end() {
        Place::At(_) | Place::Refused(()) => Ok(()),
    }
}

/// The error for the first of these versions that an alias names. Without a hint, it says how to remove the aliases.
fn refuse_if_named(store: &Store, name: &ArtifactName, numbers: &[VersionNumber], hint: Option<&str>) -> Result<()> {
    let wanted: HashSet<_> = numbers.iter().copied().collect();
    let named: Vec<(AliasName, VersionNumber)> =
        alias::all(store, name)?.into_iter().filter(|(_, version)| wanted.contains(version)).collect();
    let Some(number) = numbers.iter().find(|number| named.iter().any(|(_, version)| version == *number)) else {
        return Ok(());
    };
    let names: Vec<_> = named.iter().filter(|(_, version)| version == number).map(|(a, _)| a.to_string()).collect();
    let aliases = if names.len() == 1 { "the alias" } else { "the aliases" };
    let why = format!("{name}:{number} is named by {aliases} {}", show_list(&names));
    Err(Error::conflict(why).with_hint(hint.map_or_else(
        || {
            let these = if names.len() > 10 {
                "ALIAS…".to_owned()
            } else {
                names.iter().map(shell_word).collect::<Vec<_>>().join(" ")
            };
            format!("`cairn unalias {name} {these}` removes {aliases}; or use --force")
        },
        str::to_owned,
    )))
}

/// The error for the first of these versions that is in use. A mount that begins to use a version later pins it before
/// it checks whether it is removed. So it can continue to read, and nothing that it reads is freed.
fn refuse_if_read(store: &Store, name: &ArtifactName, numbers: &[VersionNumber]) -> Result<()> {
    let users = pins::users_of_each(store, name, numbers)?;
    let used = numbers.iter().find_map(|number| Some((number, users.get(number)?.first()?)));
    let Some((number, first)) = used else { return Ok(()) };
    let e = Error::conflict(format!(
        "{name}:{number} is in use by a {} of {} on {} (process {})",
        first.purpose, first.user, first.host, first.pid
    ))
    .with_detail(Detail::Locked { holder: first.holder() });
    let at = first.mountpoint.as_ref().map_or("it".to_owned(), |at| show_path(Path::new(at)));
    Err(e.with_hint(format!("unmount {at} first; with --force what is open there stays readable until then")))
}
