//! The names of one artifact: its record, numbers, versions, aliases, notes, removals, and whether each record
//! belongs where it is.

use super::artifact_check::{ArtifactCheck, Records, Tokens};
use super::drafts;
use super::report::{Finding, code};
use crate::catalog::alias::AliasRecord;
use crate::catalog::artifact;
use crate::catalog::removal::{self, ChangeRecord, RemovalRecord};
use crate::catalog::{Note, NoteSummary, Version, log, lost, numbers, uses, version};
use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::store::Store;
use crate::txn::claim;
use crate::types::{ArtifactName, VersionNumber};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The directories of an artifact.
const DIRECTORIES: [&str; 8] = ["aliases", "drafts", "given", "made", "notes", "removed", "uses", "versions"];

/// Whether one of an artifact's directories is a symlink.
pub(super) fn has_linked_directory(store: &Store, name: &ArtifactName) -> bool {
    let at = store.layout().artifact(name);
    DIRECTORIES.iter().any(|dir| disk::lstat(&at.join(dir)).is_ok_and(|m| m.is_some_and(|m| m.is_symlink())))
}

/// The finding for an artifact whose directory is a symlink.
pub(super) fn linked(store: &Store, name: &ArtifactName) -> Finding {
    let dir = store.layout().artifact(name);
    let what = show_path(dir.strip_prefix(store.root()).unwrap_or(&dir));
    let why = "it is a symlink, expected a directory".into();
    Finding { code: code::UNREADABLE, what, why, affects: vec![name.to_string()] }
}

/// Checks all records of an artifact.
pub(super) fn check_artifact(store: &Store, name: &ArtifactName, tokens: &mut Tokens) -> Result<Records> {
    if disk::lstat(&store.layout().artifact(name))?.is_some_and(|meta| meta.is_symlink()) {
        return Ok(Records { findings: vec![linked(store, name)], ..Records::default() });
    }
    let mut check = ArtifactCheck { store, name, tokens, out: Records::default(), kind: None, ends: HashMap::new() };
    check.artifact()?;
    check.uses()?;
    check.versions()?;
    check.removals()?;
    check.aliases()?;
    check.notes()?;
    drafts::check_drafts(&mut check)?;
    Ok(check.out)
}

