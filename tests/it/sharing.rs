//! One store and several users: two members of a group, a third who may only read, and root's cron job with a strict
//! umask. Every entry is as the store's directory says from its first moment, whichever user makes it.

use crate::mount::users;
use crate::support::{TestStore, copy_program, copy_tree, files, make_tree, memory_dir, random_bytes, steps, text};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The group that shares the store.
const GROUP: u32 = 60_001;
/// `daemon`, who owns the store.
const ALICE: User = User { uid: 1, groups: "60001" };
/// `bin`, another member.
const BOB: User = User { uid: 2, groups: "60001" };
/// `nobody`, not a member.
const CAROL: User = User { uid: 65_534, groups: "60022" };
const ROOT: User = User { uid: 0, groups: "0" };

#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    groups: &'static str,
}

/// A directory that every user reaches, with a copy of the command, and a store of ALICE's in it.
struct Shared {
    test_store: TestStore,
}

impl Shared {
    /// `None` where other users cannot be played.
    fn new(init: &[&str]) -> Option<Shared> {
        Shared::at(TestStore::new(), init)
    }

    fn at(test_store: TestStore, init: &[&str]) -> Option<Shared> {
        // SAFETY: geteuid cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            println!("skipped: other users can be played by root alone");
            return None;
        }
        std::fs::set_permissions(test_store.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        copy_program(env!("CARGO_BIN_EXE_cairn"), &test_store.path("cairn"));
        make_tree(&test_store.path("d"), &[("a", b"a"), ("sub/b", b"b"), ("large", &random_bytes(1, 200_000))]);
        std::fs::create_dir(test_store.path("home")).unwrap();
        chown(test_store.path("home"), Some(ALICE.uid), Some(ALICE.uid)).unwrap();
        let shared = Shared { test_store };
        let reached = shared.command(ALICE, 0o022, &["version"]).output().unwrap();
        if !reached.status.success() {
            println!("skipped: other users cannot reach {}", shared.test_store.dir.path().display());
            return None;
        }
        let store = shared.store();
        shared.ok(ALICE, 0o022, &[&["init", store.to_str().unwrap()], init].concat());
        Some(shared)
    }

    fn store(&self) -> PathBuf {
        self.test_store.path("home/store")
    }

    fn command(&self, user: User, umask: u32, args: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.uid));
        command.arg(format!("--groups={}", user.groups)).arg(self.test_store.path("cairn")).args(args);
        command.env("CAIRN_STORE", self.store()).env("CAIRN_CACHE_DIR", "").current_dir(self.test_store.dir.path());
        // SAFETY: umask cannot fail and has no memory effects.
        unsafe {
            command.pre_exec(move || {
                libc::umask(umask);
                Ok(())
            });
        }
        command
    }

    fn run(&self, user: User, umask: u32, args: &[&str]) -> Output {
        self.command(user, umask, args).output().unwrap()
    }

    fn ok(&self, user: User, umask: u32, args: &[&str]) -> String {
        let output = self.run(user, umask, args);
        assert!(output.status.success(), "{user:?} {umask:03o} {args:?}: {}", text(&output.stderr));
        text(&output.stdout).trim_end().to_owned()
    }

    /// Directories and files of the store that are not open to the group.
    fn closed_to_the_group(&self, others: u32) -> Vec<String> {
        wrong(&self.store(), |meta| {
            let mode = match (meta.is_dir(), meta.mode() & 0o222 == 0) {
                (true, _) => 0o2770 | others & 0o5,
                (false, true) => 0o440,
                (false, false) => 0o660 | others & 0o4,
            };
            meta.gid() == GROUP && meta.mode() & mode == mode && meta.mode() & 0o002 == 0
        })
    }
}

/// Directories and files that are not as they should be.
fn wrong(root: &Path, right: impl Fn(&std::fs::Metadata) -> bool) -> Vec<String> {
    let entries = walkdir::WalkDir::new(root).into_iter().filter_map(Result::ok);
    let entries = entries.filter_map(|e| Some((e.path().to_owned(), e.metadata().ok()?)));
    entries
        .filter(|(_, meta)| !meta.is_symlink() && !right(meta))
        .map(|(path, meta)| format!("{} {}:{} {:o}", path.display(), meta.uid(), meta.gid(), meta.mode()))
        .collect()
}

