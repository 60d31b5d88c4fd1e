//! The cairn mounts of this host: from the mount table, and from lock files and staging directories of their stores.

use crate::catalog::stage::stages;
use crate::disk;
use crate::lock::{self, HolderStatus, LockRecord};
use crate::mount;
use crate::staging::{self, mounted_at};
use crate::store::Store;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// How long to wait for a mount's answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a mount answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It answers.
    Answers,
    /// Its daemon has ended: all requests fail.
    Dead,
    /// It has not answered within two seconds.
    Silent,
}

impl Health {
    /// `ok`, `dead` or `no answer`.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Answers => "ok",
            Health::Dead => "dead",
            Health::Silent => "no answer",
        }
    }
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shows {
    /// All versions of the store.
    Store,
    /// One version: its artifact and number.
    Version(String, String),
    /// A run's staging directory: artifact, draft, run.
    Stage(String, String, String),
    /// Unknown: the daemon may not write to the store, or the store cannot be read.
    Unknown,
}

/// A mount.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MountInfo {
    /// Where it is.
    pub mountpoint: PathBuf,
    /// The store.
    pub store: PathBuf,
    /// What it shows.
    pub shows: Shows,
    /// Where its daemon mounted it, if this is a copy: a bind mount.
    pub copy_of: Option<PathBuf>,
    /// The mounting user.
    pub user: Option<String>,
    /// Since when, by this host's clock.
    pub since: Option<String>,
    /// The daemon's process id.
    pub pid: Option<u32>,
    /// Whether it answers.
    pub health: Health,
}

/// The cairn mounts of this mount namespace, without the companion mounts of whole-store mounts.
pub fn mounts() -> Vec<MountInfo> {
    let all = mount::all_here();
    let asked: Vec<_> = all.iter().map(|(at, _)| ask(at.clone())).collect();
    let mut stores: HashMap<PathBuf, StoreRecords> = HashMap::new();
    let (mut found, mut companions) = (Vec::new(), Vec::new());
    for ((at, source), answer) in all.into_iter().zip(asked) {
        let records = stores.entry(source.clone()).or_insert_with(|| StoreRecords::of(&source));
        let (mut shows, mut record, mut life) = records.at(&at);
        let answer = answer.recv_timeout(TIMEOUT).unwrap_or_default();
        companions.extend(answer.companion);
        let mut copy_of = None;
        if shows == Shows::Unknown
            && let Some((original, served)) = answer.daemon.and_then(|pid| records.of_daemon(pid))
        {
            (shows, record, life) = served;
            copy_of = Some(original);
        }
        let health = answer.health;
        // A user who may not enter a mount does not see by itself that it is dead.
        let health = if life == Some(HolderStatus::Dead) { Health::Dead } else { health };
        found.push(MountInfo {
            mountpoint: at,
            store: source,
            shows,
            copy_of,
            user: record.as_ref().map(|r| r.user.clone()),
            since: record.as_ref().map(|r| r.since.clone()),
            pid: record.map(|r| r.pid),
            health,
        });
    }
    found.retain(|m| !companions.contains(&m.mountpoint));
    found
}

/// What a mount answers.
struct Answer {
    health: Health,
    /// Where its companion is.
    companion: Option<PathBuf>,
    /// The process id of its daemon.
    daemon: Option<u32>,
}

impl Default for Answer {
    /// No answer.
    fn default() -> Answer {
        Answer { health: Health::Silent, companion: None, daemon: None }
    }
}

/// Asks a mount. A thread does it, because an answer may never come.
fn ask(at: PathBuf) -> mpsc::Receiver<Answer> {
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        let dead = matches!(disk::space(&at), Err(e) if matches!(e.errno(), Some(libc::ENOTCONN | libc::ECONNABORTED)));
        let answer = if dead {
            Answer { health: Health::Dead, ..Answer::default() }
        } else {
            let companion = mount::companion_of(&at).map(|(companion, _)| companion);
            Answer { health: Health::Answers, companion, daemon: mount::daemon_pid(&at) }
        };
        drop(sender.send(answer));
    };
    // If no thread can be started, the mount counts as silent.
    drop(std::thread::Builder::new().name("mounts".into()).spawn(work));
    receiver
}

/// What a store records about the mounts of this host.
#[derive(Default)]
struct StoreRecords {
    locks: Vec<(LockRecord, HolderStatus)>,
    /// The staging directories and where they are mounted.
    stages: Vec<(PathBuf, String, String, String)>,
}

impl StoreRecords {
    fn of(root: &Path) -> StoreRecords {
        let Ok(store) = Store::open(root) else { return StoreRecords::default() };
        let locks = lock::of_this_host(&store).unwrap_or_default();
        let locks = locks.into_iter().filter_map(|l| Some((l.record?, l.status))).collect();
        let staged = stages(&store).unwrap_or_default().into_iter().filter_map(|s| {
            let at = mounted_at(&store, s.token()).ok()??;
            Some((at, s.record.artifact.to_string(), s.record.distributed_id.to_string(), s.record.run.id.to_string()))
        });
        StoreRecords { locks, stages: staged.collect() }
    }

    /// What a daemon serves and where it mounted that. The record of a run has no mount point: its stage names it.
    fn of_daemon(&self, pid: u32) -> Option<(PathBuf, (Shows, Option<LockRecord>, Option<HolderStatus>))> {
        let of_it = self.locks.iter().map(|(record, _)| record).filter(|r| r.pid == pid);
        let mounted = of_it.clone().find_map(|r| r.mountpoint.as_ref().map(PathBuf::from));
        let staged = || {
            self.stages.iter().find_map(|(at, artifact, draft, run)| {
                let names = (Some(artifact.as_str()), Some(draft.as_str()), Some(run.as_str()));
                let mut own = of_it.clone().filter(|r| r.purpose == staging::PURPOSE);
                own.any(|r| (r.artifact.as_deref(), r.draft.as_deref(), r.run.as_deref()) == names).then(|| at.clone())
            })
        };
        let original = mounted.or_else(staged)?;
        let served = self.at(&original);
        Some((original, served))
    }

    fn at(&self, at: &Path) -> (Shows, Option<LockRecord>, Option<HolderStatus>) {
        if let Some((_, artifact, draft, run)) = self.stages.iter().find(|(place, ..)| place == at) {
            let of = (Some(artifact.as_str()), Some(draft.as_str()), Some(run.as_str()));
            let same = |r: &LockRecord| {
                r.purpose == staging::PURPOSE && (r.artifact.as_deref(), r.draft.as_deref(), r.run.as_deref()) == of
            };
            let (record, life) = self.lock(same);
            return (Shows::Stage(artifact.clone(), draft.clone(), run.clone()), record, life);
        }
        let place = at.to_string_lossy();
        let (record, life) = self.lock(|r| r.mountpoint.as_deref() == Some(&*place));
        let shows = match record.as_ref().map(|r| (r.artifact.clone(), r.version.clone())) {
            None => Shows::Unknown,
            Some((Some(artifact), Some(version))) => Shows::Version(artifact, version),
            Some(_) => Shows::Store,
        };
        (shows, record, life)
    }

    /// The matching lock, a live one if possible.
    fn lock(&self, fits: impl Fn(&LockRecord) -> bool) -> (Option<LockRecord>, Option<HolderStatus>) {
        let mut fitting: Vec<_> = self.locks.iter().filter(|(r, _)| fits(r)).collect();
        fitting.sort_by_key(|(r, life)| (*life == HolderStatus::Live, r.since.clone()));
        fitting.last().map(|(r, life)| (r.clone(), *life)).unzip()
    }
}
