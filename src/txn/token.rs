//! Tokens: one attempt to publish, from `mkdir work/T` to its removal (FORMAT.md, "The claim").
//!
//! A token is committed or fenced by the first symlink at `work/T/outcome`. Before that its owner may end the attempt by
//! fencing itself; after it, it may not (L10).
//!
//! The outcome counts as long as `record` is there too. A token's directory cannot be removed in one step, and in the
//! gap anyone may make another outcome. So `record`, which is made once, before anything is looked up, is removed first.
//! A process that finds it gone believes no outcome, and checks whether the token has a number.

use super::claim;
use crate::disk::{self, Created};
use crate::error::{Error, Result, show_path};
use crate::lock::{LockFile, Purpose};
use crate::store::Store;
use crate::types::{ArtifactName, Token, VersionNumber};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

const COMMIT: &str = "commit";
const FENCED: &str = "fenced";
/// How many tokens are tried before random numbers are said to repeat.
const TOKENS: u32 = 4;
/// How often an ended token's directory is removed before it is left to a collector: each time somebody must have made
/// an outcome in between.
const REMOVALS: u32 = 4;

/// How the commit of a token came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The record is live, and anyone may claim its number for it.
    Committed,
    /// Somebody judged this token dead before it committed: begin again with a new one, and look at everything again.
    Fenced,
    /// The token is gone, and stands at no number that can be seen: begin again as after a fence, but leave the record
    /// to a collector.
    Revoked,
}

/// A token at work. Dropped before its commit, it fences itself and its directory is removed; fenced, its directory is
/// removed.
#[derive(Debug)]
pub struct Txn {
    store: Store,
    token: Token,
    state: State,
    bases: AtomicUsize,
    lock: LockFile,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    AtWork,
    Committed,
    Fenced,
    Ended,
}

impl Txn {
    /// Step 1 (Begin): a fresh token; from now on it may be waited for or fenced. Its record will stand in `records`,
    /// which is noted for helpers and collectors.
    ///
    /// # Errors
    /// Refused when this process may not write to the store; I/O.
    pub fn begin(store: &Store, purpose: &Purpose<'_>, records: &Path) -> Result<Txn> {
        store.check_writable()?;
        for _ in 0..TOKENS {
            let token = Token::fresh();
            let dir = store.layout().token(&token);
            // One that exists was made by this very call, whose reply was lost (L10), or random numbers repeat here. A
            // token is used once, so in either case another is taken; an empty one left behind is a collector's.
            if store.disk().create_dir(&dir)? == Created::Exists {
                continue;
            }
            return match note_record(store, &token, records).and_then(|()| LockFile::take(store, &token, purpose)) {
                Ok(lock) => {
                    Ok(Txn { store: store.clone(), token, state: State::AtWork, bases: AtomicUsize::new(0), lock })
                }
                Err(e) => {
                    let _ = store.disk().remove_file(&store.layout().token_record(&token));
                    let _ = store.disk().remove_dir(&dir);
                    Err(e)
                }
            };
        }
        Err(Error::io_message(format!(
            "{} has every token that was tried: random numbers repeat here",
            show_path(&store.layout().work())
        )))
    }

    /// The token.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// The lock file that names it for people.
    pub fn lock(&self) -> &LockFile {
        &self.lock
    }

    /// Where this token's temporary files go.
    pub fn dir(&self) -> PathBuf {
        self.store.layout().token(&self.token)
    }

    /// Writes down a version that this work relies on, so that nobody frees it; look FRESH afterwards that it is not
    /// removed.
    ///
    /// # Errors
    /// I/O.
    pub fn pin_base(&self, name: &ArtifactName, number: VersionNumber) -> Result<()> {
        let n = self.bases.fetch_add(1, Ordering::Relaxed);
        let text = format!("{name} {number}\n");
        self.store.disk().write_file(self.store.layout().token_base(&self.token, n), text.as_bytes()).map(drop)
    }

