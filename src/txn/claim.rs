//! Numbers and the claim: `symlink(".T", NUMBER)`, read-back, patience (L8, L10).

use crate::disk::{self, Created};
use crate::error::{Error, Result, show_path};
use crate::store::Store;
use crate::types::Token;
use std::path::Path;
use std::time::Duration;

/// Who stands at a number after a claim was tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// The token that was claimed for, by this call or an earlier one.
    Own,
    /// Another token.
    Other(Token),
}

/// How often an unknown reply or a name that reads empty is looked at again, and how long between looks.
pub(super) const MAX_ATTEMPTS: u32 = 8;
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Step 6 for one number (ClaimLog, ClaimVersion; then LogTaken, VersionTaken, or LogUnknown, VersionUnknown): claims
/// `number` (a path) for `token`, and says who stands there. Every lost reply is resolved by reading back.
///
/// # Errors
/// I/O: the claim is unknown then, and saying it again is safe. Damaged: something else than a token stands there.
pub fn claim(store: &Store, number: &Path, token: &Token) -> Result<Claimed> {
    let mut last = None;
    for look in 0..MAX_ATTEMPTS {
        match store.disk().claim(&token.record_name(), number) {
            Ok(Created::New) => return Ok(Claimed::Own),
            Ok(Created::Exists) => {}
            Err(e) => last = Some(e),
        }
        if let Some(found) = holder(number)? {
            return Ok(if found == *token { Claimed::Own } else { Claimed::Other(found) });
        }
        std::thread::sleep(RETRY_INTERVAL * look);
    }
    let e = last.unwrap_or_else(|| Error::io_message(format!("{} is taken and cannot be read", show_path(number))));
    Err(e
        .context(format!("cannot tell whether {} was published", show_path(number)))
        .with_hint("say it again: if it was published, that is found out"))
}

/// The token at a number, read FRESH; `None` when the number is free. Only `.` and a token is accepted (L8).
///
/// # Errors
/// Damaged when something else stands there; I/O.
pub fn holder(number: &Path) -> Result<Option<Token>> {
    for look in 0..MAX_ATTEMPTS {
        match read_link_revalidated(number)? {
            None => return Ok(None),
            // A fresh symlink reads empty for a moment on some cluster file systems: again, with patience.
            Some(text) if text.is_empty() => std::thread::sleep(RETRY_INTERVAL * look),
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

/// A symlink's text after its directory was opened; `None` when there is none.
///
/// # Errors
/// Damaged when it is no symlink; I/O.
pub fn read_link_revalidated(path: &Path) -> Result<Option<Vec<u8>>> {
    disk::open_parent(path);
    disk::read_link(path)
}

/// Reads a record file behind a number: what reads missing or torn is read again, FRESH, with patience, then is an
/// error (L10).
///
/// # Errors
/// Damaged; I/O.
pub fn read_record<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    retry_until_consistent(path, || match disk::read_small(path, crate::record::MAX_RECORD)? {
        None => Err(Error::damaged(format!("record {} is missing", show_path(path)))),
        Some(bytes) => crate::record::decode(&bytes, &show_path(path)),
    })
}

/// Reads something behind a number with `read` until it is whole: on shared file systems what was just claimed can read
/// missing, empty or torn for a moment. On a local one nothing heals by waiting, so there is one look.
///
/// # Errors
/// The last look's.
pub fn retry_until_consistent<T>(path: &Path, read: impl Fn() -> Result<T>) -> Result<T> {
    let mut looks = 0;
    loop {
        let error = match read() {
            Err(e) if e.kind() == crate::error::Kind::Damaged => e,
            other => return other,
        };
        looks += 1;
        let parent = path.parent().unwrap_or(path);
        // Where the directory is missing too, what is above it tells the file system.
        let there = parent.ancestors().find(|p| p.is_dir()).unwrap_or(parent);
        if looks == MAX_ATTEMPTS || disk::FsKind::of(there).is_ok_and(disk::FsKind::is_local) {
            return Err(error);
        }
        std::thread::sleep(RETRY_INTERVAL * looks);
        disk::open_parent(path);
    }
}
