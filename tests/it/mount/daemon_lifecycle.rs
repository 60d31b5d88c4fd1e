//! The mount's daemon: starting, ending, being killed.

use super::support::*;
use crate::support::plain_umount;
use cairn::error::Kind;
use cairn::fuse::unmount;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

fn simple() -> Things {
    things([(b"f", file("text")), (b"d/x", Thing::File(random_bytes(1, 500_000)))])
}

#[test]
fn the_command_returns_when_the_mount_answers_and_lets_go_of_its_pipes() {
    let place = Location::new();
    let tree = place.version(&simple());
    let mnt = place.empty("mnt");
    for _ in 0..5 {
        let mounted = Mounted(mnt.clone());
        // `output` waits for the end of stdout: a daemon that kept it would make this hang.
        let output = place.cairnfs(tree, &mnt, "").output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
        assert_eq!(fs::read(mounted.at("f")).unwrap(), b"text");
        assert_eq!(daemons(&mnt).len(), 1);
    }
}

#[test]
fn umount_leaves_no_process_and_an_empty_directory() {
    let place = Location::new();
    let mounted = place.mount(place.version(&simple()));
    fs::read(mounted.at("d/x")).unwrap();
    assert_eq!(daemons(mounted.path()).len(), 1);
    unmount(mounted.path()).unwrap();
    assert_eq!(daemons(mounted.path()), [0_u32; 0], "when umount returns, the daemon has ended");
    assert_eq!(fs::read_dir(mounted.path()).unwrap().count(), 0);
}

#[test]
fn a_plain_umount_ends_the_daemon_too() {
    let place = Location::new();
    let mounted = place.mount(place.version(&simple()));
    plain_umount(mounted.path());
    wait_until("the daemon to end", || daemons(mounted.path()).is_empty());
}

#[test]
fn after_a_killed_daemon_the_mount_is_enotconn_and_umount_cleans_up() {
    let place = Location::new();
    let tree = place.version(&simple());
    let mounted = place.mount(tree);
    let open = File::open(mounted.at("d/x")).unwrap();
    kill(daemons(mounted.path())[0], libc::SIGKILL);
    wait_until("the daemon to end", || daemons(mounted.path()).is_empty());
    wait_until("ENOTCONN", || fs::metadata(mounted.path()).is_err_and(|e| e.raw_os_error() == Some(libc::ENOTCONN)));
    assert_eq!(fs::read_dir(mounted.at("d")).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    unmount(mounted.path()).unwrap();
    drop(open);
    assert!(!is_mounted(mounted.path()));
    // A mount at the place of a dead one takes that away.
    for dead in [false, true] {
        let output = place.cairnfs(tree, mounted.path(), "").output().unwrap();
        assert!(output.status.success(), "{dead}: {}", stderr_of(&output));
        assert_eq!(fs::read(mounted.at("f")).unwrap(), b"text");
        if !dead {
            kill(daemons(mounted.path())[0], libc::SIGKILL);
            wait_until("the daemon to end", || daemons(mounted.path()).is_empty());
        }
    }
    unmount(mounted.path()).unwrap();
    assert!(!is_mounted(mounted.path()));
}

#[test]
fn a_dead_mount_is_unmounted_through_a_link_and_a_relative_path_too() {
    let place = Location::new();
    let mounted = place.mount(place.version(&simple()));
    let link = place.path("link");
    std::os::unix::fs::symlink(mounted.path(), &link).unwrap();
    kill(daemons(mounted.path())[0], libc::SIGKILL);
    wait_until("the daemon to end", || daemons(mounted.path()).is_empty());
    unmount(&link).unwrap();
    assert!(!is_mounted(mounted.path()));
}

#[test]
fn signals_unmount_and_end_the_daemon() {
    let place = Location::new();
    let tree = place.version(&simple());
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let mounted = place.mount(tree);
        kill(daemons(mounted.path())[0], signal);
        wait_until("the daemon to end", || daemons(mounted.path()).is_empty());
        assert!(!is_mounted(mounted.path()), "signal {signal}");
    }
}

#[test]
fn a_signal_ends_a_busy_mount_too_after_serving_its_readers_a_while() {
    let place = Location::new();
    let mounted = place.mount(place.version(&simple()));
    let mut open = File::open(mounted.at("d/x")).unwrap();
    kill(daemons(mounted.path())[0], libc::SIGTERM);
    wait_until("the mount to go", || !is_mounted(mounted.path()));
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, random_bytes(1, 500_000));
    drop(open);
    wait_until("the daemon to end", || daemons(mounted.path()).is_empty());
}

