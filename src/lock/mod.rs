//! Lock files: which process works on what, since when. They are advisory (L13): if any of them is broken, every law
//! still holds.
//!
//! A lock is the file `locks/TOKEN`, JSON that people can read. Its holder keeps an `flock` on the file, so on the same
//! host a free flock means a dead holder. Across hosts the `beat` in the file shows that the holder is alive: it
//! changes every two seconds. An observer judges by whether *it saw the beat change*, timed by its own monotonic clock,
//! and never compares clocks.

mod dead;
mod draft;
mod heartbeat;
mod list;

pub use draft::DraftLock;
pub use heartbeat::HEARTBEAT_INTERVAL;
pub use list::{HolderStatus, Lock, break_lock, held, list, live, of_this_host, remove_dead};
pub(crate) use list::{certainly_dead, is_at_work, judge, remove_all_dead};

use crate::clock;
use crate::error::{Error, Holder, Result};
use crate::locks::Mutex;
use crate::store::Store;
use crate::types::Token;
use heartbeat::Heartbeat;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

/// How often a process that waits for its turn tries again.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// What a lock records about its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LockRecord {
    /// Changes while the holder is alive. Its width is fixed, so that it can be overwritten in place.
    pub beat: String,
    /// What the holder does: `put`, `mount`, `alias`, …
    pub purpose: String,
    /// The artifact it works on.
    pub artifact: Option<String>,
    /// The draft it works on.
    pub draft: Option<String>,
    /// The run it works for.
    pub run: Option<String>,
    /// The version that a mount shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where a mount is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<String>,
    /// The features of stores that a collector takes into account. Releases that do not write them know none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// The host's name.
    pub host: String,
    /// The host's boot. With `host` it shows whether `pid` is a process id of this host since it was booted.
    pub boot_id: String,
    /// The process on that host.
    pub pid: u32,
    /// The process's start in clock ticks since boot, which distinguishes it from a later process with the same pid.
    pub pid_start: u64,
    /// The user.
    pub user: String,
    /// When the lock was taken, by the holder's clock.
    pub since: String,
}

/// What a lock is taken for.
#[derive(Clone, Debug, Default)]
pub struct Purpose<'a> {
    /// `put`, `mount`, …
    pub purpose: &'a str,
    /// The artifact.
    pub artifact: Option<&'a str>,
    /// The draft.
    pub draft: Option<&'a str>,
    /// The run.
    pub run: Option<&'a str>,
    /// The version that a mount shows.
    pub version: Option<String>,
    /// Where a mount is.
    pub mountpoint: Option<String>,
    /// The features that a collector knows.
    pub features: &'a [&'a str],
}

impl LockRecord {
    /// The process that holds the lock, as errors name it.
    pub fn holder(&self) -> Holder {
        Holder::new(&self.purpose, &self.host, self.pid, &self.user, &self.since)
    }

    /// Whether its holder is, or was, a process of this host since the host was booted.
    pub fn is_here(&self) -> bool {
        self.host == host_name() && self.boot_id == boot_id()
    }

    /// Whether this process holds it.
    pub fn is_own(&self) -> bool {
        self.pid == std::process::id() && self.pid_start == own_start() && self.is_here()
    }
}

/// A lock held by this process until it is dropped.
#[derive(Debug)]
pub struct LockFile {
    store: Store,
    path: PathBuf,
    /// A forked child does not remove its parent's lock.
    pid: u32,
    _beat: Heartbeat,
}

impl LockFile {
    /// Takes the lock named by `token`.
    ///
    /// # Errors
    /// I/O.
    pub fn take(store: &Store, token: &Token, purpose: &Purpose<'_>) -> Result<LockFile> {
        LockFile::take_at(store, store.layout().lock(token), purpose)
    }