/// Every entry with its times: what a reader must not change.
fn all_of(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, i64)> {
    let entries = walkdir::WalkDir::new(root).into_iter().map(Result::unwrap);
    entries
        .map(|e| {
            let meta = e.metadata().unwrap();
            (e.path().to_owned(), (meta.ino(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()))
        })
        .collect()
}

#[test]
fn members_of_a_group_and_roots_cron_do_everything_in_one_store_whatever_their_umasks() {
    let Some(shared) = Shared::new(&["--group", &GROUP.to_string()]) else { return };
    let users = [(ALICE, 0o077), (BOB, 0o027), (ROOT, 0o077), (BOB, 0o077), (ALICE, 0o022), (ROOT, 0o022)];
    for (n, (user, umask)) in users.into_iter().enumerate() {
        let (next, its_umask) = users[(n + 1) % users.len()];
        let name = format!("n{n}");
        let version = |v: u32| format!("{name}:v{v}");
        let tree = shared.test_store.path(&format!("d{n}"));
        make_tree(&tree, &[("f", name.as_bytes()), ("large", &random_bytes(n as u64 + 9, 150_000))]);
        let tree = tree.to_str().unwrap();
        for (user, umask, args) in [
            (user, umask, &["put", &name, tree, "--alias", "prod"][..]),
            (next, its_umask, &["put", &name, "d", "--alias", "prod"]),
            (user, umask, &["patch", &name, "d/a", "--at", "more"]),
            (next, its_umask, &["patch", &name, "d/a", "--at", "again"]),
            (user, umask, &["upsert", "shared", tree, "--distributed-id", &name, "--run", "one"]),
            (next, its_umask, &["upsert", "shared", "d/sub", "--distributed-id", &name, "--run", "two"]),
            (user, umask, &["finish", "shared", "--distributed-id", &name]),
            (next, its_umask, &["rm", &version(0)]),
            (user, umask, &["alias", &version(2), "prod"]),
            (next, its_umask, &["gc", "--min-age", "0"]),
            (user, umask, &["verify"]),
        ] {
            shared.ok(user, umask, args);
            assert_eq!(shared.closed_to_the_group(0o5), [""; 0], "{user:?} {umask:03o} {args:?}");
        }
    }
}

#[test]
fn a_groups_store_that_is_closed_to_others_stays_closed() {
    let Some(shared) = Shared::new(&[]) else { return };
    std::fs::set_permissions(shared.store(), PermissionsExt::from_mode(0o750)).unwrap();
    shared.ok(ROOT, 0o022, &["access", "--group", &GROUP.to_string()]);
    shared.ok(BOB, 0o000, &["put", "x", "d"]);
    assert_eq!(shared.closed_to_the_group(0), [""; 0]);
    assert_eq!(std::fs::metadata(shared.store()).unwrap().mode() & 0o7777, 0o2770);
    assert_eq!(wrong(&shared.store().join("artifacts/x"), |meta| meta.mode() & 0o007 == 0), [""; 0]);
    assert_eq!(shared.run(CAROL, 0o022, &["list"]).status.code(), Some(5));
}

/// A put of root's cron job used to leave directories that the store's owner could not write to.
#[test]
fn what_root_makes_in_a_users_store_belongs_to_that_user_from_the_first_moment() {
    let Some(shared) = Shared::at(TestStore::in_memory(), &[]) else { return };
    for mode in [0o755, 0o700] {
        std::fs::set_permissions(shared.store(), PermissionsExt::from_mode(mode)).unwrap();
        let name = format!("x{mode:o}");
        shared.ok(ROOT, 0o077, &["put", &name, "d", "--alias", "prod"]);
        shared.ok(ROOT, 0o077, &["upsert", "y", "d", "--distributed-id", &name, "--run", "r"]);
        for args in [
            &["put", &name, "d/sub", "--alias", "prod"][..],
            &["patch", &name, "d/a", "--at", "more"],
            &["finish", "y", "--distributed-id", &name],
            &["rm", &format!("{name}:v0")],
            &["gc", "--min-age", "0"],
            &["verify"],
        ] {
            shared.ok(ALICE, 0o022, args);
        }
        assert_eq!(wrong(&shared.store(), |m| (m.uid(), m.gid()) == (ALICE.uid, ALICE.uid)), [""; 0]);
    }
    let (store, copy) = (shared.store(), shared.test_store.path("home/copy"));
    let put = ["put", "z", "d", "--store", copy.to_str().unwrap()];
    copy_tree(&store, &copy);
    let last = steps(&shared.test_store, &put);
    for step in 1..=last {
        std::fs::remove_dir_all(&copy).unwrap();
        copy_tree(&store, &copy);
        let mut command = shared.command(ROOT, 0o077, &put);
        command.env("CAIRN_FAULT", format!("kill:{step}")).output().unwrap();
        assert_eq!(wrong(&copy, |m| m.uid() == ALICE.uid), [""; 0], "killed before step {step} of {last}");
    }
}

#[test]
fn a_store_that_root_makes_in_a_users_directory_is_that_users() {
    let Some(shared) = Shared::new(&[]) else { return };
    let own = shared.test_store.path("home/own");
    std::fs::create_dir(&own).unwrap();
    chown(&own, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    let own = own.to_str().unwrap();
    shared.ok(ROOT, 0o077, &["init", own]);
    assert_eq!(wrong(Path::new(own), |m| m.uid() == ALICE.uid), [""; 0]);
    shared.ok(ALICE, 0o022, &["put", "x", "d", "--store", own]);
}

/// A container that runs as root without capabilities cannot act as the owner. It keeps the rights that it has.
#[test]
fn root_without_capabilities_writes_where_the_modes_let_it() {
    let Some(shared) = Shared::new(&[]) else { return };
    shared.ok(ALICE, 0o022, &["put", "x", "d"]);
    let put = |name: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]).arg(shared.test_store.path("cairn"));
        command.args(["put", name, "d"]).env("CAIRN_STORE", shared.store()).env("CAIRN_CACHE_DIR", "");
        command.current_dir(shared.test_store.dir.path()).output().unwrap()
    };
    let refused = text(&put("y").stderr);
    assert!(refused.contains("you may not write to the store"), "{refused}");
    std::fs::set_permissions(shared.store(), PermissionsExt::from_mode(0o777)).unwrap();
    shared.ok(ALICE, 0o022, &["access", "--fix"]);
    let output = put("y");
    assert!(output.status.success(), "{}", text(&output.stderr));
    shared.ok(ALICE, 0o022, &["put", "y", "d/sub"]);
}

