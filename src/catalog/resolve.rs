//! From `NAME:V` to a version.

use super::removed_version::removed_error;
use super::similar::nearest;
use super::version::Version;
use super::{alias, artifact, lost, version};
use crate::disk;
use crate::error::{Detail, Error, Kind, Missing, Result, shell_word, show_list};
use crate::store::Store;
use crate::types::{AliasName, ArtifactName, VersionNumber};
use std::fmt;
use std::str::FromStr;

/// What a user wrote: an artifact, and which of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionSpec {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The version.
    pub selector: Selector,
}

/// Which version of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The newest that is not removed.
    Latest,
    /// By number.
    Number(VersionNumber),
    /// By an alias, or, if no alias has that name, by the first digits of its digest (at least six).
    AliasOrDigest(String),
}

impl VersionSpec {
    /// Parses `NAME`, `NAME:vN`, `NAME:ALIAS`, `NAME:latest` or `NAME:DIGEST`.
    ///
    /// # Errors
    /// A usage error.
    pub fn parse(text: &str) -> Result<VersionSpec> {
        let (name, label) = text.split_once(':').unwrap_or((text, "latest"));
        let artifact = ArtifactName::parse(name)?;
        let selector = match VersionNumber::of_text(label) {
            _ if label == "latest" => Selector::Latest,
            Some(number) => Selector::Number(number),
            None => match without_v(label).filter(|_| label.starts_with('v')) {
                Some(number) => {
                    return Err(Error::usage(format!("no version is named {text}"))
                        .with_hint(format!("did you mean {artifact}:{number}?")));
                }
                None => Selector::AliasOrDigest(AliasName::parse(label)?.as_str().to_owned()),
            },
        };
        Ok(VersionSpec { artifact, selector })
    }
}

impl fmt::Display for VersionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Selector::Latest => write!(f, "{}:latest", self.artifact),
            Selector::Number(n) => write!(f, "{}:{n}", self.artifact),
            Selector::AliasOrDigest(w) => write!(f, "{}:{w}", self.artifact),
        }
    }
}

impl FromStr for VersionSpec {
    type Err = Error;
    fn from_str(text: &str) -> Result<VersionSpec> {
        VersionSpec::parse(text)
    }
}

impl Store {
    /// The version that a text names now: `NAME`, `NAME:vN`, `NAME:ALIAS`, `NAME:latest` or `NAME:DIGEST`.
    ///
    /// # Errors
    /// Usage: a text that is none of these. Else as [`resolve`].
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(dir.path().join("s"), &Default::default())?;
    /// let mut artifact = cairn::Artifact::new("images", "dataset")?;
    /// artifact.add_bytes("a.png", "…")?;
    /// artifact.save(&store)?.version.add_alias("prod")?;
    /// assert_eq!(store.version("images:prod")?.to_string(), "images:v0");
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn version(&self, text: &str) -> Result<Version> {
        resolve(self, &VersionSpec::parse(text)?)
    }

    /// The names of all artifacts, sorted.
    ///
    /// # Errors
    /// I/O.
    pub fn artifacts(&self) -> Result<Vec<ArtifactName>> {
        artifact::all(self)
    }

    /// The versions of an artifact that are not removed, ascending.
    ///
    /// # Errors
    /// Usage: a name that is not allowed. Not found: the artifact. Damaged; I/O.
    pub fn versions(&self, artifact: &str) -> Result<Vec<Version>> {
        version::versions(self, &ArtifactName::parse(artifact)?)
    }
}

/// The version that `spec` names now.
///
/// # Errors
/// Not found: the artifact, version or alias; the hint has the nearest names. Conflict: a digest prefix that fits
/// several contents. Damaged; I/O.
pub fn resolve(store: &Store, spec: &VersionSpec) -> Result<Version> {
    let name = &spec.artifact;
    let number = number_of(store, spec)?;
    let Some(number) = number else { return Err(nothing(store, spec, None)?) };
    if let Some(version) = Version::read(store, name, number)? {
        return Ok(version);
    }
    let found = disk::is_found_by_listing(&store.layout().version(name, number))?;
    let version = if found { Version::read(store, name, number)? } else { None };
    version.map_or_else(|| Err(nothing(store, spec, Some(number))?), Ok)
}

/// The number of the version that `spec` names now. The version need not be readable, and its number's link may be
/// lost, so it can be removed.
///
/// # Errors
/// As [`resolve`], except damage of that version.
pub fn resolve_number(store: &Store, spec: &VersionSpec) -> Result<VersionNumber> {
    let Some(number) = number_of(store, spec)? else { return Err(nothing(store, spec, None)?) };
    let link = store.layout().version(&spec.artifact, number);
    if disk::lstat_revalidated(&link)?.is_some()
        || disk::is_found_by_listing(&link)?
        || lost::lost_numbers(store, &spec.artifact)?.contains_key(&number)
    {
        return Ok(number);
    }
    Err(nothing(store, spec, Some(number))?)
}

/// The number that `spec` names. Whether there is such a version is not checked.
fn number_of(store: &Store, spec: &VersionSpec) -> Result<Option<VersionNumber>> {
    let name = &spec.artifact;
    Ok(match &spec.selector {
        Selector::Latest => Version::newest_number(store, name)?,
        Selector::Number(number) => Some(not_removed(store, name, *number)?),
        Selector::AliasOrDigest(label) => match alias::get(store, name, &AliasName::parse(label)?)? {
            Some(number) => Some(not_removed(store, name, number).map_err(|e| {
                if e.kind() != Kind::NotFound {
                    return e;
                }
                let hint = e.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                e.context(format!("alias {label} of {name} points at {number}, which is removed"))
                    .with_hint(format!("`cairn alias {name}:vN {}` moves it{hint}", shell_word(label)))
            })?),
            None => by_digest(store, name, label)?,
        },
    })
}

