//! Artifacts: a name, its type, when it was created.

use super::similar::nearest;
use super::{numbers, version_record};
use crate::disk;
use crate::error::{Detail, Error, Kind, Missing, Result};
use crate::store::Store;
use crate::txn::{OnePlace, Place, Prepared, Unfenced, claim};
use crate::types::{ArtifactName, ArtifactType, VersionNumber};
use crate::{clock, record};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// How often the making of a directory is tried, from its parent down.
const TRIES: u32 = 4;
/// The wait between two tries.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What `artifact.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// The name, as the directory's.
    pub artifact: ArtifactName,
    /// The type, which can't be changed later.
    #[serde(rename = "type")]
    pub kind: ArtifactType,
    /// When it was created, by the writer's clock.
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
            "artifact {name} cannot be distinguished from {}: on this file system names do not differ by case",
            found.artifact
        );
        return Err(Error::conflict(why).with_hint("use the other name, or another one"));
    }
    if found.artifact != *name {
        return Err(Error::damaged(format!("artifact.json of {name} names {}", found.artifact)));
    }
    Ok(Some(found))
}

/// Every artifact that has a directory, also those that have drafts and no version yet, by name.
///
/// # Errors
/// I/O.
pub fn all_with_drafts(store: &Store) -> Result<Vec<ArtifactName>> {
    let mut names: Vec<_> =
        disk::list(&store.layout().artifacts())?.iter().filter_map(|n| ArtifactName::parse(n.to_str()?).ok()).collect();
    if names.is_empty() {
        store.check_present()?;
    }
    names.sort();
    Ok(names)
}

/// All artifacts that ever had a version, by name.
///
/// # Errors
/// I/O.
pub fn all(store: &Store) -> Result<Vec<ArtifactName>> {
    let mut out = Vec::new();
    for name in all_with_drafts(store)? {
        if has_versions(store, &name)? {
            out.push(name);
        }
    }
    Ok(out)
}

/// Whether an artifact has, or ever had, a version. Numbers are dense, so the first one decides (F4), or the second one
/// if the first is lost.
///
/// # Errors
/// I/O.
pub fn has_versions(store: &Store, name: &ArtifactName) -> Result<bool> {
    let version = |n| store.layout().version(name, VersionNumber(n));
    Ok(disk::lstat_revalidated(&version(0))?.is_some() || disk::lstat(&version(1))?.is_some())
}

/// The type of an artifact; `None` when there is no such artifact. If its record is lost or damaged, the type is read
/// from its versions.
///
/// # Errors
/// Damaged: its record, and the records of all its versions. I/O.
pub fn kind(store: &Store, name: &ArtifactName) -> Result<Option<ArtifactType>> {
    let lost = match find(store, name) {
        Ok(Some(record)) => return Ok(Some(record.kind)),
        Ok(None) if !has_versions(store, name)? => return Ok(None),
        // Another process may have made both since the first lookup, the record before the version.
        Ok(None) => match find(store, name)? {
            Some(record) => return Ok(Some(record.kind)),
            None => Error::damaged(format!("artifacts/{name}/artifact.json is missing, and {name} has versions")),
        },
        Err(e) if e.kind() == Kind::Damaged => e,
        Err(e) => return Err(e),
    };
    for number in numbers::versions(&store.layout().versions(name))?.into_iter().rev() {
        match version_record::read_record_at(store, name, number) {
            Ok(Some((_, record))) => return Ok(Some(record.kind)),
            Err(e) if e.kind() != Kind::Damaged => return Err(e),
            _ => {}
        }
    }
    Err(lost)
}

/// The type of an artifact, checked against the one wanted; `None` when there is no such artifact.
///
/// # Errors
/// Conflict: it has another type. Damaged; I/O.
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

/// Makes the artifact if it is new, and its directory durable, and returns its type. Without a wanted type that is the
/// type it has, or `dataset` for a new name; also if another process makes it at the same moment.
///
/// # Errors
/// Conflict: it has another type. Damaged; I/O.
pub fn ensure(store: &Store, name: &ArtifactName, wanted: Option<&ArtifactType>) -> Result<ArtifactType> {
    let disk = store.disk();
    let dir = store.layout().artifact(name);
    if let Some(kind) = check_type(store, name, wanted)? {
        // Its writer may not have made it durable yet. If there is a version, it was done before (F9).
        if !disk.keeps_order_of_names() && numbers::highest(&store.layout().versions(name))?.is_none() {
            disk.sync_dir(&dir)?;
        }
        return Ok(kind);
    }
    ensure_dir(store, &store.layout().versions(name))?;
    let kind = wanted.cloned().map_or_else(|| ArtifactType::parse("dataset"), Ok)?;
    let record = ArtifactRecord { artifact: name.clone(), kind: kind.clone(), created_at: clock::now() };
    let place = OnePlace::<true>::at(store.layout().artifact_record(name));
    let prepared = Prepared::one_file(store, Unfenced::begin(), place, &record::encode(&record)?)?;
    match prepared.durable()?.place()?.end() {
        Place::At(_) => Ok(kind),
        Place::Refused(()) => check_type(store, name, wanted)?
            .ok_or_else(|| Error::damaged(format!("artifact.json of {name} vanished after it was read"))),
    }
}

/// The error for an artifact that does not exist, or that has versions but no record.
pub(crate) fn no_artifact(store: &Store, name: &ArtifactName) -> Result<Error> {
    if has_versions(store, name)? {
        return Ok(Error::damaged(format!("artifacts/{name}/artifact.json is missing, and {name} has versions")));
    }
    let names: Vec<String> = all(store)?.iter().map(|n| n.to_string()).collect();
    let near = nearest(name.as_str(), &names);
    let hint = if near.is_empty() {
        "`cairn list` lists the artifacts".to_owned()
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    let detail = Detail::NotFound { what: Missing::Artifact, name: name.to_string(), candidates: near };
    Ok(Error::not_found(format!("there is no artifact {name}")).with_detail(detail).with_hint(hint))
}

/// Makes a directory of the store, and what is missing above it, with durable names.
///
/// # Errors
/// I/O.
pub(crate) fn ensure_dir(store: &Store, dir: &Path) -> Result<()> {
    if store.disk().keeps_order_of_names() && disk::lstat(dir)?.is_some_and(|m| m.is_dir()) {
        return Ok(()); // on this file system its name is durable with any later sync
    }
    let parent = dir.parent().expect("only directories below the store's root are made");
    let mut tries = TRIES;
    loop {
        if parent != store.root() {
            ensure_dir(store, parent)?;
        }
        match store.disk().create_dir(dir) {
            Ok(_) => break,
            // Another host, or this call, made the parent a moment ago, and it is still missing on a part of a shared
            // file system.
            Err(e) if tries > 1 && (e.errno() == Some(libc::ENOENT) || !store.disk().kind().is_local()) => tries -= 1,
            Err(e) => return Err(e),
        }
        std::thread::sleep(RETRY_INTERVAL);
        disk::open_parent(dir);
    }
    store.disk().publish_barrier(None).names(&[parent])
}
