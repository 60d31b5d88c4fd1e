//! Aliases: names that move between versions. Each move is a record; the highest counts. `latest` is not stored.

use super::numbers::{Numbered, unless_exactly};
use super::origin::Actor;
use super::removed_version::removed_error;
use super::{given, log, removal};
use crate::clock;
use crate::disk;
use crate::error::{Detail, Error, Kind, Result};
use crate::lock::Purpose;
use crate::store::Store;
use crate::types::{AliasName, ArtifactName, VersionNumber};
use serde::{Deserialize, Serialize};

/// One move of an alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRecord {
    /// The alias.
    pub alias: AliasName,
    /// Where it points from here on; `None`: nowhere.
    pub version: Option<VersionNumber>,
    /// The number it was written for.
    pub from: u64,
    /// When, by the mover's clock.
    pub at: String,
    /// Who moved it.
    #[serde(flatten)]
    pub by: Actor,
}

impl Numbered for AliasRecord {
    fn contradicts(&self, number: u64) -> Option<String> {
        unless_exactly(self.from, number)
    }
}

/// What an alias must point at before it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// Anything, or nothing.
    Any,
    /// This version, nothing for `None`.
    Exactly(Option<VersionNumber>),
}

/// Where an alias points.
///
/// # Errors
/// Damaged; I/O.
pub fn get(store: &Store, name: &ArtifactName, alias: &AliasName) -> Result<Option<VersionNumber>> {
    Ok(log::last::<AliasRecord>(&store.layout().alias(name, alias))?.and_then(|r| r.version))
}

/// All aliases of an artifact that point somewhere, by name.
///
/// # Errors
/// Damaged; I/O.
pub fn all(store: &Store, name: &ArtifactName) -> Result<Vec<(AliasName, VersionNumber)>> {
    let (found, damaged) = readable(store, name)?;
    damaged.into_iter().next().map_or(Ok(found), Err)
}

/// All aliases of an artifact that point somewhere, by name, as far as they can be read; an error for each that is
/// damaged.
///
/// # Errors
/// I/O.
pub fn readable(store: &Store, name: &ArtifactName) -> Result<(Vec<(AliasName, VersionNumber)>, Vec<Error>)> {
    let dir = store.layout().aliases(name);
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for entry in disk::list(&dir)? {
        match log::last(&dir.join(entry)) {
            Ok(Some(AliasRecord { alias, version: Some(version), .. })) => found.push((alias, version)),
            Ok(_) => {}
            Err(e) if e.kind() == Kind::Damaged => damaged.push(e),
            Err(e) => return Err(e),
        }
    }
    found.sort();
    Ok((found, damaged))
}

/// The highest number that an alias names, or that the last collection saw.
///
/// # Errors
/// I/O.
pub(super) fn highest_named(store: &Store, name: &ArtifactName) -> Result<Option<VersionNumber>> {
    let named = readable(store, name)?.0.into_iter().map(|(_, number)| number).filter(|n| n.0 <= given::MAX_GIVEN);
    Ok(named.max().max(given::collected(store, name)?))
}

/// Leaves a mark of a version before an alias names it, so that its number is never given again.
fn leave_mark(store: &Store, name: &ArtifactName, version: VersionNumber) -> Result<()> {
    let marks = given::marks(store, name)?;
    // Without marks, aliases of an earlier release may name a higher number.
    let named = if marks.is_empty() { highest_named(store, name)? } else { None };
    let number = named.map_or(version, |named| named.max(version));
    if marks.last() >= Some(&number) { Ok(()) } else { given::leave(store, name, number, marks) }
}

