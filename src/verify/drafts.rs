//! Drafts: their logs, what counts of the open ones, and whether a finished one has its version.

use super::artifact_check::ArtifactCheck;
use super::report::code;
use crate::catalog::draft::{Draft, DraftRecord, FinishRecord};
use crate::catalog::{Version, numbers, version_record};
use crate::disk;
use crate::error::{Result, show_path};
use crate::txn::claim;
use crate::types::{Token, VersionNumber};
use std::collections::HashMap;
use std::path::Path;

/// Checks every draft of an artifact.
pub(super) fn check_drafts(check: &mut ArtifactCheck<'_>) -> Result<()> {
    let dir = check.store.layout().drafts(check.name);
    for entry in check.list(&dir)? {
        let log = dir.join(&entry).join("log");
        let before = check.out.findings.len();
        let Some(draft) = log_of(check, &log)? else { continue };
        if check.out.findings.len() > before {
            continue; // its result is not known
        }
        let what = draft.to_string();
        let state = check.found(code::DRAFT, &what, &[], draft.state())?;
        let Some(state) = state else { continue };
        match state.finish {
            Some((token, record)) => finished(check, &draft, &token, &record)?,
            None => check.out.contributions.extend(state.contributions.into_iter().map(|c| (draft.clone(), c))),
        }
    }
    for (_, (number, id)) in std::mem::take(&mut check.ends) {
        let what = format!("{}:{number}", check.name);
        check.finding(
            code::DRAFT,
            &what,
            format!("its record says that it finishes draft {id}, which has no such finish"),
            std::slice::from_ref(&what),
        );
    }
    Ok(())
}

/// A log's records, each by itself; the draft, if one of them can be read.
fn log_of(check: &mut ArtifactCheck<'_>, log: &Path) -> Result<Option<Draft>> {
    let at = check.show(log);
    let all = check.numbers_of(log)?;
    // A finish's token is at a version's number too, so it is distinguished from the rest.
    let mut tokens: HashMap<Token, u64> = HashMap::new();
    let (mut draft, mut finished) = (None, None);
    for n in all {
        let link = log.join(numbers::record_name(n));
        let what = format!("{at}/{}", numbers::record_name(n));
        if let Some(end) = finished {
            check.finding(code::DRAFT, &what, format!("it comes after the finish, which is number {end}"), &[]);
        }
        let Some(token) = check.found(code::NUMBER, &what, &[], claim::holder(&link))?.flatten() else { continue };
        if crate::txn::is_fenced(check.store, &token).unwrap_or(false) {
            check.finding(code::TOKEN, token.to_string(), format!("it is fenced, and published at {what}"), &[]);
        }
        if let Some(other) = tokens.insert(token.clone(), n) {
            check.finding(code::TOKEN, token.to_string(), format!("it is at number {other} and at {what}"), &[]);
        }
        let record = claim::read_record::<DraftRecord>(&log.join(token.record_name()));
        let Some(record) = check.found(code::RECORD, &what, &[], record)? else { continue };
        let head = record.head();
        let of = Draft::new(check.store, check.name, &head.distributed_id);
        if head.artifact != *check.name || head.token != token.as_str() || of.log() != log {
            let why =
                format!("it belongs to draft {} of {} and token {}", head.distributed_id, head.artifact, head.token);
            check.finding(code::RECORD, &what, why, &[]);
        }
        let only = matches!(record, DraftRecord::Discard(_) | DraftRecord::Finish(_));
        if head.from > n || (only && head.from != n) {
            check.finding(code::NUMBER, &what, format!("its record was written for number {}", head.from), &[]);
        }
        if let DraftRecord::Finish(_) = record {
            finished = Some(n);
            check.ends.remove(&token);
        }
        draft = Some(of);
    }
    Ok(draft)
}

/// A finished draft has its version (F14): the one it names, or the one of the same token. The second may still be on
/// its way: between the finish and its version's number the token is in `work/`, and the next writer completes it.
fn finished(check: &mut ArtifactCheck<'_>, draft: &Draft, token: &Token, record: &FinishRecord) -> Result<()> {
    let what = draft.to_string();
    let affects = [what.clone()];
    let store = check.store;
    let (number, version) = match record.same_as {
        Some(number) => {
            (Some(number), check.found(code::DRAFT, &what, &affects, Version::read(store, check.name, number))?)
        }
        None => {
            let at_work = disk::lstat_revalidated(&store.layout().token(token))?.is_some();
            let Some(number) = check.found(code::DRAFT, &what, &affects, number_of(check, token))? else {
                return Ok(());
            };
            if number.is_none() && at_work {
                return Ok(());
            }
            match number {
                None => (None, Some(None)),
                Some(number) => {
                    (Some(number), check.found(code::DRAFT, &what, &affects, Version::read(store, check.name, number))?)
                }
            }
        }
    };
    match version {
        None => {} // a finding already
        Some(None) => {
            let which = number.map_or_else(|| format!("the version of token {token}"), |n| n.to_string());
            check.finding(code::DRAFT, &what, format!("it was finished as {which}, which is not there"), &affects);
        }
        Some(Some(version)) if version.digest() != record.digest => {
            let why = format!("it was finished with content {}, {version} has {}", record.digest, version.digest());
            check.finding(code::DRAFT, &what, why, &affects);
        }
        Some(Some(_)) => {}
    }
    Ok(())
}

/// The number of a token's version: as it was seen, or looked for from where its record says.
fn number_of(check: &ArtifactCheck<'_>, token: &Token) -> Result<Option<VersionNumber>> {
    let seen =
        check.tokens.get(token).and_then(|at| VersionNumber::of_text(at.strip_prefix(&format!("{}:", check.name))?));
    if seen.is_some() {
        return Ok(seen);
    }
    let record = version_record::read_record(check.store, check.name, token)?;
    for n in record.from.0.. {
        let path = check.store.layout().version(check.name, VersionNumber(n));
        match claim::holder(&path)? {
            Some(found) if found == *token => return Ok(Some(VersionNumber(n))),
            Some(_) => {}
            None => return Ok(None),
        }
    }
    Err(crate::error::Error::damaged(format!("{} has no end", show_path(&check.store.layout().versions(check.name)))))
}
