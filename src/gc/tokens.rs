//! Tokens at work while a batch is in the trash. Each has ended before anything of the batch is freed: by itself, or
//! fenced because its holder is dead. A token that began later looks for its content after the batch was moved.

use super::report::TokenOfOther;
use super::roots::artifact_of;
use crate::clock;
use crate::commit;
use crate::disk;
use crate::error::Result;
use crate::lock::{self, HEARTBEAT_INTERVAL, HolderStatus, LockRecord, Purpose};
use crate::progress::Progress;
use crate::store::{KNOWN_TO_COLLECTORS, Store};
use crate::txn::{self, Outcome};
use crate::types::Token;
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// How often a token that is waited for is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// On a local file system, a process needs less than this from its token to its lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

/// The tokens that were at work, by what happened to them.
#[derive(Default)]
pub(super) struct Settled {
    /// Holders that are alive. What they rely on is not known yet.
    pub waits_for: Vec<LockRecord>,
    /// Tokens that this user may not end, or whose lock this user may not read.
    pub of_others: Vec<TokenOfOther>,
    /// Tokens that committed and are not ended, with the path of the record: roots of the second mark.
    pub committed: Vec<(Token, PathBuf)>,
    /// Stopped, or refused a number, with the path of the record that they never publish.
    pub fenced: Vec<(Token, Option<PathBuf>)>,
}

impl Settled {
    /// Whether no token is at work any more.
    pub(super) fn is_complete(&self) -> bool {
        self.waits_for.is_empty() && self.of_others.is_empty()
    }
}

/// A token that is still at work, as far as this user can say.
struct AtWork {
    token: Token,
    holder: Option<LockRecord>,
    /// Its holder is dead, and this user may not fence it.
    needs_other: bool,
}

/// Where a token is.
enum At {
    Ended,
    Work,
    Committed(PathBuf),
    Fenced(Option<PathBuf>),
}

fn at(store: &Store, token: &Token) -> Result<At> {
    if disk::lstat_revalidated(&store.layout().token(token))?.is_none() {
        return Ok(At::Ended);
    }
    let outcome = txn::read_outcome(store, token)?;
    let record = txn::record_path(store, token)?;
    Ok(match (outcome, record) {
        (None, _) => At::Work,
        (Some(Outcome::Committed), Some(record)) => At::Committed(record),
        // Without its record an outcome does not count: the owner is about to remove the token.
        (Some(_), record) => At::Fenced(record),
    })
}

/// Settles every token that is at work now: helps what committed, fences what is dead, and waits for the rest if `wait`
/// says so.
///
/// # Errors
/// If anything cannot be read, the collection ends. A conflict, if it was cancelled.
pub(super) fn settle(store: &Store, wait: bool, progress: &Progress) -> Result<Settled> {
    let mut settled = Settled::default();
    let mut at_work = Vec::new();
    for token in txn::tokens(store)? {
        at_work.extend(sort(store, token, &mut settled)?);
    }
    let mut alive = judge(store, at_work, &mut settled)?;
    // Waiting does not help where another user must act.
    while wait && alive.iter().any(|at_work| !at_work.needs_other) {
        progress.check_cancelled()?;
        std::thread::sleep(POLL_INTERVAL);
        let mut waiting = Vec::new();
        for AtWork { token, .. } in alive {
            waiting.extend(sort(store, token, &mut settled)?);
        }
        // If a holder died meanwhile, its token is fenced.
        alive = judge(store, waiting, &mut settled)?;
    }
    for AtWork { token, holder, needs_other } in alive {
        match holder {
            Some(holder) if !needs_other => settled.waits_for.push(holder),
            holder => settled.of_others.extend(of_other(store, &token, holder, !needs_other)?),
        }
    }
    Ok(settled)
}

/// What can be said about a token; `None`: it ended.
fn of_other(store: &Store, token: &Token, holder: Option<LockRecord>, is_alive: bool) -> Result<Option<TokenOfOther>> {
    let directory = store.layout().token(token);
    let Some(meta) = disk::lstat(&directory)? else { return Ok(None) };
    let (owner, since) = (disk::show_user(meta.uid()), clock::show(meta.mtime()));
    Ok(Some(TokenOfOther { directory, owner, since, holder, is_alive }))
}

/// Adds a token to those that it belongs to, or returns it if it is still at work.
fn sort(store: &Store, token: Token, settled: &mut Settled) -> Result<Option<Token>> {
    match at(store, &token)? {
        At::Ended => {}
        At::Work => return Ok(Some(token)),
        At::Committed(record) => help(store, token, record, settled)?,
        At::Fenced(record) => settled.fenced.push((token, record)),
    }
    Ok(None)
}