    /// Takes a lock whose file is elsewhere in the store.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn take_at(store: &Store, path: PathBuf, purpose: &Purpose<'_>) -> Result<LockFile> {
        let record = LockRecord {
            beat: Heartbeat::text(0),
            purpose: purpose.purpose.to_owned(),
            artifact: purpose.artifact.map(str::to_owned),
            draft: purpose.draft.map(str::to_owned),
            run: purpose.run.map(str::to_owned),
            version: purpose.version.clone(),
            mountpoint: purpose.mountpoint.clone(),
            features: purpose.features.iter().map(|feature| (*feature).to_owned()).collect(),
            host: host_name().to_owned(),
            boot_id: boot_id().to_owned(),
            pid: std::process::id(),
            pid_start: own_start(),
            user: user_name(),
            since: clock::now(),
        };
        let mut text = serde_json::to_string_pretty(&record)
            .map_err(|e| Error::io_message("cannot write a lock as JSON").with_source(e))?;
        text.push('\n');
        let file = store.disk().write_file(path.clone(), text.as_bytes())?;
        // SAFETY: the descriptor is open. If the file system has no flock, only the heartbeat shows that the holder is
        // alive.
        unsafe { libc::flock(file.file().as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        let at = text.find(&record.beat).expect("the beat was just written") as u64;
        let beat = Heartbeat::start(file, at, !store.disk().kind().is_local());
        Ok(LockFile { store: store.clone(), path, pid: std::process::id(), _beat: beat })
    }
}

/// A turn to work in a directory, until it is dropped. Processes that take turns don't waste work on attempts that
/// fail. It is only advisory: after `patience`, or where locks don't work, the process continues without a turn.
#[derive(Debug)]
pub struct AdvisoryTurn(Option<std::fs::File>);

impl AdvisoryTurn {
    /// Waits until no other process has a turn.
    pub fn exclusive(dir: &std::path::Path, patience: Duration) -> AdvisoryTurn {
        AdvisoryTurn::wait(dir, libc::LOCK_EX, patience)
    }

    /// Waits until no process has an exclusive turn. Several processes may have a shared turn at once.
    pub fn shared(dir: &std::path::Path, patience: Duration) -> AdvisoryTurn {
        AdvisoryTurn::wait(dir, libc::LOCK_SH, patience)
    }

    fn wait(dir: &std::path::Path, how: i32, patience: Duration) -> AdvisoryTurn {
        let patience = patience.min(LONGEST_WAIT.get_or_init(longest_wait).unwrap_or(patience));
        let Ok(file) = crate::disk::open_dir(dir) else { return AdvisoryTurn(None) };
        let begun = std::time::Instant::now();
        loop {
            // SAFETY: the descriptor is open.
            if unsafe { libc::flock(file.as_raw_fd(), how | libc::LOCK_NB) } == 0 {
                return AdvisoryTurn(Some(file));
            }
            let busy = std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock;
            if !busy || begun.elapsed() >= patience {
                return AdvisoryTurn(None);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Whether this process got its turn.
    pub fn is_mine(&self) -> bool {
        self.0.is_some()
    }
}

/// For tests in which the process that has the turn is stopped: `CAIRN_PATIENCE`, in milliseconds, limits every wait
/// for a turn.
static LONGEST_WAIT: OnceLock<Option<Duration>> = OnceLock::new();

fn longest_wait() -> Option<Duration> {
    let set = cfg!(debug_assertions).then(|| std::env::var("CAIRN_PATIENCE").ok()).flatten();
    set.and_then(|ms| ms.parse().ok()).map(Duration::from_millis)
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            return;
        }
        // If the file stays, its free flock and its resting beat show that it is dead.
        let _ = self.store.disk().remove_file(&self.path);
    }
}

/// This host's name.
pub fn host_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| read_line("/proc/sys/kernel/hostname").unwrap_or_else(|| "unknown".into()))
}

fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| read_line("/proc/sys/kernel/random/boot_id").unwrap_or_default())
}

fn user_name() -> String {
    let from_environment = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    from_environment
        .unwrap_or_else(|_| crate::disk::own_name().unwrap_or_else(|| format!("uid {}", crate::disk::own_uid())))
}

/// A running process's start time in clock ticks since boot: field 22 of its `stat`. A zombie is not running.
fn process_start(pid: u32) -> Option<u64> {
    let stat = read_proc(&format!("/proc/{pid}/stat"))?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// When this process began; read once, and again after a fork.
fn own_start() -> u64 {
    static ASKED: Mutex<Option<(u32, u64)>> = Mutex::of_process(None, || None);
    let pid = std::process::id();
    let mut asked = ASKED.lock();
    match *asked {
        Some((asked, start)) if asked == pid => start,
        _ => asked.insert((pid, process_start(pid).unwrap_or(0))).1,
    }
}

fn read_line(path: &str) -> Option<String> {
    Some(read_proc(path)?.trim().to_owned())
}

/// A short file of the kernel, read at once.
fn read_proc(path: &str) -> Option<String> {
    let mut text = [0; 4096];
    let n = std::fs::File::open(path).ok()?.read(&mut text).ok()?;
    String::from_utf8(text[..n].to_vec()).ok()
}
