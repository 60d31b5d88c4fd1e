//! Which versions of an artifact rules keep, as in `restic forget`: a version stays if any rule keeps it.

use super::version::{self, Version, aliases_of};
use super::{alias, artifact};
use crate::clock;
use crate::error::{Error, Result};
use crate::pins;
use crate::setters::setters;
use crate::store::Store;
use crate::types::{ArtifactName, Tag, VersionNumber};
use std::collections::HashSet;
use std::time::Duration;

/// Rules that keep versions. A version that no rule keeps is to be removed. Without any rule all are kept.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct KeepRules {
    /// Keep this many of the newest versions.
    pub last: Option<u64>,
    /// Keep what was made at most this long before the newest version.
    pub within: Option<Duration>,
    /// Keep versions with one of these tags.
    pub tags: Vec<Tag>,
    /// Keep what has no time to live, and what has not reached its end by this host's clock.
    pub expired: bool,
}

setters! {
    KeepRules {
        last: u64 => Some(last),
        within: Duration => Some(within),
        tags: Vec<Tag>,
        expired: bool,
    }
}

impl KeepRules {
    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        *self == KeepRules::default()
    }
}

/// What rules say of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Judged {
    /// The version.
    pub version: VersionNumber,
    /// Why it is kept; empty: it is to be removed.
    pub kept_by: Vec<String>,
}

/// What the rules say of each version of an artifact, the newest first. A version is also kept while an alias other
/// than `latest` names it or a mount uses it, and if its record is damaged, so that the rules cannot be applied. Mounts
/// of the whole store are asked whether they still use a version, which can take some seconds.
///
/// # Errors
/// Not found: the artifact. Damaged; I/O.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(dir.path().join("s"), &Default::default())?;
/// use cairn::catalog::retention::{KeepRules, judge};
/// for text in ["one", "two", "three"] {
///     cairn::Artifact::new("images", "dataset")?.add_bytes("a.txt", text)?.save(&store)?;
/// }
/// let judged = judge(&store, &"images".parse()?, &KeepRules::default().last(2))?;
/// let removed: Vec<_> = judged.iter().filter(|j| j.kept_by.is_empty()).map(|j| j.version.to_string()).collect();
/// assert_eq!(removed, ["v0"]);
/// # Ok::<(), cairn::Error>(())
/// ```
pub fn judge(store: &Store, name: &ArtifactName, rules: &KeepRules) -> Result<Vec<Judged>> {
    let versions = version::each(store, name)?;
    if versions.is_empty() && !artifact::has_versions(store, name)? {
        return Err(artifact::no_artifact(store, name)?);
    }
    let aliases = alias::all(store, name)?;
    let pinned: HashSet<_> = pins::all(store)?.versions.into_iter().filter(|(of, _)| of == name).collect();
    let made = |version: &Version| clock::parse(&version.record().created_at);
    let newest = versions.iter().filter_map(|(_, version)| made(version.as_ref().ok()?)).max();
    let mut out = Vec::new();
    for (place, (number, version)) in versions.iter().rev().enumerate() {
        let mut kept_by = match version {
            Ok(version) => rules.keep(version, place as u64, newest)?,
            Err(_) => vec!["damaged: it can be removed by its number".to_owned()],
        };
        kept_by.extend(aliases_of(*number, &aliases, None).into_iter().map(|alias| format!("alias {alias}")));
        out.push(Judged { version: *number, kept_by });
    }
    let asked: Vec<VersionNumber> = out
        .iter()
        .filter(|judged| judged.kept_by.is_empty() && pinned.contains(&(name.clone(), judged.version)))
        .map(|judged| judged.version)
        .collect();
    if !asked.is_empty() {
        let mut users = pins::users_of_each(store, name, &asked)?;
        for judged in out.iter_mut().filter(|judged| judged.kept_by.is_empty()) {
            let users = users.remove(&judged.version).unwrap_or_default();
            let kept = users.iter().map(|user| format!("{} of {} on {}", user.purpose, user.user, user.host));
            judged.kept_by.extend(kept);
        }
    }
    Ok(out)
}

impl KeepRules {
    /// Which rules keep a version. `place` is 0 for the newest one.
    fn keep(&self, version: &Version, place: u64, newest: Option<i64>) -> Result<Vec<String>> {
        let mut kept_by = Vec::new();
        if self.last.is_some_and(|last| place < last) {
            kept_by.push("last".to_owned());
        }
        if let Some(within) = self.within {
            match (clock::parse(&version.record().created_at), newest) {
                (Some(made), Some(newest)) if newest - made > within.as_secs() as i64 => {}
                (Some(_), _) => kept_by.push("within".to_owned()),
                (None, _) => kept_by.push("its time cannot be read".to_owned()),
            }
        }
        if self.tags.is_empty() && !self.expired {
            return Ok(kept_by);
        }
        let annotations = version.annotations()?;
        let has_tag = self.tags.iter().filter(|tag| annotations.tags.contains(tag));
        kept_by.extend(has_tag.map(|tag| format!("tag {tag}")));
        if self.expired {
            kept_by.extend(not_expired(&version.record().created_at, annotations.ttl_seconds, clock::unix_now()));
        }
        Ok(kept_by)
    }
}

/// When a version that was made at `created_at` expires, in seconds since 1970; `None` if that time cannot be read.
pub fn expires_at(created_at: &str, ttl_seconds: u64) -> Option<i64> {
    Some(clock::parse(created_at)?.saturating_add(i64::try_from(ttl_seconds).unwrap_or(i64::MAX)))
}

/// Why a version has not expired; `None` if it has. Its age is by the clock of the host that asks.
fn not_expired(created_at: &str, ttl_seconds: Option<u64>, now: i64) -> Option<String> {
    let Some(ttl) = ttl_seconds else { return Some("no ttl".to_owned()) };
    let Some(end) = expires_at(created_at, ttl) else { return Some("its time cannot be read".to_owned()) };
    let left = end.saturating_sub(now);
    (left > 0).then(|| format!("ttl ends in {left} s"))
}

/// Refuses rules that keep nothing of an artifact: probably a mistake.
///
/// # Errors
/// Conflict: no version is kept, and there is one.
pub fn refuse_if_nothing_is_kept(name: &ArtifactName, judged: &[Judged]) -> Result<()> {
    if judged.is_empty() || judged.iter().any(|judged| !judged.kept_by.is_empty()) {
        return Ok(());
    }
    Err(Error::conflict(format!("the rules keep no version of {name}, nothing was removed"))
        .with_hint(format!("`cairn rm {name} --all` removes every version")))
}
