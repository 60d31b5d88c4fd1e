//! Lists locks: who holds what, and whether the holder is alive.

use super::{HEARTBEAT_INTERVAL, LockFile, LockRecord, dead, process_start};
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::types::Token;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the process with the lowest lock-file name waits for its competitors to leave, and how often it checks.
const GIVE_WAY: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Whether a lock's holder is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolderStatus {
    /// Its flock is held on this host, or its heartbeat counter changed while it was watched.
    Live,
    /// On this host: its flock is free and its process is gone. On another host: its heartbeat counter did not change
    /// for longer than a live holder's can rest.
    Dead,
}

impl HolderStatus {
    /// `live` or `dead`.
    pub fn as_str(self) -> &'static str {
        match self {
            HolderStatus::Live => "live",
            HolderStatus::Dead => "dead",
        }
    }
}

/// One lock file.
#[derive(Clone, Debug)]
pub struct Lock {
    /// The file's name.
    pub id: String,
    /// The file.
    pub path: PathBuf,
    /// Its content; `None` if it cannot be read as a lock.
    pub record: Option<LockRecord>,
    /// Whether its holder was seen alive.
    pub status: HolderStatus,
}

/// All locks. If one is held on another host, this takes some seconds, because its heartbeat must be watched. A lock
/// found dead is noted, so the next call doesn't watch it.
///
/// # Errors
/// I/O.
pub fn list(store: &Store) -> Result<Vec<Lock>> {
    list_of(store, |_| true)
}

/// The live holders of the locks that `wanted` selects. If one of them is on another host, this takes some seconds. A
/// lock found dead is noted, so the next call doesn't watch it.
///
/// # Errors
/// I/O.
pub fn live(store: &Store, wanted: impl Fn(&LockRecord) -> bool) -> Result<Vec<LockRecord>> {
    let locks = list_of(store, |record| record.is_some_and(&wanted))?;
    Ok(locks.into_iter().filter(|l| l.status == HolderStatus::Live).filter_map(|l| l.record).collect())
}

