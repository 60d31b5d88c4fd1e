//! Decides which error number a program sees when a request fails, for read-only and for staging mounts.

use crate::error::{Error, Kind};
use crate::manifest::Reference;
use crate::remote::shown_uri;

/// Why a request of the kernel fails.
#[derive(Debug)]
pub enum RequestFailure {
    /// The name is longer than any entry's name can be.
    NameTooLong,
    /// The inode number does not exist here: the handle is from another mount.
    Stale,
    /// The version was removed before this mount used it.
    Gone,
    /// It is not a directory.
    NotADirectory,
    /// It is a directory, not a file.
    IsADirectory,
    /// It is not a symbolic link, or cannot be read.
    WrongKind,
    /// It would be a change: versions are immutable.
    ReadOnly,
    /// The content of a file is shorter than its size. A short reply would look like the end of the file (L15).
    TooShort {
        /// The size in the manifest.
        size: u64,
        /// The length of the content.
        end: u64,
    },
    /// It is a reference: its content is not in the store.
    Elsewhere(Box<Reference>),
    /// The source of a reference did not answer in time.
    SourceTooSlow(String, std::time::Duration),
    /// The store returned an error.
    Store(Error),
    /// The store did not answer in time.
    TooSlow(std::time::Duration),
    /// The request panicked; the daemon continues.
    Panicked,
}

impl RequestFailure {
    /// The error number.
    pub fn errno(&self) -> i32 {
        match self {
            RequestFailure::NameTooLong => libc::ENAMETOOLONG,
            RequestFailure::Stale => libc::ESTALE,
            RequestFailure::Gone => libc::ENOENT,
            RequestFailure::NotADirectory => libc::ENOTDIR,
            RequestFailure::IsADirectory => libc::EISDIR,
            RequestFailure::WrongKind => libc::EINVAL,
            RequestFailure::ReadOnly => libc::EROFS,
            RequestFailure::TooShort { .. }
            | RequestFailure::Elsewhere(_)
            | RequestFailure::SourceTooSlow(..)
            | RequestFailure::TooSlow(_)
            | RequestFailure::Panicked => libc::EIO,
            RequestFailure::Store(e) => errno_of(e, Subject::Version),
        }
    }

    /// The line for the log; `None` for failures that programs expect.
    pub fn log_line(&self) -> Option<String> {
        match self {
            RequestFailure::TooShort { size, end } => {
                Some(format!("its content has {end} bytes, but the manifest says {size}"))
            }
            RequestFailure::Elsewhere(reference) => {
                Some(format!("it is a reference to {}: its content is not in the store", shown_uri(&reference.uri)))
            }
            RequestFailure::SourceTooSlow(uri, after) => {
                let seconds = after.as_secs_f64();
                Some(format!("{uri} was not read within {seconds} s; a large local file may still be hashed"))
            }
            RequestFailure::Store(e) => Some(format!("{e:#}")),
            RequestFailure::TooSlow(after) => {
                Some(format!("the store did not answer within {} s", after.as_secs_f64()))
            }
            RequestFailure::Panicked => Some("the daemon panicked: please report this".into()),
            RequestFailure::NameTooLong
            | RequestFailure::Stale
            | RequestFailure::Gone
            | RequestFailure::NotADirectory
            | RequestFailure::IsADirectory
            | RequestFailure::WrongKind
            | RequestFailure::ReadOnly => None,
        }
    }
}

impl From<Error> for RequestFailure {
    fn from(e: Error) -> Self {
        RequestFailure::Store(e)
    }
}

/// `Result` with a [`RequestFailure`].
pub type FuseResult<T> = std::result::Result<T, RequestFailure>;

/// `Result` with an error number.
pub type ErrnoResult<T> = std::result::Result<T, i32>;

/// What a request that failed was about. It decides which errors a program can do something about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// The content of a version, which the store has and cannot change. Whatever is missing there is damage, not a
    /// missing name; that the store is damaged or out of reach is EIO. Only what concerns the daemon itself keeps its
    /// number: no descriptors, no memory, no permission.
    Version,
    /// A run's contribution, which a program makes: a bad name, a missing run, a run that another process holds, and a
    /// full disk are reported as such.
    Run,
}

/// The error number for a library error.
pub fn errno_of(e: &Error, subject: Subject) -> i32 {
    match (e.kind(), subject) {
        (Kind::Io, Subject::Run) => e.errno().unwrap_or(libc::EIO),
        (Kind::Io, Subject::Version) => match e.errno() {
            Some(n @ (libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EACCES | libc::EPERM)) => n,
            _ => libc::EIO,
        },
        (Kind::Usage, Subject::Run) => libc::EINVAL,
        (Kind::Conflict, Subject::Run) => libc::EBUSY,
        (Kind::NotFound, Subject::Run) => libc::ENOENT,
        (Kind::Damaged, _) | (Kind::NotFound | Kind::Usage | Kind::Conflict, Subject::Version) => libc::EIO,
    }
}

/// The error number of a failed system call.
pub fn errno_of_io(e: std::io::Error) -> i32 {
    e.raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn damage_and_missing_objects_are_eio_but_a_lack_of_descriptors_keeps_its_number() {
        let io = |n| RequestFailure::Store(Error::io("open", Path::new("x"), std::io::Error::from_raw_os_error(n)));
        assert_eq!(RequestFailure::Store(Error::damaged("x")).errno(), libc::EIO);
        assert_eq!(RequestFailure::Store(Error::not_found("x")).errno(), libc::EIO);
        assert_eq!(io(libc::ENOENT).errno(), libc::EIO);
        assert_eq!(io(libc::EMFILE).errno(), libc::EMFILE);
        assert!(io(libc::EMFILE).log_line().is_some());
        assert!(RequestFailure::Stale.log_line().is_none());
    }
}
