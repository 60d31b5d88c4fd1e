//! Programs that fork while their threads read and write, as Python's `DataLoader` does.

use crate::support::{TestStore, setting};
use cairn::{Artifact, Store, Version};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const FILES: u64 = 3000;
/// `CAIRN_FORKS` sets another number.
fn forks() -> u64 {
    setting("CAIRN_FORKS", 400)
}

fn content(n: u64) -> Vec<u8> {
    format!("{n} ").repeat(1 + n as usize % 200).into_bytes()
}

/// Reads one file by its number, and checks it.
fn read(version: &Version, n: u64) {
    let visit = version.file_at(n).unwrap().unwrap();
    let mut bytes = Vec::new();
    version.open(visit.path.as_bytes()).unwrap().read_to_end(&mut bytes).unwrap();
    let number: u64 = visit.path.to_string().rsplit('/').next().unwrap().parse().unwrap();
    assert_eq!(bytes, content(number));
}

fn save(store: &Store, name: &str, n: u64) {
    let mut artifact = Artifact::new(name, None).unwrap();
    artifact.add_bytes("n", n.to_string()).unwrap();
    artifact.save(store).unwrap();
}

/// What a child does: reads with two threads, and sometimes saves. The status says whether it went well.
fn child(store: &Store, version: &Version, n: u64) -> i32 {
    let work = || {
        std::thread::scope(|s| {
            s.spawn(|| (0..5).for_each(|i| read(version, (n * 31 + i * 571) % FILES)));
            (0..5).for_each(|i| read(version, (n * 17 + i * 733) % FILES));
        });
        if n.is_multiple_of(100) {
            save(store, "of-children", n);
        }
    };
    i32::from(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err())
}

/// Waits for a child; ends it if it hangs.
fn wait(pid: libc::pid_t) -> Result<(), String> {
    let begun = Instant::now();
    let mut status = 0;
    while begun.elapsed() < Duration::from_secs(20) {
        // SAFETY: the status is a valid place, the child is ours.
        if unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } == pid {
            return if status == 0 { Ok(()) } else { Err(format!("status {status}")) };
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    // SAFETY: the child is ours.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // SAFETY: as above.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    Err("it hung".to_owned())
}

/// Forks again and again while four threads read and one saves. Runs in a process of its own, see below.
#[test]
#[ignore = "forked_children_do_not_hang runs it in a process of its own"]
fn fork_under_load() {
    let store = Store::open(std::env::var_os("FORKS_STORE").unwrap()).unwrap();
    let version = store.version("numbers").unwrap();
    let (end, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut wrong = Vec::new();
    std::thread::scope(|s| {
        for thread in 0..4u64 {
            let (version, reads, end) = (&version, &reads, &end);
            s.spawn(move || {
                for i in (thread * 1000..).take_while(|_| !end.load(Ordering::Relaxed)) {
                    read(version, i * 7919 % FILES);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        s.spawn(|| {
            for n in (0..).take_while(|_| !end.load(Ordering::Relaxed)) {
                save(&store, "of-the-parent", n);
            }
        });
        for n in 0..forks() {
            // SAFETY: the child uses only the library, which is what this tests, and exits.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let status = child(&store, &version, n);
                // SAFETY: it ends this process.
                unsafe { libc::_exit(status) };
            }
            wrong.extend(wait(pid).err().map(|why| format!("child {n}: {why}")));
            if wrong.len() > 3 {
                break;
            }
        }
        end.store(true, Ordering::Relaxed);
    });
    println!("{} reads of the parent, {} children", reads.into_inner(), forks());
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn forked_children_do_not_hang() {
    let s = TestStore::new();
    let store = s.store();
    let mut artifact = Artifact::new("numbers", None).unwrap();
    for n in 0..FILES {
        artifact.add_bytes(format!("{}/{n}", n % 7), content(n)).unwrap();
    }
    artifact.save(&store).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "forks::fork_under_load", "--ignored", "--nocapture"])
        .env("FORKS_STORE", Path::new(&s.store_path()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(store.versions("of-children").unwrap().len() as u64 == forks() / 100, "each of these children saved");
    // Nothing of the children or of the parent is left behind.
    for dir in ["locks", "pins"] {
        assert_eq!(std::fs::read_dir(s.store_path().join(dir)).map_or(0, |names| names.count()), 0, "{dir}");
    }
}
