//! Where a mount may go, and what is not ours to unmount.

use super::support::*;
use crate::support::plain_umount;
use cairn::error::Kind;
use cairn::fuse::unmount;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_mount_point_that_will_not_do_is_refused_before_anything_happens() {
    let place = Location::new();
    let tree = place.version(&things([(b"f", file("text"))]));
    let full = place.empty("full");
    fs::write(full.join("x"), "").unwrap();
    fs::write(place.path("file"), "").unwrap();
    let refusals = [
        (place.path("missing"), 6, "does not exist"),
        (place.path("file"), 2, "not a directory"),
        (full, 3, "not empty"),
        (place.store(), 2, "the store itself"),
        (place.store().join("trash"), 2, "inside the store"),
        (place.path(""), 2, "would be hidden"),
    ];
    for (mnt, status, why) in refusals {
        let output = place.cairnfs(tree, &mnt, "").output().unwrap();
        let message = stderr_of(&output);
        assert_eq!(output.status.code(), Some(status), "{mnt:?}: {message}");
        assert!(message.contains(why) && message.contains("hint: ") || status == 2, "{mnt:?}: {message}");
    }
    let mounted = place.mount(tree);
    let output = place.cairnfs(tree, mounted.path(), "").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr_of(&output).contains("a cairn mount is there already"), "{}", stderr_of(&output));
}

#[test]
fn a_store_seen_through_a_bind_mount_is_still_the_store() {
    let place = Location::new();
    let tree = place.version(&things([(b"f", file("text"))]));
    let elsewhere = place.empty("elsewhere");
    let bound = Command::new("mount").arg("--bind").arg(place.store()).arg(&elsewhere).status().unwrap();
    if !bound.success() {
        eprintln!("skipped: bind mounts are not possible here");
        return;
    }
    let output = place.cairnfs(tree, &elsewhere.join("trash"), "").output().unwrap();
    plain_umount(&elsewhere);
    assert_eq!(output.status.code(), Some(2), "{}", stderr_of(&output));
}

#[test]
fn the_mount_table_says_what_it_is() {
    let place = Location::new();
    let mounted = place.mount(place.version(&things([(b"f", file("text"))])));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|l| l.contains(mounted.path().to_str().unwrap())).unwrap();
    let (mount, kind) = line.split_once(" - ").unwrap();
    assert!(kind.starts_with(&format!("fuse.cairnfs {} ro,", place.store().display())), "{line}");
    for option in ["ro", "nosuid", "nodev", "noatime"] {
        assert!(mount.split([' ', ',']).any(|w| w == option), "{option}: {line}");
    }
    assert!(!kind.contains("allow_other"), "{line}");
}

#[test]
fn only_cairn_mounts_are_unmounted() {
    let place = Location::new();
    assert_eq!(unmount(&place.empty("plain")).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(unmount(&place.path("missing")).unwrap_err().kind(), Kind::NotFound);
    let e = unmount(Path::new("/proc")).unwrap_err();
    assert_eq!(e.kind(), Kind::Conflict);
    assert!(e.message().contains("type proc"), "{e}");
    let mounted = place.mount(place.version(&things([(b"d/f", file("text"))])));
    let e = unmount(&mounted.at("d")).unwrap_err();
    assert_eq!(e.kind(), Kind::NotFound);
    assert!(e.hint().unwrap().contains(mounted.path().to_str().unwrap()), "{e}");
    assert!(is_mounted(mounted.path()));
}

#[test]
fn the_mount_helper_of_mount_8_mounts_by_type_with_its_options() {
    let place = Location::new();
    let tree = place.version(&things([(b"f", file("text"))]));
    let helper = ["/sbin/mount.fuse3", "/usr/sbin/mount.fuse3"].into_iter().find(|p| Path::new(p).exists());
    let Some(helper) = helper else {
        eprintln!("skipped: package fuse3 is not installed");
        return;
    };
    let mnt = place.empty("mnt");
    let mounted = Mounted(mnt.clone());
    let bin = Path::new(env!("CARGO_BIN_EXE_cairnfs")).parent().unwrap().to_str().unwrap().to_owned();
    // mount(8) would look for cairnfs in the system's own directories only.
    let mut mount = Command::new(helper);
    mount.env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()));
    mount.arg(place.store()).arg(&mnt).args(["-t", "fuse.cairnfs", "-o"]);
    mount.arg(format!("rw,noexec,nosuid,nodev,tree={tree},time={TIME},_netdev,nofail,x-systemd.automount,allow_other"));
    let output = mount.output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert_eq!(fs::read(mounted.at("f")).unwrap(), b"text");
    plain_umount(&mnt);
}

#[test]
fn of_ten_mounts_of_one_place_at_once_one_succeeds() {
    let place = Location::new();
    let tree = place.version(&things([(b"f", file("text"))]));
    let mnt = place.empty("mnt");
    let mounted = Mounted(mnt.clone());
    for _ in 0..3 {
        let started: Vec<_> =
            (0..10).map(|_| place.cairnfs(tree, &mnt, "").stderr(Stdio::piped()).spawn().unwrap()).collect();
        let mut statuses: Vec<_> =
            started.into_iter().map(|child| child.wait_with_output().unwrap().status.code()).collect();
        statuses.sort();
        assert_eq!(statuses, [vec![Some(0)], vec![Some(3); 9]].concat());
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(table.lines().filter(|line| line.split(' ').nth(4) == mnt.to_str()).count(), 1);
        assert_eq!(fs::read(mounted.at("f")).unwrap(), b"text");
        unmount(&mnt).unwrap();
        assert!(!is_mounted(&mnt));
    }
}

#[test]
fn unmounting_names_a_copy_that_remains_and_succeeds() {
    let place = Location::new();
    let mounted = place.mount(place.version(&things([(b"f", file("text"))])));
    // Another mount namespace, as a container or a service with a private /tmp has one.
    let mut copy = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", "echo; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(&mut copy.stdout.take().unwrap(), &mut [0]).unwrap();
    let begun = Instant::now();
    let left = unmount(mounted.path()).unwrap();
    assert!(!is_mounted(mounted.path()) && begun.elapsed() < Duration::from_secs(5));
    let daemon = left.daemon.unwrap();
    assert_eq!(daemons(mounted.path()), [daemon]);
    let [elsewhere] = left.elsewhere.as_slice() else { panic!("{left:?}") };
    assert_eq!(
        (elsewhere.process.clone().map(|(pid, _)| pid), elsewhere.at.as_path()),
        (Some(copy.id()), mounted.path())
    );
    assert!(elsewhere.to_string().contains("in the mount namespace of process"), "{elsewhere}");
    copy.kill().unwrap();
    copy.wait().unwrap();
    wait_until("the daemon to end with the last copy", || daemons(mounted.path()).is_empty());
}

#[test]
fn unmounting_names_a_bind_mount_that_remains() {
    let place = Location::new();
    let mounted = place.mount(place.version(&things([(b"f", file("text"))])));
    let bound = place.empty("bound");
    assert!(Command::new("mount").arg("--bind").arg(mounted.path()).arg(&bound).status().unwrap().success());
    let left = unmount(mounted.path()).unwrap();
    let still = fs::read(bound.join("f"));
    plain_umount(&bound);
    assert_eq!(still.unwrap(), b"text");
    // Mount namespaces made during this test may have copies too.
    let first = left.elsewhere.first().map(|e| (e.process.clone(), e.at.clone()));
    assert_eq!(first, Some((None, bound)));
    wait_until("the daemon to end", || daemons(mounted.path()).is_empty());
}
