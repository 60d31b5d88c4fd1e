//! Removing a file that is open, on a shared disk. Its client keeps such a file under another name in the same
//! directory until it is closed (`.nfs…`, `.fuse_hidden…`), where it would be listed, keep the directory from being
//! removed and come into the version. So the file is moved out of the stage first, and removed there.

use crate::disk::backing::Backing;
use crate::error::{Error, Result};
use crate::staging::Stage;
use crate::types::Token;
use std::io;
use std::path::{Path, PathBuf};

/// A directory beside the stage; `None` on a local disk, where a removed file has no name.
pub(super) struct RemovedInodes(Option<Backing>);

impl RemovedInodes {
    /// The one of a stage.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn of(stage: &Stage) -> Result<RemovedInodes> {
        let store = stage.draft().store();
        if store.disk().kind().is_local() {
            return Ok(RemovedInodes(None));
        }
        let directory = store.layout().stage_gone(stage.token());
        store.disk().create_dir(&directory)?;
        Ok(RemovedInodes(Some(Backing::open(&directory).map_err(|e| Error::io("open", &directory, e))?)))
    }

    /// Removes a file that may be open.
    pub(super) fn unlink(&self, from: &Backing, path: &Path) -> io::Result<()> {
        match self.take_out(from, path)? {
            None => from.unlink(path, false),
            Some(aside) => {
                self.discard(&aside);
                Ok(())
            }
        }
    }

    /// Renames, where a file that may be open has the new name.
    pub(super) fn rename_over(&self, from: (&Backing, &Path), to: (&Backing, &Path), flags: u32) -> io::Result<()> {
        let Some(aside) = self.take_out(to.0, to.1)? else { return from.0.rename(from.1, to.0, to.1, flags) };
        let renamed = from.0.rename(from.1, to.0, to.1, flags);
        match &renamed {
            Ok(()) => self.discard(&aside),
            Err(_) => drop(self.0.as_ref().map(|gone| gone.rename(&aside, to.0, to.1, libc::RENAME_NOREPLACE))),
        }
        renamed
    }

    fn take_out(&self, from: &Backing, path: &Path) -> io::Result<Option<PathBuf>> {
        let Some(gone) = &self.0 else { return Ok(None) };
        let aside = PathBuf::from(Token::fresh().as_str());
        from.rename(path, gone, &aside, 0).map(|()| Some(aside))
    }

    /// What cannot be removed yet goes with the stage.
    fn discard(&self, aside: &Path) {
        drop(self.0.as_ref().map(|gone| gone.unlink(aside, false)));
    }
}
