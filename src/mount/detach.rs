//! Taking a cairn mount away: by its user, also when the daemon is dead, and by its own daemon.

use super::attach::{helper, helper_said, no_helper};
use super::companion;
use super::sys::{self, Detach};
use super::table::{self, Mount};
use crate::error::{Error, Kind, Result, show_path};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// How long [`unmount`] waits for the daemon to end; and when it looks for who else has the mount.
const DAEMON_ENDS_WITHIN_MS: i32 = 10_000;
const ENDS_AT_ONCE_MS: i32 = 300;

/// What is left of a mount that was unmounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unmounted {
    /// Where else it is mounted: a bind mount, or a copy in another mount namespace. The daemon serves those, and keeps
    /// what it holds.
    pub elsewhere: Vec<Elsewhere>,
    /// The daemon's process, if it still runs.
    pub daemon: Option<u32>,
}

/// A mount of the same connection at another place.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Unmounts the cairn mount at `mnt` and waits until its daemon has ended, unless the mount lives on elsewhere. Works
/// also when the daemon was killed.
///
/// # Errors
/// Not found when nothing is mounted there; refused when it is in use (naming by whom, as far as that can be seen) or
/// another file system's mount; I/O otherwise.
pub fn unmount(mnt: &Path) -> Result<Unmounted> {
    let path = table::canonical(mnt).map_err(|e| e.context(format!("cannot unmount {}", show_path(mnt))))?;
    let mount = table::top_at(&path)?.ok_or_else(|| not_mounted(&path))?;
    if !mount.is_ours() {
        return Err(Error::conflict(format!(
            "cannot unmount {}: it is a mount of type {}, not of cairn",
            show_path(&path),
            mount.kind
        ))
        .with_hint("umount(8) is for those"));
    }
    if let Some((second, _)) = companion::second_of(&path) {
        companion::refuse_if_used(&second)?; // its daemon would serve them on, unseen
    }
    let how = if table::is_dead(&path) { Detach::Lazily } else { Detach::IfIdle };
    let daemon = if how == Detach::IfIdle { daemon_of(&path) } else { None };
    take_away(&path, how)?;
    companion::clear_dead(&path);
    let Some((pid, process)) = daemon else { return Ok(Unmounted::default()) };
    if sys::ends_within(&process, ENDS_AT_ONCE_MS) {
        return Ok(Unmounted::default());
    }
    let elsewhere = elsewhere(&mount.device);
    if elsewhere.is_empty() && sys::ends_within(&process, DAEMON_ENDS_WITHIN_MS) {
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

/// Where a mount's device is mounted, one place for each mount namespace that a process is in, as far as this user may
/// see.
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
    let found = table::top_at(&at)?.filter(Mount::is_ours);
    Ok(found.map(|m| CairnMount { store: m.source, is_dead: table::is_dead(&at), at }))
}

/// Takes away the daemon's own mount: only if the topmost mount at `path` is the one on `device`. Used as long as the
/// connection lives, so that the device number cannot have gone to a stranger. Lazily when it is in use.
pub fn detach_own(path: &Path, device: &str) {
    let is_own = |m: &Mount| m.is_ours() && m.device == device;
    for how in [Detach::IfIdle, Detach::Lazily] {
        if !table::top_at(path).ok().flatten().as_ref().is_some_and(is_own) || take_away(path, how).is_ok() {
            return;
        }
    }
}

impl super::MountPoint {
    /// The device of the cairn mount that stands here now, for [`detach_own`].
    pub fn device(&self) -> Option<String> {
        table::top_at(self.path()).ok().flatten().filter(Mount::is_ours).map(|m| m.device)
    }
}

fn not_mounted(path: &Path) -> Error {
    let e = Error::not_found(format!("nothing is mounted at {}", show_path(path)));
    match table::ours_above(path) {
        Some(above) => e.with_hint(format!("the mount is at {}", show_path(&above))),
        None => e,
    }
}

/// The daemon, asked for through the mount itself.
fn daemon_of(path: &Path) -> Option<(u32, OwnedFd)> {
    let pid = sys::daemon_pid(&File::open(path).ok()?)?;
    let process = sys::process(pid)?;
    // The number may come from another pid namespace: only a process that has /dev/fuse open is worth waiting for.
    let holds_fuse = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .map(|fds| fds.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == Path::new("/dev/fuse"))));
    holds_fuse.unwrap_or(true).then_some((pid, process))
}

pub(super) fn take_away(path: &Path, how: Detach) -> Result<()> {
    match sys::unmount(path, how) {
        Ok(()) => Ok(()),
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => take_away_by_helper(path, how),
        Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Err(busy(path)),
        Err(e) => Err(Error::io("unmount", path, e)),
    }
}

fn take_away_by_helper(path: &Path, how: Detach) -> Result<()> {
    let what = format!("cannot unmount {}", show_path(path));
    let mut command = helper();
    command.arg("-u");
    if how == Detach::Lazily {
        command.arg("-z");
    }
    command.arg("--").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().map_err(|e| no_helper(e, &what))?;
    if output.status.success() {
        return Ok(());
    }
    let said = helper_said(&output.stderr);
    if said.contains("busy") {
        return Err(busy(path));
    }
    Err(Error::io_message(what).with_cause(said).with_hint("only root and the user that mounted it may"))
}

pub(super) fn busy(path: &Path) -> Error {
    let users = users_of(path);
    let e = Error::conflict(format!("cannot unmount {}: it is in use", show_path(path)));
    debug_assert_eq!(e.kind(), Kind::Conflict);
    match users.as_slice() {
        [] => e.with_hint("leave its directories and close its files, then run the command again"),
        some => some
            .iter()
            .fold(e, |e, user| e.with_cause(user.to_string()))
            .with_hint("end these, or leave the directory, then run the command again"),
    }
}

/// A process that holds something below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub pid: u32,
    /// What it is called.
    pub name: String,
    /// What it holds.
    pub holds: PathBuf,
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({}) uses {}", self.pid, self.name, show_path(&self.holds))
    }
}

/// Up to eight processes that hold `path` or something below it, as far as this user may see. The working directory of
/// this process does not count.
pub fn users_of(path: &Path) -> Vec<User> {
    let mut found = Vec::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let dir = process.path();
        let places: &[&str] = if pid == std::process::id() { &[] } else { &["cwd", "root", "exe"] };
        let holds = places.iter().map(|l| dir.join(l)).chain(open_files(&dir)).find_map(|link| {
            let to = std::fs::read_link(link).ok()?;
            to.starts_with(path).then_some(to)
        });
        if let Some(holds) = holds {
            let name = std::fs::read_to_string(dir.join("comm")).unwrap_or_default().trim().to_owned();
            found.push(User { pid, name, holds });
            if found.len() == 8 {
                break;
            }
        }
    }
    found
}

fn open_files(process: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let list = |name: &str| -> io::Result<Vec<PathBuf>> {
        Ok(std::fs::read_dir(process.join(name))?.flatten().map(|e| e.path()).collect())
    };
    list("fd").unwrap_or_default().into_iter().chain(list("map_files").unwrap_or_default())
}
