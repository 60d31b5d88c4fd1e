//! The check of one artifact: what is known of it, and the checks that its records and its drafts share.

use super::report::{Finding, code};
use crate::catalog::artifact::ArtifactRecord;
use crate::catalog::{Contribution, Draft, Version, numbers};
use crate::disk;
use crate::error::Error;
use crate::error::{Kind, Result, show_path};
use crate::store::Store;
use crate::txn;
use crate::types::{ArtifactName, Digest, DistributedId, Token, VersionNumber};
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

/// The check of one artifact.
pub(super) struct ArtifactCheck<'a> {
    pub store: &'a Store,
    pub name: &'a ArtifactName,
    pub tokens: &'a mut Tokens,
    pub out: Records,
    pub kind: Option<ArtifactRecord>,
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
    pub fn gaps(
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

/// A finding of an error that concerns one thing; others end verify.
pub(super) fn finding_of(e: Error, code: &'static str, what: &str) -> Result<Finding> {
    let unreadable = e.is_about_one_file();
    if !unreadable && !matches!(e.kind(), Kind::Damaged | Kind::Usage) {
        return Err(e);
    }
    Ok(Finding { code, what: what.to_owned(), why: format!("{e:#}"), affects: Vec::new() })
}

/// What is wrong with content that could not be read, in the form of a check of the whole store: the last place that
/// was tried, from the store's root, and what is there. Places before it were only hints.
pub(super) fn what_is_wrong(e: Error, store: &Store, digest: &Digest) -> Result<String> {
    let root = format!("{}/", show_path(store.root()));
    let expected = format!(", expected {digest}");
    let last = e.causes().pop().filter(|_| e.kind() == Kind::Damaged);
    let finding = finding_of(e, code::BLOB, "")?;
    Ok(last.map_or(finding.why, |last| last.replace(&root, "").replace(&expected, "")))
}
