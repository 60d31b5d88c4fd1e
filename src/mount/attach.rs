//! VersionDraft the mount: mount(2) for who may, fusermount3 for everybody else. Gives the descriptor over which the kernel
//! will ask.

use super::{MountPoint, sys, table};
use crate::disk::open_device;
use crate::error::{Error, Result, show_path};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Who may look into the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// The user that mounts, only.
    Mounter,
    /// Every user (`allow_other`); `/etc/fuse.conf` decides whether others than root may say so.
    Everyone,
}

/// Whether programs may be run from the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Execution {
    /// Those with the exec bit.
    Allowed,
    /// None (`noexec`).
    Refused,
}

/// Whether the mount may be one that lets files be opened for writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writable {
    /// It was made read-only.
    No,
    /// Another program made it.
    Perhaps,
}

/// A mount that stands and whose kernel side waits for its daemon.
#[derive(Debug)]
pub struct Attached {
    /// The open `/dev/fuse`; closing it ends the connection.
    pub descriptor: OwnedFd,
    /// Whether it is surely read-only.
    pub writable: Writable,
}

/// Mounts at `point`, read-only (MS_RDONLY: a writable mount of immutable files could not be kept right, DESIGN 6),
/// with `source` for the mount table.
///
/// # Errors
/// I/O, with what to install or to allow as the hint.
pub fn attach(point: &mut MountPoint, source: &Path, reach: Reach, execution: Execution) -> Result<Attached> {
    attach_as(point, source, reach, execution, Writable::No)
}

/// [`attach`] for files that are written through the mount.
///
/// # Errors
/// As [`attach`].
pub fn attach_for_writing(
    point: &mut MountPoint,
    source: &Path,
    reach: Reach,
    execution: Execution,
) -> Result<Attached> {
    attach_as(point, source, reach, execution, Writable::Perhaps)
}

fn attach_as(
    point: &mut MountPoint,
    source: &Path,
    reach: Reach,
    execution: Execution,
    writable: Writable,
) -> Result<Attached> {
    if let Some(descriptor) = point.take_handed() {
        return Ok(Attached { descriptor, writable: Writable::Perhaps });
    }
    match attach_directly(point, source, reach, execution, writable) {
        Ok(descriptor) => Ok(Attached { descriptor, writable }),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
            attach_by_helper(point, source, reach, execution, writable)
        }
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)) => {
            Err(Error::io("mount at", point.path(), e)
                .with_cause("the kernel has no FUSE: /dev/fuse or the module is missing")
                .with_hint("modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN"))
        }
        Err(e) => Err(Error::io("mount at", point.path(), e)),
    }
}

fn attach_directly(
    point: &MountPoint,
    source: &Path,
    reach: Reach,
    execution: Execution,
    writable: Writable,
) -> io::Result<OwnedFd> {
    let device = open_device(Path::new("/dev/fuse"))?;
    let (user, group) = sys::who();
    let mode = point.mode() & libc::S_IFMT;
    let mut data = format!("fd={},rootmode={mode:o},user_id={user},group_id={group}", device.as_raw_fd());
    // What only root may use in any case is not checked by modes. Checking them would cost a round trip for each file
    // that is made: the kernel asks for the directory's mode again.
    if reach == Reach::Everyone || user != 0 || writable == Writable::No {
        data.push_str(",default_permissions");
    }
    if reach == Reach::Everyone {
        data.push_str(",allow_other");
    }
    sys::mount_fuse(
        source.as_os_str().as_bytes(),
        point.path(),
        &data,
        execution == Execution::Refused,
        writable == Writable::No,
    )?;
    Ok(device.into())
}

/// fusermount3 is set-uid root: it opens `/dev/fuse`, mounts, and sends the descriptor over the socket named by
/// `_FUSE_COMMFD`.
fn attach_by_helper(
    point: &MountPoint,
    source: &Path,
    reach: Reach,
    execution: Execution,
    writable: Writable,
) -> Result<Attached> {
    let failed = |e: io::Error| Error::io("mount at", point.path(), e);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut options = if writable == Writable::No { b"ro,".to_vec() } else { Vec::new() };
    options.extend(b"nodev,nosuid,noatime,default_permissions,subtype=cairnfs,fsname=");
    options.extend(table::escape_option(source));
    if reach == Reach::Everyone {
        options.extend(b",allow_other");
    }
    if execution == Execution::Refused {
        options.extend(b",noexec");
    }
    let fd = theirs.as_raw_fd();
    let mut command = helper();
    command.arg("-o").arg(OsString::from_vec(options)).arg("--").arg(point.path()).env("_FUSE_COMMFD", fd.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: one fcntl, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || sys::inherit(fd));
    }
    let child = command.spawn().map_err(|e| no_helper(e, &format!("cannot mount at {}", show_path(point.path()))))?;
    drop(theirs);
    let received = sys::receive_descriptor(&ours);
    drop(ours);
    let output = child.wait_with_output().map_err(failed)?;
    match received.map_err(failed)? {
        Some(descriptor) => Ok(Attached { descriptor, writable: Writable::No }),
        None => {
            let said = helper_said(&output.stderr);
            let e = Error::io_message(format!("cannot mount at {}", show_path(point.path()))).with_cause(&said);
            Err(if said.contains("user_allow_other") {
                e.with_hint("leave --allow-other away, or let root put `user_allow_other` into /etc/fuse.conf")
            } else if said.contains("/dev/fuse") {
                e.with_hint("/dev/fuse must be there and open to all (root: chmod 0666 /dev/fuse); in a container: --device /dev/fuse --cap-add SYS_ADMIN")
            } else if said.contains("mountpoint") || said.contains("mount point") || said.contains("ermission") {
                e.with_hint("the mount point must be a directory of yours that you may write to")
            } else {
                e
            })
        }
    }
}

/// fusermount3, with signals as a program expects them.
pub(super) fn helper() -> Command {
    let mut command = Command::new("fusermount3");
    // SAFETY: sigprocmask is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            sys::unblock_endings();
            Ok(())
        });
    }
    command
}

/// The error for a helper that could not be started.
pub(super) fn no_helper(e: io::Error, what: &str) -> Error {
    let missing = e.kind() == io::ErrorKind::NotFound;
    let e = Error::io("start", Path::new("fusermount3"), e).context(what);
    if missing { e.with_hint("apt install fuse3 (fusermount3 mounts for users that are not root)") } else { e }
}

/// What the helper wrote, on one line.
pub(super) fn helper_said(stderr: &[u8]) -> String {
    let text = show_path(Path::new(OsStr::from_bytes(stderr.trim_ascii())));
    text.trim_start_matches("fusermount3: ").to_string()
}