impl ArtifactCheck<'_> {
    fn artifact(&mut self) -> Result<()> {
        let missing = || Error::damaged("it is missing, although there are versions or drafts");
        let record = artifact::find(self.store, self.name).and_then(|r| r.ok_or_else(missing));
        self.kind = self.found(
            code::ARTIFACT,
            &format!("artifacts/{}/artifact.json", self.name),
            &[self.name.to_string()],
            record,
        )?;
        Ok(())
    }

    /// Which runs used a version: each has a record for that run and version. Nothing depends on them.
    fn uses(&mut self) -> Result<()> {
        let dir = self.store.layout().all_uses(self.name);
        for entry in self.list(&dir)? {
            let Some(number) = entry.to_str().and_then(VersionNumber::of_text) else { continue };
            let of_version = dir.join(&entry);
            let runs = self.list(&of_version)?;
            let runs: Vec<_> = runs.iter().filter(|run| !run.as_encoded_bytes().starts_with(b".")).collect();
            for run in &runs {
                let what = self.show(&of_version.join(run));
                self.found(code::RECORD, &what, &[], uses::read(&of_version.join(run), number))?;
            }
            if !runs.is_empty() && self.is_missed(number)? {
                let what = self.show(&of_version);
                self.finding(code::RECORD, what, format!("these are uses of {number}, whose number is missing"), &[]);
            }
        }
        Ok(())
    }

    fn versions(&mut self) -> Result<()> {
        let dir = self.store.layout().versions(self.name);
        let mut numbers: Vec<VersionNumber> =
            self.list(&dir)?.iter().filter_map(|n| VersionNumber::of_text(n.to_str()?)).collect();
        numbers.sort_unstable();
        self.lost_numbers(&dir)?;
        for number in numbers {
            // A removed version affects no one: what is wrong with it is a note.
            let removed = removal::is_removed(self.store, self.name, number)?;
            let before = self.out.findings.len();
            self.version(number, removed)?;
            if removed {
                let (notes, findings) = (self.out.findings.split_off(before).into_iter())
                    .partition::<Vec<_>, _>(|f| matches!(f.code, code::NUMBER | code::VERSION));
                self.out.findings.extend(findings);
                self.out.notes.extend(notes.into_iter().map(|f| Finding { affects: Vec::new(), ..f }));
            }
        }
        Ok(())
    }

    /// Numbers that were given and have no link (F4), and records that have no number.
    fn lost_numbers(&mut self, dir: &Path) -> Result<()> {
        let at = self.show(dir);
        let lost = lost::lost_numbers(self.store, self.name);
        for (number, why) in self.found(code::UNREADABLE, &at, &[], lost)?.unwrap_or_default() {
            let affects = [format!("{}:{number}", self.name)];
            self.finding(code::GAP, at.as_str(), format!("{number} is missing, and {why}"), &affects);
        }
        let unnumbered = lost::unnumbered(self.store, self.name);
        for (token, record) in self.found(code::UNREADABLE, &at, &[], unnumbered)?.unwrap_or_default() {
            let why = format!(
                "the record of a version of {} has no number: its writer was stopped before it published it, or the \
                 number is lost. If it was vN, `ln -s .{token} vN` in this directory gives it vN again; else `cairn \
                 gc` removes the record",
                record.created_at
            );
            let what = format!("{at}/{}", token.record_name());
            self.out.notes.push(Finding { code: code::UNNUMBERED, what, why, affects: Vec::new() });
        }
        Ok(())
    }

    /// Whether a version that something names has no link and is not removed.
    fn is_missed(&self, number: VersionNumber) -> Result<bool> {
        Ok(disk::lstat_revalidated(&self.store.layout().version(self.name, number))?.is_none()
            && !removal::is_removed(self.store, self.name, number)?)
    }

    /// One version: its number, and its records.
    fn version(&mut self, number: VersionNumber, removed: bool) -> Result<()> {
        let what = format!("{}:{number}", self.name);
        let affects = [what.clone()];
        let link = self.store.layout().version(self.name, number);
        let Some(token) = self.found(code::NUMBER, &what, &affects, claim::holder(&link))?.flatten() else {
            return Ok(());
        };
        self.published(&token, &what)?;
        let version = Version::read_anywhere(self.store, self.name, number);
        let Some(version) = self.found(code::VERSION, &what, &affects, version)?.flatten() else { return Ok(()) };
        if let Some(why) = misplaced(&version) {
            self.finding(code::NUMBER, &what, why, &affects);
        }
        if let Some(artifact) = &self.kind
            && artifact.kind != version.record().kind
        {
            let why = format!("its type is {}, {what} has type {}", artifact.kind, version.record().kind);
            self.finding(code::ARTIFACT, format!("artifacts/{}/artifact.json", self.name), why, &affects);
        }
        if let Some(id) = &version.record().distributed_id {
            self.ends.insert(token, (number, id.clone()));
        }
        if !removed {
            self.out.versions.push(version);
        }
        Ok(())
    }

    /// Markers: each has a record for its own number, which is that of a version. Their changes are dense.
    fn removals(&mut self) -> Result<()> {
        let dir = self.store.layout().removed(self.name);
        self.changes(&dir)?;
        let mut numbers: Vec<VersionNumber> =
            self.list(&dir)?.iter().filter_map(|n| VersionNumber::of_text(n.to_str()?)).collect();
        numbers.sort_unstable();
        for number in numbers {
            let link = dir.join(number.to_string());
            let what = self.show(&link);
            let affects = [format!("{}:{number}", self.name)];
            let Some(token) = self.found(code::NUMBER, &what, &affects, claim::holder(&link))?.flatten() else {
                continue;
            };
            let record = claim::read_record::<RemovalRecord>(&dir.join(token.record_name()));
            let Some(record) = self.found(code::RECORD, &what, &affects, record)? else { continue };
            if record.version != number {
                self.finding(code::RECORD, &what, format!("its record removes {}", record.version), &affects);
            }
            if disk::lstat_revalidated(&self.store.layout().version(self.name, number))?.is_some() {
                continue;
            }
            if version::highest(self.store, self.name)?.is_some_and(|highest| number <= highest) {
                let why = format!("it removes {number}, whose number was lost");
                self.out.notes.push(Finding { code: code::NUMBER, what, why, affects: Vec::new() });
            } else {
                self.finding(code::NUMBER, &what, format!("it removes {number}, which never was"), &affects);
            }
        }
        Ok(())
    }

    /// What became of removed versions.
    fn changes(&mut self, dir: &Path) -> Result<()> {
        let mut changes: BTreeMap<VersionNumber, Vec<u64>> = BTreeMap::new();
        for (version, number) in self.list(dir)?.iter().filter_map(|name| removal::parse_change(name.to_str()?)) {
            changes.entry(version).or_default().push(number);
        }
        for (version, mut numbers) in changes {
            numbers.sort_unstable();
            let affects = [format!("{}:{version}", self.name)];
            self.gaps(dir, numbers.iter().copied(), 1, |n| removal::change_name(version, n))?;
            if disk::lstat_revalidated(&dir.join(version.to_string()))?.is_none() {
                let what = self.show(&dir.join(version.to_string()));
                self.finding(code::NUMBER, what, "it is missing, although there are changes after it", &affects);
            }
            for number in numbers {
                let link = dir.join(removal::change_name(version, number));
                let what = self.show(&link);
                let Some(token) = self.found(code::NUMBER, &what, &affects, claim::holder(&link))?.flatten() else {
                    continue;
                };
                self.published(&token, &what)?;
                let record = removal::read::<ChangeRecord>(dir, &link, number);
                let Some(record) = self.found(code::RECORD, &what, &affects, record)? else { continue };
                if record.version != version {
                    self.finding(code::RECORD, &what, format!("its record is about {}", record.version), &affects);
                }
            }
        }
        Ok(())
    }

    fn aliases(&mut self) -> Result<()> {
        let dir = self.store.layout().aliases(self.name);
        for entry in self.list(&dir)? {
            let log = dir.join(&entry);
            let mut last = None;
            self.log::<AliasRecord>(&log, |check, n, what, record| {
                if record.alias.file_name().as_bytes() != entry.as_encoded_bytes() || record.from != n {
                    let why = format!("it was written for number {} of alias {}", record.from, record.alias);
                    check.finding(code::RECORD, what, why, &[]);
                }
                last = Some(record);
            })?;
            let Some(AliasRecord { alias, version: Some(version), .. }) = last else { continue };
            let there = disk::lstat_revalidated(&self.store.layout().version(self.name, version))?.is_some()
                && !removal::is_removed(self.store, self.name, version)?;
            if !there {
                let what = format!("{}:{alias}", self.name);
                self.finding(
                    code::ALIAS,
                    &what,
                    format!("it points at {version}, which is not there"),
                    std::slice::from_ref(&what),
                );
            }
        }
        Ok(())
    }

    fn notes(&mut self) -> Result<()> {
        let dir = self.store.layout().all_notes(self.name);
        for entry in self.list(&dir)? {
            let Some(number) = entry.to_str().and_then(VersionNumber::of_text) else { continue };
            let log = dir.join(&entry);
            let mut alone = BTreeMap::new();
            let records = self.log::<Note>(&log, |check, number, what, mut note| {
                let before = note.before.take();
                if let Some(why) = before.and_then(|before| wrong_summary(&before, number, &alone)) {
                    check.finding(code::RECORD, what, why, &[]);
                }
                alone.insert(number, NoteSummary::of(number, note));
            })?;
            if records > 0 && self.is_missed(number)? {
                let what = self.show(&log);
                self.finding(code::RECORD, what, format!("these are notes of {number}, whose number is missing"), &[]);
            }
        }
        Ok(())
    }

    /// Every record of a log, and how many there are.
    fn log<T: DeserializeOwned + numbers::Numbered>(
        &mut self,
        dir: &Path,
        mut see: impl FnMut(&mut Self, u64, &str, T),
    ) -> Result<usize> {
        let all = self.numbers_of(dir)?;
        for n in &all {
            let link = dir.join(numbers::record_name(*n));
            let what = self.show(&link);
            if let Some(token) = self.found(code::NUMBER, &what, &[], claim::holder(&link))?.flatten() {
                self.published(&token, &what)?;
                if let Some(record) = self.found(code::RECORD, &what, &[], log::read::<T>(dir, *n))? {
                    see(self, *n, &what, record);
                }
            }
        }
        Ok(all.len())
    }
}