/// Publishes what a committed token has not published yet. If its holder is dead and its number is another's, it never
/// will be published. A token that is still there otherwise is a root.
fn help(store: &Store, token: Token, path: PathBuf, settled: &mut Settled) -> Result<()> {
    let Some(name) = artifact_of(store, &path) else { return Ok(()) };
    let is_refused = commit::recover(store, &name)?.contains(&token);
    let layout = store.layout();
    let with_content = [layout.versions(&name), layout.drafts(&name), layout.removed(&name)];
    let names_content = with_content.iter().any(|dir| path.starts_with(dir));
    if (is_refused || !names_content) && !is_alive(store, &token)? {
        // An alias or a note that its holder did not live to publish is not published by others. Its record stays: the
        // holder may only look dead.
        settled.fenced.push((token, is_refused.then_some(path)));
    } else {
        settled.committed.push((token, path));
    }
    Ok(())
}

fn is_alive(store: &Store, token: &Token) -> Result<bool> {
    Ok(!alive_among(store, [token])?.is_empty())
}

/// Those of the tokens whose locks are held.
///
/// # Errors
/// I/O.
pub(super) fn alive_among<'a>(store: &Store, tokens: impl IntoIterator<Item = &'a Token>) -> Result<HashSet<Token>> {
    let mut tokens: Vec<Token> = tokens.into_iter().cloned().collect();
    if tokens.is_empty() {
        return Ok(HashSet::new());
    }
    let locks = locks_of(store, &tokens)?;
    let is_live =
        |token: &Token| locks.get(&store.layout().lock(token)).is_some_and(|l| l.status == HolderStatus::Live);
    tokens.retain(is_live);
    Ok(tokens.into_iter().collect())
}

/// Fences those whose holders are dead. Returns the others with their holders.
fn judge(store: &Store, tokens: Vec<Token>, settled: &mut Settled) -> Result<Vec<AtWork>> {
    if tokens.is_empty() {
        return Ok(Vec::new());
    }
    let path = |token: &Token| store.layout().lock(token);
    let mut locks = locks_of(store, &tokens)?;
    if tokens.iter().any(|token| !locks.contains_key(&path(token))) {
        // A holder makes its token first and its lock a moment later. If a token has no lock after that, its holder
        // died in between, or a user broke the lock, and the holder starts over with a new token.
        std::thread::sleep(if store.disk().kind().is_local() { LOCK_INTERVAL } else { HEARTBEAT_INTERVAL });
        locks = locks_of(store, &tokens)?;
    }
    let mut alive = Vec::new();
    for token in tokens {
        let lock = locks.remove(&path(&token));
        if lock.as_ref().is_some_and(|lock| lock.status == HolderStatus::Live) {
            alive.push(AtWork { token, holder: lock.and_then(|lock| lock.record), needs_other: false });
            continue;
        }
        match txn::fence(store, &token) {
            Ok(()) => match at(store, &token)? {
                At::Ended => {}
                At::Work => alive.push(AtWork { token, holder: None, needs_other: false }),
                At::Committed(record) => help(store, token, record, settled)?,
                At::Fenced(record) if lock.as_ref().is_some_and(|lock| lock.record.is_some()) => {
                    settled.fenced.push((token, record))
                }
                // Its holder may be alive and about to take its lock. It finds the fence when it commits. A later
                // collection removes what it leaves.
                At::Fenced(_) => {}
            },
            // If this user may not fence a token, nothing may be freed before another user does.
            Err(e) if matches!(e.errno(), Some(libc::EACCES | libc::EPERM)) => {
                alive.push(AtWork { token, holder: lock.and_then(|lock| lock.record), needs_other: true });
            }
            Err(e) => return Err(e),
        }
    }
    Ok(alive)
}

fn locks_of(store: &Store, tokens: &[Token]) -> Result<HashMap<PathBuf, lock::Lock>> {
    let paths: Vec<_> = tokens.iter().map(|token| store.layout().lock(token)).collect();
    Ok(lock::judge(store, &paths)?.into_iter().map(|lock| (lock.path.clone(), lock)).collect())
}

/// What the locks of a collection say.
pub(super) fn purpose() -> Purpose<'static> {
    Purpose { purpose: "gc", features: &KNOWN_TO_COLLECTORS, ..Purpose::default() }
}
