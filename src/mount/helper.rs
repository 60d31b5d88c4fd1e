//! fusermount3, which mounts and unmounts for users other than root.

use super::sys;
use crate::error::{Error, show_path};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The command fusermount3, with the signal mask that programs expect.
pub(super) fn helper() -> Command {
    let mut command = Command::new("fusermount3");
    // SAFETY: sigprocmask is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            sys::unblock_termination_signals();
            Ok(())
        });
    }
    command
}

/// The error if the helper could not be started.
pub(super) fn no_helper(e: io::Error, what: &str) -> Error {
    let missing = e.kind() == io::ErrorKind::NotFound;
    let e = Error::io("start", Path::new("fusermount3"), e).context(what);
    if missing { e.with_hint("apt install fuse3 (fusermount3 mounts for users other than root)") } else { e }
}

/// What the helper wrote to stderr, on one line.
pub(super) fn helper_output(stderr: &[u8]) -> String {
    let text = show_path(Path::new(OsStr::from_bytes(stderr.trim_ascii())));
    text.trim_start_matches("fusermount3: ").to_string()
}
