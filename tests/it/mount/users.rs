//! Who may mount, and who may look in.

use super::support::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

pub fn has_fusermount() -> bool {
    let there = Command::new("fusermount3").arg("-V").output().is_ok();
    if !there {
        eprintln!("skipped: fusermount3 is not installed (apt install fuse3)");
    }
    there
}

/// A copy of cairnfs where any user can run it.
fn runnable(place: &Location) -> PathBuf {
    let path = place.path("cairnfs");
    copy_program(env!("CARGO_BIN_EXE_cairnfs"), &path);
    path
}

/// Runs a test again where `/dev/fuse` is open to all users, as udev makes it elsewhere: in a mount namespace of its
/// own. False when it need not be, because it is open here, or is the copy that was started.
pub fn ran_where_fuse_is_open_to_all(test: &str) -> bool {
    let open = fs::metadata("/dev/fuse").unwrap().mode() & 0o006 == 0o006;
    if open || std::env::var_os("CAIRN_TEST_INNER").is_some() {
        return false;
    }
    let place = Location::new();
    let script =
        "mknod \"$0/fuse\" c 10 229 && chmod 666 \"$0/fuse\" && mount --bind \"$0/fuse\" /dev/fuse && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(place.path("")).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("CAIRN_TEST_INNER", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    true
}

fn nobodys(place: &Location, name: &str) -> PathBuf {
    let path = place.empty(name);
    std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    path
}

fn reads(path: &Path) -> bool {
    as_nobody(Command::new("cat").arg(path)).output().unwrap().status.success()
}

#[test]
fn an_unprivileged_user_mounts_and_unmounts_through_fusermount3() {
    if !is_root()
        || !has_fusermount()
        || ran_where_fuse_is_open_to_all("mount::users::an_unprivileged_user_mounts_and_unmounts_through_fusermount3")
    {
        return;
    }
    let place = Location::new();
    let tree = place.version(&things([(b"f", file("text")), (b"d/x", file("x"))]));
    let (bin, mnt) = (runnable(&place), nobodys(&place, "mnt, with \\ odd"));
    let options = format!("tree={tree},time={TIME}");
    let mounted = Mounted(mnt.clone());
    for round in ["umount", "kill", "term"] {
        let output =
            as_nobody(Command::new(&bin).arg(place.store()).arg(&mnt).arg("-o").arg(&options)).output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
        assert!(reads(&mounted.at("f")));
        let stat = as_nobody(Command::new("stat").args(["-c", "%u %g %a"]).arg(mounted.at("f"))).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&stat.stdout).trim(),
            format!("{NOBODY} {NOBODY} 644"),
            "its mounter owns it"
        );
        assert_eq!(
            fs::read(mounted.at("f")).unwrap_err().raw_os_error(),
            Some(libc::EACCES),
            "not even root, without allow_other"
        );
        let pid = daemons(&mnt)[0];
        match round {
            "umount" => {
                let output = as_nobody(&mut unmount_command(&place, &mnt)).output().unwrap();
                assert!(output.status.success(), "{}", stderr_of(&output));
                assert_eq!(daemons(&mnt), [0_u32; 0]);
            }
            "kill" => {
                kill(pid, libc::SIGKILL);
                wait_until("the daemon to end", || daemons(&mnt).is_empty());
                let output = as_nobody(&mut unmount_command(&place, &mnt)).output().unwrap();
                assert!(output.status.success(), "{}", stderr_of(&output));
            }
            _ => {
                kill(pid, libc::SIGTERM);
                wait_until("the daemon to end", || daemons(&mnt).is_empty());
            }
        }
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains("with\\040"), "{round}");
    }
}

/// Runs [`cairn::fuse::unmount`] in a process of its own, so that another user can: this test binary, started with a
/// variable in the environment.
fn unmount_command(place: &Location, mnt: &Path) -> Command {
    let copy = place.path("it");
    if !copy.exists() {
        copy_program(std::env::current_exe().unwrap(), &copy);
    }
    let mut command = Command::new(copy);
    command
        .args(["--exact", "mount::users::unmounts_what_the_environment_names", "--nocapture"])
        .env("CAIRN_TEST_UNMOUNT", mnt);
    command
}

#[test]
fn unmounts_what_the_environment_names() {
    if let Some(mnt) = std::env::var_os("CAIRN_TEST_UNMOUNT") {
        cairn::fuse::unmount(Path::new(&mnt)).unwrap();
    }
}

#[test]
fn a_mount_by_root_is_for_root_only_without_allow_other() {
    if !is_root() {
        return;
    }
    let place = Location::new();
    let tree = place.version(&things([(b"f", file("text"))]));
    {
        let mounted = place.mount(tree);
        assert!(!reads(&mounted.at("f")));
    }
    let mounted = place.mount_with(tree, ",allow_other");
    assert!(reads(&mounted.at("f")));
}

#[test]
fn a_user_may_not_allow_others_or_mount_over_what_is_not_his() {
    if !is_root()
        || !has_fusermount()
        || ran_where_fuse_is_open_to_all("mount::users::a_user_may_not_allow_others_or_mount_over_what_is_not_his")
    {
        return;
    }
    let place = Location::new();
    let tree = place.version(&things([(b"f", file("text"))]));
    let bin = runnable(&place);
    let try_at = |mnt: &Path, more: &str| {
        let options = format!("tree={tree}{more}");
        as_nobody(Command::new(&bin).arg(place.store()).arg(mnt).arg("-o").arg(options)).output().unwrap()
    };
    if !fs::read_to_string("/etc/fuse.conf").unwrap_or_default().lines().any(|l| l.trim() == "user_allow_other") {
        let output = try_at(&nobodys(&place, "mine"), ",allow_other");
        assert_eq!(output.status.code(), Some(5), "{}", stderr_of(&output));
        assert!(stderr_of(&output).contains("hint: omit --allow-other"), "{}", stderr_of(&output));
    }
    let output = try_at(&place.empty("roots"), "");
    assert_eq!(output.status.code(), Some(5), "{}", stderr_of(&output));
    assert!(stderr_of(&output).contains("hint: "), "{}", stderr_of(&output));
}

#[test]
fn without_fusermount3_the_error_says_what_to_install() {
    if !is_root() {
        return;
    }
    let place = Location::new();
    let tree = place.version(&Things::new());
    let (bin, mnt) = (runnable(&place), nobodys(&place, "mnt"));
    let mut command = Command::new(&bin);
    command.env("PATH", "/nonexistent").arg(place.store()).arg(&mnt).arg("-o").arg(format!("tree={tree}"));
    let output = as_nobody(&mut command).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", stderr_of(&output));
    assert!(stderr_of(&output).contains("hint: apt install fuse3"), "{}", stderr_of(&output));
}