/// Root's staging directory in a user's store: its files are root's while they are written, its contribution is not.
#[test]
fn what_root_seals_in_a_users_store_belongs_to_that_user() {
    let Some(shared) = Shared::new(&[]) else { return };
    let at = shared.test_store.path("mnt");
    std::fs::create_dir(&at).unwrap();
    let mount = ["mount", at.to_str().unwrap(), "y", "--stage", "--distributed-id", "s", "--run", "r"];
    if !shared.run(ROOT, 0o077, &mount).status.success() {
        return println!("skipped: nothing can be mounted here");
    }
    make_tree(&at, &[("small", b"s"), ("large", &random_bytes(4, 200_000))]);
    let sealed = shared.run(ROOT, 0o077, &["umount", at.to_str().unwrap()]);
    if !sealed.status.success() {
        drop(Command::new("umount").arg("-l").arg(&at).output());
        panic!("{}", text(&sealed.stderr));
    }
    assert!(shared.ok(ALICE, 0o022, &["draft", "show", "y", "s"]).contains("root"), "who contributed");
    shared.ok(ALICE, 0o022, &["upsert", "y", "d/sub", "--distributed-id", "s", "--run", "mine"]);
    shared.ok(ALICE, 0o022, &["finish", "y", "--distributed-id", "s"]);
    shared.ok(ALICE, 0o022, &["verify"]);
    assert_eq!(wrong(&shared.store(), |m| m.uid() == ALICE.uid), [""; 0]);
}