/// Why a note's summary is not what the notes before it add up to; `None` too if one of them cannot be read.
fn wrong_summary(summary: &NoteSummary, number: u64, alone: &BTreeMap<u64, NoteSummary>) -> Option<String> {
    let through = number - 1;
    if summary.from == 0 || summary.from > through {
        return Some(format!("it summarizes notes from {} on, which does not come before it", summary.from));
    }
    let notes: Vec<_> = alone.range(summary.from..=through).map(|(_, note)| note.clone()).collect();
    if notes.len() as u64 != number - summary.from {
        return None; // found already
    }
    let sum = notes.into_iter().rev().reduce(|mut sum, earlier| {
        sum.prepend(earlier);
        sum
    });
    (sum.as_ref() != Some(summary))
        .then(|| format!("its summary is not what the notes {}–{through} add up to", summary.from))
}

/// Why a version's record was not written for the number that it is at.
pub(super) fn misplaced(version: &Version) -> Option<String> {
    let (record, number) = (version.record(), version.number());
    if record.from > number || (record.exact && record.from != number) {
        let only = if record.exact { "for" } else { "for numbers from" };
        return Some(format!("its record was written {only} {}", record.from));
    }
    record.base.filter(|base| *base >= number).map(|base| format!("its record says that it is a patch of {base}"))
}
