//! One error type, sorted by what its reader can do about it.
//!
//! An [`Error`] says what was being done, to what, what was expected and what was found; the causes stand apart, and so
//! does the hint (the next step). Its [`Kind`] decides the exit status of the commands.

use std::fmt;
use std::path::Path;

/// `Result` with cairn's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What the reader of an error can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request itself is wrong: say it differently.
    Usage,
    /// A guard refused: a conflict, a lock, something in the way. Reading again and retrying may help.
    Conflict,
    /// The store is damaged: `cairn verify` says where.
    Damaged,
    /// The system failed: disk full, permission, a source that changed.
    Io,
    /// The artifact, version or path does not exist.
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

/// An error: kind, message, causes, hint.
///
/// ```
/// use cairn::error::{Error, Kind};
/// let e = Error::usage("alias `v3` is not allowed: it looks like a version").with_hint("choose a word");
/// assert_eq!(e.kind(), Kind::Usage);
/// assert_eq!(e.hint(), Some("choose a word"));
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    errno: Option<i32>,
}

impl Error {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), causes: Vec::new(), hint: None, errno: None }))
    }

    /// An error that another process told, as it was there.
    pub fn of_kind(kind: Kind, message: impl Into<String>) -> Self {
        Self::new(kind, message)
    }

    /// The request is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// A guard refused.
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
    pub fn io(action: &str, path: &Path, source: std::io::Error) -> Self {
        let mut e = Self::new(Kind::Io, format!("cannot {action} {}", show_path(path)));
        e.0.errno = source.raw_os_error();
        e.0.hint = e.0.errno.and_then(next_step).map(str::to_owned);
        e.0.causes.push(source.to_string());
        e
    }

    /// Whether the system failed at one file or directory, so that others may be readable: a bad sector, a mode,
    /// something else in its place. Not when it failed at all of them: a disk that does not answer, too many open
    /// files.
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

    /// The same error as the cause of a failure described by `message`.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let below = std::mem::replace(&mut self.0.message, message.into());
        self.0.causes.insert(0, below);
        self
    }

    /// The same error with one more cause at the end.
    #[must_use]
    pub fn with_cause(mut self, cause: impl fmt::Display) -> Self {
        self.0.causes.push(cause.to_string());
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

    /// The causes, outermost first.
    pub fn causes(&self) -> &[String] {
        &self.0.causes
    }

    /// The next step.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
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
        libc::EROFS => "that file system is mounted read-only: mount it writable, or use another place",
        libc::EACCES | libc::EPERM => "this user has no permission there: `ls -ld` shows the owner and the mode",
        libc::EMFILE => {
            "this process may not open more files: raise the limit (`ulimit -n`), then run the command again"
        }
        libc::ENFILE => "this machine may not open more files: raise fs.file-max, then run the command again",
        libc::ENOTCONN => {
            "nothing answers there: if it is a mount whose daemon has died, `cairn umount DIR` (or `umount DIR`) removes it; \
             else look at the disk's connection"
        }
        libc::EIO | libc::ETIMEDOUT | libc::EHOSTDOWN | libc::ESHUTDOWN => {
            "the disk failed or does not answer: look at its mount, its cable and the kernel's log (`dmesg`), then run the command again"
        }
        _ => return None,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for cause in &self.0.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {}

/// A path for people: control bytes and what is not UTF-8 escaped, so that a message stays one line.
pub fn show_path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    show_bytes(path.as_os_str().as_bytes())
}

/// The first ten of a list for a message, and how many more there are: `a, b`, or `a, …, j and 5 more`.
pub fn show_list<T: fmt::Display>(items: &[T]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<String> = items.iter().take(SHOWN).map(T::to_string).collect();
    let more = items.len() - shown.len();
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// Raw name bytes for people, as [`show_path`] shows a path.
pub fn show_bytes(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    if out.is_empty() { "``".into() } else { out }
}
