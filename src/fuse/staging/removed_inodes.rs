//! Removing an open file on a shared disk. The client of a shared disk renames such a file within its directory until
//! it is closed (`.nfs…`, `.fuse_hidden…`). There it would be listed, prevent the removal of the directory, and get
//! into the version. So the file is first moved out of the stage, and removed there.

use crate::disk::backing::Backing;
use crate::error::{Error, Result};
use crate::staging::Stage;
use crate::types::Token;
use std::io;
use std::path::{Path, PathBuf};

/// A directory next to the stage; `None` on a local disk, where a removed file has no name.
pub(super) struct RemovedInodes(Option<Backing>);

impl RemovedInodes {
    /// The directory of a stage.
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
        match self.move_aside(from, path)? {
            None => from.unlink(path, false),
            Some(aside) => {
                self.discard(&aside);
                Ok(())
            }
        }
    }

    /// Renames over a file that may be open.
    pub(super) fn rename_over(&self, from: (&Backing, &Path), to: (&Backing, &Path), flags: u32) -> io::Result<()> {
        let Some(aside) = self.move_aside(to.0, to.1)? else { return from.0.rename(from.1, to.0, to.1, flags) };
        let renamed = from.0.rename(from.1, to.0, to.1, flags);
        match &renamed {
            Ok(()) => self.discard(&aside),
            Err(_) => drop(self.0.as_ref().map(|gone| gone.rename(&aside, to.0, to.1, libc::RENAME_NOREPLACE))),
        }
        renamed
    }

    fn move_aside(&self, from: &Backing, path: &Path) -> io::Result<Option<PathBuf>> {
        let Some(gone) = &self.0 else { return Ok(None) };
        let aside = PathBuf::from(Token::fresh().as_str());
        from.rename(path, gone, &aside, 0).map(|()| Some(aside))
    }

    /// Removes a file that was moved aside. If it cannot be removed now, it is removed with the stage.
    fn discard(&self, aside: &Path) {
        drop(self.0.as_ref().map(|gone| gone.unlink(aside, false)));
    }
}
