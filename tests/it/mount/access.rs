//! Who may do what, cell by cell: the tables of SECURITY.md.
//!
//! Three ordinary users: one in the store's group, who may write to the store; one who may read it only; and the same
//! two in a container.

use super::users::{has_fusermount, is_root, ran_where_fuse_is_open_to_all};
use crate::support::{TestStore, copy_program, text, wait_for_daemons};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output};

/// The group that may write to the store.
const GROUP: u32 = 60_001;
/// A user with that group among the supplementary ones: `daemon`, since fusermount3 wants to know a name.
const MEMBER: u32 = 1;
/// A second one: `bin`.
const OTHER_MEMBER: u32 = 2;
/// A user who may read the store only: `nobody`.
const STRANGER: u32 = 65_534;

/// Which user asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Root,
    Member,
    OtherMember,
    Stranger,
    /// The stranger as root of a user namespace.
    StrangerInContainer,
    /// The member as root of a user namespace.
    MemberInContainer,
    /// Root's number without any capability.
    RootWithout,
}

/// A store that a group may write to, with a version of `a`, and a mount of it.
struct Shared {
    test_store: TestStore,
    mnt: PathBuf,
}

impl Shared {
    /// Mounted by root with these options; `mode` is that of the store's directory.
    fn new(options: &[&str], mode: u32) -> Shared {
        let test_store = TestStore::new();
        fs::set_permissions(test_store.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(test_store.path("f"), "text").unwrap();
        test_store.ok(&["put", "a", test_store.path("f").to_str().unwrap()]);
        for entry in walkdir::WalkDir::new(test_store.store_path())
            .into_iter()
            .map(Result::unwrap)
            .filter(|e| e.file_type().is_dir())
        {
            chown(entry.path(), None, Some(GROUP)).unwrap();
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o2775)).unwrap();
        }
        fs::set_permissions(test_store.store_path(), fs::Permissions::from_mode(mode)).unwrap();
        copy_program(env!("CARGO_BIN_EXE_cairn"), &test_store.path("cairn"));
        copy_program(env!("CARGO_BIN_EXE_cairnfs"), &test_store.path("cairnfs"));
        let mnt = test_store.path("mnt");
        fs::create_dir(&mnt).unwrap();
        let shared = Shared { test_store, mnt };
        shared.test_store.ok(&[&["mount", shared.mnt.to_str().unwrap()], options].concat());
        shared
    }

    /// A shell script as that user, in the test store's directory.
    fn sh(&self, who: Who, script: &str) -> Output {
        let (uid, groups) = match who {
            Who::Root | Who::RootWithout => (0, "0"),
            Who::Member | Who::MemberInContainer => (MEMBER, "60001"),
            Who::OtherMember => (OTHER_MEMBER, "60001"),
            Who::Stranger | Who::StrangerInContainer => (STRANGER, "60022"),
        };
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={uid}")).arg(format!("--regid={uid}")).arg(format!("--groups={groups}"));
        if who == Who::RootWithout {
            command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]);
        }
        if matches!(who, Who::StrangerInContainer | Who::MemberInContainer) {
            command.args(["unshare", "--user", "--map-root-user", "--mount"]);
        }
        command
            .args(["sh", "-ec", script])
            .current_dir(self.test_store.dir.path())
            .env("CAIRN_STORE", self.test_store.store_path())
            .env("HOME", "/nonexistent");
        command.output().unwrap()
    }

    fn may(&self, who: Who, script: &str) -> bool {
        let output = self.sh(who, script);
        let refused =
            ["denied", "not permitted", "may not", "cannot"].iter().any(|word| text(&output.stderr).contains(word));
        assert!(
            output.status.success() || refused,
            "{who:?}: {script}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        output.status.success()
    }

    /// For each of these, whether the script is allowed; `WHO` in it is another name for each.
    fn check(&self, script: &str, expected: &[(Who, bool)]) {
        for (who, may) in expected {
            assert_eq!(self.may(*who, &script.replace("WHO", &format!("{who:?}"))), *may, "{who:?}: {script}");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let umount = |path: &PathBuf| Command::new("umount").arg("-l").arg(path).output();
        if let Ok(second) = fs::read_link(self.mnt.join(".staging")) {
            drop(umount(&second));
        }
        drop(umount(&self.mnt));
    }
}

const ALL_USERS: [Who; 7] = [
    Who::Root,
    Who::Member,
    Who::OtherMember,
    Who::Stranger,
    Who::StrangerInContainer,
    Who::MemberInContainer,
    Who::RootWithout,
];

fn all_but(refused: &[Who]) -> Vec<(Who, bool)> {
    ALL_USERS.into_iter().map(|who| (who, !refused.contains(&who))).collect()
}

fn only(allowed: &[Who]) -> Vec<(Who, bool)> {
    ALL_USERS.into_iter().map(|who| (who, allowed.contains(&who))).collect()
}

#[test]
fn a_mount_without_allow_other_shows_nothing_to_other_users() {
    if !is_root() {
        return;
    }
    let shared = Shared::new(&[], 0o2775);
    shared.check("cat mnt/a/v0/f", &only(&[Who::Root, Who::RootWithout]));
    shared.check("ls mnt", &only(&[Who::Root, Who::RootWithout]));
    shared.check("mkdir -p mnt/.staging/x/d/WHO", &only(&[Who::Root, Who::RootWithout]));
}

#[test]
fn a_mount_with_allow_other_shows_every_version_to_every_user_also_of_a_store_that_is_closed_to_them() {
    if !is_root() {
        return;
    }
    let shared = Shared::new(&["--allow-other"], 0o2770);
    shared.check("cat mnt/a/v0/f", &all_but(&[]));
    shared.check("cat store/cairn.json", &all_but(&[Who::Stranger, Who::StrangerInContainer]));
    shared.check("echo x > mnt/a/v0/f || { echo cannot write >&2; exit 1; }", &only(&[]));
}

#[test]
fn with_allow_other_only_users_who_may_write_to_the_store_begin_a_run() {
    if !is_root() {
        return;
    }
    let shared = Shared::new(&["--allow-other"], 0o2775);
    // In a user namespace supplementary groups count as they do outside.
    let strangers = [Who::Stranger, Who::StrangerInContainer];
    shared.check(
        "mkdir -p mnt/.staging/x/d/WHO && echo mine > mnt/.staging/x/d/WHO/WHO && cairn=$PWD/cairn && $cairn \
                  -q seal mnt/.staging/x/d/WHO",
        &all_but(&strangers),
    );
    // Each way in, not the first alone.
    let run = "mnt/.staging/x/e/open";
    let began =
        shared.sh(Who::Root, &format!("mkdir -p {run} && chmod 777 {run} && echo 1 > {run}/f && chmod 666 {run}/f"));
    assert!(began.status.success(), "{}", text(&began.stderr));
    for change in [
        "echo x > RUN/new",
        "echo x >> RUN/f",
        "mkdir RUN/d",
        "ln -s f RUN/l",
        "ln RUN/f RUN/h",
        "mkfifo RUN/p",
        "mv RUN/f RUN/g",
        "rm -f RUN/f",
        "truncate -s 0 RUN/f",
    ] {
        for who in strangers {
            assert!(
                !shared.may(who, &format!("({}) || {{ echo cannot >&2; exit 1; }}", change.replace("RUN", run))),
                "{who:?}: {change}"
            );
        }
    }
    shared.check(&format!("echo x > {run}/new && rm {run}/new"), &all_but(&strangers));
    assert_eq!(text(&shared.sh(Who::Stranger, &format!("cat {run}/f")).stdout), "1\n", "what its modes show is shown");
    assert_eq!(text(&shared.sh(Who::Root, &format!("ls {run}")).stdout), "f\n");
    // The contributing user is recorded.
    let shown: serde_json::Value =
        serde_json::from_str(&shared.test_store.ok(&["draft", "show", "x", "d", "--json"])).unwrap();
    let user = |run: &str| {
        shown["contributions"].as_array().unwrap().iter().find(|c| c["run"] == run).unwrap()["user"]["uid"].as_u64()
    };
    assert_eq!(
        (user("Member"), user("Root"), user("MemberInContainer")),
        (Some(MEMBER.into()), Some(0), Some(MEMBER.into())),
        "{shown}"
    );
    assert!(shared.test_store.ok(&["draft", "show", "x", "d"]).contains(" bin "));
    assert!(shared.test_store.ok(&["drafts"]).contains("bin,daemon"));
}

#[test]
fn a_run_belongs_to_the_user_who_began_it() {
    if !is_root() {
        return;
    }
    let shared = Shared::new(&["--allow-other"], 0o2775);
    let run = "mnt/.staging/x/d/r";
    let begin = shared
        .sh(Who::Member, &format!("umask 022 && mkdir -p {run} && echo mine > {run}/f && stat -c %u {run} {run}/f"));
    assert_eq!(text(&begin.stdout), format!("{MEMBER}\n{MEMBER}\n"), "{}", text(&begin.stderr));
    let others = [Who::OtherMember, Who::Stranger, Who::StrangerInContainer, Who::RootWithout];
    for who in others {
        for change in
            ["echo x > RUN/g", "echo x > RUN/f", "rm -f RUN/f", "rmdir RUN", "chmod 777 RUN", "mv RUN/f RUN/g"]
        {
            assert!(
                !shared.may(who, &format!("({}) || {{ echo cannot >&2; exit 1; }}", change.replace("RUN", run))),
                "{who:?}: {change}"
            );
        }
    }
    for who in [Who::OtherMember, Who::Stranger, Who::StrangerInContainer] {
        let refused = shared.sh(who, &format!("./cairn seal {run}"));
        assert_eq!(refused.status.code(), Some(3), "{who:?}: {}", text(&refused.stderr));
        assert!(
            text(&refused.stderr).contains(&format!("may not seal the run of user {MEMBER}")),
            "{}",
            text(&refused.stderr)
        );
    }
    // Left open, it is taken up for its owner and for root only.
    shared.test_store.ok(&["umount", "mnt"]);
    wait_for_daemons(&shared.mnt);
    shared.test_store.ok(&["mount", "mnt", "--allow-other"]);
    shared.check(
        &format!("cat {run}/f"),
        &[(Who::OtherMember, false), (Who::Stranger, false), (Who::StrangerInContainer, false)],
    );
    assert!(shared.may(Who::RootWithout, &format!("cat {run}/f")));
    assert_eq!(text(&shared.sh(Who::Member, &format!("cat {run}/f")).stdout), "mine\n");
    let sealed = shared.sh(Who::Member, &format!("./cairn seal {run}"));
    assert!(sealed.status.success(), "{}", text(&sealed.stderr));
    // The mounting user may seal what others began, and so may its number without capabilities.
    for (run, who) in [("s", Who::Root), ("t", Who::RootWithout)] {
        let begun = shared
            .sh(Who::OtherMember, &format!("mkdir -p mnt/.staging/x/d/{run} && echo 1 > mnt/.staging/x/d/{run}/g"));
        assert!(begun.status.success(), "{}", text(&begun.stderr));
        let sealed = shared.sh(who, &format!("./cairn seal mnt/.staging/x/d/{run}"));
        assert!(sealed.status.success(), "{}", text(&sealed.stderr));
    }
}

#[test]
fn only_root_and_the_mounting_user_unmount() {
    if !is_root() || !has_fusermount() {
        return;
    }
    let shared = Shared::new(&["--allow-other", "--no-stage"], 0o2775);
    for who in ALL_USERS.into_iter().filter(|who| *who != Who::Root) {
        let output = shared.sh(who, "./cairn umount mnt");
        assert_eq!(output.status.code(), Some(5), "{who:?}: {}", text(&output.stderr));
        assert_eq!(fs::read(shared.mnt.join("a/v0/f")).unwrap(), b"text");
    }
    assert!(shared.sh(Who::Root, "./cairn umount mnt").status.success());
}

#[test]
fn a_user_mounts_what_he_may_read_himself_and_root_without_capabilities_does_not() {
    if !is_root()
        || !has_fusermount()
        || ran_where_fuse_is_open_to_all(
            "mount::access::a_user_mounts_what_he_may_read_himself_and_root_without_capabilities_does_not",
        )
    {
        return;
    }
    let shared = Shared::new(&[], 0o2770);
    let script = |who: Who| {
        let uid = if who == Who::RootWithout {
            0
        } else if matches!(who, Who::Member | Who::MemberInContainer) {
            MEMBER
        } else {
            STRANGER
        };
        let own = shared.test_store.path(&format!("own-{who:?}"));
        fs::create_dir(&own).unwrap();
        chown(&own, Some(uid), Some(uid)).unwrap();
        format!("./cairn -q mount own-{who:?} a && cat own-{who:?}/f && ./cairn -q umount own-{who:?}")
    };
    for (who, status) in [
        (Who::Member, 0),
        (Who::MemberInContainer, 0),
        (Who::Stranger, 5),
        (Who::StrangerInContainer, 5),
        (Who::RootWithout, 5),
    ] {
        let output = shared.sh(who, &script(who));
        assert_eq!(output.status.code(), Some(status), "{who:?}: {}{}", text(&output.stdout), text(&output.stderr));
    }
}

/// A mount as a pod gets it: a privileged program opens `/dev/fuse`, mounts, and hands the descriptor to a process
/// without any capability.
struct Pod {
    test_store: TestStore,
    mnt: PathBuf,
    served: Option<Child>,
}

impl Pod {
    /// Serves what `options` of cairnfs say, as `uid`; the mount is open to all if `kernel` says `allow_other`.
    fn new(test_store: TestStore, options: &str, kernel: &str, uid: u32) -> Pod {
        Pod::through(test_store, options, kernel, uid, &[])
    }

    /// The same, with the process started through another program.
    fn through(test_store: TestStore, options: &str, kernel: &str, uid: u32, through: &[&str]) -> Pod {
        let mnt = test_store.path("mnt");
        fs::create_dir(&mnt).unwrap();
        fs::set_permissions(test_store.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let device: OwnedFd = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap().into();
        let fd = device.as_raw_fd();
        let data = format!("fd={fd},rootmode=40000,user_id={uid},group_id={uid},default_permissions{kernel}\0");
        let target = format!("{}\0", mnt.display());
        // SAFETY: C strings that live across the call.
        let mounted = unsafe {
            libc::mount(
                c"pod".as_ptr(),
                target.as_ptr().cast(),
                c"fuse.cairnfs".as_ptr(),
                libc::MS_NODEV | libc::MS_NOSUID,
                data.as_ptr().cast(),
            )
        };
        assert_eq!(mounted, 0, "{}", std::io::Error::last_os_error());
        copy_program(env!("CARGO_BIN_EXE_cairnfs"), &test_store.path("cairnfs"));
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={uid}")).arg(format!("--regid={uid}")).args([
            "--clear-groups",
            "--bounding-set=-all",
            "--no-new-privs",
        ]);
        command
            .args(through)
            .arg(test_store.path("cairnfs"))
            .arg(test_store.store_path())
            .arg(format!("/dev/fd/{fd}"))
            .arg("-o")
            .arg(format!("foreground,{options}"));
        // SAFETY: one fcntl, which is async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                if libc::fcntl(fd, libc::F_SETFD, 0) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
            });
        }
        let served = command.stderr(fs::File::create(test_store.path("stderr")).unwrap()).spawn().unwrap();
        Pod { test_store, mnt, served: Some(served) }
    }

    fn sh(&self, uid: u32, script: &str) -> Output {
        Command::new("sh")
            .args(["-ec", script])
            .current_dir(self.test_store.dir.path())
            .uid(uid)
            .gid(uid)
            .output()
            .unwrap()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.mnt).output());
        if let Some(mut served) = self.served.take() {
            drop(served.kill());
            drop(served.wait());
        }
    }
}

