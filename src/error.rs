//! The one error type, sorted by what its reader can do about it.
//!
//! An [`Error`] says what was being done, to what, what was expected and what was found. Its [`Kind`] decides the exit
//! status of the commands, its [`Detail`] has the data that a program decides by, its hint is the next step for a
//! person. What led to it is its [source](std::error::Error::source): a chain down to the system's own error.

mod detail;
mod report;
mod show;

pub use detail::{Detail, Holder, Missing};
pub use report::ErrorReport;
#[cfg(feature = "fuse")]
pub(crate) use report::{floor_char_boundary, shorten};
pub use show::{SHOWN, shell_path, shell_word, show_bytes, show_first, show_list, show_path};

use serde::{Deserialize, Serialize};
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

/// `Result` with cairn's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What the reader of an error can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// The request is wrong: change it.
    Usage,
    /// Something is in the way: a conflict, a lock, a finished draft, a differing file. Look again, then decide.
    Conflict,
    /// The store is damaged: `cairn verify` lists where.
    Damaged,
    /// The system failed: the disk is full, a permission is missing, a source changed.
    Io,
    /// The store, artifact, version or path does not exist.
    NotFound,
}

impl Kind {
    /// The exit status of a command that ends with such an error.
    pub fn exit_status(self) -> u8 {
        match self {
            Kind::Usage => 2,
            Kind::Conflict => 3,
            Kind::Damaged => 4,
            Kind::Io => 5,
            Kind::NotFound => 6,
        }
    }
}

/// An error: kind, message, source, causes, hint, detail.
///
/// `{}` shows the message alone, `{:#}` the message and its causes on one line.
///
/// ```
/// use cairn::error::{Error, Kind};
/// use std::error::Error as _;
///
/// let missing = std::io::Error::from_raw_os_error(2);
/// let e = Error::io("read", "/data/a.csv".as_ref(), missing).context("cannot add the file");
/// let e = e.with_hint("check its name");
/// assert_eq!((e.kind(), e.hint()), (Kind::Io, Some("check its name")));
/// assert_eq!(e.to_string(), "cannot add the file");
/// assert_eq!(e.causes()[0], "cannot read /data/a.csv");
/// let system = e.source().and_then(|e| e.source()).unwrap();
/// assert_eq!(system.downcast_ref::<std::io::Error>().unwrap().raw_os_error(), Some(2));
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    source: Option<Source>,
    /// Lines that explain the message and are not errors themselves: one conflict each, one run that is missing.
    lines: Vec<String>,
    hint: Option<String>,
    detail: Option<Detail>,
    errno: Option<i32>,
}

/// What an error comes from.
enum Source {
    Own(Error),
    Other(Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            source: None,
            lines: Vec::new(),
            hint: None,
            detail: None,
            errno: None,
        }))
    }

    /// The request is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Something is in the way.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// The store is damaged.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::new(Kind::Damaged, message).with_hint("`cairn verify` lists what is damaged and what it affects")
    }

    /// Something named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// The system failed, without an error number of its own.
    pub fn io_message(message: impl Into<String>) -> Self {
        Self::new(Kind::Io, message)
    }

    /// A system call failed while doing `action` ("read", "create directory") to `path`.
    pub fn io(action: &str, path: &Path, source: io::Error) -> Self {
        let mut e = Self::new(Kind::Io, format!("cannot {action} {}", show_path(path)));
        e.0.errno = source.raw_os_error();
        e.0.hint = e.0.errno.and_then(next_step).map(str::to_owned);
        e.with_source(source)
    }

    /// Whether a file or directory is missing, damaged or unreadable, and others may still be readable.
    pub(crate) fn is_loss(&self) -> bool {
        self.0.kind == Kind::Damaged || self.is_about_one_file()
    }

    /// Whether the failure concerns one file or directory, so that others may still be readable: a bad sector, a mode,
    /// another type of file. It is false for failures that concern all files: a disk that does not answer, too many
    /// open files.
    pub fn is_about_one_file(&self) -> bool {
        const ALL: [i32; 13] = [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOMEM,
            libc::ENOSPC,
            libc::EDQUOT,
            libc::EINTR,
            libc::ENOTCONN,
            libc::ESHUTDOWN,
            libc::ETIMEDOUT,
            libc::EHOSTDOWN,
            libc::EHOSTUNREACH,
            libc::ESTALE,
            libc::EROFS,
        ];
        self.0.kind == Kind::Io && self.0.errno.is_some_and(|n| !ALL.contains(&n))
    }

    /// The same error with a next step for its reader.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same error with data for programs.
    #[must_use]
    pub fn with_detail(mut self, detail: Detail) -> Self {
        self.0.detail = Some(detail);
        self
    }

    /// The same error as the source of a failure described by `message`. Kind, hint, detail and error number stay.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let mut outer = Error::new(self.0.kind, message);
        outer.0.hint = self.0.hint.take();
        outer.0.errno = self.0.errno;
        outer.0.source = Some(Source::Own(self));
        outer
    }

    /// The same error with the error that it comes from, if it has none yet; else with one more line of explanation.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = source.into();
        if self.0.source.is_some() {
            return self.with_cause(source);
        }
        self.0.source = Some(match source.downcast::<Error>() {
            Ok(own) => Source::Own(*own),
            Err(other) => Source::Other(other),
        });
        self
    }

    /// The same error with one more line of explanation at the end.
    #[must_use]
    pub fn with_cause(mut self, cause: impl fmt::Display) -> Self {
        self.0.lines.push(cause.to_string());
        self
    }

    /// What the reader can do.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What was being done, to what, expected and found.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The messages of the sources, outermost first, and the lines that explain the error.
    pub fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        self.collect_causes(&mut causes);
        causes
    }

    fn collect_causes(&self, causes: &mut Vec<String>) {
        match &self.0.source {
            Some(Source::Own(e)) => {
                causes.push(e.0.message.clone());
                e.collect_causes(causes);
            }
            Some(Source::Other(e)) => {
                let mut next: Option<&dyn StdError> = Some(&**e);
                while let Some(e) = next {
                    causes.push(e.to_string());
                    next = e.source();
                }
            }
            None => {}
        }
        causes.extend(self.0.lines.iter().cloned());
    }

    /// The next step.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Data for programs, its own or that of the nearest source that has some.
    pub fn detail(&self) -> Option<&Detail> {
        match (&self.0.detail, &self.0.source) {
            (Some(detail), _) => Some(detail),
            (None, Some(Source::Own(e))) => e.detail(),
            _ => None,
        }
    }

    /// The system's error number, if a system call failed.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }
}