#[test]
fn in_the_foreground_the_command_lasts_as_long_as_the_mount_and_a_signal_is_its_good_end() {
    let place = Location::new();
    let tree = place.version(&simple());
    let mnt = place.empty("mnt");
    for by_signal in [true, false] {
        let mounted = Mounted(mnt.clone());
        let mut child = place.cairnfs(tree, &mnt, ",foreground").stderr(Stdio::piped()).spawn().unwrap();
        wait_until("the mount", || is_mounted(&mnt) && fs::read(mounted.at("f")).is_ok());
        assert!(child.try_wait().unwrap().is_none());
        if by_signal {
            kill(child.id(), libc::SIGTERM);
        } else {
            // The child is ours to reap: it may not be waited for here.
            let unmounting = std::thread::spawn(move || unmount(&mnt_of(&mounted)));
            assert!(child.wait().unwrap().success());
            unmounting.join().unwrap().unwrap();
            return;
        }
        assert!(child.wait().unwrap().success());
        assert!(!is_mounted(&mnt));
    }
}

fn mnt_of(mounted: &Mounted) -> std::path::PathBuf {
    mounted.path().to_path_buf()
}

#[test]
fn a_busy_mount_is_not_unmounted_and_the_error_names_who_uses_it() {
    let place = Location::new();
    let mounted = place.mount(place.version(&simple()));
    let open = File::open(mounted.at("f")).unwrap();
    let e = unmount(mounted.path()).unwrap_err();
    assert_eq!(e.kind(), Kind::Conflict);
    assert!(format!("{e:#}").contains(&format!("process {} ", std::process::id())), "{e:#}");
    assert_eq!(fs::read(mounted.at("f")).unwrap(), b"text");
    drop(open);
    unmount(mounted.path()).unwrap();
}

#[test]
fn an_error_before_the_mount_is_ready_is_printed_by_the_command() {
    let place = Location::new();
    let mnt = place.empty("mnt");
    let output = place.cairnfs(cairn::types::Digest::of(b"nothing"), &mnt, "").output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr_of(&output));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{}", stderr_of(&output));
    assert!(!is_mounted(&mnt));
    wait_until("the daemon to end", || daemons(&mnt).is_empty());
}

#[test]
fn an_aborted_connection_takes_the_dead_mount_away() {
    let place = Location::new();
    let mounted = place.mount(place.version(&simple()));
    use std::os::unix::fs::MetadataExt;
    let minor = libc::minor(fs::metadata(mounted.path()).unwrap().dev());
    let control = place.empty("control");
    assert!(Command::new("mount").args(["-t", "fusectl", "none"]).arg(&control).status().unwrap().success());
    let aborted = fs::write(control.join(format!("{minor}/abort")), "1");
    plain_umount(&control);
    aborted.unwrap();
    wait_until("the daemon to end", || daemons(mounted.path()).is_empty());
    assert!(!is_mounted(mounted.path()));
}

#[test]
fn a_daemon_keeps_nothing_of_its_caller_open() {
    let place = Location::new();
    let tree = place.version(&simple());
    let mnt = place.empty("mnt");
    let (reader, writer) = std::io::pipe().unwrap();
    let mounted = Mounted(mnt.clone());
    let mut command = Command::new("sh");
    use std::os::fd::OwnedFd;
    // The shell holds the pipe as its descriptor 9 and hands it on.
    command.arg("-c").arg("exec 9>&1 1>/dev/null; \"$@\"").arg("sh");
    let inner = place.cairnfs(tree, &mnt, "");
    command.arg(inner.get_program()).args(inner.get_args());
    command.stdout(Stdio::from(OwnedFd::from(writer)));
    assert!(command.status().unwrap().success());
    drop(command);
    let mut text = String::new();
    { reader }.read_to_string(&mut text).expect("ends when no process holds the other side");
    drop(mounted);
}