#[test]
fn a_reader_without_the_right_to_write_reads_everything_and_changes_nothing() {
    let Some(shared) = Shared::new(&["--group", &GROUP.to_string()]) else { return };
    shared.ok(ALICE, 0o077, &["put", "x", "d", "--alias", "prod"]);
    shared.ok(BOB, 0o077, &["put", "x", "d/sub"]);
    shared.ok(BOB, 0o077, &["upsert", "x", "d", "--distributed-id", "j", "--run", "r"]);
    let before = all_of(&shared.store());
    let out = shared.test_store.path("out");
    std::fs::create_dir(&out).unwrap();
    chown(&out, Some(CAROL.uid), None).unwrap();
    let count = out.join("steps");
    for args in [
        &["list"][..],
        &["list", "x"],
        &["show", "x"],
        &["ls", "x:prod"],
        &["cat", "x:prod", "large"],
        &["diff", "x:v0", "x:v1"],
        &["drafts"],
        &["draft", "show", "x", "j"],
        &["locks"],
        &["access"],
        &["gc", "--dry-run"],
        &["verify"],
    ] {
        let mut command = shared.command(CAROL, 0o022, args);
        let output = command.env("CAIRN_FAULT", format!("count:{}", count.display())).output().unwrap();
        let differs = args[0] == "diff" && output.status.code() == Some(1);
        assert!(output.status.success() || differs, "{args:?}: {}", text(&output.stderr));
        let steps = std::fs::read_to_string(&count).unwrap_or_default();
        assert_eq!(steps, "", "steps of {args:?} that change the disk");
    }
    shared.ok(CAROL, 0o022, &["get", "x:prod", out.join("got").to_str().unwrap()]);
    assert_eq!(std::fs::read(out.join("got/large")).unwrap(), random_bytes(1, 200_000));
    assert_eq!(all_of(&shared.store()), before);
}

#[test]
fn a_reader_without_the_right_to_write_mounts_the_store_and_changes_nothing() {
    let name = "sharing::a_reader_without_the_right_to_write_mounts_the_store_and_changes_nothing";
    if !users::is_root() || !users::has_fusermount() || users::ran_where_fuse_is_open_to_all(name) {
        return;
    }
    let Some(shared) = Shared::new(&["--group", &GROUP.to_string()]) else { return };
    shared.ok(ALICE, 0o077, &["put", "x", "d", "--alias", "prod"]);
    let at = shared.test_store.path("mnt");
    std::fs::create_dir(&at).unwrap();
    chown(&at, Some(CAROL.uid), None).unwrap();
    let before = all_of(&shared.store());
    shared.ok(CAROL, 0o022, &["mount", at.to_str().unwrap()]);
    let mut read = Command::new("setpriv");
    read.args(["--reuid=65534", "--regid=65534", "--clear-groups", "cksum"]);
    let read = read.args([at.join("x/prod/large"), at.join("x/v0/sub/b")]).output().unwrap();
    let unmounted = shared.run(CAROL, 0o022, &["umount", at.to_str().unwrap()]);
    assert!(read.status.success() && unmounted.status.success(), "{}{}", text(&read.stderr), text(&unmounted.stderr));
    assert_eq!(all_of(&shared.store()), before);
}

#[test]
fn every_command_that_writes_says_whose_store_it_is_to_a_user_who_may_not() {
    let Some(shared) = Shared::new(&["--group", &GROUP.to_string()]) else { return };
    shared.ok(ALICE, 0o022, &["put", "x", "d", "--alias", "prod"]);
    shared.ok(ALICE, 0o022, &["upsert", "x", "d/sub", "--distributed-id", "j", "--run", "r"]);
    let writes: [&[&str]; 12] = [
        &["put", "x", "d/sub"],
        &["put", "new", "d"],
        &["copy", "x", "y"],
        &["upsert", "x", "d", "--distributed-id", "j", "--run", "r2"],
        &["finish", "x", "--distributed-id", "j"],
        &["draft", "drop", "x", "j", "--run", "r"],
        &["draft", "discard", "x", "j"],
        &["patch", "x", "d", "--at", "p"],
        &["alias", "x:v0", "prod"],
        &["unalias", "x", "prod"],
        &["rm", "x:v0"],
        &["gc"],
    ];
    for args in writes {
        let output = shared.run(CAROL, 0o022, args);
        let message = text(&output.stderr);
        let expected = "(owner daemon, group 60001, mode 2775)";
        let names_owner = message.contains("you may not write to the store") && message.contains(expected);
        assert!(output.status.code() == Some(5) && names_owner, "{args:?}: {message}");
    }
}