#[test]
fn a_process_without_capabilities_serves_a_version_over_a_descriptor_and_ends_at_once() {
    if !is_root() {
        return;
    }
    let test_store = TestStore::new();
    fs::write(test_store.path("f"), "text").unwrap();
    test_store.ok(&["put", "a", test_store.path("f").to_str().unwrap()]);
    let mut pod = Pod::new(test_store, "version=a", ",allow_other", STRANGER);
    assert_eq!(fs::read(pod.mnt.join("f")).unwrap(), b"text");
    assert_eq!(text(&pod.sh(MEMBER, "cat mnt/f").stdout), "text");
    assert_eq!(fs::write(pod.mnt.join("f"), "x").unwrap_err().raw_os_error(), Some(libc::EROFS));
    assert_eq!(fs::metadata(pod.mnt.join("f")).unwrap().uid(), STRANGER);
    // Its mount cannot be taken away by it: it ends all the same, and what is mounted there is dead.
    let mut served = pod.served.take().unwrap();
    let begun = std::time::Instant::now();
    // SAFETY: a signal to a child of ours.
    assert_eq!(unsafe { libc::kill(served.id() as i32, libc::SIGTERM) }, 0);
    assert!(served.wait().unwrap().success());
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(fs::read(pod.mnt.join("f")).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    pod.test_store.ok(&["umount", "mnt"]);
}

/// A store that every user may write to.
fn everybodys() -> TestStore {
    let test_store = TestStore::new();
    test_store.open_to_all();
    for entry in walkdir::WalkDir::new(test_store.store_path())
        .into_iter()
        .map(Result::unwrap)
        .filter(|e| e.file_type().is_dir())
    {
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    }
    test_store
}

#[test]
fn a_mount_that_another_program_made_has_no_staging_directories() {
    if !is_root() {
        return;
    }
    let test_store = everybodys();
    fs::write(test_store.path("f"), "text").unwrap();
    test_store.ok(&["put", "a", test_store.path("f").to_str().unwrap()]);
    let pod = Pod::new(test_store, "refresh=1", ",allow_other", STRANGER);
    assert_eq!(fs::read(pod.mnt.join("a/v0/f")).unwrap(), b"text");
    assert!(fs::symlink_metadata(pod.mnt.join(".staging")).is_err());
    assert!(fs::read_to_string(pod.test_store.path("stderr")).unwrap().contains("cannot mount staging directories"));
}

#[test]
fn numbers_of_another_user_namespace_are_not_trusted() {
    if !is_root() {
        return;
    }
    let pod = Pod::through(
        everybodys(),
        "stage=x,distributed_id=d,run=r",
        ",allow_other",
        STRANGER,
        &["unshare", "--user", "--map-root-user"],
    );
    fs::metadata(&pod.mnt).unwrap();
    for uid in [0, MEMBER, STRANGER] {
        let refused = pod.sh(uid, "echo x > mnt/f");
        assert!(
            !refused.status.success() && text(&refused.stderr).contains("ermission denied"),
            "{uid}: {}",
            text(&refused.stderr)
        );
    }
    assert_eq!(fs::read_dir(&pod.mnt).unwrap().count(), 0);
}

#[test]
fn a_pods_staging_directory_takes_writes_of_its_own_user_alone() {
    if !is_root() {
        return;
    }
    let pod = Pod::new(everybodys(), "stage=x,distributed_id=d,run=r", ",allow_other", STRANGER);
    let written = pod.sh(STRANGER, "umask 0 && echo mine > mnt/f && mkdir mnt/open && stat -c %u mnt/f");
    assert_eq!(text(&written.stdout), format!("{STRANGER}\n"), "{}", text(&written.stderr));
    for uid in [MEMBER, OTHER_MEMBER] {
        assert!(!pod.sh(uid, "echo x > mnt/f").status.success());
        assert!(!pod.sh(uid, "echo x > mnt/open/g").status.success());
        assert_eq!(text(&pod.sh(uid, "cat mnt/f").stdout), "mine\n");
    }
    let sealed = pod.test_store.run(&["seal", "mnt"], 0);
    assert_eq!(text(&sealed.stdout).trim(), "x d r");
}
