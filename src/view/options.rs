//! What a checkout is asked for: which entries, and what each is written as.

use super::written::{References, WrittenAs};
use crate::catalog::Version;
use crate::error::{Error, Result};
use crate::manifest::{Entry, Visit};
use crate::progress::Progress;
use crate::setters::setters;
use crate::types::RelPath;
use std::borrow::Cow;
use std::sync::Arc;

/// How a version is written out.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckoutOptions {
    /// Only this entry, and what is below it; its path is kept.
    pub path: Option<RelPath>,
    /// How large files come to be.
    pub link: Link,
    /// What becomes of references.
    pub references: References,
    /// Replace what differs.
    pub force: bool,
    /// Remove what is not in the version, except what a put would leave out.
    pub prune: bool,
    /// Counters to move.
    pub progress: Arc<Progress>,
}

setters! {
    CheckoutOptions {
        path: RelPath => Some(path),
        link: Link,
        references: References,
        force: bool,
        prune: bool,
        progress: Arc<Progress>,
    }
}

/// How large files of a checkout come to be. Small ones are packed, so they are always written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Link {
    /// Reflink where the file system can, else copy. Never a hard link: an edit would reach the store.
    #[default]
    Auto,
    /// Copy the bytes; holes stay holes.
    Copy,
    /// Reflink, or refuse.
    Reflink,
    /// Hard link to the store's own read-only file, or refuse; executable files are copied.
    Hardlink,
}

impl CheckoutOptions {
    /// What an entry is written as.
    ///
    /// # Errors
    /// A reference that cannot be written in the way that is asked for.
    pub(super) fn written<'a>(&self, entry: &'a Entry) -> Result<WrittenAs<'a>> {
        Ok(match entry {
            Entry::Directory(_) => WrittenAs::Directory,
            Entry::File { digest, size, exec, place } => {
                WrittenAs::File { digest: *digest, size: *size, exec: *exec, place: *place }
            }
            Entry::Symlink { target } => WrittenAs::Symlink(Cow::Borrowed(target)),
            Entry::Reference(reference) => return self.references.written(reference),
        })
    }
}

/// The entries that are asked for, in path order, with the directories above them.
pub(super) fn selected(
    version: &Version,
    options: &CheckoutOptions,
) -> Result<Box<dyn Iterator<Item = Result<Visit>> + Send>> {
    let tree = version.tree()?;
    let Some(path) = options.path.as_ref().filter(|p| !p.is_root()) else { return Ok(Box::new(tree.walk())) };
    let mut above = Vec::new();
    let mut at = RelPath::root();
    for name in path.parts() {
        at = at.join(name)?;
        let missing = || {
            Error::not_found(format!("there is no {path} in {version}"))
                .with_hint(format!("`cairn ls {version}` lists it"))
        };
        let found = tree.lookup(&at)?.ok_or_else(missing)?;
        above.push(Ok(Visit { path: at.clone(), entry: found.entry, rank: found.rank }));
    }
    Ok(Box::new(above.into_iter().chain(tree.walk_below(path)?)))
}
