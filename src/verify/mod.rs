//! Is the store what FORMAT.md says? Everything is re-read and re-hashed; nothing is changed.
//!
//! Each finding has a stable code that begins with the invariant that does not hold. What a dead writer left behind is no finding:
//! temporaries in `work/`, unpublished records, content that nothing names. Freeing those is a collector's work.

mod content;
mod drafts;
mod names;
mod report;

pub use report::{Finding, Report, code};

use crate::catalog::{Version, artifact};
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Entry, Tree, diff};
use crate::objects::SMALL_MAX;
use crate::progress::Progress;
use crate::store::Store;
use crate::words::{ArtifactName, Digest};
use crate::work;
use content::{Depth, Present};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What is verified.
#[derive(Clone, Debug)]
pub enum Scope {
    /// The whole store.
    All,
    /// The versions of one artifact.
    Artifact(ArtifactName),
    /// One version.
    Version(Box<Version>),
}

/// How it is verified.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Read manifests, records and footers only; content is taken on its name, size and time.
    pub quick: bool,
    /// Counters to move.
    pub progress: Arc<Progress>,
}

/// How many affected paths a finding lists.
const AFFECTED: usize = 20;

/// Verifies.
///
/// # Errors
/// Not found: the artifact. I/O: what cannot be read at all.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
/// use cairn::verify::{Scope, VerifyOptions, verify};
/// let report = verify(&store, &Scope::All, &VerifyOptions::default())?;
/// assert!(report.findings.is_empty());
/// # Ok::<(), cairn::Error>(())
/// ```
pub fn verify(store: &Store, scope: &Scope, options: &VerifyOptions) -> Result<Report> {
    let mut report = Report { tokens: work::tokens(store)?.len() as u64, ..Report::default() };
    let mut tokens = HashMap::new();
    match scope {
        Scope::All => {
            let depth = if options.quick { Depth::Quick } else { Depth::Whole };
            let present = content::look(store, depth, &options.progress, &mut report)?;
            let mut all = Vec::new();
            for name in in_use(store)? {
                let versions = names::look(store, &name, &mut tokens, &mut report)?;
                versions_of(&versions, Some(&present), options, &mut report)?;
                drafts::look(store, &name, Some(&present), &mut report)?;
                all.extend(versions);
            }
            affected(&all, &present, &mut report)?;
        }
        Scope::Artifact(name) => {
            if artifact::find(store, name).is_ok_and(|a| a.is_none()) {
                return Err(Error::not_found(format!("there is no artifact {name}")).hint("`cairn list` shows what there is"));
            }
            let versions = names::look(store, name, &mut tokens, &mut report)?;
            versions_of(&versions, None, options, &mut report)?;
            drafts::look(store, name, None, &mut report)?;
        }
        Scope::Version(version) => versions_of(std::slice::from_ref(version), None, options, &mut report)?,
    }
    Ok(report)
}

/// Artifacts with versions or drafts, also those whose own record is damaged.
fn in_use(store: &Store) -> Result<Vec<ArtifactName>> {
    let mut out: Vec<_> = disk::list(&store.layout().artifacts())?.iter().filter_map(|n| ArtifactName::parse(n.to_str()?).ok()).collect();
    let has = |dir: std::path::PathBuf, of: fn(&[u8]) -> bool| disk::list(&dir).is_ok_and(|l| l.iter().any(|n| of(n.as_encoded_bytes())));
    out.retain(|n| has(store.layout().versions(n), |v| v.starts_with(b"v")) || has(store.layout().drafts(n), |_| true));
    out.sort();
    Ok(out)
}