#[test]
fn a_directory_that_is_closed_inside_the_store_is_named_with_its_owner() {
    let Some(shared) = Shared::new(&["--group", &GROUP.to_string()]) else { return };
    shared.ok(ALICE, 0o022, &["put", "x", "d"]);
    std::fs::set_permissions(shared.store().join("artifacts/x/versions"), PermissionsExt::from_mode(0o755)).unwrap();
    let output = shared.run(BOB, 0o022, &["put", "x", "d/sub"]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{message}");
    assert!(
        message.contains("x/versions (owner daemon, group 60001, mode 0755)") && message.contains("access --fix"),
        "{message}"
    );
}

#[test]
fn a_member_helps_and_removes_what_another_members_dead_writers_left() {
    let Some(shared) = Shared::at(TestStore::in_memory(), &["--group", &GROUP.to_string()]) else { return };
    let (store, copy) = (shared.store(), shared.test_store.path("home/copy"));
    let put = ["put", "x", "d", "--store", copy.to_str().unwrap()];
    copy_tree(&store, &copy);
    let last = steps(&shared.test_store, &put);
    for step in (1..=last).step_by(3) {
        std::fs::remove_dir_all(&copy).unwrap();
        copy_tree(&store, &copy);
        let mut command = shared.command(BOB, 0o077, &put);
        command.env("CAIRN_FAULT", format!("kill:{step}")).output().unwrap();
        for args in [&["put", "x", "d"][..], &["put", "x", "d/sub"], &["gc", "--min-age", "0"], &["verify"]] {
            shared.ok(ALICE, 0o022, &[args, &["--store", copy.to_str().unwrap()]].concat());
        }
        let left: Vec<_> = std::fs::read_dir(copy.join("work")).unwrap().map(|e| e.unwrap().path()).collect();
        // A holder that died before its lock may be alive, so its token is removed by the next collection.
        if !left.is_empty() {
            shared.ok(ALICE, 0o022, &["gc", "--min-age", "0", "--store", copy.to_str().unwrap()]);
        }
        assert_eq!(std::fs::read_dir(copy.join("work")).unwrap().count(), 0, "killed before step {step} of {last}");
    }
}

/// On a file system such as tmpfs, a file is linked to its new place and then loses its old name. Linux does not let a
/// user link another user's read-only file.
#[test]
fn a_member_restores_what_another_member_stored_where_files_are_linked_into_their_place() {
    let test_store = TestStore { dir: memory_dir() };
    let Some(shared) = Shared::at(test_store, &["--group", &GROUP.to_string()]) else { return };
    for (storing, restoring) in [(ALICE, BOB), (BOB, ALICE)] {
        let name = format!("x{}", storing.uid);
        let tree = shared.test_store.path(&name);
        make_tree(&tree, &[("f", name.as_bytes()), ("large", &random_bytes(storing.uid.into(), 200_000))]);
        shared.ok(storing, 0o022, &["put", &name, tree.to_str().unwrap()]);
        shared.ok(storing, 0o022, &["rm", &format!("{name}:v0")]);
        shared.ok(restoring, 0o022, &["gc"]);
        assert!(files(&shared.store().join("trash")).len() >= 2);
        shared.ok(restoring, 0o022, &["restore", &format!("{name}:v0")]);
        shared.ok(storing, 0o022, &["gc", "--min-age", "0"]);
        shared.ok(restoring, 0o022, &["verify"]);
        assert_eq!(shared.ok(storing, 0o022, &["cat", &name, "f"]), name);
    }
}

#[test]
fn where_directories_do_not_pass_on_their_group_entries_get_it_all_the_same() {
    let Some(shared) = Shared::new(&["--group", &GROUP.to_string()]) else { return };
    let clear = || {
        for entry in walkdir::WalkDir::new(shared.store()).into_iter().map(Result::unwrap) {
            if entry.file_type().is_dir() {
                let mode = entry.metadata().unwrap().mode() & 0o777;
                std::fs::set_permissions(entry.path(), PermissionsExt::from_mode(mode)).unwrap();
            }
        }
    };
    let own_group = |m: &std::fs::Metadata| m.gid() == GROUP;
    for (n, user) in [ALICE, BOB, ROOT].into_iter().enumerate() {
        clear();
        shared.ok(user, 0o077, &["put", &format!("x{n}"), "d", "--alias", "prod"]);
        assert_eq!(wrong(&shared.store(), own_group), [""; 0], "{user:?}");
    }
}

/// What an earlier release and a copy left: files of several owners with strict modes.
fn close(store: &Path) {
    let entries = walkdir::WalkDir::new(store).min_depth(2).sort_by_file_name();
    for (n, entry) in entries.into_iter().map(Result::unwrap).enumerate() {
        let meta = entry.metadata().unwrap();
        if meta.is_symlink() || entry.path().starts_with(store.join("staging")) {
            continue;
        }
        std::fs::set_permissions(entry.path(), PermissionsExt::from_mode(meta.mode() & 0o700)).unwrap();
        let owner = [ALICE.uid, 0][n % 2];
        chown(entry.path(), Some(owner), Some(owner)).unwrap();
    }
}

#[test]
fn access_opens_an_existing_store_to_a_group_and_says_what_it_may_not_change() {
    let Some(shared) = Shared::new(&[]) else { return };
    let group = GROUP.to_string();
    shared.ok(ALICE, 0o022, &["put", "x", "d", "--alias", "prod"]);
    let stage = shared.store().join("staging").join("a".repeat(32));
    make_tree(&stage, &[("mine", b"private")]);
    std::fs::set_permissions(stage.join("mine"), PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(shared.store().join("README"), "ours").unwrap();
    let outside = shared.test_store.path("outside");
    make_tree(&outside, &[("secret", b"s")]);
    std::fs::set_permissions(outside.join("secret"), PermissionsExt::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&outside, shared.store().join("artifacts/link")).unwrap();
    std::fs::hard_link(outside.join("secret"), shared.store().join("artifacts/x/hard")).unwrap();
    close(&shared.store());
    chown(outside.join("secret"), Some(ROOT.uid), Some(ROOT.uid)).unwrap();

    let shown = shared.ok(ALICE, 0o022, &["access"]);
    assert!(shown.contains("owner  daemon") && shown.contains("write  daemon") && shown.contains("may read and write"));
    assert_eq!(shared.run(ALICE, 0o022, &["access", "--check"]).status.code(), Some(1));
    let partly = shared.run(ALICE, 0o022, &["access", "--group", &group]);
    assert_eq!(partly.status.code(), Some(1), "{}", text(&partly.stderr));
    assert!(text(&partly.stderr).contains("of root could not be corrected"), "{}", text(&partly.stderr));
    let fixed = shared.run(ROOT, 0o077, &["access", "--fix"]);
    let refused = text(&fixed.stderr);
    assert!(fixed.status.code() == Some(1) && refused.contains("1 files") && refused.contains("x/hard"), "{refused}");
    std::fs::remove_file(shared.store().join("artifacts/x/hard")).unwrap();
    assert!(shared.ok(ROOT, 0o077, &["access", "--fix"]).contains("\n0 of "));
    let check: serde_json::Value =
        serde_json::from_str(&shared.ok(BOB, 0o022, &["access", "--check", "--json"])).unwrap();
    assert_eq!(
        (&check["wrong"], &check["shared_with"], &check["may_write"]),
        (&0.into(), &(*group).into(), &true.into())
    );

    for kept in [outside.join("secret"), stage.join("mine")] {
        assert_eq!(std::fs::metadata(&kept).unwrap().mode() & 0o777, 0o600, "{}", kept.display());
        assert_ne!(std::fs::metadata(&kept).unwrap().gid(), GROUP);
    }
    assert_ne!(std::fs::metadata(shared.store().join("README")).unwrap().gid(), GROUP);
    std::fs::remove_file(shared.store().join("artifacts/link")).unwrap();
    std::fs::remove_dir_all(stage).unwrap();
    std::fs::remove_file(shared.store().join("README")).unwrap();
    for args in [&["put", "x", "d/sub"][..], &["rm", "x:v1"], &["gc", "--min-age", "0"], &["verify"]] {
        shared.ok(BOB, 0o077, args);
    }
    assert_eq!(shared.closed_to_the_group(0o5), [""; 0]);
}

#[test]
fn access_that_is_killed_at_any_step_is_completed_by_the_next_one() {
    let Some(shared) = Shared::at(TestStore::in_memory(), &[]) else { return };
    shared.ok(ALICE, 0o022, &["put", "x", "d"]);
    close(&shared.store());
    let group = GROUP.to_string();
    let copy = shared.test_store.path("home/copy");
    let args = ["access", "--group", &group, "--store", copy.to_str().unwrap()];
    copy_tree(&shared.store(), &copy);
    let last = steps(&shared.test_store, &args);
    for step in 1..=last {
        std::fs::remove_dir_all(&copy).unwrap();
        copy_tree(&shared.store(), &copy);
        shared.command(ROOT, 0o077, &args).env("CAIRN_FAULT", format!("kill:{step}")).output().unwrap();
        shared.ok(ROOT, 0o077, &args);
        shared.ok(BOB, 0o022, &["access", "--check", "--store", copy.to_str().unwrap()]);
        shared.ok(BOB, 0o022, &["put", "x", "d/sub", "--store", copy.to_str().unwrap()]);
    }
}

#[test]
fn access_gives_a_users_store_back_to_that_user() {
    let Some(shared) = Shared::new(&[]) else { return };
    shared.ok(ALICE, 0o022, &["put", "x", "d"]);
    close(&shared.store());
    assert!(!shared.run(ALICE, 0o022, &["put", "x", "d/sub"]).status.success());
    // A program of another user that runs as its owner does not become one that runs as alice.
    let program = shared.store().join("artifacts/x/program");
    std::fs::write(&program, "#!/bin/sh").unwrap();
    std::os::unix::fs::chown(&program, Some(BOB.uid), None).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o6755)).unwrap();
    shared.ok(ROOT, 0o022, &["access", "--fix"]);
    assert_eq!(std::fs::metadata(&program).unwrap().mode() & 0o7000, 0);
    shared.ok(ALICE, 0o022, &["put", "x", "d/sub"]);
    shared.ok(ALICE, 0o022, &["verify"]);
    assert_eq!(wrong(&shared.store(), |m| m.uid() == ALICE.uid), [""; 0]);
}

