//! Processes with the time and memory they took, and what makes two of them comparable: everything synced before and
//! after.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One run of one side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// Until it was done, and durable if that was asked for.
    pub time: Duration,
    /// Until the process ended.
    pub ended: Duration,
    /// What it took of the processors; 0 for work in this process.
    pub processor: Duration,
    /// The most memory it had, in KiB; 0 for work in this process.
    pub peak_kib: u64,
}

/// Makes everything on the file system of `dir` durable.
pub fn sync(dir: &Path) -> io::Result<()> {
    let dir = File::open(dir)?;
    // SAFETY: the descriptor is open for the length of the call.
    if unsafe { libc::syncfs(dir.as_raw_fd()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs a command that must succeed, with its output dropped.
pub fn run(command: &mut Command) -> io::Result<Run> {
    let begun = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let mut status = 0;
    // SAFETY: the child is ours and not waited for elsewhere; wait4 fills both.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) < 0 {
            return Err(io::Error::last_os_error());
        }
        usage
    };
    let ended = begun.elapsed();
    if status != 0 {
        return Err(io::Error::other(format!("{command:?} ended with wait status {status}")));
    }
    let of = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    let processor = of(usage.ru_utime) + of(usage.ru_stime);
    Ok(Run { time: ended, ended, processor, peak_kib: usage.ru_maxrss as u64 })
}

/// [`run`], then everything on the file system of `dir` made durable: both count.
pub fn run_and_sync(command: &mut Command, dir: &Path) -> io::Result<Run> {
    let begun = Instant::now();
    let run = run(command)?;
    sync(dir)?;
    Ok(Run { time: begun.elapsed(), ..run })
}

/// Runs `work` in this process and measures it.
pub fn here(work: impl FnOnce() -> io::Result<()>) -> io::Result<Run> {
    let begun = Instant::now();
    work()?;
    let time = begun.elapsed();
    Ok(Run { time, ended: time, ..Run::default() })
}
