//! The fault countdown: lets a test kill the process, or fail a call, at any step that changes the disk.
//!
//! Read once from `CAIRN_FAULT`: `kill:N` sends SIGKILL to this process just before step N (from 1), `error:N` makes
//! step N return EIO without doing it, `quota:N` EDQUOT, `stop:N` stops the process (SIGSTOP) before step N,
//! `count:PATH` writes the number of steps done to PATH at every step's end. Exists in builds with debug assertions
//! only; in release builds it is compiled out.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static STEPS: AtomicU64 = AtomicU64::new(0);

enum Plan {
    Kill(u64),
    Error(u64, i32),
    Stop(u64),
    Count(std::path::PathBuf),
}

fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    PLAN.get_or_init(|| {
        let text = std::env::var("CAIRN_FAULT").ok()?;
        let (what, arg) = text.split_once(':')?;
        match what {
            "kill" => arg.parse().ok().map(Plan::Kill),
            "error" => arg.parse().ok().map(|at| Plan::Error(at, libc::EIO)),
            "quota" => arg.parse().ok().map(|at| Plan::Error(at, libc::EDQUOT)),
            "stop" => arg.parse().ok().map(Plan::Stop),
            "count" => Some(Plan::Count(arg.into())),
            _ => None,
        }
    })
    .as_ref()
}

/// Counts a step that is about to change the disk; fails or kills if it is the requested one.
pub(super) fn step() -> io::Result<()> {
    if !cfg!(debug_assertions) {
        return Ok(());
    }
    let n = STEPS.fetch_add(1, Ordering::SeqCst) + 1;
    match plan() {
        // SAFETY: kill and getpid have no memory effects.
        Some(Plan::Kill(at)) if *at == n => unsafe {
            libc::kill(libc::getpid(), libc::SIGKILL);
            // The signal is delivered before kill returns to this thread; other threads must not continue either.
            loop {
                libc::pause();
            }
        },
        Some(Plan::Error(at, code)) if *at == n => return Err(io::Error::from_raw_os_error(*code)),
        // SAFETY: as above.
        Some(Plan::Stop(at)) if *at == n => unsafe {
            libc::kill(libc::getpid(), libc::SIGSTOP);
        },
        Some(Plan::Count(path)) => std::fs::write(path, n.to_string())?,
        _ => {}
    }
    Ok(())
}
