//! Staging directories: their records and the markers of their sealing (F17), and who may use the store (F18).

use super::artifact_check::finding_of;
use super::report::{Finding, VerifyReport, code};
use crate::access::{self, Walk};
use crate::catalog::draft::{self, Draft, DraftRecord};
use crate::catalog::stage::{DROPPED, StageRecord};
use crate::disk;
use crate::error::{Result, show_path};
use crate::progress::Progress;
use crate::store::Store;
use crate::txn::claim;
use crate::types::Token;
use std::path::Path;

/// The longest marker that a process reads, in bytes.
const MARKER_MAX: u64 = 1 << 16;

/// Checks all staging directories.
pub(super) fn check_stages(store: &Store, report: &mut VerifyReport) -> Result<()> {
    let dir = store.layout().staging();
    let names = match disk::list(&dir) {
        Ok(names) => names,
        Err(e) => return take(finding_of(e, code::UNREADABLE, "staging"), report),
    };
    let of = |suffix: &str| {
        let tokens = names.iter().filter_map(|name| Token::of_text(name.to_str()?.strip_suffix(suffix)?));
        tokens.collect::<Vec<Token>>()
    };
    for token in of(".json") {
        let path = store.layout().stage_record(&token);
        match claim::read_record::<StageRecord>(&path) {
            Ok(record) if record.stage != token.as_str() => {
                add(store, &path, format!("it is the record of staging directory {}", record.stage), report);
            }
            Ok(record) => check_marker(store, &token, &record, report)?,
            Err(_) if disk::lstat_revalidated(&path)?.is_none() => {} // it was sealed meanwhile
            Err(e) => take(finding_of(e, code::STAGE, &show(store, &path)), report)?,
        }
    }
    for token in of(".sealing") {
        let there = |path: &Path| Ok::<_, crate::error::Error>(disk::lstat_revalidated(path)?.is_some());
        let (marker, record) = (store.layout().stage_sealing(&token), store.layout().stage_record(&token));
        if there(&marker)? && !there(&record)? && !there(&store.layout().stage(&token))? && there(&marker)? {
            let why =
                "a marker of a staging directory that does not exist; a later mount for writing removes it".into();
            let (what, affects) = (show(store, &marker), Vec::new());
            report.notes.push(Finding { code: code::STAGE, what, why, affects });
        }
    }
    Ok(())
}

/// The marker of a stage: nothing, `dropped`, or the tokens of the contributions by which it was sealed.
fn check_marker(store: &Store, token: &Token, record: &StageRecord, report: &mut VerifyReport) -> Result<()> {
    let path = store.layout().stage_sealing(token);
    let text = match disk::read_small(&path, MARKER_MAX) {
        Ok(None) => return Ok(()),
        Ok(Some(text)) if text == DROPPED => return Ok(()),
        Ok(Some(text)) => text,
        Err(e) => return take(finding_of(e, code::STAGE, &show(store, &path)), report),
    };
    let draft = Draft::new(store, &record.artifact, &record.distributed_id);
    for line in String::from_utf8_lossy(&text).lines() {
        let Some(contribution) = Token::of_text(line) else {
            add(store, &path, format!("expected tokens, found `{}`", line.escape_debug()), report);
            continue;
        };
        // A token without a record is of a sealer that was killed before it wrote one.
        let at = draft.log().join(contribution.record_name());
        let why = match claim::read_record::<DraftRecord>(&at) {
            Ok(DraftRecord::Contribution(found)) if found.run.id == record.run.id => continue,
            Ok(DraftRecord::Contribution(found)) => format!("the contribution of run {}", found.run.id),
            Ok(_) => "not a contribution".to_owned(),
            Err(_) => match other_draft(&draft, &contribution)? {
                Some(other) => format!("a record of {other}"),
                None => continue,
            },
        };
        let why = format!("it names record {contribution}, which is {why}; the stage is of run {}", record.run.id);
        add(store, &path, why, report);
    }
    Ok(())
}

/// The draft of the same artifact, other than `draft`, that has a token's record.
fn other_draft(draft: &Draft, token: &Token) -> Result<Option<Draft>> {
    for other in draft::all(draft.store(), draft.artifact())? {
        // What is wrong with a draft itself is a finding of its own.
        if let Ok(other) = other
            && other.id() != draft.id()
            && disk::lstat(&other.log().join(token.record_name()))?.is_some()
        {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// What does not follow the owner, group and mode of the store's directory is a note: it is not damage.
pub(super) fn check_access(store: &Store, progress: &Progress, report: &mut VerifyReport) -> Result<()> {
    let found = match access::correct(store, Walk::Check, progress) {
        Err(e) if e.is_about_one_file() => return Ok(()), // a finding of its own
        found => found?,
    };
    if found.wrong > 0 {
        let first =
            found.examples.first().map_or_else(String::new, |path| format!("; the first is {}", show(store, path)));
        let why = format!(
            "{} of {} files and directories do not follow its owner, group and mode{first}",
            found.wrong, found.checked
        );
        report.notes.push(Finding {
            code: code::ACCESS,
            what: "the store's directory".into(),
            why,
            affects: Vec::new(),
        });
    }
    Ok(())
}

fn add(store: &Store, path: &Path, why: String, report: &mut VerifyReport) {
    report.findings.push(Finding { code: code::STAGE, what: show(store, path), why, affects: Vec::new() });
}

fn take(finding: Result<Finding>, report: &mut VerifyReport) -> Result<()> {
    report.findings.push(finding?);
    Ok(())
}

fn show(store: &Store, path: &Path) -> String {
    show_path(path.strip_prefix(store.root()).unwrap_or(path))
}
