//! Is the store what FORMAT.md says? Everything is re-read and re-hashed. Nothing in the store is changed but the
//! list of known damage, by which later writers store damaged content again.
//!
//! Each finding has a stable code that begins with the invariant that does not hold. What a dead writer left behind is
//! no finding: temporaries in `work/`, unpublished records, content that nothing names. Freeing those is a collector's
//! work.

mod affected;
mod artifact_check;
mod checkpoint;
mod content;
mod cuts;
mod drafts;
mod meet;
mod names;
mod options;
mod pace;
mod packed;
mod places;
mod references;
mod report;
mod root;
mod stages;
mod walk;

pub use options::{Checkpoint, VerifyOptions};
pub use report::{Finding, Resumed, VerifyReport, code, next_step};

use crate::catalog::{Version, artifact, version};
use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::layout::DIRECTORIES;
use crate::store::Store;
use crate::txn;
use crate::types::ArtifactName;
use artifact_check::{Records, Tokens};
use checkpoint::Verified;
use content::Depth;
use root::ManifestOwner;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use walk::Manifests;

/// What is verified.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Scope {
    /// The whole store.
    All,
    /// The versions of one artifact.
    Artifact(ArtifactName),
    /// One version.
    Version(Box<Version>),
}

impl Store {
    /// Verifies the whole store. See [`verify`].
    ///
    /// # Errors
    /// As [`verify`].
    pub fn verify(&self, options: &VerifyOptions) -> Result<VerifyReport> {
        verify(self, &Scope::All, options)
    }
}

impl Version {
    /// Verifies this version. See [`verify`].
    ///
    /// # Errors
    /// As [`verify`].
    pub fn verify(&self, options: &VerifyOptions) -> Result<VerifyReport> {
        verify(self.store(), &Scope::Version(Box::new(self.clone())), options)
    }
}

/// Verifies a store, an artifact or a version.
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
pub fn verify(store: &Store, scope: &Scope, options: &VerifyOptions) -> Result<VerifyReport> {
    let mut report =
        VerifyReport { tokens: txn::tokens(store).map_or(0, |t| t.len() as u64), ..VerifyReport::default() };
    let mut tokens = Tokens::new();
    match scope {
        Scope::All => {
            store.check_present()?;
            let depth = if options.quick { Depth::Quick } else { Depth::Whole };
            let all_is_read = !options.quick && options.sample.is_none();
            let checkpoint = if all_is_read { options.checkpoint } else { Checkpoint::Off };
            let verified = Arc::new(Verified::begin(store, checkpoint));
            directories(store, &mut report)?;
            let present = content::check_content(store, depth, options, verified.clone(), &mut report)?;
            let all = in_use(store, &mut report)?;
            let mut manifests = Manifests::new(store, options, Some(present), &mut report);
            artifacts(store, all, &mut tokens, &mut manifests)?;
            manifests.end()?;
            stages::check_stages(store, &mut report)?;
            if !options.quick {
                stages::check_access(store, &options.progress, &mut report)?;
            }
            verified.end();
        }
        Scope::Artifact(name) => {
            if artifact::find(store, name).is_ok_and(|a| a.is_none()) {
                let e = Error::not_found(format!("there is no artifact {name}"));
                return Err(e.with_hint("`cairn list` shows what there is"));
            }
            let mut manifests = Manifests::new(store, options, None, &mut report);
            artifacts(store, vec![name.clone()], &mut tokens, &mut manifests)?;
            manifests.end()?;
        }
        Scope::Version(version) => {
            if let Some(why) = names::misplaced(version) {
                let what = version.to_string();
                report.findings.push(Finding { code: code::NUMBER, affects: vec![what.clone()], what, why });
            }
            let mut manifests = Manifests::new(store, options, None, &mut report);
            manifests.check(ManifestOwner::Version((**version).clone()))?;
            manifests.end()?;
        }
    }
    if options.references {
        references::check(&versions(store, scope)?, options, &mut report)?;
    }
    Ok(report)
}