/// What can be done about a system error.
fn next_step(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::ENOSPC => "free some space there, then run the command again",
        libc::EDQUOT => {
            "the quota there is used up: free some space or have the quota raised, then run the command again"
        }
        libc::EROFS => "that file system is mounted read-only: mount it writable, or use another directory",
        libc::EACCES | libc::EPERM => "this user has no permission there: `ls -ld` shows the owner and the mode",
        libc::EMFILE => {
            "this process may not open more files: raise the limit (`ulimit -n`), then run the command again"
        }
        libc::ENFILE => "this machine may not open more files: raise fs.file-max, then run the command again",
        libc::ENOTCONN => {
            "nothing answers there: if it is a mount whose daemon has died, `cairn umount DIR` (or `umount DIR`) \
             removes it; else check the connection to the disk"
        }
        libc::EIO | libc::ETIMEDOUT | libc::EHOSTDOWN | libc::ESHUTDOWN => {
            "the disk failed or does not answer: check its mount, its cable and the kernel's log (`dmesg`), \
             then run the command again"
        }
        _ => return None,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if f.alternate() {
            for cause in self.causes() {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self:#}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(match self.0.source.as_ref()? {
            Source::Own(e) => e,
            Source::Other(e) => &**e,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_the_sources_and_then_the_explanations() {
        let e = Error::io("rename", Path::new("/a"), io::Error::from_raw_os_error(libc::ENOSPC))
            .with_cause("to /b")
            .context("cannot save")
            .with_cause("nothing was published");
        let causes = e.causes();
        assert_eq!(causes[0], "cannot rename /a");
        assert!(causes[1].contains("No space left"), "{causes:?}");
        assert_eq!(causes[2..], ["to /b", "nothing was published"]);
        assert_eq!((e.kind(), e.errno(), e.to_string().as_str()), (Kind::Io, Some(libc::ENOSPC), "cannot save"));
        assert!(e.hint().is_some_and(|hint| hint.contains("free some space")));
        assert!(format!("{e:#}").ends_with("to /b: nothing was published"));
    }

    #[test]
    fn a_source_of_our_own_keeps_its_causes_and_its_detail() {
        let inner = Error::conflict("held").with_cause("by process 7").with_detail(Detail::Interrupted);
        let outer = Error::io_message("cannot wait").with_source(inner);
        assert_eq!(outer.causes(), ["held", "by process 7"]);
        assert_eq!(outer.detail(), Some(&Detail::Interrupted));
        let second = outer.with_source(io::Error::other("later"));
        assert_eq!(second.causes(), ["held", "by process 7", "later"]);
    }
}
