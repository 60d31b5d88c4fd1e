//! Where mounts are made: inside user namespaces, over stacked and slow file systems, by programs that hand the mount
//! over.

use super::support::*;
use crate::support::plain_umount;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn large() -> Thing {
    Thing::File(random_bytes(3, 3 << 20))
}

/// Maps the first page of a file and gives its first byte.
fn mapped(path: &Path) -> u8 {
    let file = File::open(path).unwrap();
    // SAFETY: no process changes the object behind it in this test.
    let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
    map[0]
}

#[test]
fn passthrough_reads_large_files_and_the_rest_through_the_daemon_all_at_once() {
    let place = Location::new();
    let version = things([(b"large", large()), (b"small", file("text")), (b"twin", large()), (b"empty", file(""))]);
    let mounted = place.mount_with(place.version(&version), ",io=passthrough");
    assert_eq!(seen(mounted.path()), expected(&version));
    let bytes = random_bytes(3, 3 << 20);
    let readers: Vec<_> = (0..8)
        .map(|i| {
            let (path, bytes) = (mounted.at(if i % 2 == 0 { "large" } else { "twin" }), bytes.clone());
            std::thread::spawn(move || {
                for round in 0..50 {
                    let mut got = [0; 1000];
                    File::open(&path).unwrap().read_exact_at(&mut got, round * 50_000).unwrap();
                    assert_eq!(got[..], bytes[round as usize * 50_000..][..1000]);
                    assert_eq!(mapped(&path), bytes[0]);
                }
            })
        })
        .collect();
    readers.into_iter().for_each(|r| r.join().unwrap());
    assert_eq!(OpenOptions::new().write(true).open(mounted.at("large")).unwrap_err().raw_os_error(), Some(libc::EROFS));
    assert!(!place.logged().contains("passthrough"), "{}", place.logged());
}

#[test]
fn on_a_stacked_file_system_passthrough_is_refused_the_log_says_so_and_reads_are_right() {
    let place = Location::new();
    let version = things([(b"large", large()), (b"small", file("text"))]);
    let tree = place.version(&version);
    let merged = place.empty("merged");
    let layers = ["upper", "work"].map(|name| place.empty(name).display().to_string());
    let options = format!("lowerdir={},upperdir={},workdir={}", place.store().display(), layers[0], layers[1]);
    let overlay =
        Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&merged).output().unwrap();
    assert!(overlay.status.success(), "{}", stderr_of(&overlay));
    let mnt = place.empty("mnt");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairnfs"));
    command
        .arg(&merged)
        .arg(&mnt)
        .arg("-o")
        .arg(format!("tree={tree},time={TIME},io=passthrough,log={}", place.log().display()));
    let output = command.output().unwrap();
    {
        let mounted = Mounted(mnt);
        assert!(output.status.success(), "{}", stderr_of(&output));
        assert_eq!(seen(mounted.path()), expected(&version));
    }
    plain_umount(&merged);
    assert!(place.logged().contains("the kernel refuses passthrough here"), "{}", place.logged());
}

#[test]
fn in_a_user_namespace_a_store_is_mounted_and_passthrough_is_left_out() {
    let place = Location::new();
    let version = things([(b"large", large()), (b"small", file("text"))]);
    let tree = place.version(&version);
    let mnt = place.empty("mnt");
    let script = format!(
        "\"$0\" '{store}' '{mnt}' -o tree={tree},log={log} && cat '{mnt}/small' && cksum < '{mnt}/large' && umount \
         '{mnt}'",
        store = place.store().display(),
        mnt = mnt.display(),
        log = place.log().display()
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(env!("CARGO_BIN_EXE_cairnfs"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    fs::write(place.path("same"), random_bytes(3, 3 << 20)).unwrap();
    let sum = Command::new("cksum").stdin(File::open(place.path("same")).unwrap()).output().unwrap();
    assert_eq!(output.stdout, [b"text".as_slice(), &sum.stdout].concat());
    assert!(place.logged().contains("the kernel refuses passthrough here"), "{}", place.logged());
}

#[test]
fn a_mount_that_mount_fuse3_makes_and_hands_over_is_served_without_privileges_and_refuses_changes() {
    let helper = ["/sbin/mount.fuse3", "/usr/sbin/mount.fuse3"]
        .into_iter()
        .find(|p| Path::new(p).exists())
        .expect("package fuse3");
    let place = Location::new();
    let tree = place.version(&things([(b"f", file("text")), (b"large", large())]));
    let mnt = place.empty("mnt");
    let mounted = Mounted(mnt.clone());
    let bin = Path::new(env!("CARGO_BIN_EXE_cairnfs")).parent().unwrap().to_str().unwrap();
    let mut mount = Command::new(helper);
    mount.env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap())).arg(place.store()).arg(&mnt);
    mount.args(["-t", "fuse.cairnfs", "-o"]).arg(format!("rw,drop_privileges,tree={tree},time={TIME},allow_other"));
    let output = mount.output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    wait_until("the mount to answer", || fs::read(mounted.at("f")).is_ok_and(|bytes| bytes == b"text"));
    assert_eq!(fs::read(mounted.at("large")).unwrap(), random_bytes(3, 3 << 20));
    // The mount is writable for the kernel: each open asks the daemon, so no process overwrites what is cached.
    for result in [
        OpenOptions::new().read(true).write(true).open(mounted.at("f")).map(drop),
        OpenOptions::new().write(true).truncate(true).open(mounted.at("f")).map(drop),
        File::create(mounted.at("new")).map(drop),
        fs::remove_file(mounted.at("f")),
    ] {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EROFS));
    }
    assert_eq!(fs::read(mounted.at("f")).unwrap(), b"text");
    plain_umount(&mnt);
}

