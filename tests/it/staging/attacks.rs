//! Processes that have, had or get access to a stage's file write to it before, while and after it is sealed: no object
//! changes. Each attack is repeated many times against real sealers. At the end, when the last descriptor was written
//! through, the store is verified and every object is hashed.

use super::support::{LARGE, Staged, contributions, stage, stage_with, whole};
use crate::support::{TestStore, random_bytes, text};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Seals that each attack is tried on; `CAIRN_ATTACKS` says more.
fn rounds() -> usize {
    std::env::var("CAIRN_ATTACKS").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

/// What an attacker has done, and what it still holds.
#[derive(Default)]
struct Attack {
    stop: AtomicBool,
    tries: AtomicU64,
    kept: parking_lot::Mutex<Vec<File>>,
}

impl Attack {
    fn write(&self, file: &File) {
        if file.write_all_at(b"ATTACK", self.tries.fetch_add(1, Ordering::Relaxed) * 4096 % LARGE as u64).is_ok() {
            let mut kept = self.kept.lock();
            if kept.len() < 64 {
                kept.extend(file.try_clone());
            }
        }
    }

    /// Opens for writing without patience for leases half of the time.
    fn open(&self, path: &Path) -> Option<File> {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = if self.tries.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { libc::O_NONBLOCK } else { 0 };
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok()
    }
}

/// Seals a stage of three large and a small file, in rounds, while `attack` is at one of the large ones; then once more
/// in peace if that failed.
fn attacked(name: &str, attack: impl Fn(&Attack, &Path) + Sync) {
    let test_store = TestStore::new();
    let (mut tries, mut refused) = (0, 0);
    for round in 0..rounds() {
        let run = format!("r{round}");
        let staged = stage(&test_store, &run);
        for i in 0..3 {
            fs::write(staged.at(&format!("large-{i}")), random_bytes((round * 3 + i) as u64, 4 * LARGE)).unwrap();
        }
        fs::write(staged.at("small"), "small").unwrap();
        let target = staged.backing().join("large-1");
        let state = Attack::default();
        std::thread::scope(|s| {
            let attacker = s.spawn(|| {
                while !state.stop.load(Ordering::Relaxed) {
                    attack(&state, &target);
                }
            });
            std::thread::sleep(std::time::Duration::from_millis(2 * (round % 8) as u64));
            refused += u64::from(!staged.seal().status.success());
            // After the seal, too.
            for file in state.kept.lock().iter() {
                let _ = file.write_all_at(b"AFTER", 0);
            }
            state.stop.store(true, Ordering::Relaxed);
            attacker.join().unwrap();
        });
        staged.sealed();
        for file in state.kept.lock().iter() {
            let _ = file.write_all_at(b"AT LAST", 0);
        }
        assert_eq!(contributions(&test_store, &run), 1);
        let read: Vec<_> = (0..3).map(|i| fs::read(staged.at(&format!("large-{i}"))).unwrap()).collect();
        assert!(
            read[0] == random_bytes((round * 3) as u64, 4 * LARGE)
                && read[2] == random_bytes((round * 3 + 2) as u64, 4 * LARGE)
        );
        tries += state.tries.load(Ordering::Relaxed);
    }
    whole(&test_store, name);
    println!("{name}: {tries} tries in {} seals, {refused} of them refused at first; 0 objects changed", rounds());
    assert!(tries > 0);
}

#[test]
fn writing_to_the_file_of_a_stage_outside_its_mount_reaches_no_object() {
    attacked("direct open", |state, path| {
        if let Some(file) = state.open(path) {
            state.write(&file);
        }
    });
}

#[test]
fn a_descriptor_from_before_the_seal_reaches_no_object() {
    attacked("kept descriptor", |state, path| {
        if state.kept.lock().is_empty()
            && let Some(file) = state.open(path)
        {
            state.write(&file);
        }
        state.kept.lock().iter().for_each(|file| drop(file.write_all_at(b"ATTACK", 8192)));
        state.tries.fetch_add(1, Ordering::Relaxed);
    });
}

#[test]
fn a_hard_link_made_from_outside_reaches_no_object() {
    attacked("hard link", |state, path| {
        let link =
            path.ancestors().nth(3).unwrap().with_file_name(format!("link-{}", state.tries.load(Ordering::Relaxed)));
        if fs::hard_link(path, &link).is_ok() {
            // By the time that this opens it, the seal may be over.
            std::thread::sleep(std::time::Duration::from_millis(state.tries.load(Ordering::Relaxed) % 8));
            state.open(&link).iter().for_each(|file| state.write(file));
        }
        state.tries.fetch_add(1, Ordering::Relaxed);
    });
}

#[test]
fn changing_the_mode_and_writing_reaches_no_object() {
    attacked("chmod and write", |state, path| {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o666));
        state.open(path).iter().for_each(|file| state.write(file));
    });
}

#[test]
fn truncating_by_path_reaches_no_object() {
    attacked("truncate", |state, path| {
        let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a valid C string.
        unsafe {
            libc::truncate(path.as_ptr(), (state.tries.fetch_add(1, Ordering::Relaxed) * 977 % LARGE as u64) as i64)
        };
    });
}