/// Moves an alias, or removes it (`to` is `None`), and returns where it pointed. If it points there already, nothing is
/// recorded.
///
/// # Errors
/// Conflict: it does not point at what `expected` says, or the version was removed meanwhile (the move is undone then).
/// Not found: the version. Damaged; I/O.
pub fn set(
    store: &Store,
    name: &ArtifactName,
    alias: &AliasName,
    expected: Expected,
    to: Option<VersionNumber>,
) -> Result<Option<VersionNumber>> {
    let Some(version) = to else { return set_unchecked(store, name, alias, expected, None) };
    if let Some(e) = removed_error(store, name, version)? {
        return Err(e);
    }
    if disk::lstat_revalidated(&store.layout().version(name, version))?.is_none() {
        return Err(Error::not_found(format!("there is no version {name}:{version}")));
    }
    let before = set_unchecked(store, name, alias, expected, to)?;
    if !removal::is_removed(store, name, version)? {
        return Ok(before);
    }
    // `rm` checks again after it acted, and so does this: one of the two sees the other (D of the model).
    set_unchecked(store, name, alias, Expected::Exactly(to), before.filter(|b| *b != version))?;
    if let Some(before) = before
        && removal::is_removed(store, name, before)?
    {
        // That one was removed too, while nothing named it: the alias is removed, unless it moved meanwhile.
        let gone = set_unchecked(store, name, alias, Expected::Exactly(Some(before)), None);
        gone.map(drop).or_else(|e| if e.kind() == Kind::Conflict { Ok(()) } else { Err(e) })?;
    }
    Err(Error::conflict(format!("{name}:{version} was removed while alias {alias} moved to it; the move is undone")))
}

/// Moves an alias to `to` with the record after number `after` of its log, and not at all if that number is taken: for
/// a move that was decided earlier and is made late. If the alias points there already, nothing is recorded.
///
/// # Errors
/// Damaged; I/O.
pub(crate) fn set_after(
    store: &Store,
    name: &ArtifactName,
    alias: &AliasName,
    after: u64,
    to: VersionNumber,
) -> Result<()> {
    let decide = |last: Option<AliasRecord>, from| {
        let stays = from != after + 1 || last.is_some_and(|r| r.version == Some(to));
        Ok((!stays).then_some(Some(to)))
    };
    append(store, name, alias, decide)
}

fn set_unchecked(
    store: &Store,
    name: &ArtifactName,
    alias: &AliasName,
    expected: Expected,
    to: Option<VersionNumber>,
) -> Result<Option<VersionNumber>> {
    let mut before = None;
    append(store, name, alias, |last, _| {
        before = last.and_then(|r| r.version);
        if let Expected::Exactly(want) = expected
            && want != before
        {
            let show = |v: Option<VersionNumber>| v.map_or("nothing".to_owned(), |v| v.to_string());
            return Err(Error::conflict(format!(
                "alias {alias} of {name} points at {}, expected {}",
                show(before),
                show(want)
            ))
            .with_detail(Detail::AliasMoved { alias: alias.clone(), expected: want, found: before })
            .with_hint(format!(
                "to move it all the same, give --expect {}, or omit --expect",
                before.map_or("none".to_owned(), |v| v.to_string())
            )));
        }
        Ok((before != to).then_some(to))
    })?;
    Ok(before)
}

/// Appends a record to the log of an alias, unless `decide` returns `None`. `decide` gets the newest record and the
/// number that the new one would have, and returns where the alias points from then on.
fn append(
    store: &Store,
    name: &ArtifactName,
    alias: &AliasName,
    mut decide: impl FnMut(Option<AliasRecord>, u64) -> Result<Option<Option<VersionNumber>>>,
) -> Result<()> {
    let purpose = Purpose { purpose: "alias", artifact: Some(name.as_str()), ..Purpose::default() };
    let record = |last: Option<AliasRecord>, from| {
        let to = decide(last, from)?;
        if let Some(Some(version)) = to {
            leave_mark(store, name, version)?;
        }
        Ok(to.map(|version| AliasRecord {
            alias: alias.clone(),
            version,
            from,
            at: clock::now(),
            by: Actor::of(store),
        }))
    };
    log::append(store, &store.layout().alias(name, alias), &purpose, record).map(drop)
}
