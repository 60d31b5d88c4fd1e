//! Processes with the time and memory they took, and what makes two of them comparable: everything synced before and
//! after.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
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
    let (run, status) = run_status(command)?;
    if status != 0 {
        return Err(io::Error::other(format!("{command:?} ended with wait status {status}")));
    }
    Ok(run)
}

/// [`run`], whatever the exit status.
pub fn run_any(command: &mut Command) -> io::Result<Run> {
    run_status(command).map(|(run, _)| run)
}

/// The bytes that a process read and wrote through system calls.
#[derive(Clone, Copy, Debug)]
pub struct Transferred {
    pub read: u64,
    pub written: u64,
}

/// Waits for a child, whatever its exit status, and counts what it transferred.
pub fn wait_counted(child: Child) -> io::Result<(Run, Transferred)> {
    let begun = Instant::now();
    // SAFETY: `waitid` fills the structure; the child stays until it is waited for below.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        if libc::waitid(libc::P_PID, child.id(), &mut info, libc::WEXITED | libc::WNOWAIT) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let text = std::fs::read_to_string(format!("/proc/{}/io", child.id()))?;
    let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0);
    let transferred = Transferred { read: of("rchar:"), written: of("wchar:") };
    Ok((wait(&child, begun)?.0, transferred))
}

fn run_status(command: &mut Command) -> io::Result<(Run, i32)> {
    let begun = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    wait(&child, begun)
}

fn wait(child: &Child, begun: Instant) -> io::Result<(Run, i32)> {
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
    let of = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    let processor = of(usage.ru_utime) + of(usage.ru_stime);
    Ok((Run { time: ended, ended, processor, peak_kib: usage.ru_maxrss as u64 }, status))
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
