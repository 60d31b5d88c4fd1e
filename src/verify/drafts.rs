//! Drafts: their logs, and of those that are open what was contributed. A finished draft's content is its version's.

use super::content::Present;
use super::names::{self, found};
use super::report::{Finding, Report, code};
use crate::catalog::draft::{Contribution, Draft, DraftRecord};
use crate::catalog::numbers;
use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::manifest::Entry;
use crate::objects::SMALL_MAX;
use crate::store::Store;
use crate::words::{ArtifactName, Token};
use crate::work::claim;
use std::collections::HashMap;
use std::path::Path;

/// Looks at every draft of an artifact. Without `present` what an open one names is opened, not read.
pub(super) fn look(store: &Store, name: &ArtifactName, present: Option<&Present>, report: &mut Report) -> Result<()> {
    for entry in disk::list(&store.layout().drafts(name))? {
        let log = store.layout().drafts(name).join(&entry).join("log");
        if let Some(draft) = log_of(store, name, &log, report)? {
            contributions(&draft, present, report)?;
        }
    }
    Ok(())
}

/// A log's records, each by itself; the draft, if all of them are right.
fn log_of(store: &Store, name: &ArtifactName, log: &Path, report: &mut Report) -> Result<Option<Draft>> {
    let before = report.findings.len();
    let at = show_path(log.strip_prefix(store.root()).unwrap_or(log));
    let mut all: Vec<u64> = disk::list(log)?.iter().filter_map(|n| numbers::parse_record(n.to_str()?)).collect();
    all.sort_unstable();
    names::gaps(report, &at, all.iter().copied(), 1);
    // A finish's token stands at a version's number too, so these are told apart from the rest.
    let mut tokens: HashMap<Token, String> = HashMap::new();
    let (mut draft, mut finished) = (None, None);
    for n in all {
        let link = log.join(numbers::record_name(n));
        let what = || format!("{at}/{}", numbers::record_name(n));
        if let Some(end) = finished {
            let why = format!("it stands after the finish, which is number {end}");
            report.findings.push(Finding { code: code::DRAFT, what: what(), why, affects: Vec::new() });
        }
        let Some(token) = found(report, code::NUMBER, what, &[], claim::holder(&link))?.flatten() else { continue };
        names::published(store, &token, what(), &mut tokens, report)?;
        let record = claim::read_record::<DraftRecord>(&log.join(token.record_name()));
        let Some(record) = found(report, code::RECORD, what, &[], record)? else { continue };
        let head = record.head();
        let of = Draft::new(store, name, &head.distributed_id);
        if head.artifact != *name || head.token != token.as_str() || of.log() != log {
            let why = format!("it speaks of draft {} of {} and token {}", head.distributed_id, head.artifact, head.token);
            report.findings.push(Finding { code: code::RECORD, what: what(), why, affects: Vec::new() });
        }
        if let DraftRecord::Finish(_) = record {
            finished = Some(n);
        }
        draft = Some(of);
    }
    Ok(draft.filter(|_| report.findings.len() == before))
}

/// What counts of an open draft: its nodes are read, its content must be there (F6). Of a finished one, that its version stands.
fn contributions(draft: &Draft, present: Option<&Present>, report: &mut Report) -> Result<()> {
    let store = draft.store();
    let state = draft.state()?;
    let affects = [draft.to_string()];
    if let Some((_, record)) = &state.finish {
        if let Some(number) = record.same_as.filter(|n| !store.layout().version(draft.artifact(), *n).is_symlink()) {
            let why = format!("it was finished as {number}, which does not stand");
            report.findings.push(Finding { code: code::DRAFT, what: draft.to_string(), why, affects: affects.to_vec() });
        }
        return Ok(());
    }
    for contribution in &state.contributions {
        let what = || format!("{draft}, number {}", contribution.number);
        found(report, code::NODE, what, &affects, walk(draft, contribution, present)).map(|missing| {
            for (digest, path) in missing.unwrap_or_default() {
                report.findings.push(Finding { code: code::MISSING, what: digest, why: "it is not in the store, or not right".into(), affects: vec![format!("{} {path}", what())] });
            }
        })?;
    }
    Ok(())
}

/// Reads all nodes of a contribution; the files whose content is not there.
fn walk(draft: &Draft, contribution: &Contribution, present: Option<&Present>) -> Result<Vec<(String, String)>> {
    let store = draft.store();
    let tree = contribution.tree(store)?;
    let (totals, record) = (tree.totals(), &contribution.record);
    if (totals.entries, totals.files, totals.bytes) != (record.entries, record.files, record.bytes) {
        return Err(Error::damaged(format!("its record says {} entries, {} files, {} bytes; the manifest {totals:?}", record.entries, record.files, record.bytes)));
    }
    let mut missing = Vec::new();
    for visit in tree.walk() {
        let visit = visit?;
        let Entry::File { digest, size, place, .. } = visit.entry else { continue };
        let there = match present {
            Some(present) if size < SMALL_MAX => present.packed.contains(&digest) || present.objects.contains(&digest),
            Some(present) => present.objects.contains(&digest) || present.packed.contains(&digest),
            None => store.objects().content(&digest, size, place).is_ok(),
        };
        if !there {
            missing.push((digest.to_string(), visit.path.to_string()));
        }
    }
    Ok(missing)
}
