//! What stands by name: artifacts, numbers, versions, aliases, notes, removals.

use super::report::{Finding, Report, code};
use crate::catalog::alias::AliasRecord;
use crate::catalog::artifact;
use crate::catalog::removal::{self, RemovalRecord};
use crate::catalog::{Note, Version, log, numbers};
use crate::disk;
use crate::error::{Error, Kind, Result, show_path};
use crate::store::Store;
use crate::words::{ArtifactName, Token, VersionNumber};
use crate::work::{self, claim};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::path::Path;

/// Turns damage into a finding; other errors stop verify.
pub(super) fn found<T>(report: &mut Report, code: &'static str, what: impl FnOnce() -> String, affects: &[String], result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == Kind::Damaged || e.kind() == Kind::Usage => {
            report.findings.push(Finding { code, what: what(), why: e.to_string(), affects: affects.to_vec() });
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// All versions of an artifact that are not removed, as far as their records are right; everything else is checked on the way.
pub(super) fn look(store: &Store, name: &ArtifactName, tokens: &mut HashMap<Token, String>, report: &mut Report) -> Result<Vec<Version>> {
    let layout = store.layout();
    report.artifacts += 1;
    let all = [name.to_string()];
    let record = artifact::find(store, name).and_then(|r| r.ok_or_else(|| Error::damaged("it is missing, versions or drafts stand")));
    found(report, code::ARTIFACT, || format!("artifacts/{name}/artifact.json"), &all, record)?;
    let claimed = numbers::versions(&layout.versions(name))?;
    gaps(report, &format!("artifacts/{name}/versions"), claimed.iter().map(|n| n.0), 0);
    let removed = removal::removed(store, name)?;
    for number in &removed {
        let link = layout.removed(name).join(number.to_string());
        claimed_record::<RemovalRecord>(store, &link, report)?;
    }
    let mut out = Vec::new();
    for number in claimed {
        let what = || format!("{name}:{number}");
        let affects = [what()];
        let Some(token) = found(report, code::NUMBER, what, &affects, claim::holder(&layout.version(name, number)))?.flatten() else { continue };
        published(store, &token, format!("{name}:{number}"), tokens, report)?;
        let version = Version::read(store, name, number);
        let Some(version) = found(report, code::VERSION, what, &affects, version)?.flatten() else { continue };
        if removed.binary_search(&number).is_err() {
            out.push(version);
        }
    }
    logs(store, name, tokens, report)?;
    Ok(out)
}

/// A token that stands at a number: at one only, and not fenced (F7).
pub(super) fn published(store: &Store, token: &Token, at: String, tokens: &mut HashMap<Token, String>, report: &mut Report) -> Result<()> {
    let mut wrong = |why: String| report.findings.push(Finding { code: code::TOKEN, what: token.to_string(), why, affects: vec![at.clone()] });
    if work::is_fenced(store, token).unwrap_or(false) {
        wrong(format!("it is fenced and stands at {at}"));
    }
    if let Some(other) = tokens.insert(token.clone(), at.clone()) {
        wrong(format!("it stands at {other} and at {at}"));
    }
    Ok(())
}

/// Aliases and notes: dense logs of whole records; aliases name what is there.
fn logs(store: &Store, name: &ArtifactName, tokens: &mut HashMap<Token, String>, report: &mut Report) -> Result<()> {
    let layout = store.layout();
    for entry in disk::list(&layout.aliases(name))? {
        let dir = layout.aliases(name).join(&entry);
        let last = log_records::<AliasRecord>(store, &dir, tokens, report)?;
        if let Some(AliasRecord { alias, version: Some(version), .. }) = last {
            let there = disk::look(&layout.version(name, version))?.is_some() && !removal::is_removed(store, name, version)?;
            if !there {
                let why = format!("it points at {version}, which is not there");
                report.findings.push(Finding { code: code::ALIAS, what: format!("{name}:{alias}"), why, affects: vec![format!("{name}:{alias}")] });
            }
        }
    }
    let notes = layout.artifact(name).join("notes");
    for entry in disk::list(&notes)?.iter().filter(|n| n.to_str().and_then(VersionNumber::from_text).is_some()) {
        log_records::<Note>(store, &notes.join(entry), tokens, report)?;
    }
    Ok(())
}

/// Every record of a log; the last one.
fn log_records<T: DeserializeOwned>(store: &Store, dir: &Path, tokens: &mut HashMap<Token, String>, report: &mut Report) -> Result<Option<T>> {
    let mut all: Vec<u64> = disk::list(dir)?.iter().filter_map(|n| numbers::parse_record(n.to_str()?)).collect();
    all.sort_unstable();
    let at = show_path(dir.strip_prefix(store.root()).unwrap_or(dir));
    gaps(report, &at, all.iter().copied(), 1);
    let mut last = None;
    for n in all {
        let what = || format!("{at}/{}", numbers::record_name(n));
        if let Some(token) = found(report, code::NUMBER, what, &[], claim::holder(&dir.join(numbers::record_name(n))))?.flatten() {
            published(store, &token, what(), tokens, report)?;
            last = found(report, code::RECORD, what, &[], log::read::<T>(dir, n))?;
        }
    }
    Ok(last)
}

fn claimed_record<T: DeserializeOwned>(store: &Store, link: &Path, report: &mut Report) -> Result<()> {
    let at = || show_path(link.strip_prefix(store.root()).unwrap_or(link));
    let Some(token) = found(report, code::NUMBER, at, &[], claim::holder(link))?.flatten() else { return Ok(()) };
    let record = link.parent().unwrap_or(link).join(token.record_name());
    found(report, code::RECORD, at, &[], claim::read_record::<T>(&record)).map(drop)
}

/// Numbers that are missing below others (F4).
pub(super) fn gaps(report: &mut Report, at: &str, numbers: impl Iterator<Item = u64>, first: u64) {
    let mut next = first;
    for n in numbers {
        if n != next {
            let why = format!("expected number {next}, found {n}");
            report.findings.push(Finding { code: code::GAP, what: at.to_owned(), why, affects: Vec::new() });
        }
        next = n + 1;
    }
}
