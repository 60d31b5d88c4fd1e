//! Tokens: one attempt to publish, from `mkdir work/T` to its removal (FORMAT.md, "The claim").
//!
//! A token is committed or fenced by the first symlink at `work/T/outcome`. Before that its owner may end the attempt
//! by fencing itself; after it, it may not (L10).
//!
//! The outcome counts as long as `record` is there too. A token's directory cannot be removed in one step, and in the
//! gap anyone may make another outcome. So `record`, which is made once, before anything is looked up, is removed
//! first. A process that finds it gone believes no outcome, and checks whether the token has a number.

use super::claim;
use crate::disk::{self, Created};
use crate::error::{Error, Result, show_path};
use crate::lock::{LockFile, Purpose};
use crate::store::Store;
use crate::types::{ArtifactName, Token, VersionNumber};
use std::cell::Cell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const COMMIT: &str = "commit";
const FENCED: &str = "fenced";
/// How many tokens that exist are tried before random numbers are taken to repeat.
const TOKENS: u32 = 4;
/// How many tokens that collections end before their locks are made are tried. On a busy machine a process may be
/// stopped for long between the two, several times.
const ENDED_TOKENS: u32 = 100;
/// If a process needs less than this from its token to its lock, no two collections, one that fences the token and one
/// that removes it, can have run in between. If they did, its next step fails, and nothing is published.
const SURE_TO_BE_SEEN: Duration = Duration::from_millis(5);
/// How often the removal of an ended token's directory is tried before it is left to a collector. Each time another
/// process must have made an outcome in between.
const REMOVALS: u32 = 4;

/// The outcome of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The record is live, and anyone may claim its number for it.
    Committed,
    /// Another process judged this token dead before it committed: begin again with a new one, and look everything up
    /// again.
    Fenced,
    /// The token is gone, and has no number that can be seen: begin again as after a fence, but leave the record to a
    /// collector.
    Revoked,
}

/// An open transaction: a token, its directory `work/T` and its lock file. If it is dropped before its commit, it
/// fences itself and removes its directory; if it was fenced, it removes its directory.
#[derive(Debug)]
pub struct Txn {
    store: Store,
    token: Token,
    state: State,
    bases: AtomicUsize,
    lock: LockFile,
}

/// What came of one token's try.
enum Begun {
    Txn(Box<Txn>),
    /// The token existed.
    Exists,
    /// A collection ended it before its lock was made.
    Ended,
}

thread_local! {
    static LOST: Cell<u64> = const { Cell::new(0) };
}

/// How many transactions of this thread were dropped before they tried to commit, after another process had ended them.
/// Nothing of them was or will be published.
pub(super) fn lost_on_this_thread() -> u64 {
    LOST.get()
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    AtWork,
    /// It tried to commit, and the outcome is not known.
    Committing,
    Committed,
    Fenced,
    Ended,
}

impl Txn {
    /// C1 (Begin): makes a fresh token. From now on other processes may wait for it or fence it. Its record will be
    /// in the directory `records`, which is noted for helpers and collectors.
    ///
    /// # Errors
    /// Conflict: this process may not write to the store. I/O.
    pub fn begin(store: &Store, purpose: &Purpose<'_>, records: &Path) -> Result<Txn> {
        store.check_writable()?;
        let (mut existing, mut ended) = (0, 0);
        while existing < TOKENS && ended < ENDED_TOKENS {
            match Txn::try_begin(store, purpose, records)? {
                Begun::Txn(txn) => return Ok(*txn),
                Begun::Exists => existing += 1,
                Begun::Ended => ended += 1,
            }
        }
        Err(Error::io_message(format!(
            "of the tokens that were tried in {}, {existing} existed, and garbage collections removed {ended} before \
             their locks were made",
            show_path(&store.layout().work())
        ))
        .with_hint("run the command again; if that does not help, random numbers repeat on this host"))
    }

    /// One token's try.
    fn try_begin(store: &Store, purpose: &Purpose<'_>, records: &Path) -> Result<Begun> {
        let begun = Instant::now();
        let token = Token::fresh();
        let dir = store.layout().token(&token);
        // If it exists, this very call made it and its reply was lost (L10), or random numbers repeat here. A token
        // is used once, so in either case another one is made. A collector removes the empty directory.
        if store.disk().create_dir(&dir)? == Created::Exists {
            return Ok(Begun::Exists);
        }
        // If this process is stopped before it has its lock, it looks dead: collectors fence its token and remove it.
        match note_record(store, &token, records).and_then(|()| LockFile::take(store, &token, purpose)) {
            Ok(lock) => {
                let txn = Txn { store: store.clone(), token, state: State::AtWork, bases: AtomicUsize::new(0), lock };
                let is_ended = begun.elapsed() >= SURE_TO_BE_SEEN && is_ended(store, &txn.token)?;
                Ok(if is_ended { Begun::Ended } else { Begun::Txn(Box::new(txn)) })
            }
            Err(_) if is_ended(store, &token).unwrap_or(false) => {
                let _ = remove_ended(store, &token);
                Ok(Begun::Ended)
            }
            Err(e) => {
                let _ = store.disk().remove_file(&store.layout().token_record(&token));
                let _ = store.disk().remove_dir(&dir);
                Err(e)
            }
        }
    }

