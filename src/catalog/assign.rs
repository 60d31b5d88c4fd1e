//! All tags or all aliases of a version, set at once.

use super::note::{self, Note};
use super::version::Version;
use crate::error::Result;
use crate::types::{AliasName, Tag};

/// The name of the newest version, which moves by itself.
const LATEST: &str = "latest";

impl Version {
    /// Gives the version these tags and no others.
    ///
    /// # Errors
    /// Usage: a tag that is not allowed. Damaged; I/O.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// let mut artifact = cairn::Artifact::new("a", None)?;
    /// artifact.add_bytes("x", "1")?.add_tag("old")?;
    /// let version = artifact.save(&store)?.version;
    /// version.set_tags(["new"])?;
    /// assert_eq!(version.annotations()?.tags.iter().map(|t| t.as_str()).collect::<Vec<_>>(), ["new"]);
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn set_tags(&self, tags: impl IntoIterator<Item = impl AsRef<str>>) -> Result<()> {
        let tags = tags.into_iter().map(|tag| Tag::parse(tag.as_ref())).collect::<Result<Vec<_>>>()?;
        let change = |now: &note::Annotations| {
            let missing = |from: &[Tag], of: &[Tag]| of.iter().filter(|tag| !from.contains(tag)).cloned().collect();
            let (add_tags, remove_tags) = (missing(&now.tags, &tags), missing(&tags, &now.tags));
            Ok(Note { add_tags, remove_tags, ..Note::default() })
        };
        note::edit(self, change).map(drop)
    }

    /// Moves these aliases to the version, and removes all others that point to it. `latest` may be among them, and is
    /// not changed.
    ///
    /// # Errors
    /// As [`Version::add_alias`] and [`Version::remove_alias`]. Aliases before the refused one are set.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// let mut artifact = cairn::Artifact::new("a", None)?;
    /// artifact.add_bytes("x", "1")?.add_alias("staging")?;
    /// let version = artifact.save(&store)?.version;
    /// version.set_aliases(["prod"])?;
    /// assert_eq!(version.aliases()?, ["latest", "prod"]);
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn set_aliases(&self, aliases: impl IntoIterator<Item = impl AsRef<str>>) -> Result<()> {
        let wanted: Vec<String> =
            aliases.into_iter().map(|a| a.as_ref().to_owned()).filter(|alias| alias != LATEST).collect();
        wanted.iter().try_for_each(|alias| AliasName::parse(alias).map(drop))?;
        let now = self.aliases()?;
        let missing = wanted.iter().filter(|alias| !now.contains(alias));
        missing.into_iter().try_for_each(|alias| self.add_alias(alias))?;
        let others = now.iter().filter(|alias| *alias != LATEST && !wanted.contains(alias));
        others.into_iter().try_for_each(|alias| self.remove_alias(alias))
    }
}
