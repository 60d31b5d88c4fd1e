//! The store's own files, which are not content of a version.

use super::builder::Add;
use crate::error::{Error, Result, show_path};
use crate::ingest::{Body, FileBody};
use crate::store::Store;
use std::path::{Path, PathBuf};

/// Refuses the store's own files as sources. A directory that contains the store may be added: the scan skips the
/// store. A staging directory may be added, too: its files may be the only copy.
pub(super) struct OwnFiles {
    /// The store, without symlinks.
    root: Option<PathBuf>,
    /// The directory of the last source that was a file, and whether it belongs to the store: files of one directory
    /// often come one after another.
    last: Option<(PathBuf, bool)>,
}

impl OwnFiles {
    pub(super) fn of(store: &Store) -> OwnFiles {
        OwnFiles { root: std::fs::canonicalize(store.root()).ok(), last: None }
    }

    /// Refuses an addition that reads files of the store. A symlink to one of its objects is content (`LocalFiles`
    /// makes them), so a file is judged by the directory that it is in.
    ///
    /// # Errors
    /// Usage.
    pub(super) fn refuse(&mut self, add: &Add) -> Result<()> {
        let (source, is_own) = match add {
            Add::Directory { source, .. } => (source, self.has(source)),
            Add::Entry { body: Body::File { body: FileBody::Disk(source, _), .. }, spool: None, .. } => {
                (&**source, self.has_parent_of(source))
            }
            _ => return Ok(()),
        };
        if is_own {
            return Err(Error::usage(format!("cannot add {}: it belongs to the store itself", show_path(source)))
                .with_hint("`cairn copy` copies a version to another name or store"));
        }
        Ok(())
    }

    fn has_parent_of(&mut self, file: &Path) -> bool {
        let Some(parent) = file.parent() else { return false };
        if self.last.as_ref().is_none_or(|(last, _)| last != parent) {
            self.last = Some((parent.to_path_buf(), self.has(parent)));
        }
        self.last.as_ref().is_some_and(|(_, is_own)| *is_own)
    }

    fn has(&self, directory: &Path) -> bool {
        let (Some(root), Ok(directory)) = (&self.root, std::fs::canonicalize(directory)) else { return false };
        directory.starts_with(root) && !directory.starts_with(root.join("staging"))
    }
}