    /// The token.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// The lock file that shows it to people.
    pub fn lock(&self) -> &LockFile {
        &self.lock
    }

    /// The directory of this token's temporary files.
    pub fn dir(&self) -> PathBuf {
        self.store.layout().token(&self.token)
    }

    /// Notes a version that this transaction relies on, so that no collector frees it. Check afterwards, with a
    /// revalidated lookup, that it is not removed.
    ///
    /// # Errors
    /// I/O.
    pub fn pin_base(&self, name: &ArtifactName, number: VersionNumber) -> Result<()> {
        let n = self.bases.fetch_add(1, Ordering::Relaxed);
        let text = format!("{name} {number}\n");
        self.store.disk().write_file(self.store.layout().token_base(&self.token, n), text.as_bytes()).map(drop)
    }

    /// C5 (Commit): commits, unless the token is fenced. `is_claimed` says whether the token has a number: it is
    /// asked if other processes have ended the token meanwhile.
    ///
    /// # Errors
    /// I/O: whether it is committed is unknown then; the record counts as live.
    pub(super) fn commit(&mut self, is_claimed: impl FnOnce() -> Result<bool>) -> Result<Outcome> {
        self.state = State::Committing;
        let (found, e) = self.decide()?;
        let outcome = if is_noted(&self.store, &self.token)? {
            found.ok_or_else(|| {
                let path = self.store.layout().outcome(&self.token);
                let e =
                    e.unwrap_or_else(|| Error::io_message(format!("{} is there and cannot be read", show_path(&path))));
                e.context("cannot tell whether this was committed")
                    .with_hint("run the command again: it finds out whether it was published")
            })?
        } else if is_claimed()? {
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

    /// Makes the outcome, or reads the existing one. If a shared file system says that there is one and does not have
    /// it, it is made again, as a number is: the symlink decides, however often it is tried. `None`, with the error if
    /// there was one: the outcome is unknown.
    fn decide(&self) -> Result<(Option<Outcome>, Option<Error>)> {
        let path = self.store.layout().outcome(&self.token);
        for attempt in 0..claim::MAX_ATTEMPTS {
            let made = self.store.disk().claim(COMMIT, &path);
            if let Ok(Created::New) = made {
                return Ok((Some(Outcome::Committed), None));
            }
            let found = read_outcome(&self.store, &self.token)?;
            if found.is_some() || made.is_err() {
                return Ok((found, made.err()));
            }
            std::thread::sleep(claim::RETRY_INTERVAL * attempt);
        }
        Ok((None, None))
    }

    /// Whether another process has ended it: it fenced it, has begun to remove it, or has removed it.
    fn is_lost(&self, is_fenced: bool) -> bool {
        is_fenced || is_noted(&self.store, &self.token).is_ok_and(|is_noted| !is_noted)
    }

    /// The end of C7 (End): removes the token's directory, once the claim is durable. If that fails, a collector
    /// does it: the record is published, and is acknowledged.
    pub(super) fn end(mut self) {
        self.state = State::Ended;
        let _ = remove_links(&self.store, &self.token).or_else(|_| remove_ended(&self.store, &self.token));
    }
}

impl Drop for Txn {
    fn drop(&mut self) {
        match self.state {
            State::Ended => {}
            // Claimed or not, its owner can no longer withdraw it; a helper or a collector ends it.
            State::Committed => {}
            // What remains is a collector's.
            State::Fenced => drop(remove_ended(&self.store, &self.token)),
            State::AtWork | State::Committing => {
                // Not through `claim`: fencing publishes nothing, so a poisoned handle may do it too.
                let path = self.store.layout().outcome(&self.token);
                let is_own = self.store.disk().symlink(FENCED.as_bytes(), &path).is_ok_and(|made| made == Created::New);
                let is_fenced = read_outcome(&self.store, &self.token).is_ok_and(|o| o == Some(Outcome::Fenced));
                if self.state == State::AtWork && self.is_lost(is_fenced && !is_own) {
                    LOST.set(LOST.get() + 1);
                }
                if is_fenced {
                    let _ = remove_ended(&self.store, &self.token);
                }
            }
        }
    }
}

/// A token's outcome; `None` when it has none yet.
///
/// # Errors
/// Damaged: it is neither `commit` nor `fenced`. I/O.
pub fn read_outcome(store: &Store, token: &Token) -> Result<Option<Outcome>> {
    let path = store.layout().outcome(token);
    let Some(text) = claim::read_link_revalidated(&path)? else { return Ok(None) };
    match text.as_slice() {
        b"commit" => Ok(Some(Outcome::Committed)),
        b"fenced" => Ok(Some(Outcome::Fenced)),
        _ => Err(Error::damaged(format!("{} is neither `commit` nor `fenced`", show_path(&path)))),
    }
}

/// Notes where a token's record will be, as a path from the store's root.
fn note_record(store: &Store, token: &Token, records: &Path) -> Result<()> {
    let record = records.join(token.record_name());
    let relative = record.strip_prefix(store.root()).expect("records are in the store");
    let path = store.layout().token_record(token);
    for attempt in 0..claim::MAX_ATTEMPTS {
        let made = store.disk().claim(relative.to_str().expect("the store's own names are ASCII"), &path)?;
        if made == Created::New || claim::read_link_revalidated(&path)?.is_some() {
            return Ok(());
        }
        std::thread::sleep(claim::RETRY_INTERVAL * attempt); // reported as existing, and cannot be read
    }
    Err(Error::io_message(format!("{} is reported as existing and cannot be read", show_path(&path))))
}

/// Whether a token that has just begun was fenced or removed.
fn is_ended(store: &Store, token: &Token) -> Result<bool> {
    let is_gone = disk::lstat_revalidated(&store.layout().token(token))?.is_none();
    Ok(is_gone || read_outcome(store, token)?.is_some())
}

/// Whether a token's outcome counts: the token has noted where its record is, and no process has begun to remove it.
fn is_noted(store: &Store, token: &Token) -> Result<bool> {
    Ok(record_path(store, token)?.is_some())
}

/// Whether a token was fenced before it could commit. A token that was published, and fenced while it was being
/// removed, was not.
///
/// # Errors
/// Damaged; I/O.
pub fn is_fenced(store: &Store, token: &Token) -> Result<bool> {
    Ok(read_outcome(store, token)? == Some(Outcome::Fenced) && is_noted(store, token)?)
}

/// Where a token's record is or will be; `None` once the token is being removed, or before it has noted that.
///
/// # Errors
/// I/O.
pub(crate) fn record_path(store: &Store, token: &Token) -> Result<Option<PathBuf>> {
    let relative = claim::read_link_revalidated(&store.layout().token_record(token))?;
    Ok(relative.map(|relative| store.root().join(OsStr::from_bytes(&relative))))
}

/// Stops a token that has no outcome yet: its holder was judged dead. A live holder finds the fence when it commits,
/// and begins again with another token.
///
/// # Errors
/// I/O. [`read_outcome`] and [`is_fenced`] say what the outcome is.
pub(crate) fn fence(store: &Store, token: &Token) -> Result<()> {
    match store.disk().claim(FENCED, &store.layout().outcome(token)) {
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(()), // it ended
        made => made.map(drop),
    }
}

/// The versions that a token relies on; none when it has ended.
///
/// # Errors
/// Damaged; I/O.
pub(crate) fn bases(store: &Store, token: &Token) -> Result<Vec<(ArtifactName, VersionNumber)>> {
    let dir = store.layout().token(token);
    let names = match disk::list(&dir) {
        Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(Vec::new()),
        names => names?,
    };
    let mut out = Vec::new();
    for name in names.iter().filter(|name| name.as_encoded_bytes().starts_with(b"base-")) {
        let path = dir.join(name);
        let Some(bytes) = disk::read_small(&path, 1 << 12)? else { continue };
        let text = String::from_utf8(bytes).unwrap_or_default();
        // One that is being written is not relied on yet.
        let Some((name, number)) = text.strip_suffix('\n').and_then(|line| line.split_once(' ')) else { continue };
        if let (Ok(name), Some(number)) = (ArtifactName::parse(name), VersionNumber::of_text(number)) {
            out.push((name, number));
        }
    }
    Ok(out)
}

/// All open tokens.
///
/// # Errors
/// I/O.
pub fn tokens(store: &Store) -> Result<Vec<Token>> {
    Ok(disk::list(&store.layout().work())?.iter().filter_map(|n| Token::of_text(n.to_str()?)).collect())
}

/// [`remove_ended`] for a directory that has nothing but `record` and `outcome`, as most have: it need not be listed.
fn remove_links(store: &Store, token: &Token) -> Result<()> {
    let (layout, disk) = (store.layout(), store.disk());
    disk.remove_file(&layout.token_record(token))?;
    disk.remove_file(&layout.outcome(token))?;
    disk.remove_dir(&layout.token(token))
}

/// Removes the directory of a token that was fenced, or whose record has its number or can never be published.
/// `record` and the rest are removed first: from then on no outcome counts, so one that is made between the last two
/// steps is removed too.
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
