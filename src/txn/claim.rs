//! The claim of one number: `symlink(".T", NUMBER)`. Unknown replies are resolved by reading back, and what a shared
//! file system shows missing, empty or torn for a moment is read again (L8, L10).

use crate::disk::{self, Created};
use crate::error::{Error, Result, show_path};
use crate::store::Store;
use crate::types::Token;
use std::path::Path;
use std::time::Duration;

/// Which token has a number after a claim was tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// The token that was claimed for, by this call or an earlier one.
    Own,
    /// Another token.
    Other(Token),
}

/// How often an unknown reply, or a name that reads empty, is read again.
pub(super) const MAX_ATTEMPTS: u32 = 8;
/// The wait between two reads; the n-th is n times as long.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Claims `number` (a path) for `token`, and returns which token has it. A lost reply is resolved by reading back. (In
/// the model: ClaimLog, ClaimVersion; then LogTaken, VersionTaken, or LogUnknown, VersionUnknown.)
///
/// # Errors
/// I/O: whether the number was claimed is unknown then, and another try is safe. Damaged: the number does not name a
/// token.
pub fn claim(store: &Store, number: &Path, token: &Token) -> Result<Claimed> {
    let mut last = None;
    for attempt in 0..MAX_ATTEMPTS {
        match store.disk().claim(&token.record_name(), number) {
            Ok(Created::New) => return Ok(Claimed::Own),
            Ok(Created::Exists) => {}
            Err(e) => last = Some(e),
        }
        if let Some(found) = holder(number)? {
            return Ok(if found == *token { Claimed::Own } else { Claimed::Other(found) });
        }
        std::thread::sleep(RETRY_INTERVAL * attempt);
    }
    let e = last.unwrap_or_else(|| Error::io_message(format!("{} is taken and cannot be read", show_path(number))));
    Err(e
        .context(format!("cannot tell whether {} was published", show_path(number)))
        .with_hint("run the command again: it finds out whether it was published"))
}

/// The token at a number, by a revalidated lookup; `None` when the number is free. Only `.` and a token is accepted
/// (L8).
///
/// # Errors
/// Damaged: the number names something else. I/O.
pub fn holder(number: &Path) -> Result<Option<Token>> {
    for attempt in 0..MAX_ATTEMPTS {
        match read_link_revalidated(number)? {
            None => return Ok(None),
            // On some cluster file systems a new symlink reads empty for a moment.
            Some(text) if text.is_empty() => std::thread::sleep(RETRY_INTERVAL * attempt),
            Some(text) => {
                return Token::from_record_name(&text).map(Some).ok_or_else(|| {
                    Error::damaged(format!(
                        "{} is a link to {}, expected a dot and a token",
                        show_path(number),
                        crate::error::show_bytes(&text)
                    ))
                });
            }
        }
    }
    Err(Error::damaged(format!("{} reads empty", show_path(number))))
}

/// [`holder`] as this host sees the number at the moment: `None` if it is free, or if a quick check cannot decide. A
/// number that is seen keeps its token, so only `None` needs a full check.
///
/// # Errors
/// I/O.
pub(super) fn holder_as_seen(number: &Path) -> Result<Option<Token>> {
    Ok(disk::read_link(number)?.and_then(|text| Token::from_record_name(&text)))
}

/// A symlink's text after its directory was opened; `None` when there is none.
///
/// # Errors
/// Damaged: it is not a symlink. I/O.
pub fn read_link_revalidated(path: &Path) -> Result<Option<Vec<u8>>> {
    disk::open_parent(path);
    disk::read_link(path)
}

/// Reads the record file that a number names. One that is missing or torn is read again for a while, with revalidated
/// lookups, before that is an error (L10).
///
/// # Errors
/// Damaged; I/O.
pub fn read_record<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    retry_until_consistent(path, || match disk::read_small(path, crate::record::MAX_RECORD)? {
        None => Err(Error::damaged(format!("record {} is missing", show_path(path)))),
        Some(bytes) => crate::record::decode(&bytes, &show_path(path)),
    })
}

/// Calls `read`, which reads what a number names, until that is whole: on shared file systems a file that was just
/// claimed can be missing, empty or torn for a moment. On a local one waiting changes nothing, so it is read once.
///
/// # Errors
/// Those of the last read.
pub fn retry_until_consistent<T>(path: &Path, read: impl Fn() -> Result<T>) -> Result<T> {
    let mut reads = 0;
    loop {
        let error = match read() {
            Err(e) if e.kind() == crate::error::Kind::Damaged => e,
            other => return other,
        };
        reads += 1;
        let parent = path.parent().unwrap_or(path);
        // If the directory is missing too, the one above it is on the same file system.
        let there = parent.ancestors().find(|p| p.is_dir()).unwrap_or(parent);
        if reads == MAX_ATTEMPTS || disk::FsKind::of(there).is_ok_and(disk::FsKind::is_local) {
            return Err(error);
        }
        std::thread::sleep(RETRY_INTERVAL * reads);
        disk::open_parent(path);
    }
}