    /// Step 5 (Commit): commits, unless fenced. `stands` tells whether the token stands at a number: it is asked when
    /// others have ended it meanwhile.
    ///
    /// # Errors
    /// I/O: whether it is committed is unknown then; the record counts as live.
    pub(super) fn commit(&mut self, stands: impl FnOnce() -> Result<bool>) -> Result<Outcome> {
        let (found, e) = self.decide()?;
        let outcome = if is_noted(&self.store, &self.token)? {
            found.ok_or_else(|| {
                let path = self.store.layout().outcome(&self.token);
                let e =
                    e.unwrap_or_else(|| Error::io_message(format!("{} is there and cannot be read", show_path(&path))));
                e.context("cannot tell whether this was committed")
                    .with_hint("run the command again: if it was published, that is found out")
            })?
        } else if stands()? {
            Outcome::Committed // its reply was lost, and a helper did the rest
        } else {
            Outcome::Revoked
        };
        self.state = match outcome {
            Outcome::Committed => State::Committed,
            Outcome::Fenced | Outcome::Revoked => State::Fenced,
        };
        Ok(outcome)
    }

    /// Makes the outcome, or reads the one that stands there. What a shared file system says to be there and does not
    /// have is made again, as a number is: the symlink decides, however often it is tried. `None`, with the error if
    /// there was one: it cannot be told.
    fn decide(&self) -> Result<(Option<Outcome>, Option<Error>)> {
        let path = self.store.layout().outcome(&self.token);
        for look in 0..claim::MAX_ATTEMPTS {
            let made = self.store.disk().claim(COMMIT, &path);
            if let Ok(Created::New) = made {
                return Ok((Some(Outcome::Committed), None));
            }
            let found = read_outcome(&self.store, &self.token)?;
            if found.is_some() || made.is_err() {
                return Ok((found, made.err()));
            }
            std::thread::sleep(claim::RETRY_INTERVAL * look);
        }
        Ok((None, None))
    }

    /// Step 7's end (End): removes the token's directory. After the claim is durable. What cannot be removed is a
    /// collector's: what was claimed stands all the same, and is acknowledged.
    pub(super) fn end(mut self) {
        self.state = State::Ended;
        let _ = remove_ended(&self.store, &self.token);
    }
}

impl Drop for Txn {
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
    let Some(text) = claim::read_link_revalidated(&path)? else { return Ok(None) };
    match text.as_slice() {
        b"commit" => Ok(Some(Outcome::Committed)),
        b"fenced" => Ok(Some(Outcome::Fenced)),
        _ => Err(Error::damaged(format!("{} says neither commit nor fenced", show_path(&path)))),
    }
}

/// Notes where a token's record will stand, as a path from the store's root.
fn note_record(store: &Store, token: &Token, records: &Path) -> Result<()> {
    let record = records.join(token.record_name());
    let relative = record.strip_prefix(store.root()).expect("records stand in the store");
    let path = store.layout().token_record(token);
    for look in 0..claim::MAX_ATTEMPTS {
        let made = store.disk().claim(relative.to_str().expect("the store's own names are ASCII"), &path)?;
        if made == Created::New || claim::read_link_revalidated(&path)?.is_some() {
            return Ok(());
        }
        std::thread::sleep(claim::RETRY_INTERVAL * look); // said to be there, and is not
    }
    Err(Error::io_message(format!("{} is said to exist and cannot be read", show_path(&path))))
}

/// Whether a token's outcome counts: it has noted where its record stands, and nobody has begun to take it away.
fn is_noted(store: &Store, token: &Token) -> Result<bool> {
    Ok(claim::read_link_revalidated(&store.layout().token_record(token))?.is_some())
}

/// Whether a token was fenced before it could commit. One that was published and then fenced on its way out was not.
///
/// # Errors
/// Damaged; I/O.
pub fn is_fenced(store: &Store, token: &Token) -> Result<bool> {
    Ok(read_outcome(store, token)? == Some(Outcome::Fenced) && is_noted(store, token)?)
}

/// All tokens at work.
///
/// # Errors
/// I/O.
pub fn tokens(store: &Store) -> Result<Vec<Token>> {
    Ok(disk::list(&store.layout().work())?.iter().filter_map(|n| Token::from_text(n.to_str()?)).collect())
}

/// Removes the directory of a token that was fenced, or whose record stands at its number or can never be published.
/// `record` and the rest go first: from then on no outcome counts, so one that is made between the last two steps is
/// removed too.
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
    let mut tries = REMOVALS;
    loop {
        store.disk().remove_file(&outcome)?;
        tries -= 1;
        match store.disk().remove_dir(&dir) {
            Err(_) if tries > 0 => {}
            done => return done,
        }
    }
}
