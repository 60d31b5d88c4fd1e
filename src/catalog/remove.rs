//! Removing a version: refused while an alias names it or a mount shows it, unless forced.

use super::removal::{RemovalRecord, is_removed};
use super::{alias, artifact};
use crate::error::{Detail, Error, Result, show_list};
use crate::pins;
use crate::store::Store;
use crate::txn::{Numbers, Pass, Place, Prepared, Unfenced};
use crate::types::{ArtifactName, Token, VersionNumber};
use crate::{clock, disk, record};
use std::path::PathBuf;

/// Whether a removal is refused because of aliases that name the version, and mounts that show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Force {
    /// Refuse while an alias names it or a mount uses it.
    No,
    /// Remove it anyway, and remove those aliases.
    Yes,
}

/// Checks what [`remove`] would refuse, and changes nothing.
///
/// # Errors
/// As [`remove`].
pub fn check(store: &Store, name: &ArtifactName, number: VersionNumber, force: Force) -> Result<()> {
    store.check_writable()?;
    if disk::lstat_revalidated(&store.layout().version(name, number))?.is_none() || is_removed(store, name, number)? {
        return Err(Error::not_found(format!("there is no version {name}:{number}"))
            .with_hint(format!("`cairn list {name}` lists its versions")));
    }
    match force {
        Force::No => {
            refuse_if_named(store, name, number, "remove the alias first, or use --force")?;
            refuse_if_read(store, name, number)
        }
        Force::Yes => Ok(()),
    }
}

/// Removes a version.
///
/// # Errors
/// Not found: there is no such version, or it is removed already. Conflict: an alias names it or a mount uses it,
/// unless forced; also if an alias moved to it meanwhile (the version is removed then, and the alias's move is undone).
/// Damaged; I/O.
pub fn remove(store: &Store, name: &ArtifactName, number: VersionNumber, force: Force) -> Result<()> {
    check(store, name, number, force)?;
    let dir = store.layout().removed(name);
    artifact::ensure_dir(store, &dir)?;
    let marker = RemovalRecord { version: number, at: clock::now(), host: crate::lock::host_name().to_owned() };
    let prepared = Prepared::one_file(store, Unfenced::begin(), Marker { dir, number }, &record::encode(&marker)?)?;
    match prepared.durable()?.place()?.end() {
        Place::At(_) | Place::Refused(()) => {} // refused: another removed it first
    }
    match force {
        Force::No => refuse_if_named(store, name, number, "the version is removed; move that alias"),
        Force::Yes => {
            for (alias, _) in alias::readable(store, name)?.0.into_iter().filter(|(_, v)| *v == number) {
                alias::set(store, name, &alias, alias::Expected::Any, None)?;
            }
            Ok(())
        }
    }
}

/// The number of a removal: that of the version.
struct Marker {
    dir: PathBuf,
    number: VersionNumber,
}

impl Numbers for Marker {
    type Refusal = ();

    const RELIES_ON_WINNER: bool = true;

    fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    fn first(&self) -> u64 {
        self.number.0
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(VersionNumber(number).to_string())
    }

    fn passed(&self, _: u64, _: &Token) -> Result<Pass<()>> {
        Ok(Pass::Refused(()))
    }
}

fn naming(
    store: &Store,
    name: &ArtifactName,
    number: VersionNumber,
) -> Result<Vec<(crate::types::AliasName, VersionNumber)>> {
    Ok(alias::all(store, name)?.into_iter().filter(|(_, v)| *v == number).collect())
}

fn refuse_if_named(store: &Store, name: &ArtifactName, number: VersionNumber, hint: &str) -> Result<()> {
    let names: Vec<_> = naming(store, name, number)?.into_iter().map(|(a, _)| a.to_string()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::conflict(format!("{name}:{number} is named by alias {}", show_list(&names))).with_hint(hint))
}

/// A mount that begins to use the version later pins it before it checks whether it is removed: it can go on reading,
/// and nothing that it reads is freed.
fn refuse_if_read(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<()> {
    let users = pins::users(store, name, number)?;
    let Some(first) = users.first() else { return Ok(()) };
    let e = Error::conflict(format!(
        "{name}:{number} is in use by a {} of {} on {} (process {})",
        first.purpose, first.user, first.host, first.pid
    ))
    .with_detail(Detail::Locked { holder: first.holder() });
    Err(e.with_hint("unmount it first; with --force what is open there stays readable until then"))
}
