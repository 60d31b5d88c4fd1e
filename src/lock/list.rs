//! Looking at locks: who holds what, and whether the holder lives.

use super::{HEARTBEAT_INTERVAL, LockFile, LockRecord, dead, process_start};
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::types::Token;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long who came first of several waits for the others to go, and how often it looks.
const GIVE_WAY: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Whether a lock's holder was seen alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolderStatus {
    /// Its flock is held on this host, or its beat was seen to move.
    Live,
    /// On this host, and its flock is free and its process gone; or, elsewhere, its beat was seen to rest for longer
    /// than a live one can.
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
    /// What it says; `None` when it cannot be read as a lock.
    pub record: Option<LockRecord>,
    /// Whether its holder was seen alive.
    pub life: HolderStatus,
}

/// All locks. Takes some seconds when one is held on another host, since its beat must be watched; a dead one is
/// remembered.
///
/// # Errors
/// I/O.
pub fn list(store: &Store) -> Result<Vec<Lock>> {
    list_of(store, |_| true)
}

/// The live holders of locks that `wanted` wants. Takes some seconds when one of those is held on another host; a dead
/// one is remembered.
///
/// # Errors
/// I/O.
pub fn live(store: &Store, wanted: impl Fn(&LockRecord) -> bool) -> Result<Vec<LockRecord>> {
    let locks = list_of(store, |record| record.is_some_and(&wanted))?;
    Ok(locks.into_iter().filter(|l| l.life == HolderStatus::Live).filter_map(|l| l.record).collect())
}

impl LockFile {
    /// Who else lives and holds a lock that `wanted` wants. Who is told of nobody has looked after taking its own lock,
    /// so of two that exclude each other so, one at most is. When several take theirs at the same moment, the one whose
    /// file has the lowest name waits a second for the others to go, and those are told at once: one of them is left.
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
            let Some(first) = judged.into_iter().find(|l| l.life == HolderStatus::Live) else { return Ok(None) };
            if first.path < self.path || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(first.record);
            }
            until.get_or_insert_with(|| Instant::now() + GIVE_WAY);
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

/// The locks that processes of this host have taken since it was started. None of them must be watched, so this takes
/// no time.
///
/// # Errors
/// I/O.
pub fn of_this_host(store: &Store) -> Result<Vec<Lock>> {
    judge_those(store, &lock_files(store)?, |record| record.is_some_and(LockRecord::is_here))
}

/// The holders of locks that `wanted` wants, but for those of this host that are dead. Those of other hosts are not
/// watched, so this takes no time.
///
/// # Errors
/// I/O.
pub fn held(store: &Store, wanted: impl Fn(&LockRecord) -> bool) -> Result<Vec<LockRecord>> {
    let locks = look_at(&lock_files(store)?, |record| record.is_some_and(&wanted))?;
    Ok(locks.into_iter().filter(|l| l.life != Some(HolderStatus::Dead)).filter_map(|l| l.record).collect())
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

/// Those of these lock files that are there, each with whether its holder lives.
///
/// # Errors
/// I/O.
pub(crate) fn judge(store: &Store, paths: &[PathBuf]) -> Result<Vec<Lock>> {
    judge_those(store, paths, |_| true)
}

fn judge_those(store: &Store, paths: &[PathBuf], wanted: impl Fn(Option<&LockRecord>) -> bool) -> Result<Vec<Lock>> {
    let mut seen = look_at(paths, wanted)?;
    watch(store, &mut seen)?;
    let judged = |seen: Seen| {
        let id = seen.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Lock { id, path: seen.path, record: seen.record, life: seen.life.unwrap_or(HolderStatus::Dead) }
    };
    Ok(seen.into_iter().map(judged).collect())
}

/// Watches the counters of holders on other hosts: until each has moved, or for as long as a live one may seem to rest.
fn watch(store: &Store, seen: &mut [Seen]) -> Result<()> {
    let until = Instant::now() + patience(store);
    for one in seen.iter_mut().filter(|s| s.life.is_none()) {
        if one.record.as_ref().is_some_and(|r| dead::is_noted(&one.path, &r.beat)) {
            one.life = Some(HolderStatus::Dead);
        }
    }
    while seen.iter().any(|s| s.life.is_none()) && Instant::now() < until {
        std::thread::sleep(HEARTBEAT_INTERVAL / 4);
        for one in seen.iter_mut().filter(|s| s.life.is_none()) {
            match read(&one.path)? {
                None => one.life = Some(HolderStatus::Dead), // it is gone
                Some(Some(now)) if one.record.as_ref().is_none_or(|before| before.beat != now.beat) => {
                    one.life = Some(HolderStatus::Live)
                }
                Some(_) => {}
            }
        }
    }
    for one in seen.iter_mut().filter(|s| s.life.is_none()) {
        one.life = Some(HolderStatus::Dead);
        if let Some(record) = &one.record {
            dead::note(store, &one.path, &record.beat);
        }
    }
    Ok(())
}

/// How long a counter is watched before its holder counts as dead. On a shared disk a beat takes a way over the
/// network, and this host may show the file as it was for as long as its mount says.
fn patience(store: &Store) -> Duration {
    if store.disk().kind().is_local() {
        return 3 * HEARTBEAT_INTERVAL;
    }
    let cached = store.client_cache().map_or(Duration::ZERO, |cached| cached.min(store.cache_bound()));
    cached + 5 * HEARTBEAT_INTERVAL
}

/// A lock file at one look.
struct Seen {
    path: PathBuf,
    record: Option<LockRecord>,
    /// `None`: the holder is on another host, where only its beat tells.
    life: Option<HolderStatus>,
}

fn look_at(paths: &[PathBuf], wanted: impl Fn(Option<&LockRecord>) -> bool) -> Result<Vec<Seen>> {
    let mut all = Vec::new();
    for path in paths {
        let Some(record) = read(path)?.filter(|record| wanted(record.as_ref())) else { continue };
        let Some(held) = is_held(path) else { continue };
        let here = record.as_ref().is_none_or(LockRecord::is_here);
        let running = record.as_ref().is_some_and(|r| here && process_start(r.pid) == Some(r.pid_start));
        let life = if held || running { Some(HolderStatus::Live) } else { here.then_some(HolderStatus::Dead) };
        all.push(Seen { path: path.clone(), record, life });
    }
    Ok(all)
}

/// Removes a lock file, whoever holds it, and gives its id, of which the beginning is enough. Its holder goes on;
/// nothing true changes (L13).
///
/// # Errors
/// Not found; usage: several begin so. I/O.
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
    let path = store.layout().locks().join(token.as_str());
    dead::forget(store, &path);
    store.disk().remove_file(&path)?;
    Ok(token.to_string())
}

