//! The names of one artifact: its record, numbers, versions, aliases, notes, removals, and whether each record
//! belongs where it is.

use super::drafts;
use super::report::{Finding, code};
use crate::catalog::alias::AliasRecord;
use crate::catalog::artifact::{self, ArtifactRecord};
use crate::catalog::removal::{self, RemovalRecord};
use crate::catalog::{Contribution, Draft, Note, Version, log, numbers};
use crate::disk;
use crate::error::{Error, Kind, Result, show_path};
use crate::store::Store;
use crate::txn::{self, claim};
use crate::types::{ArtifactName, DistributedId, Token, VersionNumber};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

/// Where each token was seen. One that is at two numbers is damage (F7), also if they are of two artifacts.
pub(super) type Tokens = HashMap<Token, String>;

/// What is known of an artifact by its records.
#[derive(Default)]
pub(super) struct Records {
    /// Its versions that are not removed, as far as their records are right.
    pub versions: Vec<Version>,
    /// What counts of its open drafts.
    pub contributions: Vec<(Draft, Contribution)>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is wrong and affects nothing: the records of removed versions.
    pub notes: Vec<Finding>,
}

/// The directories of an artifact.
const DIRECTORIES: [&str; 6] = ["aliases", "drafts", "notes", "removed", "uses", "versions"];

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

/// The check of one artifact.
pub(super) struct ArtifactCheck<'a> {
    pub store: &'a Store,
    pub name: &'a ArtifactName,
    pub tokens: &'a mut Tokens,
    pub out: Records,
    kind: Option<ArtifactRecord>,
    /// Versions whose records name the draft that they finish.
    pub ends: HashMap<Token, (VersionNumber, DistributedId)>,
}

impl ArtifactCheck<'_> {
    pub fn finding(&mut self, code: &'static str, what: impl Into<String>, why: impl Into<String>, affects: &[String]) {
        self.out.findings.push(Finding { code, what: what.into(), why: why.into(), affects: affects.to_vec() });
    }

    /// Turns damage, and what cannot be read, into a finding; other errors end verify.
    pub fn found<T>(
        &mut self,
        code: &'static str,
        what: &str,
        affects: &[String],
        result: Result<T>,
    ) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(e) => {
                let finding = finding_of(e, code, what)?;
                self.out.findings.push(Finding { affects: affects.to_vec(), ..finding });
                Ok(None)
            }
        }
    }

    /// The names in a directory of the store.
    pub fn list(&mut self, dir: &Path) -> Result<Vec<OsString>> {
        let at = self.show(dir);
        Ok(self.found(code::UNREADABLE, &at, &[], disk::list(dir))?.unwrap_or_default())
    }

    /// A path as findings show it.
    pub fn show(&self, path: &Path) -> String {
        show_path(path.strip_prefix(self.store.root()).unwrap_or(path))
    }

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

    /// Who used a version: hints, whose directories are directories.
    fn uses(&mut self) -> Result<()> {
        let dir = self.store.layout().artifact(self.name).join("uses");
        for entry in self.list(&dir)? {
            if entry.to_str().and_then(VersionNumber::of_text).is_some() {
                self.list(&dir.join(&entry))?;
            }
        }
        Ok(())
    }

    fn versions(&mut self) -> Result<()> {
        let dir = self.store.layout().versions(self.name);
        let mut numbers: Vec<VersionNumber> =
            self.list(&dir)?.iter().filter_map(|n| VersionNumber::of_text(n.to_str()?)).collect();
        numbers.sort_unstable();
        self.gaps(&dir, numbers.iter().map(|n| n.0), 0, |n| VersionNumber(n).to_string())?;
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

    /// Markers: each has a record for its own number, which is that of a version.
    fn removals(&mut self) -> Result<()> {
        let dir = self.store.layout().removed(self.name);
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
            if disk::lstat_revalidated(&self.store.layout().version(self.name, number))?.is_none() {
                self.finding(code::NUMBER, &what, format!("it removes {number}, which never was"), &affects);
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
        let dir = self.store.layout().artifact(self.name).join("notes");
        for entry in self.list(&dir)? {
            let Some(number) = entry.to_str().and_then(VersionNumber::of_text) else { continue };
            let log = dir.join(&entry);
            let records = self.log::<Note>(&log, |_, _, _, _| {})?;
            if records > 0 && disk::lstat_revalidated(&self.store.layout().version(self.name, number))?.is_none() {
                let what = self.show(&log);
                self.finding(code::RECORD, what, format!("these are notes of {number}, which never was"), &[]);
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

    /// The numbers of a log, ascending; those that are missing are findings.
    pub fn numbers_of(&mut self, dir: &Path) -> Result<Vec<u64>> {
        let mut all: Vec<u64> = self.list(dir)?.iter().filter_map(|n| numbers::parse_record(n.to_str()?)).collect();
        all.sort_unstable();
        self.gaps(dir, all.iter().copied(), 1, numbers::record_name)?;
        Ok(all)
    }

    /// A token at a number: at one only, and not fenced (F7).
    pub fn published(&mut self, token: &Token, at: &str) -> Result<()> {
        if txn::is_fenced(self.store, token).unwrap_or(false) {
            self.finding(
                code::TOKEN,
                token.to_string(),
                format!("it is fenced, and published at {at}"),
                &[at.to_owned()],
            );
        }
        let other = self.tokens.insert(token.clone(), at.to_owned());
        if let Some(other) = other.filter(|other| other != at) {
            self.finding(code::TOKEN, token.to_string(), format!("it is at {other} and at {at}"), &[at.to_owned()]);
        }
        Ok(())
    }

    /// Numbers that are missing below others (F4). A listing made while others write may show a later one and not an
    /// earlier one.
    fn gaps(
        &mut self,
        dir: &Path,
        numbers: impl Iterator<Item = u64>,
        first: u64,
        name: impl Fn(u64) -> String,
    ) -> Result<()> {
        let mut next = first;
        for n in numbers {
            if n != next && disk::lstat_revalidated(&dir.join(name(next)))?.is_none() {
                let at = self.show(dir);
                self.finding(code::GAP, at, format!("expected number {next}, found {n}"), &[]);
            }
            next = n + 1;
        }
        Ok(())
    }
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

/// A finding of an error that concerns one thing; others end verify.
pub(super) fn finding_of(e: Error, code: &'static str, what: &str) -> Result<Finding> {
    let unreadable = e.is_about_one_file();
    if !unreadable && !matches!(e.kind(), Kind::Damaged | Kind::Usage) {
        return Err(e);
    }
    Ok(Finding { code, what: what.to_owned(), why: format!("{e:#}"), affects: Vec::new() })
}
