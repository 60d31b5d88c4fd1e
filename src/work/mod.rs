//! Tokens: one attempt to publish, from `mkdir work/T` to its removal (FORMAT.md, "The claim").
//!
//! A token is committed or fenced by the first symlink that stands at `work/T/outcome`; before that it may give up by fencing
//! itself, after it there is no giving up (L10). What is claimed, and where, is decided in [`claim`].

pub mod claim;

use crate::disk::{self, Created};
use crate::error::{Error, Result, show_path};
use crate::lock::{LockFile, Purpose};
use crate::store::Store;
use crate::words::{ArtifactName, Token, VersionNumber};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

const COMMIT: &str = "commit";
const FENCED: &str = "fenced";
/// How many tokens are tried before random numbers are said to repeat.
const TOKENS: u32 = 4;
/// How often a token that has ended may be fenced before its leftovers are left to a collector.
const FENCES: u32 = 8;

/// How the commit of a token came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The record is live, and anyone may claim its number for it.
    Committed,
    /// Somebody judged this token dead before it committed: begin again with a new one, and look at everything again.
    Fenced,
}

/// A token at work. Dropped before its commit, it fences itself and its directory is removed; fenced, its directory is removed.
#[derive(Debug)]
pub struct Work {
    store: Store,
    token: Token,
    state: State,
    bases: AtomicUsize,
    _lock: LockFile,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    AtWork,
    Committed,
    Fenced,
    Ended,
}

impl Work {
    /// Step 1: a fresh token; from now on it may be waited for or fenced.
    ///
    /// # Errors
    /// Refused when this process may not write to the store; I/O.
    pub fn begin(store: &Store, purpose: &Purpose<'_>) -> Result<Work> {
        store.check_writable()?;
        for _ in 0..TOKENS {
            let token = Token::fresh();
            let dir = store.layout().token(&token);
            // One that exists was made by this very call, whose reply was lost (L10), or random numbers repeat here. A token is used
            // once, so in either case another is taken; an empty one left behind is a collector's.
            if store.disk().create_dir(&dir)? == Created::Exists {
                continue;
            }
            return match LockFile::take(store, &token, purpose) {
                Ok(lock) => Ok(Work { store: store.clone(), token, state: State::AtWork, bases: AtomicUsize::new(0), _lock: lock }),
                Err(e) => {
                    let _ = store.disk().remove_dir(&dir);
                    Err(e)
                }
            };
        }
        Err(Error::io_message(format!("{} has every token that was tried: random numbers repeat here", show_path(&store.layout().work()))))
    }

    /// The token.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Where this token's temporary files go.
    pub fn dir(&self) -> PathBuf {
        self.store.layout().token(&self.token)
    }

    /// Writes down a version that this work relies on, so that nobody frees it; look FRESH afterwards that it is not removed.
    ///
    /// # Errors
    /// I/O.
    pub fn rely_on(&self, name: &ArtifactName, number: VersionNumber) -> Result<()> {
        let n = self.bases.fetch_add(1, Ordering::Relaxed);
        let text = format!("{name} {number}\n");
        self.store.disk().write_file(self.store.layout().token_base(&self.token, n), text.as_bytes()).map(drop)
    }

    /// Notes where the record stands (a path from the store's root), for helpers and gc. Before [`Work::commit`].
    ///
    /// # Errors
    /// I/O.
    pub fn note_record(&self, record: &Path) -> Result<()> {
        let relative = record.strip_prefix(self.store.root()).expect("records stand in the store");
        self.store.disk().claim(relative.to_str().expect("the store's own names are ASCII"), &self.store.layout().token_record(&self.token)).map(drop)
    }

    /// Step 5: commits, unless fenced.
    ///
    /// # Errors
    /// I/O: whether it is committed is unknown then; the record counts as live.
    pub fn commit(&mut self) -> Result<Outcome> {
        let path = self.store.layout().outcome(&self.token);
        let first = self.store.disk().claim(COMMIT, &path);
        let outcome = match first {
            Ok(Created::New) => Outcome::Committed,
            Ok(Created::Exists) | Err(_) => match (read_outcome(&self.store, &self.token)?, first) {
                (Some(outcome), _) => outcome,
                // Nothing stands there: it did not happen, unless a helper published it already and removed the token's directory.
                (None, first) => {
                    let e = first.err().unwrap_or_else(|| Error::io_message(format!("{} is there and cannot be read", show_path(&path))));
                    return Err(e.while_doing("cannot tell whether this was committed").hint("say it again: if it was published, that is found out"));
                }
            },
        };
        self.state = if outcome == Outcome::Committed { State::Committed } else { State::Fenced };
        Ok(outcome)
    }

    /// Step 7's end: removes the token's directory. After the claim is durable. What cannot be removed is a collector's: what was
    /// claimed stands all the same, and is acknowledged.
    pub fn end(mut self) {
        self.state = State::Ended;
        let _ = remove_ended(&self.store, &self.token);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        match self.state {
            State::Ended => {}
            // Claimed or not, it is no longer ours to take back; a helper or gc ends it.
            State::Committed => {}
            // Leftovers are gc's.
            State::Fenced => drop(remove_ended(&self.store, &self.token)),
            State::AtWork => {
                // Not through `claim`: giving up publishes nothing, so a poisoned handle may do it too.
                let _ = self.store.disk().symlink(FENCED.as_bytes(), &self.store.layout().outcome(&self.token));
                if read_outcome(&self.store, &self.token).is_ok_and(|o| o == Some(Outcome::Fenced)) {
                    let _ = remove_ended(&self.store, &self.token);
                }
            }
        }
    }
}

/// What stands at a token's outcome.
///
/// # Errors
/// Damaged when it is neither `commit` nor `fenced`; I/O.
pub fn read_outcome(store: &Store, token: &Token) -> Result<Option<Outcome>> {
    let path = store.layout().outcome(token);
    let Some(text) = claim::read_link_fresh(&path)? else { return Ok(None) };
    match text.as_slice() {
        b"commit" => Ok(Some(Outcome::Committed)),
        b"fenced" => Ok(Some(Outcome::Fenced)),
        _ => Err(Error::damaged(format!("{} says neither commit nor fenced", show_path(&path)))),
    }
}

/// All tokens at work.
///
/// # Errors
/// I/O.
pub fn tokens(store: &Store) -> Result<Vec<Token>> {
    Ok(disk::list(&store.layout().work())?.iter().filter_map(|n| Token::from_text(n.to_str()?)).collect())
}

/// Removes the directory of a token that was fenced, or whose record stands at its number or can never be published. The outcome goes
/// last: if this is cut off, nobody finds a record through a token that looks as if it could still be fenced.
///
/// # Errors
/// I/O.
pub(crate) fn remove_ended(store: &Store, token: &Token) -> Result<()> {
    let dir = store.layout().token(token);
    let outcome = store.layout().outcome(token);
    for name in disk::list(&dir)? {
        let path = dir.join(name);
        if path != outcome {
            store.disk().remove_tree(&path)?;
        }
    }
    // Who believed it dead may fence it between these two: what it leaves is removed as well, so that nothing looks fenced that stands at a number.
    for _ in 0..FENCES {
        store.disk().remove_file(&outcome)?;
        match store.disk().remove_dir(&dir) {
            Err(e) if e.errno() == Some(libc::ENOTEMPTY) => {}
            other => return other,
        }
    }
    store.disk().remove_dir(&dir)
}
