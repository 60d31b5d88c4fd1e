//! Mounting: with mount(2) where this process may, else with fusermount3. The result is the descriptor over which the
//! kernel sends its requests.

use super::helper::{helper, helper_output, no_helper};
use super::options::{Audience, Execution, Writable};
use super::point::MountPoint;
use super::{sys, table};
use crate::disk::open_device;
use crate::error::{Error, Result, show_path};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

/// A mount whose kernel side waits for its daemon.
#[derive(Debug)]
pub struct Attached {
    /// The open `/dev/fuse`; closing it ends the connection.
    pub descriptor: OwnedFd,
    /// Whether files in it might be opened for writing.
    pub writable: Writable,
}

/// Mounts at `point`, read-only, with `source` for the mount table. With MS_RDONLY the kernel itself refuses changes:
/// in a writable mount root could change pages that all readers share.
///
/// # Errors
/// I/O; the hint says what to install or to permit.
pub fn attach(point: &mut MountPoint, source: &Path, audience: Audience, execution: Execution) -> Result<Attached> {
    attach_as(point, source, audience, execution, Writable::No)
}

/// As [`attach`], for a mount that is written to.
///
/// # Errors
/// As [`attach`].
pub fn attach_for_writing(
    point: &mut MountPoint,
    source: &Path,
    audience: Audience,
    execution: Execution,
) -> Result<Attached> {
    attach_as(point, source, audience, execution, Writable::Perhaps)
}

fn attach_as(
    point: &mut MountPoint,
    source: &Path,
    audience: Audience,
    execution: Execution,
    writable: Writable,
) -> Result<Attached> {
    if let Some(descriptor) = point.take_handed() {
        return Ok(Attached { descriptor, writable: Writable::Perhaps });
    }
    match attach_directly(point, source, audience, execution, writable) {
        Ok(descriptor) => Ok(Attached { descriptor, writable }),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
            attach_by_helper(point, source, audience, execution, writable)
        }
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)) => {
            Err(Error::io("mount at", point.path(), e)
                .with_cause("the kernel has no FUSE: /dev/fuse or the kernel module is missing")
                .with_hint("modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN"))
        }
        Err(e) => Err(Error::io("mount at", point.path(), e)),
    }
}

fn attach_directly(
    point: &MountPoint,
    source: &Path,
    audience: Audience,
    execution: Execution,
    writable: Writable,
) -> io::Result<OwnedFd> {
    let device = open_device(Path::new("/dev/fuse"))?;
    let (user, group) = sys::effective_ids();
    let mode = point.mode() & libc::S_IFMT;
    let mut data = format!("fd={},rootmode={mode:o},user_id={user},group_id={group}", device.as_raw_fd());
    // In a mount that only root may use, the kernel need not check modes. Checking them would cost a round trip for
    // each new file, because the kernel asks for the directory's mode again.
    if audience == Audience::AllUsers || user != 0 || writable == Writable::No {
        data.push_str(",default_permissions");
    }
    if audience == Audience::AllUsers {
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

/// Mounts with fusermount3, which is set-user-id root: it opens `/dev/fuse`, mounts, and sends the descriptor over the
/// socket that `_FUSE_COMMFD` names.
fn attach_by_helper(
    point: &MountPoint,
    source: &Path,
    audience: Audience,
    execution: Execution,
    writable: Writable,
) -> Result<Attached> {
    let failed = |e: io::Error| Error::io("mount at", point.path(), e);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut options = if writable == Writable::No { b"ro,".to_vec() } else { Vec::new() };
    options.extend(b"nodev,nosuid,noatime,default_permissions,subtype=cairnfs,fsname=");
    options.extend(table::escape_option(source));
    if audience == Audience::AllUsers {
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
            let output = helper_output(&output.stderr);
            let e = Error::io_message(format!("cannot mount at {}", show_path(point.path()))).with_cause(&output);
            Err(if output.contains("user_allow_other") {
                e.with_hint("omit --allow-other, or ask root to add `user_allow_other` to /etc/fuse.conf")
            } else if output.contains("/dev/fuse") {
                e.with_hint(
                    "/dev/fuse must exist and be open to all users (as root: chmod 0666 /dev/fuse); in a \
                             container: --device /dev/fuse --cap-add SYS_ADMIN",
                )
            } else if output.contains("mountpoint") || output.contains("mount point") || output.contains("ermission") {
                e.with_hint("the mount point must be a directory that belongs to you and that you may write to")
            } else {
                e
            })
        }
    }
}