impl LockFile {
    /// Another live holder of a lock that `wanted` selects, or `None`. Call it only after taking your own lock: of two
    /// competing holders at most one then gets `None`. If several processes race, the one with the lowest lock-file
    /// name waits up to 1 s for the others to leave. The others get a holder at once, so one of the processes is left.
    ///
    /// # Errors
    /// I/O.
    pub fn competing_holder(&self, wanted: impl Fn(&LockRecord) -> bool) -> Result<Option<LockRecord>> {
        let mut until = None;
        loop {
            let mut others = lock_files(&self.store)?;
            others.retain(|path| *path != self.path);
            others.sort();
            let judged = judge_those(&self.store, &others, |record| record.is_some_and(&wanted))?;
            let Some(first) = judged.into_iter().find(|l| l.status == HolderStatus::Live) else { return Ok(None) };
            if first.path < self.path || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(first.record);
            }
            until.get_or_insert_with(|| Instant::now() + GIVE_WAY);
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

/// The locks that processes of this host have taken since it was booted. None of them needs to be watched, so this is
/// fast.
///
/// # Errors
/// I/O.
pub fn of_this_host(store: &Store) -> Result<Vec<Lock>> {
    judge_those(store, &lock_files(store)?, |record| record.is_some_and(LockRecord::is_here))
}

/// The holders of the locks that `wanted` selects, without dead holders on this host. Locks of other hosts are not
/// watched, so this is fast, and their holders may be dead.
///
/// # Errors
/// I/O.
pub fn held(store: &Store, wanted: impl Fn(&LockRecord) -> bool) -> Result<Vec<LockRecord>> {
    let locks = look_at(&lock_files(store)?, |record| record.is_some_and(&wanted))?;
    Ok(locks.into_iter().filter(|l| l.status != Some(HolderStatus::Dead)).filter_map(|l| l.record).collect())
}

fn lock_files(store: &Store) -> Result<Vec<PathBuf>> {
    let dir = store.layout().locks();
    let mut names = disk::list(&dir)?;
    names.retain(|name| !dead::is_note(name));
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

fn list_of(store: &Store, wanted: impl Fn(Option<&LockRecord>) -> bool) -> Result<Vec<Lock>> {
    let mut locks = judge_those(store, &lock_files(store)?, wanted)?;
    locks.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(locks)
}

/// The lock files among `paths` that exist, each with its holder's status.
///
/// # Errors
/// I/O.
pub(crate) fn judge(store: &Store, paths: &[PathBuf]) -> Result<Vec<Lock>> {
    judge_those(store, paths, |_| true)
}

/// The locks among `paths` whose holders are certainly dead: see [`remove_dead`].
///
/// # Errors
/// I/O.
pub(crate) fn certainly_dead(store: &Store, paths: &[PathBuf]) -> Result<Vec<Lock>> {
    if !store.disk().kind().is_local() {
        return Ok(Vec::new());
    }
    let mut locks = judge_those(store, paths, |record| record.is_some_and(LockRecord::is_here))?;
    locks.retain(|lock| lock.status == HolderStatus::Dead);
    Ok(locks)
}

fn judge_those(store: &Store, paths: &[PathBuf], wanted: impl Fn(Option<&LockRecord>) -> bool) -> Result<Vec<Lock>> {
    let mut seen = look_at(paths, wanted)?;
    watch(store, &mut seen)?;
    let judged = |seen: Seen| {
        let id = seen.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Lock { id, path: seen.path, record: seen.record, status: seen.status.unwrap_or(HolderStatus::Dead) }
    };
    Ok(seen.into_iter().map(judged).collect())
}

/// Watches the counters of holders on other hosts until each has changed, or for the longest time that a live one may
/// seem to rest.
fn watch(store: &Store, seen: &mut [Seen]) -> Result<()> {
    let until = Instant::now() + patience(store);
    for one in seen.iter_mut().filter(|s| s.status.is_none()) {
        if one.record.as_ref().is_some_and(|r| dead::is_noted(&one.path, &r.beat)) {
            one.status = Some(HolderStatus::Dead);
        }
    }
    while seen.iter().any(|s| s.status.is_none()) && Instant::now() < until {
        std::thread::sleep(HEARTBEAT_INTERVAL / 4);
        for one in seen.iter_mut().filter(|s| s.status.is_none()) {
            match read(&one.path)? {
                None => one.status = Some(HolderStatus::Dead), // it is gone
                Some(Some(now)) if one.record.as_ref().is_none_or(|before| before.beat != now.beat) => {
                    one.status = Some(HolderStatus::Live)
                }
                Some(_) => {}
            }
        }
    }
    for one in seen.iter_mut().filter(|s| s.status.is_none()) {
        one.status = Some(HolderStatus::Dead);
        if let Some(record) = &one.record {
            dead::note(store, &one.path, &record.beat);
        }
    }
    Ok(())
}

/// How long a counter is watched before its holder counts as dead. On a shared disk a heartbeat crosses the network,
/// and this host may show the file's old content for as long as its mount options allow.
fn patience(store: &Store) -> Duration {
    if store.disk().kind().is_local() {
        return 3 * HEARTBEAT_INTERVAL;
    }
    let cached = store.client_cache().map_or(Duration::ZERO, |cached| cached.min(store.cache_bound()));
    cached + 5 * HEARTBEAT_INTERVAL
}

/// A lock file as one read found it.
struct Seen {
    path: PathBuf,
    record: Option<LockRecord>,
    /// `None`: the holder is on another host, and only its heartbeat shows whether it is alive.
    status: Option<HolderStatus>,
}

fn look_at(paths: &[PathBuf], wanted: impl Fn(Option<&LockRecord>) -> bool) -> Result<Vec<Seen>> {
    let mut all = Vec::new();
    for path in paths {
        let Some(record) = read(path)?.filter(|record| wanted(record.as_ref())) else { continue };
        let Some(held) = is_held(path) else { continue };
        let here = record.as_ref().is_none_or(LockRecord::is_here);
        let running = record.as_ref().is_some_and(|r| here && process_start(r.pid) == Some(r.pid_start));
        let status = if held || running { Some(HolderStatus::Live) } else { here.then_some(HolderStatus::Dead) };
        all.push(Seen { path: path.clone(), record, status });
    }
    Ok(all)
}

/// Removes a lock file, even if its holder is alive, and returns the lock's whole id. A beginning of the id is enough.
/// The holder continues; what it writes stays correct, because locks are advisory (L13).
///
/// # Errors
/// Not found; usage, if several ids begin like this; I/O.
pub fn break_lock(store: &Store, id: &str) -> Result<String> {
    let hint = "`cairn locks` lists them";
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::usage(format!("`{id}` is not a lock's id, nor the beginning of one")).with_hint(hint));
    }
    let names = disk::list(&store.layout().locks())?;
    let tokens =
        names.iter().filter_map(|name| Token::of_text(name.to_str()?)).filter(|token| token.as_str().starts_with(id));
    let found: Vec<Token> = tokens.collect();
    let [token] = found.as_slice() else {
        return Err(match found.len() {
            0 => Error::not_found(format!("there is no lock {id}")).with_hint(hint),
            n => Error::usage(format!("{n} locks begin with {id}")).with_hint("give more of the id"),
        });
    };
    let path = store.layout().lock(token);
    dead::forget(store, &path);
    store.disk().remove_file(&path)?;
    Ok(token.to_string())
}

/// Removes those of `locks` that are certainly dead, and leaves the others in the list. Certainly dead means: taken on
/// this host since it was booted, on a file system that no other host sees, by a process that is gone. (On other file
/// systems a holder may be alive and only look dead.)
///
/// # Errors
/// I/O.
pub fn remove_dead(store: &Store, locks: &mut Vec<Lock>) -> Result<usize> {
    remove_dead_of(store, locks, |lock| lock.record.as_ref().is_some_and(LockRecord::is_here))
}

/// Removes the locks of dead processes of this host, and lock files whose process died while writing them. On a file
/// system that other hosts see, it removes none.
///
/// # Errors
/// I/O.
pub(crate) fn remove_all_dead(store: &Store) -> Result<()> {
    if !store.disk().kind().is_local() {
        return Ok(()); // without judging them, which takes seconds
    }
    let mut locks = judge_those(store, &lock_files(store)?, |record| record.is_none_or(LockRecord::is_here))?;
    remove_dead_of(store, &mut locks, |lock| Token::of_text(&lock.id).is_some()).map(drop)
}

/// Removes the dead ones among `locks` that `wanted` selects, on a file system that no other host sees.
fn remove_dead_of(store: &Store, locks: &mut Vec<Lock>, wanted: impl Fn(&Lock) -> bool) -> Result<usize> {
    if !store.disk().kind().is_local() {
        return Ok(0);
    }
    let is_dead = |lock: &mut Lock| lock.status == HolderStatus::Dead && wanted(lock);
    let dead: Vec<Lock> = locks.extract_if(.., is_dead).collect();
    dead.iter().try_for_each(|lock| store.disk().remove_file(&lock.path))?;
    Ok(dead.len())
}

/// A lock's record; `Some(None)` if it is not readable as a record or not by this user; `None` if the file is gone.
fn read(path: &Path) -> Result<Option<Option<LockRecord>>> {
    match disk::read_small(path, 1 << 16) {
        Err(e) if e.kind() == Kind::Damaged || is_denied(e.errno()) => Ok(Some(None)),
        read => Ok(read?.map(|bytes| serde_json::from_slice(&bytes).ok())),
    }
}

fn is_denied(errno: Option<i32>) -> bool {
    matches!(errno, Some(libc::EACCES | libc::EPERM))
}

/// Whether this host sees that the owner of a token is at work: its lock's flock is held. An owner on another host, or
/// one whose lock was broken, may be at work too.
pub(crate) fn is_at_work(store: &Store, token: &Token) -> bool {
    is_held(&store.layout().lock(token)) == Some(true)
}

/// Whether a lock's flock is held; `None` if the file is gone. If this user may not open the file, it counts as held,
/// because nothing shows that it is free.
fn is_held(path: &Path) -> Option<bool> {
    let (file, _) = match disk::open_file(path) {
        Err(e) if is_denied(e.errno()) => return Some(true),
        opened => opened.ok()??,
    };
    // SAFETY: the descriptor is open. If we get a shared lock, no process holds the exclusive one; closing the file
    // releases ours.
    let free = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } == 0;
    Some(!free && std::io::Error::last_os_error().raw_os_error() == Some(libc::EWOULDBLOCK))
}