/// A store inside a version that is mounted itself: the outer daemon is stopped, and the inner one has a disk that does
/// not answer.
#[test]
fn a_store_that_does_not_answer_is_eio_after_the_deadline_and_what_is_known_stays_readable() {
    let inner = Location::new();
    let version =
        things([(b"d/known", file("known")), (b"d/new", Thing::File(random_bytes(9, 20_000))), (b"large", large())]);
    let tree = inner.version(&version);
    let outer = Location::new();
    let mut files = Things::new();
    for entry in walkdir::WalkDir::new(inner.store()).min_depth(1).into_iter().map(Result::unwrap) {
        let path = entry.path().strip_prefix(inner.store()).unwrap().to_str().unwrap().as_bytes().to_vec();
        files.insert(
            path,
            if entry.file_type().is_dir() { Thing::Dir } else { Thing::File(fs::read(entry.path()).unwrap()) },
        );
    }
    let disk = outer.mount_with(outer.version(&files), ",io=no-open");
    let mnt = outer.empty("mnt");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairnfs"));
    command
        .arg(disk.path())
        .arg(&mnt)
        .arg("-o")
        .arg(format!("tree={tree},time={TIME},deadline=1,io=no-open,log={}", inner.log().display()));
    let output = command.output().unwrap();
    let mounted = Mounted(mnt);
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert_eq!(fs::read(mounted.at("d/known")).unwrap(), b"known");
    assert_eq!(fs::read_dir(mounted.at("d")).unwrap().count(), 2);
    // Open, so that the kernel keeps what it has of them.
    let _open = ["d/known", "d/new"].map(|path| File::open(mounted.at(path)).unwrap());
    let stopped = Stopped::new(daemons(disk.path()).into_iter().min().unwrap());
    let begun = Instant::now();
    let late: Vec<_> = (0..40)
        .map(|i| {
            let path = mounted.at("large");
            std::thread::spawn(move || {
                File::open(path).unwrap().read_at(&mut [0; 10], i * 70_000).map_err(|e| e.raw_os_error())
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(fs::read(mounted.at("d/known")).unwrap(), b"known", "the kernel's cache does not ask the daemon");
    assert_eq!(fs::metadata(mounted.at("d/new")).unwrap().len(), 20_000);
    let results: Vec<_> = late.into_iter().map(|r| r.join().unwrap()).collect();
    let took = begun.elapsed();
    drop(stopped);
    assert!(results.iter().all(|r| *r == Err(Some(libc::EIO))), "{results:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(inner.logged().contains("did not answer within 1 s"), "{}", inner.logged());
    assert_eq!(fs::read(mounted.at("large")).unwrap(), random_bytes(3, 3 << 20), "and right when it answers again");
}

#[test]
fn sixty_four_readers_at_once_take_bounded_memory() {
    let place = Location::new();
    let version: Things =
        (0..8).map(|i| (format!("f{i}").into_bytes(), Thing::File(random_bytes(i, 8 << 20)))).collect();
    let mounted = place.mount_with(place.version(&version), ",io=no-open");
    let readers: Vec<_> = (0..64)
        .map(|i| {
            let path = mounted.at(format!("f{}", i % 8));
            std::thread::spawn(move || assert_eq!(fs::read(path).unwrap().len(), 8 << 20))
        })
        .collect();
    readers.into_iter().for_each(|r| r.join().unwrap());
    let status = fs::read_to_string(format!("/proc/{}/status", daemons(mounted.path())[0])).unwrap();
    let peak =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok()).unwrap();
    assert!(peak < 64 << 10, "{peak} KiB");
}
