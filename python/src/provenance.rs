//! Where a version came from, who uses it, and how long it is kept: what `cairn.Version` says of it.

use cairn::catalog::note::{self, Note};
use cairn::catalog::remove::Force;
use cairn::catalog::uses;
use cairn::internals::commit::copy;
use cairn::types::RunId;
use cairn::{Artifact, Error, Result, SaveOptions, Store, Version};
use std::time::Duration;

/// The ids of the runs that made it, the first one first.
pub fn made_by(version: &Version) -> Result<Vec<String>> {
    Ok(version.annotations()?.runs.iter().map(|run| run.id.to_string()).collect())
}

/// The ids of the runs that used it, sorted.
pub fn used_by(version: &Version) -> Result<Vec<String>> {
    let (runs, damaged) = uses::runs(version.store(), version.artifact(), version.number())?;
    match damaged.into_iter().next() {
        Some(e) => Err(e),
        None => Ok(runs.iter().map(RunId::to_string).collect()),
    }
}

/// `NAME:vN` of the version that it is a copy of, if that is in the same store.
pub fn source(version: &Version) -> Option<String> {
    let source = version.record().source.as_ref().filter(|source| source.store_id.is_none())?;
    Some(format!("{}:{}", source.artifact, source.version))
}

/// How long after it was made it expires.
pub fn ttl(version: &Version) -> Result<Option<Duration>> {
    Ok(version.annotations()?.ttl_seconds.map(Duration::from_secs))
}

/// Sets when it expires.
pub fn set_ttl(version: &Version, ttl: Option<Duration>) -> Result<()> {
    let seconds = ttl.map_or(0, |ttl| ttl.as_secs());
    if ttl.is_some() && seconds == 0 {
        return Err(Error::usage("a version expires after a second at the earliest")
            .with_hint("set None: then it does not expire"));
    }
    note::add(version, Note { ttl_seconds: Some(seconds), ..Note::default() }).map(drop)
}

/// Removes it.
pub fn delete(version: &Version, force: bool) -> Result<()> {
    let force = if force { Force::Yes } else { Force::No };
    version.store().remove(version.artifact().as_str(), version.number(), force)
}

/// Publishes its content as the next version of `name` in `store`.
pub fn copied(
    version: &Version,
    store: &Store,
    name: &str,
    aliases: &[String],
    options: &SaveOptions,
) -> Result<Version> {
    let mut artifact = Artifact::new(name, None)?;
    let now = version.annotations()?;
    if let Some(text) = now.description {
        artifact.set_description(text);
    }
    artifact.set_metadata(now.metadata)?;
    for tag in &now.tags {
        artifact.add_tag(tag.as_str())?;
    }
    for alias in aliases {
        artifact.add_alias(alias)?;
    }
    Ok(copy(store, version, &artifact, options)?.version)
}