/// The number, if that version is not removed.
fn not_removed(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<VersionNumber> {
    removed_error(store, name, number)?.map_or(Ok(number), Err)
}

/// The error for a `spec` whose `number` has no version.
fn nothing(store: &Store, spec: &VersionSpec, number: Option<VersionNumber>) -> Result<Error> {
    let name = &spec.artifact;
    let readable =
        artifact::find(store, name).or_else(|e| if e.kind() == Kind::Damaged { Ok(None) } else { Err(e) })?;
    if readable.is_none() && !artifact::has_versions(store, name)? {
        return artifact::no_artifact(store, name);
    }
    let lost = match number {
        Some(number) => lost::lost_numbers(store, name)?.remove(&number).map(|why| (number, why)),
        None => None,
    };
    match lost {
        Some((number, why)) => Ok(lost_number(name, number, &why)),
        None => no_version(store, spec),
    }
}

fn lost_number(name: &ArtifactName, number: VersionNumber, why: &str) -> Error {
    Error::damaged(format!("{name}:{number} is missing from the store, and {why}")).with_hint(format!(
        "if a part of a shared disk does not answer at the moment, run the command again; else `cairn verify --repair` \
             gives it its number again if its record is in the store, and `cairn rm {name}:{number}` discards it"
    ))
}

fn by_digest(store: &Store, name: &ArtifactName, label: &str) -> Result<Option<VersionNumber>> {
    if label.len() < 6 || label.len() > 64 || !label.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(None);
    }
    let mut found: Option<Version> = None;
    for version in version::each(store, name)?.into_iter().filter_map(|(_, version)| version.ok()) {
        if version.digest().hex().starts_with(label) {
            if let Some(other) = found.as_ref().filter(|f| f.digest() != version.digest()) {
                return Err(
                    Error::conflict(format!("digest {label} fits {other} and {version}")).with_hint("give more digits")
                );
            }
            found = Some(version);
        }
    }
    Ok(found.map(|v| v.number()))
}

fn no_version(store: &Store, spec: &VersionSpec) -> Result<Error> {
    let name = &spec.artifact;
    let numbers = version::live_numbers(store, name)?;
    if numbers.is_empty() {
        return Ok(Error::not_found(format!("{name} has no version"))
            .with_detail(Detail::NotFound { what: Missing::Version, name: spec.to_string(), candidates: Vec::new() })
            .with_hint(if disk::list(&store.layout().drafts(name))?.is_empty() {
                format!("`cairn put {name} DIR` makes one")
            } else {
                format!("`cairn drafts {name}` lists what is not finished; `cairn put {name} DIR` makes a version")
            }));
    }
    let mut names: Vec<String> = alias::all(store, name)?.into_iter().map(|(a, _)| a.to_string()).collect();
    names.push("latest".into());
    let near = match &spec.selector {
        Selector::AliasOrDigest(label) => match without_v(label).filter(|number| numbers.contains(number)) {
            Some(number) => vec![number.to_string()],
            None => nearest(label, &names),
        },
        _ => Vec::new(),
    };
    let detail = Detail::NotFound { what: Missing::Version, name: spec.to_string(), candidates: near.clone() };
    let is_digest = |label: &String| label.len() < 6 && label.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let hint = if !near.is_empty() {
        let near: Vec<String> = near.iter().map(|label| format!("{name}:{label}")).collect();
        format!("did you mean {}?", near.join(" or "))
    } else if matches!(&spec.selector, Selector::AliasOrDigest(label) if is_digest(label)) {
        "a version is named by at least six digits of its digest".to_owned()
    } else {
        format!("it has {}, and {}", show_list(&ranges(&numbers)), show_list(&names))
    };
    Ok(Error::not_found(format!("there is no version {spec}")).with_detail(detail).with_hint(hint))
}

/// The number that `2`, `02` or `v02` probably means.
fn without_v(label: &str) -> Option<VersionNumber> {
    let digits = label.strip_prefix('v').unwrap_or(label);
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok().map(VersionNumber)).flatten()
}

/// Ascending numbers as `v0 to v9`, `v11`.
fn ranges(numbers: &[VersionNumber]) -> Vec<String> {
    let follows = |a: &VersionNumber, b: &VersionNumber| a.0 + 1 == b.0;
    let runs = numbers.chunk_by(follows);
    runs.map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first} to {last}"),
        [] => String::new(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_has_one_meaning() {
        let parse = |t| VersionSpec::parse(t).map(|s| s.selector);
        assert_eq!(parse("a").unwrap(), Selector::Latest);
        assert_eq!(parse("a:latest").unwrap(), Selector::Latest);
        assert_eq!(parse("a:v3").unwrap(), Selector::Number(VersionNumber(3)));
        assert_eq!(parse("a:prod").unwrap(), Selector::AliasOrDigest("prod".into()));
        for bad in ["", ":v1", "a:", "a:v1:b", "a:b/c", "a b", "a:.staging", "a:v01"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hint_omits_the_numbers_that_were_removed() {
        let numbers = |all: &[u64]| ranges(&all.iter().map(|n| VersionNumber(*n)).collect::<Vec<_>>()).join(", ");
        assert_eq!(numbers(&[0]), "v0");
        assert_eq!(numbers(&[0, 4, 5, 7, 8, 9]), "v0, v4 to v5, v7 to v9");
    }
}