/// Walks the versions' manifests, each against the one before it, so that equal subtrees are read once (L5). Without `present` the
/// content of each entry is read.
fn versions_of(versions: &[Version], present: Option<&Present>, options: &VerifyOptions, report: &mut Report) -> Result<()> {
    let mut before: Option<Tree> = None;
    let mut read = BTreeSet::new();
    for version in versions {
        report.versions += 1;
        let affects = [version.to_string()];
        let what = || version.to_string();
        let Some(manifest) = names::found(report, code::VERSION, what, &affects, version.manifest_file())? else { continue };
        if !manifest.hints_whole() {
            report.findings.push(Finding { code: code::HINTS, what: what(), why: "those of its root".into(), affects: affects.to_vec() });
        }
        for pack in manifest.packs().iter().filter(|p| present.is_some_and(|present| !present.packs.contains(p))) {
            report.findings.push(Finding { code: code::NO_PACK, what: format!("packs/{pack}"), why: "it is missing".into(), affects: affects.to_vec() });
        }
        let tree = version.tree()?;
        let totals = tree.totals();
        let record = version.record();
        if (totals.entries, totals.files, totals.bytes) != (record.entries, record.files, record.bytes) {
            let why = format!("version.json says {} entries, {} files, {} bytes; the manifest {totals:?}", record.entries, record.files, record.bytes);
            report.findings.push(Finding { code: code::VERSION, what: what(), why, affects: affects.to_vec() });
        }
        let changed: Box<dyn Iterator<Item = Result<Option<Entry>>>> = match &before {
            Some(before) => Box::new(diff(before, &tree).map(|c| c.map(|c| c.new))),
            None => Box::new(tree.walk().map(|v| v.map(|v| Some(v.entry)))),
        };
        let mut whole = true;
        for entry in changed {
            let Some(entry) = names::found(report, code::NODE, what, &affects, entry)? else {
                whole = false;
                break;
            };
            if let (Some(Entry::File { digest, size, place, .. }), None) = (entry, present)
                && read.insert(digest)
            {
                read_content(version, &digest, size, place, options, report)?;
            }
        }
        if whole {
            before = Some(tree);
        }
    }
    Ok(())
}

/// Reads one file's content through the readers' own way.
fn read_content(version: &Version, digest: &Digest, size: u64, place: Option<crate::words::Place>, options: &VerifyOptions, report: &mut Report) -> Result<()> {
    let objects = version.store().objects();
    options.progress.expect(1, size);
    let content = objects.content(digest, size, place).and_then(|c| match c {
        crate::objects::Content::Large(large) if !options.quick => large.verify(),
        _ => Ok(()),
    });
    options.progress.done(1, size);
    match content {
        Ok(()) => report.bytes += size,
        Err(e) if e.kind() == Kind::Damaged => {
            let code = if size < SMALL_MAX { code::BLOB } else { code::OBJECT };
            let affects = paths_with(version, &|d, _| d == digest)?;
            report.findings.push(Finding { code, what: digest.to_string(), why: e.to_string(), affects });
        }
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Content that versions name and the store has not, or not right: findings of its own, with the paths affected. A second walk, made
/// only where the first one's sets show that something is wrong.
fn affected(versions: &[Version], present: &Present, report: &mut Report) -> Result<()> {
    let has = |digest: &Digest, size: u64| {
        let (first, second) = if size < SMALL_MAX { (&present.packed, &present.objects) } else { (&present.objects, &present.packed) };
        first.contains(digest) || second.contains(digest)
    };
    let mut missing: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    let mut before: Option<Tree> = None;
    for version in versions {
        // What the version before had was looked at with it, unless something was missing there.
        let Ok(tree) = version.tree() else { continue };
        let changed: Box<dyn Iterator<Item = Result<(String, Option<Entry>)>>> = match &before {
            Some(before) if missing.is_empty() => Box::new(diff(before, &tree).map(|c| c.map(|c| (c.path.to_string(), c.new)))),
            _ => Box::new(tree.walk().map(|v| v.map(|v| (v.path.to_string(), Some(v.entry))))),
        };
        let mut whole = true;
        for entry in changed {
            let Ok((path, entry)) = entry else {
                whole = false; // a finding already
                break;
            };
            if let Some(Entry::File { digest, size, .. }) = entry
                && !has(&digest, size)
            {
                missing.entry(digest).or_default().push(format!("{version} {path}"));
            }
        }
        before = whole.then_some(tree);
    }
    for (digest, mut paths) in missing {
        let more = paths.len().saturating_sub(AFFECTED);
        paths.truncate(AFFECTED);
        paths.extend((more > 0).then(|| format!("and {more} more")));
        let damaged = report.findings.iter_mut().find(|f| matches!(f.code, code::BLOB | code::OBJECT) && (f.why.contains(&digest.hex()) || f.what.replace('/', "").ends_with(&digest.hex())));
        match damaged {
            Some(finding) => finding.affects = paths,
            None => {
                let why = present.wrong.get(&digest).cloned().unwrap_or_else(|| "it is nowhere in the store".into());
                report.findings.push(Finding { code: code::MISSING, what: digest.to_string(), why, affects: paths });
            }
        }
    }
    Ok(())
}

fn paths_with(version: &Version, wanted: &dyn Fn(&Digest, u64) -> bool) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for visit in version.entries()? {
        let Ok(visit) = visit else { break };
        if let Entry::File { digest, size, .. } = &visit.entry
            && wanted(digest, *size)
        {
            out.push(format!("{version} {}", visit.path));
        }
        if out.len() == AFFECTED {
            break;
        }
    }
    Ok(out)
}