#[test]
fn renaming_over_the_stages_file_reaches_no_object() {
    attacked("rename over", |state, path| {
        let other = path.with_extension("other");
        if fs::write(&other, random_bytes(state.tries.fetch_add(1, Ordering::Relaxed), 2 * LARGE)).is_ok() {
            let file = state.open(&other);
            let _ = fs::rename(&other, path);
            file.iter().for_each(|file| state.write(file));
        }
    });
}

/// A shared map of a whole file, writable.
struct Map(*mut u8, usize);

// SAFETY: plain memory, written to a byte at a time.
unsafe impl Sync for Map {}

impl Map {
    fn of(file: &File, len: usize) -> Map {
        use std::os::fd::AsRawFd;
        // SAFETY: an open file of that length; the map outlives the descriptor, as is meant.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(at, libc::MAP_FAILED);
        Map(at.cast(), len)
    }

    fn store(&self, i: usize) {
        // SAFETY: within the map, which exists as long as `self`.
        unsafe { self.0.add(i * 4099 % self.1).write_volatile(b'A' + (i % 26) as u8) };
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped once, unmapped once.
        unsafe { libc::munmap(self.0.cast(), self.1) };
    }
}

#[test]
fn a_map_that_outlives_its_descriptor_reaches_no_object() {
    let test_store = TestStore::new();
    let (mut stores, mut refused) = (0, 0);
    for round in 0..rounds() {
        let staged = stage(&test_store, &format!("m{round}"));
        fs::write(staged.at("large"), random_bytes(round as u64, 4 * LARGE)).unwrap();
        fs::write(staged.at("small"), random_bytes(round as u64, 9000)).unwrap();
        let maps: Vec<Map> = [("large", 4 * LARGE), ("small", 9000)]
            .iter()
            .map(|(name, len)| Map::of(&rw(&staged.at(name)), *len))
            .collect();
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            let writer = s.spawn(|| {
                (0..)
                    .inspect(|i| maps.iter().for_each(|m| m.store(*i)))
                    .take_while(|_| !stop.load(Ordering::Relaxed))
                    .count()
            });
            std::thread::sleep(std::time::Duration::from_millis(3));
            refused += u64::from(!staged.seal().status.success());
            std::thread::sleep(std::time::Duration::from_millis(3));
            stop.store(true, Ordering::Relaxed);
            stores += writer.join().unwrap();
        });
        staged.sealed();
        (0..1000).for_each(|i| maps[0].store(i));
        drop(maps);
    }
    whole(&test_store, "maps");
    println!("maps: {stores} stores in {} seals, {refused} of them refused at first; 0 objects changed", rounds());
}

fn rw(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

#[test]
fn a_map_through_the_daemon_keeps_the_file_open_and_the_seal_is_refused() {
    let test_store = TestStore::new();
    let staged = stage_with(&test_store, "r", &["--io", "no-open"]);
    fs::write(staged.at("large"), random_bytes(1, LARGE)).unwrap();
    let map = Map::of(&rw(&staged.at("large")), LARGE);
    assert_refused(&staged, "large", std::process::id());
    map.store(1);
    drop(map);
    staged.sealed();
    whole(&test_store, "a map through the daemon");
}

/// Sealing is refused, naming the path and the process.
fn assert_refused(staged: &Staged<'_>, path: &str, process: u32) {
    let output = staged.seal();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains(&format!("{path} is open for writing by process {process}")), "{stderr}");
    fs::write(staged.at("still"), "writable").unwrap();
}

#[test]
fn sealing_while_a_file_is_open_for_writing_is_refused_naming_path_and_process() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    fs::create_dir(staged.at("d")).unwrap();
    let file = File::create(staged.at("d/open")).unwrap();
    assert_refused(&staged, "d/open", std::process::id());
    drop(file);
    staged.sealed();
}

#[test]
fn a_descriptor_that_a_child_inherited_keeps_the_stage_open() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    let file = File::create(staged.at("inherited")).unwrap();
    let mut child = Command::new("sleep").arg("100").stdout(Stdio::from(file)).spawn().unwrap();
    assert_refused(&staged, "inherited", child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    staged.sealed();
}

#[test]
fn what_is_written_to_a_stages_file_between_a_killed_seal_and_the_next_reaches_no_object() {
    let (mut written, mut steps) = (0, 0);
    for step in (1..).step_by(3) {
        let test_store = TestStore::new();
        let staged = stage(&test_store, "r");
        fs::write(staged.at("large"), random_bytes(1, LARGE)).unwrap();
        let backing = staged.backing();
        test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
        let args = ["upsert", "a", "--run", "r", "--distributed-id", "d"];
        let killed = test_store.cairn(&args).env("CAIRN_FAULT", format!("kill:{step}")).output().unwrap();
        if killed.status.success() {
            break;
        }
        steps += 1;
        // Root goes round the mount, keeps the descriptor, and writes on when the next sealer is done.
        let file = OpenOptions::new().read(true).write(true).open(backing.join("large")).ok();
        let next = test_store.cairn(&args).output().unwrap();
        // At the very end there is nothing left to be sealed.
        assert!(matches!(next.status.code(), Some(0 | 6)), "kill at step {step}: {}", text(&next.stderr));
        assert_eq!(contributions(&test_store, "r"), 1);
        if let Some(file) = file {
            file.write_all_at(b"LATER", 5).unwrap();
            written += 1;
        }
        whole(&test_store, &format!("kill at step {step}"));
    }
    println!("{steps} kills, {written} writes through a descriptor from in between; 0 objects changed");
    assert!(written > 5);
}