/// Set in the process that a test starts again as a program of its own.
const CHILD: &str = "CAIRN_TEST_LIBRARY_STORE";

/// A program with the library in it keeps its umask, and yet nothing that it makes is closed for a moment: its
/// directories are never changed after they were made.
#[test]
fn the_library_makes_entries_open_to_the_group_without_changing_its_programs_umask() {
    if let Some(store) = std::env::var_os(CHILD) {
        let store = cairn::Store::open(store).unwrap();
        let mut artifact = cairn::Artifact::new("x", None).unwrap();
        artifact.add_dir(std::env::var_os("CAIRN_TEST_SOURCE").unwrap()).unwrap();
        artifact.save(&store).unwrap();
        std::fs::write(store.root().join("../umask"), "").unwrap();
        return;
    }
    let Some(shared) = Shared::new(&["--group", &GROUP.to_string()]) else { return };
    let trace = shared.test_store.path("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-o"]).arg(&trace).args(["-e", "trace=chmod,fchmod,fchmodat,chown,lchown,fchown,mkdir"]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", "--nocapture"]);
    command.arg("sharing::the_library_makes_entries_open_to_the_group_without_changing_its_programs_umask");
    command.env(CHILD, shared.store()).env("CAIRN_TEST_SOURCE", shared.test_store.path("d")).env("CAIRN_CACHE_DIR", "");
    // SAFETY: umask cannot fail and has no memory effects.
    unsafe {
        command.pre_exec(|| {
            libc::umask(0o077);
            Ok(())
        });
    }
    let Ok(output) = command.output() else { return println!("skipped: strace is missing") };
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(shared.closed_to_the_group(0o5), [""; 0]);
    assert_eq!(
        std::fs::metadata(shared.test_store.path("home/umask")).unwrap().mode() & 0o777,
        0o600,
        "the program's umask"
    );
    let calls = std::fs::read_to_string(trace).unwrap();
    assert!(calls.contains("/versions/"), "{calls}");
    let later: Vec<_> =
        calls.lines().filter(|l| l.contains("ch") && !l.contains("mkdir(") && !l.contains("0444")).collect();
    assert!(later.iter().all(|l| !l.contains("/store/") && !l.contains("fchmod")), "{later:#?}");
}
