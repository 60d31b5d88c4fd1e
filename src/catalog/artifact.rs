//! Artifacts: a name, its one type, when it began.

use super::version;
use crate::disk;
use crate::error::{Detail, Error, Kind, Result};
use crate::store::Store;
use crate::txn::{Numbers, Pass, Place, Prepared, Unfenced, claim};
use crate::types::{ArtifactName, ArtifactType, Token, VersionNumber};
use crate::{clock, record};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the making of a directory is tried, from its parent on, and how long between.
const TRIES: u32 = 4;
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What `artifact.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// The name, as the directory's.
    pub artifact: ArtifactName,
    /// The one type, for ever.
    #[serde(rename = "type")]
    pub kind: ArtifactType,
    /// When the first writer came.
    pub created_at: String,
}

/// An artifact's record; `None` when there is no such artifact.
///
/// # Errors
/// Damaged; I/O.
pub fn find(store: &Store, name: &ArtifactName) -> Result<Option<ArtifactRecord>> {
    let link = store.layout().artifact_record(name);
    let Some(token) = claim::holder(&link)? else { return Ok(None) };
    let found: ArtifactRecord = claim::read_record(&store.layout().artifact(name).join(token.record_name()))?;
    if found.artifact != *name && found.artifact.as_str().eq_ignore_ascii_case(name.as_str()) {
        let why = format!(
            "artifact {name} cannot be told from {}: names do not differ by case on this file system",
            found.artifact
        );
        return Err(Error::conflict(why).with_hint("use the other name, or another one"));
    }
    if found.artifact != *name {
        return Err(Error::damaged(format!("artifact.json of {name} names {}", found.artifact)));
    }
    Ok(Some(found))
}

/// All artifacts that ever had a version, by name.
///
/// # Errors
/// I/O.
pub fn all(store: &Store) -> Result<Vec<ArtifactName>> {
    let mut names: Vec<_> =
        disk::list(&store.layout().artifacts())?.iter().filter_map(|n| ArtifactName::parse(n.to_str()?).ok()).collect();
    names.sort();
    let mut out = Vec::with_capacity(names.len());
    for name in names {
        if has_versions(store, &name)? {
            out.push(name);
        }
    }
    Ok(out)
}

/// Whether an artifact has, or ever had, a version: numbers are dense, so the first one tells (F4), and the second one
/// where the first is lost.
///
/// # Errors
/// I/O.
pub fn has_versions(store: &Store, name: &ArtifactName) -> Result<bool> {
    let version = |n| store.layout().version(name, VersionNumber(n));
    Ok(disk::lstat_revalidated(&version(0))?.is_some() || disk::lstat(&version(1))?.is_some())
}

/// The type of an artifact; `None` when there is no such artifact. Where its record is lost or damaged, its versions
/// tell.
///
/// # Errors
/// Damaged: its record, and the records of all its versions. I/O.
pub fn kind(store: &Store, name: &ArtifactName) -> Result<Option<ArtifactType>> {
    let lost = match find(store, name) {
        Ok(Some(record)) => return Ok(Some(record.kind)),
        Ok(None) if !has_versions(store, name)? => return Ok(None),
        Ok(None) => Error::damaged(format!("artifacts/{name}/artifact.json is missing, and {name} has versions")),
        Err(e) if e.kind() == Kind::Damaged => e,
        Err(e) => return Err(e),
    };
    for (_, version) in version::each(store, name)?.into_iter().rev() {
        if let Ok(version) = version {
            return Ok(Some(version.record().kind.clone()));
        }
    }
    Err(lost)
}

/// The type an artifact has, checked against the one wanted.
///
/// # Errors
/// Refused when it has another, naming both.
pub fn check_type(store: &Store, name: &ArtifactName, wanted: Option<&ArtifactType>) -> Result<Option<ArtifactType>> {
    let Some(found) = kind(store, name)? else { return Ok(None) };
    match wanted {
        Some(wanted) if *wanted != found => Err(Error::conflict(format!(
            "artifact {name} has type {found}, not {wanted}: the type of a name can't be changed later"
        ))
        .with_detail(Detail::OtherType { found, wanted: wanted.clone() })
        .with_hint("use another name, or omit the type")),
        _ => Ok(Some(found)),
    }
}

/// The artifact, made now if it is new, with its directory durable, and its type. Who says none takes what there is,
/// `dataset` for a new name: also when somebody else makes it at the same moment.
///
/// # Errors
/// Refused when it has another type; I/O.
pub fn ensure(store: &Store, name: &ArtifactName, wanted: Option<&ArtifactType>) -> Result<ArtifactType> {
    let disk = store.disk();
    let dir = store.layout().artifact(name);
    if let Some(kind) = check_type(store, name, wanted)? {
        // Who made it may not have made it durable yet; before there is a version that is certain to have been done
        // (F9).
        if !disk.keeps_order_of_names() && super::numbers::highest(&store.layout().versions(name))?.is_none() {
            disk.sync_dir(&dir)?;
        }
        return Ok(kind);
    }
    ensure_dir(store, &store.layout().versions(name))?;
    let kind = wanted.cloned().map_or_else(|| ArtifactType::parse("dataset"), Ok)?;
    let record = ArtifactRecord { artifact: name.clone(), kind: kind.clone(), created_at: clock::now() };
    let number = TheRecord { dir, link: store.layout().artifact_record(name) };
    let prepared = Prepared::one_file(store, Unfenced::begin(), number, &record::encode(&record)?)?;
    match prepared.durable()?.place()?.end() {
        Place::At(_) => Ok(kind),
        Place::Refused(()) => check_type(store, name, wanted)?
            .ok_or_else(|| Error::damaged(format!("artifact.json of {name} vanished after it was read"))),
    }
}

/// An artifact has one record, and its name is not a number.
struct TheRecord {
    dir: PathBuf,
    link: PathBuf,
}

impl Numbers for TheRecord {
    type Refusal = ();

    const RELIES_ON_WINNER: bool = true;

    fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    fn first(&self) -> u64 {
        0
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn path(&self, _: u64) -> PathBuf {
        self.link.clone()
    }

    fn passed(&self, _: u64, _: &Token) -> Result<Pass<()>> {
        Ok(Pass::Refused(()))
    }
}

/// Makes a directory of the store, and what is missing above it, with durable names.
///
/// # Errors
/// I/O.
pub(crate) fn ensure_dir(store: &Store, dir: &Path) -> Result<()> {
    if store.disk().keeps_order_of_names() && disk::lstat(dir)?.is_some_and(|m| m.is_dir()) {
        return Ok(()); // its name reaches the disk before any later sync on this file system
    }
    let parent = dir.parent().expect("only directories below the store's root are made");
    let mut tries = TRIES;
    loop {
        if parent != store.root() {
            ensure_dir(store, parent)?;
        }
        match store.disk().create_dir(dir) {
            Ok(_) => break,
            // The parent was made a moment ago, by another host or by this call, and on a part of a shared file system
            // it is missing still.
            Err(e) if tries > 1 && (e.errno() == Some(libc::ENOENT) || !store.disk().kind().is_local()) => tries -= 1,
            Err(e) => return Err(e),
        }
        std::thread::sleep(RETRY_INTERVAL);
        disk::open_parent(dir);
    }
    store.disk().publish_barrier(None).names(&[parent])
}
