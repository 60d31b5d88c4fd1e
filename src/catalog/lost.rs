//! Numbers of versions that were given and whose links are lost, and records of versions without a number.
//!
//! A number was given if a later one has a link, or if an alias, a note, a use, a removal or the last garbage
//! collection names it. Such a number is never given to another version.

use super::given::MAX_GIVEN;
use super::version::{self, Version};
use super::version_record::{VersionRecord, read_record};
use super::{alias, given, numbers, removal};
use crate::disk;
use crate::error::{Kind, Result};
use crate::store::Store;
use crate::txn::claim;
use crate::types::{ArtifactName, Token, VersionNumber};
use std::collections::{BTreeMap, BTreeSet};

/// The most lost numbers of an artifact that are listed.
const MAX_LISTED: usize = 1000;

/// What shows that a number was given, by number.
type Shown = BTreeMap<VersionNumber, String>;

/// Adds the numbers that aliases name and that marks show, and what the last garbage collection saw, if that counts.
fn named(store: &Store, name: &ArtifactName, shown: &mut Shown, collected: bool) -> Result<()> {
    for (alias, number) in alias::readable(store, name)?.0 {
        if number.0 <= MAX_GIVEN {
            shown.entry(number).or_insert_with(|| format!("alias {alias} points at it"));
        }
    }
    if collected && let Some(number) = given::collected(store, name)? {
        shown.entry(number).or_insert("the last garbage collection saw it".into());
    }
    for number in given::marks(store, name)? {
        shown.entry(number).or_insert_with(|| format!("artifacts/{name}/given/{number} shows that it was given"));
    }
    Ok(())
}

/// Why a number was given, if there are notes or uses of it, or if it was removed.
fn noted(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Option<&'static str>> {
    let layout = store.layout();
    if disk::lstat(&layout.notes(name, number))?.is_some() {
        return Ok(Some("there are notes about it"));
    }
    if disk::lstat(&layout.uses(name, number))?.is_some() {
        return Ok(Some("a run used it"));
    }
    Ok(removal::was_removed(store, name, number)?.then_some("it was removed"))
}

/// The highest number that was removed at any time.
fn highest_removed(store: &Store, name: &ArtifactName) -> Result<Option<VersionNumber>> {
    let removed = numbers::versions(&store.layout().removed(name))?;
    Ok(removed.into_iter().rfind(|number| number.0 <= MAX_GIVEN))
}

/// The highest number that has a link, as `look` finds it, and the highest that was given: another one only if that
/// number's link is lost. What shows lost numbers is read first. So a version that another process publishes meanwhile
/// does not look lost.
///
/// Of what aliases and collections name, the marks show the highest number. If there are none, everything is read once,
/// and leaves a mark.
///
/// # Errors
/// Those of `look`; I/O.
pub(crate) fn highest_given(
    store: &Store,
    name: &ArtifactName,
    look: impl FnMut() -> Result<Option<VersionNumber>>,
) -> Result<(Option<VersionNumber>, Option<VersionNumber>)> {
    let mark = given::marks(store, name)?.pop();
    let named = if mark.is_some() { mark } else { alias::highest_named(store, name)? };
    let found = highest_from(store, name, named, look)?;
    if let (None, Some(given)) = (mark, found.1)
        && is_named_somewhere(store, name)?
    {
        // If this fails, the next writer reads everything again.
        let _: Result<()> = given::leave(store, name, given, Vec::new());
    }
    Ok(found)
}

/// Whether there is something to read in a search for what aliases and collections name.
fn is_named_somewhere(store: &Store, name: &ArtifactName) -> Result<bool> {
    let layout = store.layout();
    Ok(disk::lstat(&layout.aliases(name))?.is_some() || disk::lstat(&layout.gc_history())?.is_some())
}

/// [`highest_given`], where `named` is the highest number that aliases and collections name. All removals are listed
/// only if a link is lost: there may be many.
fn highest_from(
    store: &Store,
    name: &ArtifactName,
    named: Option<VersionNumber>,
    mut look: impl FnMut() -> Result<Option<VersionNumber>>,
) -> Result<(Option<VersionNumber>, Option<VersionNumber>)> {
    let mut linked = look()?;
    loop {
        let mut given = linked.max(named);
        if linked.is_none() || given > linked {
            given = given.max(highest_removed(store, name)?);
        }
        while noted(store, name, VersionNumber::after(given))?.is_some() {
            given = Some(VersionNumber::after(given));
        }
        let now = if given > linked { version::highest_after(store, name, linked)?.max(linked) } else { linked };
        if now == linked {
            return Ok((linked, given));
        }
        linked = now;
    }
}

