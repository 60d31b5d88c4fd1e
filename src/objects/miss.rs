//! Why one copy of something cannot be read.

use crate::error::{Error, Kind, Result};
use std::io;
use std::path::Path;

/// Why one copy of something cannot be read.
#[derive(Debug)]
pub(super) enum Miss {
    /// It does not exist.
    Gone,
    /// It exists and is wrong: what was expected and found.
    Wrong(String),
    /// It exists and is right, but something else that it needs cannot be read.
    Incomplete(String),
    /// The system failed. Another copy may be readable.
    Io(Error),
}

/// The result of reading one copy.
pub(super) type ReadAttempt<T> = std::result::Result<T, Miss>;

impl Miss {
    /// For a failed call. A stale handle means that another host moved or removed the file.
    pub(super) fn of_io(action: &str, path: &Path, e: io::Error) -> Miss {
        if e.raw_os_error() == Some(libc::ESTALE) { Miss::Gone } else { Miss::Io(Error::io(action, path, e)) }
    }

    /// For an error of something that this copy needs.
    pub(super) fn incomplete(e: Error) -> Miss {
        if e.kind() == Kind::Damaged || is_unreadable(&e) { Miss::Incomplete(format!("{e:#}")) } else { Miss::Io(e) }
    }
}

impl From<Error> for Miss {
    fn from(e: Error) -> Miss {
        if e.kind() == Kind::Damaged { Miss::Wrong(format!("{e:#}")) } else { Miss::Io(e) }
    }
}

/// Whether the disk cannot read what is there, so that it is lost. Other errors (no memory, no permission, no
/// connection) say nothing about it.
pub(super) fn is_unreadable(e: &Error) -> bool {
    matches!(
        e.errno(),
        Some(libc::EIO | libc::EREMOTEIO | libc::EUCLEAN | libc::EBADMSG | libc::EILSEQ | libc::ENODATA)
    )
}

/// `None` for a copy that is gone, wrong or unreadable.
///
/// # Errors
/// I/O of any other sort.
pub(super) fn readable<T>(attempt: ReadAttempt<T>) -> Result<Option<T>> {
    match attempt {
        Ok(found) => Ok(Some(found)),
        Err(Miss::Io(e)) if !is_unreadable(&e) => Err(e),
        Err(_) => Ok(None),
    }
}