/// The versions in the scope that can be read.
fn versions(store: &Store, scope: &Scope) -> Result<Vec<Version>> {
    let names = match scope {
        Scope::Version(version) => return Ok(vec![(**version).clone()]),
        Scope::Artifact(name) => vec![name.clone()],
        Scope::All => artifact::all(store)?,
    };
    let mut all = Vec::new();
    for name in names {
        all.extend(version::each(store, &name)?.into_iter().filter_map(|(_, version)| version.ok()));
    }
    Ok(all)
}

/// How long until artifacts with findings are checked again, on local and on shared file systems.
const AGAIN: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(1500)];

/// Checks artifacts; once more, after one pause for all, at those with findings. Writers at work show states that
/// pass: a version that was listed after its removal, an alias that is about to move. What is wrong in the same way
/// twice is a finding.
fn artifacts(store: &Store, all: Vec<ArtifactName>, tokens: &mut Tokens, manifests: &mut Manifests<'_>) -> Result<()> {
    let mut doubtful = Vec::new();
    for name in all {
        let records = names::check_artifact(store, &name, tokens)?;
        if records.findings.is_empty() {
            artifact_of(records, manifests)?;
        } else {
            doubtful.push((name, records.findings));
        }
    }
    if !doubtful.is_empty() {
        std::thread::sleep(AGAIN[usize::from(!store.disk().kind().is_local())]);
    }
    for (name, before) in doubtful {
        let mut records = names::check_artifact(store, &name, tokens)?;
        records.findings.retain(|f| before.contains(f));
        artifact_of(records, manifests)?;
    }
    Ok(())
}

/// Checks one artifact: its records, then the content of its versions and open drafts.
fn artifact_of(records: Records, manifests: &mut Manifests<'_>) -> Result<()> {
    manifests.report().artifacts += 1;
    manifests.report().findings.extend(records.findings);
    manifests.report().notes.extend(records.notes);
    for version in records.versions {
        manifests.check(ManifestOwner::Version(version))?;
    }
    for (draft, contribution) in records.contributions {
        manifests.check(ManifestOwner::Contribution(draft, contribution))?;
    }
    Ok(())
}

/// The store's own directories are directories. One that is missing is made by the next writer.
fn directories(store: &Store, report: &mut VerifyReport) -> Result<()> {
    for dir in DIRECTORIES {
        if let Some(meta) = disk::lstat(&store.root().join(dir))?
            && !meta.is_dir()
        {
            let why = if meta.is_symlink() { "it is a symlink, expected a directory" } else { "it is not a directory" };
            let (what, why) = (dir.into(), why.into());
            report.findings.push(Finding { code: code::UNREADABLE, what, why, affects: Vec::new() });
        }
    }
    Ok(())
}

/// Artifacts with versions or drafts, also those whose own record is damaged.
fn in_use(store: &Store, report: &mut VerifyReport) -> Result<Vec<ArtifactName>> {
    let dir = store.layout().artifacts();
    let mut out: Vec<ArtifactName> = match disk::list(&dir) {
        Ok(names) => names.iter().filter_map(|n| ArtifactName::parse(n.to_str()?).ok()).collect(),
        Err(e) => {
            let at = show_path(dir.strip_prefix(store.root()).unwrap_or(&dir));
            report.findings.push(artifact_check::finding_of(e, code::UNREADABLE, &at)?);
            Vec::new()
        }
    };
    // What is reached through a symlink is not the store's: nothing below it is checked.
    let mut linked = Vec::new();
    for name in &out {
        if disk::lstat(&store.layout().artifact(name))?.is_some_and(|meta| meta.is_symlink()) {
            linked.push(name.clone());
        }
    }
    out.retain(|name| !linked.contains(name));
    linked.sort();
    for name in linked {
        report.findings.push(names::linked(store, &name));
    }
    // What cannot be listed is in use: it is reported when it is checked.
    let has = |dir: PathBuf, of: fn(&[u8]) -> bool| {
        disk::list(&dir).map_or(true, |names| names.iter().any(|n| of(n.as_encoded_bytes())))
    };
    out.retain(|n| {
        has(store.layout().versions(n), |v| v.starts_with(b"v"))
            || has(store.layout().drafts(n), |_| true)
            || names::has_linked_directory(store, n)
    });
    out.sort();
    Ok(out)
}