#[test]
fn a_version_is_mounted_by_name_stays_what_it_was_and_is_locked_meanwhile() {
    let place = Location::new();
    let store = cairn::Store::open(place.store()).unwrap();
    let publish = |text: &str| {
        let mut artifact = cairn::Artifact::new("set", None).unwrap();
        artifact.add_bytes("f", text).unwrap();
        artifact.save(&store).unwrap();
    };
    let locks = || cairn::internals::lock::list(&store).unwrap().len();
    publish("first");
    let mnt = place.empty("mnt");
    let mounted = Mounted(mnt.clone());
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairnfs"));
    let output = command.arg(place.store()).arg(&mnt).args(["-o", "version=set"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    publish("second");
    assert_eq!(fs::read(mounted.at("f")).unwrap(), b"first");
    use std::os::unix::fs::MetadataExt;
    let version = cairn::resolve(&store, &cairn::VersionSpec::parse("set:v0").unwrap()).unwrap();
    assert_eq!(
        Some(fs::metadata(mounted.at("f")).unwrap().mtime()),
        cairn::internals::clock::parse(&version.record().created_at)
    );
    assert_eq!(locks(), 1);
    // Also the lock of a busy mount whose daemon gets SIGTERM.
    let open = File::open(mounted.at("f")).unwrap();
    kill(daemons(&mnt)[0], libc::SIGTERM);
    wait_until("the daemon to end", || daemons(&mnt).is_empty());
    assert_eq!(locks(), 0);
    drop(open);
    let none = Command::new(env!("CARGO_BIN_EXE_cairnfs"))
        .arg(place.store())
        .arg(&mnt)
        .args(["-o", "version=set:v9"])
        .output()
        .unwrap();
    assert_eq!(none.status.code(), Some(6), "{}", stderr_of(&none));
}

/// Small files. Each of two rounds reads half of them.
fn many() -> Things {
    (0..4000).map(|i| (format!("d{:02}/{i}", i % 20).into_bytes(), Thing::File(random_bytes(i, 3000)))).collect()
}

fn path_of(i: u64) -> String {
    format!("d{:02}/{i}", i % 20)
}

/// Reads files one after another and says what each read came to: nothing, or the error number. Wrong bytes end the
/// test.
fn read_on(mounted: &Mounted, files: impl Iterator<Item = u64>, done: &AtomicU64) -> Vec<i32> {
    let read = |i: u64| match fs::read(mounted.at(path_of(i))) {
        Ok(bytes) => {
            assert!(bytes == random_bytes(i, 3000), "{}", path_of(i));
            0
        }
        Err(e) => e.raw_os_error().unwrap(),
    };
    files.map(read).inspect(|_| _ = done.fetch_add(1, Ordering::Relaxed)).collect()
}

/// Four threads that share the files, each reading every fourth; when this returns they are at it.
fn four_readers<'s, 'e>(
    s: &'s Scope<'s, 'e>,
    files: Range<u64>,
    mounted: &'e Mounted,
    done: &'e AtomicU64,
) -> Vec<ScopedJoinHandle<'s, Vec<i32>>> {
    let reader = |r| {
        let own = files.clone().filter(move |i| i % 4 == r);
        s.spawn(move || read_on(mounted, own, done))
    };
    let readers = (0..4).map(reader).collect();
    wait_until("the readers to be at it", || done.load(Ordering::Relaxed) > 200);
    readers
}

#[test]
fn a_daemon_stopped_under_load_makes_readers_wait_until_it_continues() {
    let place = Location::new();
    let mounted = place.mount(place.version(&many()));
    let known = File::open(mounted.at(path_of(0))).unwrap();
    fs::read(mounted.at(path_of(0))).unwrap();
    let done = AtomicU64::new(0);
    std::thread::scope(|s| {
        let readers = four_readers(s, 1..4000, &mounted, &done);
        let stopped = Stopped::new(daemons(mounted.path())[0]);
        std::thread::sleep(Duration::from_millis(200));
        let before = done.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(done.load(Ordering::Relaxed), before, "no request is answered");
        assert!(before < 3000, "{before}: stopped too late to show anything");
        // A process that sends a request now can be killed; what the kernel has cached can be read.
        let mut waiting = Command::new("cat").arg(mounted.at(path_of(3999))).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(waiting.try_wait().unwrap().is_none());
        waiting.kill().unwrap();
        waiting.wait().unwrap();
        let mut bytes = vec![0; 3000];
        std::os::unix::fs::FileExt::read_exact_at(&known, &mut bytes, 0).unwrap();
        assert!(bytes == random_bytes(0, 3000));
        drop(stopped);
        assert!(readers.into_iter().all(|r| r.join().unwrap().iter().all(|e| *e == 0)));
    });
}

#[test]
fn a_daemon_killed_under_load_is_an_error_to_every_reader_at_once_and_never_wrong_bytes() {
    let place = Location::new();
    let mounted = place.mount(place.version(&many()));
    let done = AtomicU64::new(0);
    std::thread::scope(|s| {
        let readers = four_readers(s, 0..4000, &mounted, &done);
        kill(daemons(mounted.path())[0], libc::SIGKILL);
        let ends: Vec<i32> = readers.into_iter().flat_map(|r| r.join().unwrap()).collect();
        assert!(ends.iter().all(|e| [0, libc::ENOTCONN, libc::ECONNABORTED].contains(e)), "{ends:?}");
        assert!(ends.contains(&libc::ENOTCONN) && ends.contains(&0));
    });
    unmount(mounted.path()).unwrap();
}
