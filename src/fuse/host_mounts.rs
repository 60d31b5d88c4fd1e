//! Which cairn mounts this host has: the mount table, and what lock files and staging directories of their stores say
//! of them.

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

/// How long a mount is waited for.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How a mount does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Answers,
    /// Its daemon has ended: whatever is asked fails.
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
pub enum Shows {
    /// All versions of the store.
    Store,
    /// One version: its artifact and number.
    Version(String, String),
    /// A run's staging directory: artifact, draft, run.
    Stage(String, String, String),
    /// Nothing in the store says it: its daemon may not write there, or the store cannot be read.
    Unknown,
}

/// A mount.
#[derive(Clone, Debug)]
pub struct MountInfo {
    /// Where it is.
    pub mountpoint: PathBuf,
    /// The store.
    pub store: PathBuf,
    /// What it shows.
    pub shows: Shows,
    /// The user that mounted.
    pub user: Option<String>,
    /// Since when, by this host's clock.
    pub since: Option<String>,
    /// The daemon.
    pub pid: Option<u32>,
    /// How it does.
    pub health: Health,
}

/// The cairn mounts of this mount namespace. Staging directories that belong to the mount of a whole store are not
/// listed by themselves.
pub fn mounts() -> Vec<MountInfo> {
    let all = mount::all_here();
    let asked: Vec<_> = all.iter().map(|(at, _)| ask(at.clone())).collect();
    let mut stores: HashMap<PathBuf, Told> = HashMap::new();
    let (mut found, mut seconds) = (Vec::new(), Vec::new());
    for ((at, source), answer) in all.into_iter().zip(asked) {
        let told = stores.entry(source.clone()).or_insert_with(|| Told::of(&source));
        let (shows, record, life) = told.at(&at);
        let (health, second) = answer.recv_timeout(TIMEOUT).unwrap_or((Health::Silent, None));
        seconds.extend(second);
        // Who may not look into a mount is not told that it is dead.
        let health = if life == Some(HolderStatus::Dead) { Health::Dead } else { health };
        found.push(MountInfo {
            mountpoint: at,
            store: source,
            shows,
            user: record.as_ref().map(|r| r.user.clone()),
            since: record.as_ref().map(|r| r.since.clone()),
            pid: record.map(|r| r.pid),
            health,
        });
    }
    found.retain(|m| !seconds.contains(&m.mountpoint));
    found
}

/// Asks a mount how it does and where its second mount is, from a thread of its own: an answer may never come.
fn ask(at: PathBuf) -> mpsc::Receiver<(Health, Option<PathBuf>)> {
    let (tell, hear) = mpsc::channel();
    let work = move || {
        let dead = matches!(disk::space(&at), Err(e) if matches!(e.errno(), Some(libc::ENOTCONN | libc::ECONNABORTED)));
        let second = if dead { None } else { mount::companion_of(&at).map(|(second, _)| second) };
        drop(tell.send((if dead { Health::Dead } else { Health::Answers }, second)));
    };
    // Without a thread it does not answer.
    drop(std::thread::Builder::new().name("mounts".into()).spawn(work));
    hear
}

/// What a store tells of the mounts of this host.
#[derive(Default)]
struct Told {
    locks: Vec<(LockRecord, HolderStatus)>,
    /// The staging directories and where they are mounted.
    stages: Vec<(PathBuf, String, String, String)>,
}

impl Told {
    fn of(root: &Path) -> Told {
        let Ok(store) = Store::open(root) else { return Told::default() };
        let locks = lock::of_this_host(&store).unwrap_or_default();
        let locks = locks.into_iter().filter_map(|l| Some((l.record?, l.life))).collect();
        let staged = stages(&store).unwrap_or_default().into_iter().filter_map(|s| {
            let at = mounted_at(&store, s.token()).ok()??;
            Some((at, s.record.artifact.to_string(), s.record.distributed_id.to_string(), s.record.run.id.to_string()))
        });
        Told { locks, stages: staged.collect() }
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

    /// The lock that fits, a live one if there is one.
    fn lock(&self, fits: impl Fn(&LockRecord) -> bool) -> (Option<LockRecord>, Option<HolderStatus>) {
        let mut fitting: Vec<_> = self.locks.iter().filter(|(r, _)| fits(r)).collect();
        fitting.sort_by_key(|(r, life)| (*life == HolderStatus::Live, r.since.clone()));
        fitting.last().map(|(r, life)| (r.clone(), *life)).unzip()
    }
}
