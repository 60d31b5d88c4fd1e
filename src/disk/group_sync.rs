//! Group sync: threads of one process share their `syncfs` calls on the same file system.
//!
//! A call returns after a `syncfs` that began after the call, so everything that the caller wrote before is durable.
//! While one `syncfs` runs, later callers wait; when it ends, one of them starts the next one for all. So N threads
//! cost at most two calls, not N. Syncs of other processes do not count, because their claims would have to be trusted.

use crate::locks::{Condvar, Mutex};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// The rounds of one file system, numbered from 1.
#[derive(Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    /// The newest round that failed, and its error.
    failed: Option<(u64, i32)>,
    /// Threads that wait for a round.
    waiting: usize,
}

/// By device number.
static GROUPS: Mutex<Option<HashMap<u64, Rounds>>> = Mutex::of_process(None, || None);
static ENDED: Condvar = Condvar::new();

/// Makes everything durable that this process has written to the file system of an open file.
///
/// # Errors
/// Those of `syncfs`, also when another thread made the call.
pub fn sync_fs_shared(file: &File) -> io::Result<()> {
    shared(file.metadata()?.dev(), || sync_fs(file))
}

/// `syncfs` on the file system of an open file.
pub fn sync_fs(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call.
    if unsafe { libc::syncfs(file.as_raw_fd()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn shared(group: u64, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let mut groups = GROUPS.lock();
    let rounds = groups.get_or_insert_default().entry(group).or_default();
    let mine = rounds.begun + 1; // the first round that begins from now on
    rounds.waiting += 1;
    loop {
        let rounds = groups.get_or_insert_default().entry(group).or_default();
        if rounds.ended >= mine {
            rounds.waiting -= 1;
            // A failure of a later round counts too: which writes it concerns is unknown.
            let failed = rounds.failed.filter(|(round, _)| *round >= mine);
            if rounds.waiting == 0 {
                groups.get_or_insert_default().remove(&group);
            }
            return failed.map_or(Ok(()), |(_, errno)| Err(io::Error::from_raw_os_error(errno)));
        }
        if rounds.begun == rounds.ended {
            break;
        }
        ENDED.wait(&mut groups);
    }
    let rounds = groups.get_or_insert_default().entry(group).or_default();
    rounds.begun += 1;
    let round = rounds.begun;
    drop(groups);
    let result = sync();
    let mut groups = GROUPS.lock();
    let rounds = groups.get_or_insert_default().entry(group).or_default();
    rounds.ended = round;
    rounds.waiting -= 1;
    if let Err(e) = &result {
        rounds.failed = Some((round, e.raw_os_error().unwrap_or(libc::EIO)));
    }
    if rounds.waiting == 0 {
        groups.get_or_insert_default().remove(&group);
    }
    ENDED.notify_all();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::time::Duration;

    /// Groups that no file system has.
    static NEXT: AtomicU64 = AtomicU64::new(u64::MAX / 2);

    fn new_group() -> u64 {
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    #[test]
    fn each_caller_is_served_by_a_sync_that_began_after_its_call() {
        let group = new_group();
        let (written, synced, calls) = (AtomicU64::new(0), AtomicU64::new(0), AtomicUsize::new(0));
        std::thread::scope(|s| {
            for _ in 0..16 {
                s.spawn(|| {
                    for _ in 0..50 {
                        let mine = written.fetch_add(1, Ordering::SeqCst) + 1;
                        shared(group, || {
                            calls.fetch_add(1, Ordering::Relaxed);
                            let now = written.load(Ordering::SeqCst);
                            std::thread::sleep(Duration::from_micros(200));
                            synced.fetch_max(now, Ordering::SeqCst);
                            Ok(())
                        })
                        .unwrap();
                        assert!(synced.load(Ordering::SeqCst) >= mine, "acknowledged before it was durable");
                    }
                });
            }
        });
        assert!(calls.load(Ordering::Relaxed) < 400, "800 calls are served by far fewer syncs, not by {calls:?}");
        assert!(
            !GROUPS.lock().as_ref().is_some_and(|g| g.contains_key(&group)),
            "nothing is remembered without waiting threads"
        );
    }

    #[test]
    fn a_failed_sync_is_reported_to_all_that_it_served() {
        let group = new_group();
        let failures = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    let result = shared(group, || {
                        std::thread::sleep(Duration::from_millis(20));
                        Err(io::Error::from_raw_os_error(libc::EIO))
                    });
                    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EIO));
                    failures.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(failures.load(Ordering::Relaxed), 8);
        assert!(shared(group, || Ok(())).is_ok(), "a later one is judged by itself");
    }
}