/// The numbers of an artifact that were given, have no link and are not removed, each with what shows that it was
/// given. The lowest ones, if there are very many.
///
/// # Errors
/// I/O.
pub fn lost_numbers(store: &Store, name: &ArtifactName) -> Result<BTreeMap<VersionNumber, String>> {
    lost(store, name, true)
}

/// [`lost_numbers`] without what the last garbage collection saw: a collection compares that itself.
///
/// # Errors
/// I/O.
pub(crate) fn lost_by_records(store: &Store, name: &ArtifactName) -> Result<BTreeMap<VersionNumber, String>> {
    lost(store, name, false)
}

fn lost(store: &Store, name: &ArtifactName, collected: bool) -> Result<Shown> {
    let layout = store.layout();
    let mut shown = Shown::new();
    named(store, name, &mut shown, collected)?;
    for (dir, why) in [(layout.all_notes(name), "there are notes about it"), (layout.all_uses(name), "a run used it")] {
        for number in numbers::versions(&dir)?.into_iter().filter(|n| n.0 <= MAX_GIVEN) {
            shown.entry(number).or_insert(why.into());
        }
    }
    let linked = numbers::versions(&layout.versions(name))?;
    let mut last = linked.last().copied();
    if let Some(highest) = shown.last_key_value().map(|(number, _)| *number).filter(|n| Some(*n) > last) {
        last = Some(highest);
    }
    let Some(last) = last else { return Ok(Shown::new()) };
    let removed: BTreeSet<_> = removal::removed(store, name)?.into_iter().collect();
    let linked: BTreeSet<_> = linked.into_iter().collect();
    let mut lost = Shown::new();
    // Each step passes a number that has a link or a marker, or finds a lost one.
    for number in (0..=last.0).map(VersionNumber).filter(|n| !linked.contains(n) && !removed.contains(n)) {
        if lost.len() == MAX_LISTED {
            break;
        }
        if disk::lstat_revalidated(&layout.version(name, number))?.is_none() {
            let later = linked.last().filter(|later| **later > number);
            let why = match (shown.remove(&number), later) {
                (_, Some(later)) => format!("{later} was published after it"),
                (Some(why), None) => why,
                (None, None) => format!("{last} was given after it"),
            };
            lost.insert(number, why);
        }
    }
    Ok(lost)
}

/// The complete records of versions that have no number and whose tokens have ended: what a writer left that was
/// stopped or refused, or a version whose number is lost. Each with its manifest's digest compared.
///
/// # Errors
/// I/O.
pub(crate) fn unnumbered(store: &Store, name: &ArtifactName) -> Result<Vec<(Token, VersionRecord)>> {
    let dir = store.layout().versions(name);
    let mut tokens = BTreeSet::new();
    for token in disk::list(&dir)?.iter().filter_map(|entry| Token::from_record_name(entry.as_encoded_bytes())) {
        tokens.insert(token);
    }
    let published = |tokens: &mut BTreeSet<Token>| -> Result<()> {
        for number in numbers::versions(&dir)? {
            match claim::holder(&store.layout().version(name, number)) {
                Ok(Some(token)) => drop(tokens.remove(&token)),
                Err(e) if e.kind() != Kind::Damaged => return Err(e),
                _ => {}
            }
        }
        Ok(())
    };
    published(&mut tokens)?;
    if tokens.is_empty() {
        return Ok(Vec::new());
    }
    let mut ended = BTreeSet::new();
    for token in tokens {
        if disk::lstat_revalidated(&store.layout().token(&token))?.is_none() {
            ended.insert(token);
        }
    }
    // A writer claims its number before its token ends, so a version that was published meanwhile has it now.
    published(&mut ended)?;
    let mut out = Vec::new();
    for token in ended {
        let Some(record) = complete(store, name, &token)? else { continue };
        out.push((token, record));
    }
    Ok(out)
}

/// The record of a token, if it and its manifest are whole.
fn complete(store: &Store, name: &ArtifactName, token: &Token) -> Result<Option<VersionRecord>> {
    let whole = read_record(store, name, token).and_then(|record| {
        Version::claimed(store, record.from, token.clone(), record.clone()).manifest_file().map(|_| record)
    });
    match whole {
        Ok(record) => Ok(Some(record)),
        Err(e) if e.kind() == Kind::Damaged => Ok(None),
        Err(e) => Err(e),
    }
}