/// Removes those of `locks` that are certainly dead, and leaves the others in the list: taken on this host since it was
/// booted, on a file system that no other host sees, whose process is gone. (Elsewhere a holder may live and only look
/// dead.)
///
/// # Errors
/// I/O.
pub fn remove_dead(store: &Store, locks: &mut Vec<Lock>) -> Result<usize> {
    if !store.disk().kind().is_local() {
        return Ok(0);
    }
    let (dead, rest): (Vec<Lock>, Vec<Lock>) = locks
        .drain(..)
        .partition(|l| l.life == HolderStatus::Dead && l.record.as_ref().is_some_and(LockRecord::is_here));
    *locks = rest;
    dead.iter().try_for_each(|lock| store.disk().remove_file(&lock.path))?;
    Ok(dead.len())
}

/// Removes the locks of dead processes of this host, and those that a process died while writing. On a file system that
/// other hosts see, none.
///
/// # Errors
/// I/O.
pub(crate) fn remove_all_dead(store: &Store) -> Result<()> {
    if !store.disk().kind().is_local() {
        return Ok(());
    }
    let locks = judge_those(store, &lock_files(store)?, |record| record.is_none_or(LockRecord::is_here))?;
    let mut dead = locks.iter().filter(|lock| lock.life == HolderStatus::Dead && Token::of_text(&lock.id).is_some());
    dead.try_for_each(|lock| store.disk().remove_file(&lock.path))
}

/// A lock's record, `Some(None)` when it cannot be read as one, or not by this user; `None` when it is gone.
fn read(path: &Path) -> Result<Option<Option<LockRecord>>> {
    match disk::read_small(path, 1 << 16) {
        Err(e) if e.kind() == Kind::Damaged || is_denied(e.errno()) => Ok(Some(None)),
        read => Ok(read?.map(|bytes| serde_json::from_slice(&bytes).ok())),
    }
}

fn is_denied(errno: Option<i32>) -> bool {
    matches!(errno, Some(libc::EACCES | libc::EPERM))
}

/// Whether a lock's flock is held; `None` when it is gone. One that this user may not open counts as held: nothing
/// tells that it is not.
fn is_held(path: &Path) -> Option<bool> {
    let (file, _) = match disk::open_file(path) {
        Err(e) if is_denied(e.errno()) => return Some(true),
        opened => opened.ok()??,
    };
    // SAFETY: the descriptor is open. A shared lock that we get shows that nobody holds the exclusive one; it goes with
    // the file.
    let free = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } == 0;
    Some(!free && std::io::Error::last_os_error().raw_os_error() == Some(libc::EWOULDBLOCK))
}
