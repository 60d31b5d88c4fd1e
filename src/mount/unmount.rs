//! Unmounting a cairn mount by path, also when its daemon was killed; what is left of it in other places.

use super::companion;
use super::detach::{detach, refuse_if_used};
use super::sys::{self, Detach};
use super::table;
use crate::disk::MountEntry;
use crate::error::{Error, Result, show_path};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// How long [`unmount`] waits for the daemon to end.
const DAEMON_END_TIMEOUT_MS: i32 = 10_000;
/// If the daemon has not ended after this time, [`unmount`] looks for copies of the mount in other places.
const COPIES_CHECK_AFTER_MS: i32 = 300;

/// What is left after an unmount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unmounted {
    /// Where else it is mounted: a bind mount, or a copy in another mount namespace. The daemon continues to serve
    /// those, and keeps its locks and pins.
    pub elsewhere: Vec<Elsewhere>,
    /// The daemon's process id, if it still runs.
    pub daemon: Option<u32>,
}

/// A mount of the same connection at another place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Elsewhere {
    /// A process in whose mount namespace it is; `None`: in that of this process.
    pub process: Option<(u32, String)>,
    /// Where it is there.
    pub at: PathBuf,
}

impl std::fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.process {
            Some((pid, name)) => write!(f, "{} in the mount namespace of process {pid} ({name})", show_path(&self.at)),
            None => write!(f, "{}", show_path(&self.at)),
        }
    }
}

/// Unmounts the cairn mount at `mnt` and waits until its daemon has ended, unless the mount has copies in other places.
/// Also works when the daemon was killed.
///
/// # Errors
/// Not found when nothing is mounted there. Refused when it is in use (naming the processes that this user may see), or
/// when it is another file system's mount. I/O.
pub fn unmount(mnt: &Path) -> Result<Unmounted> {
    let path = table::canonical(mnt).map_err(|e| e.context(format!("cannot unmount {}", show_path(mnt))))?;
    let mount = table::top_at(&path)?.ok_or_else(|| not_mounted(&path))?;
    if !mount.is_ours() {
        return Err(Error::conflict(format!(
            "cannot unmount {}: it is a mount of type {}, not of cairn",
            show_path(&path),
            mount.kind
        ))
        .with_hint("use umount(8)"));
    }
    if let Some((companion, _)) = companion::companion_of(&path) {
        refuse_if_used(&companion)?; // its daemon would continue to serve them, unseen
    }
    let how = if table::is_dead(&path) { Detach::Lazily } else { Detach::IfIdle };
    let daemon = if how == Detach::IfIdle { daemon_of(&path) } else { None };
    detach(&path, how)?;
    companion::remove_dead_companions(&path);
    let Some((pid, process)) = daemon else { return Ok(Unmounted::default()) };
    if sys::ends_within(&process, COPIES_CHECK_AFTER_MS) {
        return Ok(Unmounted::default());
    }
    let elsewhere = elsewhere(&mount.device);
    if elsewhere.is_empty() && sys::ends_within(&process, DAEMON_END_TIMEOUT_MS) {
        return Ok(Unmounted::default());
    }
    Ok(Unmounted { elsewhere, daemon: Some(pid) })
}

/// The cairn mounts in this mount namespace, the topmost at each place: place and store.
pub fn all_here() -> Vec<(PathBuf, PathBuf)> {
    let mut found: Vec<(PathBuf, PathBuf)> = Vec::new();
    for mount in table::ours_of("self") {
        found.retain(|(at, _)| *at != mount.at);
        found.push((mount.at, mount.source));
    }
    found
}

/// Where a mount's device is mounted: one place for each mount namespace, as far as this user may see.
fn elsewhere(device: &str) -> Vec<Elsewhere> {
    let in_table = |of: &str| table::ours_of(of).into_iter().find(|m| m.device == device).map(|m| m.at);
    let mut found: Vec<Elsewhere> = in_table("self").map(|at| Elsewhere { process: None, at }).into_iter().collect();
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/mnt")).ok();
    let mut seen: Vec<_> = namespace("self").into_iter().collect();
    let Ok(processes) = std::fs::read_dir("/proc") else { return found };
    for pid in processes.flatten().filter_map(|p| p.file_name().to_str()?.parse::<u32>().ok()) {
        let of = pid.to_string();
        let Some(own) = namespace(&of).filter(|n| !seen.contains(n)) else { continue };
        seen.push(own);
        if let Some(at) = in_table(&of) {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
            found.push(Elsewhere { process: Some((pid, name)), at });
        }
    }
    found
}

/// A cairn mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CairnMount {
    /// Where it is.
    pub at: PathBuf,
    /// The store that it serves.
    pub store: PathBuf,
    /// Whether its daemon has ended without unmounting it.
    pub is_dead: bool,
}

/// The cairn mount whose root `mnt` is, if it is one.
///
/// # Errors
/// Not found; I/O.
pub fn cairn_mount(mnt: &Path) -> Result<Option<CairnMount>> {
    let at = table::canonical(mnt)?;
    let found = table::top_at(&at)?.filter(MountEntry::is_ours);
    Ok(found.map(|m| CairnMount { store: m.source, is_dead: table::is_dead(&at), at }))
}

fn not_mounted(path: &Path) -> Error {
    let e = Error::not_found(format!("nothing is mounted at {}", show_path(path)));
    match table::ours_above(path) {
        Some(above) => {
            let main = companion::main_of(&above).unwrap_or(above);
            e.with_hint(format!("the mount is at {}", show_path(&main)))
        }
        None => e,
    }
}

/// The process id of the daemon that serves the mount at `path`, if it answers and is in this pid namespace.
pub fn daemon_pid(path: &Path) -> Option<u32> {
    daemon_of(path).map(|(pid, _)| pid)
}

/// The daemon's process, which the mount itself names.
fn daemon_of(path: &Path) -> Option<(u32, OwnedFd)> {
    let pid = sys::daemon_pid(&File::open(path).ok()?)?;
    let process = sys::process(pid)?;
    // The process id may come from another pid namespace. Only a process that has /dev/fuse open can be the daemon.
    let holds_fuse = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .map(|fds| fds.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == Path::new("/dev/fuse"))));
    holds_fuse.unwrap_or(true).then_some((pid, process))
}
