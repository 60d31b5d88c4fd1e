//! Looking at locks: who holds what, and whether the holder lives.

use super::{BEAT, LockRecord, boot_id, host_name, process_start};
use crate::disk;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::words::Token;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Whether a lock's holder was seen alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its flock is held on this host, or its beat was seen to move.
    Live,
    /// On this host, and its flock is free and its process gone; or, elsewhere, its beat rested for three beats.
    Dead,
}

impl Life {
    /// `live` or `dead`.
    pub fn as_str(self) -> &'static str {
        match self {
            Life::Live => "live",
            Life::Dead => "dead",
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
    pub life: Life,
}

/// All locks. Takes three beats when one is held on another host, since its beat must be watched.
///
/// # Errors
/// I/O.
pub fn list(store: &Store) -> Result<Vec<Lock>> {
    list_of(store, |_| true)
}

/// The live holders of locks that `wanted` wants. Takes three beats when one of those is held on another host.
///
/// # Errors
/// I/O.
pub fn live(store: &Store, wanted: impl Fn(&LockRecord) -> bool) -> Result<Vec<LockRecord>> {
    let locks = list_of(store, |record| record.is_some_and(&wanted))?;
    Ok(locks.into_iter().filter(|l| l.life == Life::Live).filter_map(|l| l.record).collect())
}

pub(super) fn list_of(store: &Store, wanted: impl Fn(Option<&LockRecord>) -> bool) -> Result<Vec<Lock>> {
    let dir = store.layout().locks();
    let paths: Vec<PathBuf> = disk::list(&dir)?.into_iter().map(|name| dir.join(name)).collect();
    let mut locks = judge_those(&paths, wanted)?;
    locks.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(locks)
}

/// Those of these lock files that are there, each with whether its holder lives.
///
/// # Errors
/// I/O.
pub(crate) fn judge(paths: &[PathBuf]) -> Result<Vec<Lock>> {
    judge_those(paths, |_| true)
}

fn judge_those(paths: &[PathBuf], wanted: impl Fn(Option<&LockRecord>) -> bool) -> Result<Vec<Lock>> {
    let mut locks = Vec::new();
    let mut watched = Vec::new();
    for path in paths {
        let Some((record, held)) = read(path)?.filter(|(record, _)| wanted(record.as_ref())) else { continue };
        let here = record.as_ref().is_none_or(|r| r.host == host_name() && r.boot_id == boot_id());
        let running = record.as_ref().is_some_and(|r| here && process_start(r.pid) == Some(r.pid_start));
        let life = if held || running { Life::Live } else { Life::Dead };
        if !here && life == Life::Dead {
            watched.push(locks.len());
        }
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        locks.push(Lock { id, path: path.clone(), record, life });
    }
    if !watched.is_empty() {
        std::thread::sleep(3 * BEAT);
        for i in watched {
            let now = read(&locks[i].path)?.and_then(|(r, _)| r);
            if now.is_some() && now.map(|r| r.beat) != locks[i].record.as_ref().map(|r| r.beat.clone()) {
                locks[i].life = Life::Live;
            }
        }
    }
    Ok(locks)
}

/// Removes a lock file, whoever holds it. Its holder goes on; nothing true changes (L13).
///
/// # Errors
/// Not found; I/O.
pub fn break_lock(store: &Store, id: &str) -> Result<()> {
    let token = Token::from_text(id).ok_or_else(|| Error::usage(format!("`{id}` is no lock's id")).hint("`cairn locks` lists them"))?;
    let path = store.layout().locks().join(token.as_str());
    if disk::look_fresh(&path)?.is_none() {
        return Err(Error::not_found(format!("there is no lock {id}")).hint("`cairn locks` lists them"));
    }
    store.disk().remove_file(&path)
}

/// A lock's record and whether its flock is held; `None` when it is gone.
fn read(path: &Path) -> Result<Option<(Option<LockRecord>, bool)>> {
    let Some(bytes) = disk::read_small(path, 1 << 16)? else { return Ok(None) };
    let Ok(file) = std::fs::File::open(path) else { return Ok(None) };
    // SAFETY: the descriptor is open. A shared lock that we get shows that nobody holds the exclusive one; it goes with the file.
    let free = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } == 0;
    let held = !free && std::io::Error::last_os_error().raw_os_error() == Some(libc::EWOULDBLOCK);
    Ok(Some((serde_json::from_slice(&bytes).ok(), held)))
}
