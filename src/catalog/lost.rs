//! Numbers of versions that were given and whose links are lost, and records of versions without a number.
//!
//! A number was given if a later one has a link, or if an alias, a note, a use or the last garbage collection names it.
//! Such a number is never given to another version.

use super::version::{self, Version};
use super::version_record::{VersionRecord, read_record};
use super::{alias, numbers, removal};
use crate::error::{Kind, Result};
use crate::store::Store;
use crate::txn::claim;
use crate::types::{ArtifactName, Token, VersionNumber};
use crate::{disk, record};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most lost numbers of an artifact that are listed.
const MAX_LISTED: usize = 1000;
/// A damaged record may name any number. Higher ones than this show nothing.
const MAX_GIVEN: u64 = 1 << 40;

/// The part of `gc.json` that is about numbers of versions.
#[derive(Deserialize)]
struct Collected {
    artifacts: HashMap<String, CollectedArtifact>,
}

#[derive(Deserialize)]
struct CollectedArtifact {
    #[serde(default)]
    version: Option<u64>,
}

/// What shows that a number was given, by number.
type Shown = BTreeMap<VersionNumber, String>;

/// Adds the numbers that aliases name, and the highest one that the last garbage collection saw, if that counts.
fn named(store: &Store, name: &ArtifactName, shown: &mut Shown, collected: bool) -> Result<()> {
    let mut add = |number: u64, why: String| {
        if number <= MAX_GIVEN {
            shown.entry(VersionNumber(number)).or_insert(why);
        }
    };
    for (alias, number) in alias::readable(store, name)?.0 {
        add(number.0, format!("alias {alias} points at it"));
    }
    if !collected {
        return Ok(());
    }
    let Some(bytes) = disk::read_small(&store.layout().gc_history(), 1 << 30)? else { return Ok(()) };
    // A damaged list shows nothing; the next collection reports it.
    if let Ok(collected) = record::decode::<Collected>(&bytes, "gc.json")
        && let Some(number) = collected.artifacts.get(name.as_str()).and_then(|artifact| artifact.version)
    {
        add(number, "the last garbage collection saw it".into());
    }
    Ok(())
}

/// Why a number was given, if there are notes or uses of it.
fn noted(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Option<&'static str>> {
    let layout = store.layout();
    if disk::lstat(&layout.notes(name, number))?.is_some() {
        return Ok(Some("there are notes about it"));
    }
    Ok(disk::lstat(&layout.uses(name, number))?.map(|_| "a run used it"))
}

/// The highest number that has a link, as `look` finds it, and the highest that was given: another one only if that
/// number's link is lost. What shows lost numbers is read first. So a version that another process publishes meanwhile
/// does not look lost.
///
/// # Errors
/// Those of `look`; I/O.
pub(crate) fn highest_given(
    store: &Store,
    name: &ArtifactName,
    mut look: impl FnMut() -> Result<Option<VersionNumber>>,
) -> Result<(Option<VersionNumber>, Option<VersionNumber>)> {
    let mut shown = Shown::new();
    named(store, name, &mut shown, true)?;
    let named = shown.pop_last().map(|(number, _)| number);
    let mut linked = look()?;
    loop {
        let mut given = linked.max(named);
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
