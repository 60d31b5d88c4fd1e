//! Detaching a cairn mount from the tree, and finding the processes that use it.

use super::helper::{helper, helper_output, no_helper};
use super::sys::{self, Detach};
use super::table;
use crate::disk::MountEntry;
use crate::error::{Error, Result, show_path};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Detaches the daemon's own mount, lazily if it is in use. Nothing happens unless the topmost mount at `path` is the
/// one on `device`. The connection must be alive, so that the device number cannot belong to another mount.
pub fn detach_own(path: &Path, device: &str) {
    let is_own = |m: &MountEntry| m.is_ours() && m.device == device;
    for how in [Detach::IfIdle, Detach::Lazily] {
        if !table::top_at(path).ok().flatten().as_ref().is_some_and(is_own) || detach(path, how).is_ok() {
            return;
        }
    }
}

/// How often, and after which pause, a mount that is in use is looked at again before an unmount is refused. A process
/// that is starting another program has a child with all of its files until that program runs.
const BUSY_RETRIES: u32 = 20;
const BUSY_INTERVAL: Duration = Duration::from_millis(50);

/// Detaches the topmost mount at `path`.
///
/// # Errors
/// Refused when it is in use, naming the processes; I/O.
pub(super) fn detach(path: &Path, how: Detach) -> Result<()> {
    let is_detached = retried(|| Ok(detach_once(path, how)? == Outcome::Detached))?;
    if is_detached { Ok(()) } else { Err(busy(path, &users_of(path))) }
}

/// Refuses while a process uses something below `path`.
///
/// # Errors
/// Refused, naming the processes.
pub(super) fn refuse_if_used(path: &Path) -> Result<()> {
    let mut users = Vec::new();
    let is_idle = retried(|| {
        users = users_of(path);
        Ok(users.is_empty())
    })?;
    if is_idle { Ok(()) } else { Err(busy(path, &users)) }
}

/// Tries something until it says that it succeeded, or is not to be tried again.
fn retried(mut act: impl FnMut() -> Result<bool>) -> Result<bool> {
    for _ in 0..BUSY_RETRIES {
        if act()? {
            return Ok(true);
        }
        std::thread::sleep(BUSY_INTERVAL);
    }
    act()
}

#[derive(PartialEq, Eq)]
enum Outcome {
    Detached,
    Busy,
}

fn detach_once(path: &Path, how: Detach) -> Result<Outcome> {
    match sys::unmount(path, how) {
        Ok(()) => Ok(Outcome::Detached),
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => detach_by_helper(path, how),
        Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Ok(Outcome::Busy),
        Err(e) => Err(Error::io("unmount", path, e)),
    }
}

fn detach_by_helper(path: &Path, how: Detach) -> Result<Outcome> {
    let what = format!("cannot unmount {}", show_path(path));
    let mut command = helper();
    command.arg("-u");
    if how == Detach::Lazily {
        command.arg("-z");
    }
    command.arg("--").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let ended = command.output().map_err(|e| no_helper(e, &what))?;
    if ended.status.success() {
        return Ok(Outcome::Detached);
    }
    let output = helper_output(&ended.stderr);
    if output.contains("busy") {
        return Ok(Outcome::Busy);
    }
    Err(Error::io_message(what).with_cause(output).with_hint("only root and the user that mounted it can unmount it"))
}

/// The error for a mount that is in use.
fn busy(path: &Path, users: &[PathUser]) -> Error {
    let e = Error::conflict(format!("cannot unmount {}: it is in use", show_path(path)));
    match users {
        [] => e.with_hint("close its files and leave its directories, then run the command again"),
        some => some.iter().fold(e, |e, user| e.with_cause(user.to_string())).with_hint(
            "end these processes, or make them close the files and leave the directories, then run the command again",
        ),
    }
}

/// A process that uses something below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathUser {
    /// Its process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// What it uses.
    pub uses: PathBuf,
}

impl std::fmt::Display for PathUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({}) uses {}", self.pid, self.name, show_path(&self.uses))
    }
}

/// Up to eight processes that use `path` or something below it, as far as this user may see. The working directory of
/// this process does not count.
pub fn users_of(path: &Path) -> Vec<PathUser> {
    let mut found = Vec::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let dir = process.path();
        let places: &[&str] = if pid == std::process::id() { &[] } else { &["cwd", "root", "exe"] };
        let uses = places.iter().map(|l| dir.join(l)).chain(open_files(&dir)).find_map(|link| {
            let to = std::fs::read_link(link).ok()?;
            to.starts_with(path).then_some(to)
        });
        if let Some(uses) = uses {
            let name = std::fs::read_to_string(dir.join("comm")).unwrap_or_default().trim().to_owned();
            found.push(PathUser { pid, name, uses });
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
