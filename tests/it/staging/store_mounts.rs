//! Staging directories in a mount of the whole store: a connection of their own, to which the mount has links.

use super::support::{contributions, is_mounted, kill, left, whole};
use crate::mount::users::ran_where_fuse_is_open_to_all;
use crate::support::{TestStore, make_tree, plain_umount, random_bytes, snapshot, text};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A whole store, mounted; both mounts go with it, also when a test fails.
struct Whole<'a> {
    test_store: &'a TestStore,
    mnt: PathBuf,
    /// The second mounts that it has had.
    seconds: Vec<PathBuf>,
}

impl<'a> Whole<'a> {
    fn new(test_store: &'a TestStore, name: &str) -> Whole<'a> {
        let mnt = test_store.path(name);
        fs::create_dir(&mnt).unwrap();
        let mut whole = Whole { test_store, mnt, seconds: Vec::new() };
        whole.mount();
        whole
    }

    fn mount(&mut self) {
        self.test_store.ok(&[
            "mount",
            self.mnt.to_str().unwrap(),
            "--log",
            self.test_store.path("log").to_str().unwrap(),
        ]);
        self.seconds.push(fs::read_link(self.at(".staging")).unwrap());
        assert!(is_mounted(&self.mnt) && is_mounted(self.second()));
    }

    fn at(&self, name: &str) -> PathBuf {
        self.mnt.join(name)
    }

    fn second(&self) -> &Path {
        self.seconds.last().unwrap()
    }

    fn daemon(&self) -> u32 {
        let found = crate::support::daemons(&self.mnt);
        assert_eq!(found.len(), 1, "one daemon serves both mounts");
        found[0]
    }

    fn begin(&self, path: &str) -> PathBuf {
        let at = self.at(".staging").join(path);
        fs::create_dir_all(&at).unwrap();
        at
    }

    /// Both mounts are gone, and the second one's directory.
    fn gone(&self) {
        for _ in 0..500 {
            if !is_mounted(&self.mnt) && !self.second().exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{} or {} is still there", self.mnt.display(), self.second().display());
    }
}

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        for at in std::iter::once(&self.mnt).chain(&self.seconds) {
            if is_mounted(at) {
                drop(Command::new("umount").arg("-l").arg(at).output());
            }
            if at != &self.mnt {
                drop(fs::remove_dir(at));
            }
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn shell(test_store: &TestStore, script: &str) -> Output {
    let path = format!(
        "{}:{}",
        Path::new(env!("CARGO_BIN_EXE_cairn")).parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    Command::new("bash")
        .args(["-euc", script])
        .current_dir(test_store.dir.path())
        .env("PATH", path)
        .env("CAIRN_STORE", test_store.store_path())
        .output()
        .unwrap()
}

/// How many stages the daemon holds.
fn held(store: &Whole) -> usize {
    let locks = fs::read_dir(store.test_store.store_path().join("locks"))
        .unwrap()
        .map(|e| fs::read_to_string(e.unwrap().path()).unwrap());
    let (stage, pid) = ("\"stage\"", store.daemon().to_string());
    locks.filter(|lock| lock.contains(stage) && lock.contains(&pid)).count()
}

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

#[test]
fn a_shell_makes_a_new_name_by_mkdir_copies_seals_finishes_and_reads_the_version() {
    let test_store = TestStore::new();
    make_tree(
        &test_store.path("src"),
        &[("x", b"x"), ("d/y", &random_bytes(1, super::support::LARGE)), ("empty/", b"")],
    );
    let store = Whole::new(&test_store, "mnt");
    let script = "
        mkdir -p mnt/.staging/a/d/one mnt/.staging/a/d/two
        cp -r src/. mnt/.staging/a/d/one
        echo two > mnt/.staging/a/d/two/z
        test \"$(ls mnt/.staging/) $(ls mnt/.staging/a) $(echo $(ls mnt/.staging/a/d))\" = 'a d one two'
        test \"$(cairn seal mnt/.staging/a/d/one 2>/dev/null)\" = 'a d one'
        test \"$(cairn upsert a --distributed-id d --run two 2>/dev/null)\" = 'a d two'
        test \"$(cairn finish a --distributed-id d 2>/dev/null)\" = a:v0
        cmp mnt/a/v0/d/y src/d/y
        test \"$(cat mnt/a/latest/z)\" = two
        mkdir -p mnt/a/.staging/d2/three
        echo 3 > mnt/a/.staging/d2/three/f
        test \"$(cairn seal mnt/a/.staging/d2/three 2>/dev/null)\" = 'a d2 three'
        cairn finish a --distributed-id d2 2>/dev/null
        test \"$(cat mnt/a/v1/f)\" = 3";
    let done = shell(&test_store, script);
    assert!(
        done.status.success(),
        "{}{}",
        text(&done.stderr),
        fs::read_to_string(test_store.path("log")).unwrap_or_default()
    );
    test_store.ok(&["umount", store.mnt.to_str().unwrap()]);
    store.gone();
    assert!(left(&test_store).is_empty());
    whole(&test_store, "a whole store");
}

/// ext4 gives the inode numbers of removed files to the next ones at once.
#[test]
fn runs_that_are_sealed_one_after_another_in_one_mount_are_all_in_the_version() {
    let (_disk, test_store) = crate::support::store_on("ext4", 64 << 20);
    let store = Whole::new(&test_store, "mnt");
    for run in 0..6 {
        let at = store.begin(&format!("a/d/{run}"));
        fs::create_dir(at.join(run.to_string())).unwrap();
        for i in 0..30 {
            fs::write(at.join(format!("{run}/{i}")), format!("{run} {i}")).unwrap();
        }
        test_store.ok(&["seal", at.to_str().unwrap()]);
        let shown = fs::read_to_string(at.join(format!("{run}/29"))).unwrap();
        assert_eq!(shown, format!("{run} 29"), "a sealed run shows what is in it");
    }
    let got = super::support::finished(&test_store);
    assert_eq!(got.len(), 6 * 31);
    for run in 0..6 {
        for i in 0..30 {
            assert_eq!(got[format!("{run}/{i}").as_bytes()], format!("- {run} {i}").as_bytes());
        }
    }
    test_store.ok(&["umount", store.mnt.to_str().unwrap()]);
    store.gone();
}

#[test]
fn runs_write_at_once_through_one_mount_and_through_two_and_a_run_has_one_holder() {
    let test_store = TestStore::new();
    let stores = [Whole::new(&test_store, "here"), Whole::new(&test_store, "there")];
    assert_ne!(stores[0].second(), stores[1].second());
    let runs: Vec<_> = (0..4).map(|i| stores[i / 2].begin(&format!("a/d/r{i}"))).collect();
    let mut writers: Vec<_> = runs
        .iter()
        .map(|at| {
            Command::new("sh")
                .arg("-c")
                .arg("for i in $(seq 50); do echo $i > $0/${0##*/}-$i; done")
                .arg(at)
                .spawn()
                .unwrap()
        })
        .collect();
    assert!(writers.iter_mut().all(|w| w.wait().unwrap().success()));
    // Held by the other mount: it is listed, and its first use is refused.
    let taken = stores[1].at(".staging/a/d/r0");
    assert!(taken.is_dir());
    assert_eq!(errno(fs::write(taken.join("x"), "x")), libc::EBUSY);
    assert_eq!(errno(fs::read_dir(&taken)), libc::EBUSY);
    let log = fs::read_to_string(test_store.path("log")).unwrap();
    assert!(log.contains("r0") && log.contains(&format!("held by process {}", stores[0].daemon())), "{log}");
    for at in &runs {
        test_store.ok(&["seal", at.to_str().unwrap()]);
    }
    assert_eq!(test_store.ok(&["finish", "a", "--distributed-id", "d"]), "a:v0");
    assert_eq!(names(&stores[1].at("a/v0")).len(), 200);
}

#[test]
fn a_killed_daemons_runs_continue_at_their_first_use_and_its_second_mount_is_cleared() {
    let test_store = TestStore::new();
    let mut store = Whole::new(&test_store, "mnt");
    fs::write(store.begin("a/d/r").join("x"), "1").unwrap();
    store.begin("a/d/other");
    kill(store.daemon(), libc::SIGKILL);
    test_store.ok(&["umount", store.mnt.to_str().unwrap()]);
    store.gone();
    assert_eq!(contributions(&test_store, "r"), 0);
    store.mount();
    assert_eq!(names(&store.at(".staging/a/d")), ["other", "r"]);
    assert!(fs::metadata(store.at(".staging/a/d/other")).unwrap().is_dir());
    assert_eq!(held(&store), 0, "a look takes nothing up");
    assert_eq!(fs::read_to_string(store.at(".staging/a/d/r/x")).unwrap(), "1");
    assert_eq!(held(&store), 1);
    fs::write(store.at(".staging/a/d/r/y"), "2").unwrap();
    // A dead mount that somebody took away by hand leaves the second one to the next mount.
    kill(store.daemon(), libc::SIGKILL);
    assert!(Command::new("umount").arg("-l").arg(&store.mnt).status().unwrap().success());
    let dead = store.second().to_owned();
    assert!(is_mounted(&dead));
    store.mount();
    assert!(!is_mounted(&dead) && !dead.exists());
    test_store.ok(&["seal", store.at(".staging/a/d/r").to_str().unwrap()]);
    fs::remove_dir(store.at(".staging/a/d/other")).unwrap();
    test_store.ok(&["finish", "a", "--distributed-id", "d"]);
    assert_eq!(snapshot(&store.at("a/v0")).len(), 2);
}

/// The runtime directory of the staging part means nothing to the user, who mounted `mnt`.
#[test]
fn errors_about_a_run_of_a_whole_store_mount_name_that_mount() {
    let test_store = TestStore::new();
    let store = Whole::new(&test_store, "mnt");
    let at = store.begin("a/d/r");
    let mnt = store.mnt.to_str().unwrap().to_owned();
    let other = test_store.path("other");
    fs::create_dir(&other).unwrap();
    let args = ["mount", other.to_str().unwrap(), "a", "--stage", "--distributed-id", "d", "--run", "r"];
    let message = text(&test_store.run(&args, 3).stderr);
    assert!(
        message.contains(&format!("hint: `cairn umount --no-seal {mnt}` unmounts it without sealing; ")),
        "{message}"
    );
    let message = text(&test_store.run(&["umount", at.to_str().unwrap()], 6).stderr);
    assert!(message.ends_with(&format!("hint: the mount is at {mnt}\n")), "{message}");
    test_store.ok(&["umount", &mnt]);
    store.gone();
    test_store.ok(&args);
    test_store.ok(&["umount", "--no-seal", other.to_str().unwrap()]);
}

#[test]
fn umount_and_a_signal_leave_contributions_open_and_take_both_mounts_away() {
    let test_store = TestStore::new();
    let mut store = Whole::new(&test_store, "mnt");
    let at = store.begin("a/d/r");
    let open = fs::File::create(at.join("x")).unwrap();
    let message = test_store.run(&["umount", store.mnt.to_str().unwrap()], 3);
    assert!(text(&message.stderr).contains(&format!("process {}", std::process::id())), "{}", text(&message.stderr));
    assert!(is_mounted(&store.mnt) && is_mounted(store.second()));
    drop(open);
    let message = test_store.run(&["umount", store.mnt.to_str().unwrap()], 0);
    assert!(text(&message.stderr).contains("left open: a d r"), "{}", text(&message.stderr));
    store.gone();
    store.mount();
    fs::write(store.at(".staging/a/d/r/y"), "y").unwrap();
    kill(store.daemon(), libc::SIGTERM);
    store.gone();
    store.mount();
    assert_eq!(names(&store.at(".staging/a/d/r")), ["x", "y"]);
    // What is open when MNT goes by a plain umount is served until it is closed.
    let mut open = fs::File::create(store.at(".staging/a/d/r/z")).unwrap();
    plain_umount(&store.mnt);
    store.gone();
    std::io::Write::write_all(&mut open, b"late").unwrap();
    drop(open);
    assert_eq!(contributions(&test_store, "r"), 0);
    assert_eq!(fs::read_to_string(super::support::backing(&test_store, "r").join("z")).unwrap(), "late");
}

#[test]
fn the_levels_above_runs_show_what_is_open_and_refuse_what_is_no_name() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("x", b"x")]);
    test_store.ok(&["put", "known", "src"]);
    let store = Whole::new(&test_store, "mnt");
    let top = store.at(".staging");
    assert!(
        names(&top).is_empty() && names(&top.join("known")).is_empty(),
        "a name of the store is there and is not listed"
    );
    for name in ["-bad", ".bad", "a b", "a:v1"] {
        assert_eq!(errno(fs::create_dir(top.join(name))), libc::EINVAL, "{name}");
    }
    assert_eq!(errno(fs::create_dir(top.join("known"))), libc::EEXIST);
    assert_eq!(errno(fs::write(top.join("file"), "")), libc::EPERM);
    let at = store.begin("new/d/r");
    assert_eq!(
        (names(&top), names(&top.join("new")), names(&top.join("new/d"))),
        (vec!["new".to_owned()], vec!["d".to_owned()], vec!["r".to_owned()])
    );
    fs::write(at.join("f"), "f").unwrap();
    assert_eq!(errno(fs::rename(&at, top.join("new/d/other"))), libc::EPERM);
    assert_eq!(
        (errno(fs::remove_dir(&at)), errno(fs::remove_dir(top.join("new")))),
        (libc::ENOTEMPTY, libc::ENOTEMPTY)
    );
    fs::remove_file(at.join("f")).unwrap();
    fs::remove_dir_all(top.join("new")).unwrap();
    assert!(names(&top).is_empty() && left(&test_store).is_empty(), "{:?}", left(&test_store));
    // A walk over the mount does not enter what is written.
    fs::write(store.begin("known/d/r").join("hidden"), "").unwrap();
    let walked: Vec<String> = walkdir::WalkDir::new(&store.mnt)
        .sort_by_file_name()
        .into_iter()
        .map(|e| e.unwrap().path().strip_prefix(&store.mnt).unwrap().display().to_string())
        .collect();
    assert_eq!(walked, ["", ".staging", "known", "known/.staging", "known/latest", "known/v0", "known/v0/x"]);
    assert!(store.at("known/.staging/d/r/hidden").exists());
}

#[test]
fn a_sealed_run_is_read_only_and_gone_when_its_draft_is_finished() {
    let test_store = TestStore::new();
    let store = Whole::new(&test_store, "mnt");
    let at = store.begin("a/d/r");
    fs::write(at.join("x"), "x").unwrap();
    test_store.ok(&["seal", at.to_str().unwrap()]);
    assert_eq!(errno(fs::write(at.join("y"), "y")), libc::EROFS);
    assert_eq!((errno(fs::remove_dir(&at)), fs::read_to_string(at.join("x")).unwrap().as_str()), (libc::EROFS, "x"));
    test_store.ok(&["finish", "a", "--distributed-id", "d"]);
    std::thread::sleep(std::time::Duration::from_millis(1100)); // the kernel keeps the names above runs for a second
    assert!(names(&store.at(".staging")).iter().all(|n| n == "a") && names(&store.at(".staging/a")).is_empty());
    assert_eq!(errno(fs::create_dir_all(store.at(".staging/a/d/late"))), libc::EROFS);
}

#[test]
fn modes_are_what_the_writer_asked_for_and_the_stores_own_files_keep_the_daemons_umask() {
    let test_store = TestStore::new();
    let store = Whole::new(&test_store, "mnt");
    let made = shell(
        &test_store,
        "umask 0; mkdir -p mnt/.staging/a/d/r/wide; : > mnt/.staging/a/d/r/all; umask 077; mkdir \
         mnt/.staging/a/d/r/own",
    );
    assert!(made.status.success(), "{}", text(&made.stderr));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let at = store.at(".staging/a/d/r");
    assert_eq!(
        (mode(&at), mode(&at.join("wide")), mode(&at.join("all")), mode(&at.join("own"))),
        (0o777, 0o777, 0o666, 0o700)
    );
    for entry in fs::read_dir(test_store.store_path().join("locks"))
        .unwrap()
        .chain(fs::read_dir(test_store.store_path().join("staging")).unwrap())
        .map(|e| e.unwrap().path())
    {
        assert!(
            entry.is_dir() || entry.is_symlink() || mode(&entry) & 0o022 == 0,
            "{}: {:o}",
            entry.display(),
            mode(&entry)
        );
    }
}

#[test]
fn a_user_who_may_not_write_to_the_store_mounts_its_versions_without_staging() {
    if ran_where_fuse_is_open_to_all(
        "staging::whole::a_user_who_may_not_write_to_the_store_mounts_its_versions_without_staging",
    ) {
        return;
    }
    let test_store = TestStore::new();
    fs::set_permissions(test_store.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    make_tree(&test_store.path("src"), &[("x", b"x")]);
    test_store.ok(&["put", "a", "src"]);
    let mnt = test_store.path("mnt");
    fs::create_dir(&mnt).unwrap();
    std::os::unix::fs::chown(&mnt, Some(65_534), Some(65_534)).unwrap();
    let mut command = test_store.cairn(&["mount", mnt.to_str().unwrap(), "--foreground"]);
    let daemon = command
        .uid(65_534)
        .gid(65_534)
        .stdout(std::process::Stdio::null())
        .stderr(fs::File::create(test_store.path("log")).unwrap())
        .spawn()
        .unwrap();
    let _store = Whole { test_store: &test_store, mnt: mnt.clone(), seconds: Vec::new() };
    let look = |script: &str| {
        Command::new("sh")
            .args(["-c", script])
            .current_dir(test_store.dir.path())
            .uid(65_534)
            .gid(65_534)
            .output()
            .unwrap()
    };
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !look("cat mnt/a/v0/x").status.success() {
        assert!(std::time::Instant::now() < until, "{}", fs::read_to_string(test_store.path("log")).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(text(&look("ls -A mnt mnt/a").stdout), "mnt:\na\n\nmnt/a:\nlatest\nv0\n");
    let log = fs::read_to_string(test_store.path("log")).unwrap();
    assert!(log.contains("cannot mount staging directories: you may not write to the store"), "{log}");
    // SAFETY: a signal to a child that was not waited for.
    unsafe { libc::kill(daemon.id() as i32, libc::SIGTERM) };
    assert!(daemon.wait_with_output().unwrap().status.success());
}

#[test]
fn a_user_stages_through_fusermount3_and_in_a_user_namespace() {
    if ran_where_fuse_is_open_to_all("staging::whole::a_user_stages_through_fusermount3_and_in_a_user_namespace") {
        return;
    }
    for (round, prefix) in [&["env"][..], &["unshare", "-Urm"]].into_iter().enumerate() {
        let test_store = TestStore::new();
        for dir in [test_store.dir.path().to_owned(), test_store.path("mnt")] {
            fs::create_dir_all(&dir).unwrap();
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
        assert!(
            Command::new("chown").args(["-R", "65534:65534"]).arg(test_store.dir.path()).status().unwrap().success()
        );
        let script = "
            cairn -q mount mnt --log $PWD/log > mounted
            trap 'cairn -q umount mnt' EXIT
            mkdir -p mnt/.staging/a/d/r
            echo hi > mnt/.staging/a/d/r/f
            cairn -q seal mnt/.staging/a/d/r
            cairn -q finish a --distributed-id d
            cat mnt/a/v0/f
            readlink mnt/.staging";
        let path = format!(
            "{}:{}",
            Path::new(env!("CARGO_BIN_EXE_cairn")).parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
        let mut command = Command::new(prefix[0]);
        command
            .args(&prefix[1..])
            .args(["bash", "-euc", script])
            .current_dir(test_store.dir.path())
            .uid(65_534)
            .gid(65_534);
        command
            .env("PATH", path)
            .env("HOME", test_store.dir.path())
            .env("CAIRN_STORE", test_store.store_path())
            .env("CAIRN_CACHE_DIR", test_store.path("cache"))
            .env_remove("XDG_RUNTIME_DIR");
        let output = command.output().unwrap();
        let message = text(&output.stdout);
        assert!(
            output.status.success() && message.starts_with("a d r\na:v0\nhi\n/tmp/cairn-"),
            "round {round}: {message}{}",
            text(&output.stderr)
        );
        let second = PathBuf::from(message.lines().last().unwrap());
        assert!(!second.exists(), "{} went with the mount", second.display());
    }
}

#[test]
fn a_store_is_mounted_without_staging_directories_when_nothing_is_to_be_written() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("x", b"x")]);
    test_store.ok(&["put", "a", "src"]);
    let mnt = test_store.path("mnt");
    fs::create_dir(&mnt).unwrap();
    let _store = Whole { test_store: &test_store, mnt: mnt.clone(), seconds: Vec::new() };
    test_store.ok(&["mount", "mnt", "--no-stage"]);
    for round in 0..2 {
        assert_eq!(fs::read(mnt.join("a/v0/x")).unwrap(), b"x");
        assert!(
            fs::symlink_metadata(mnt.join(".staging")).is_err()
                && fs::symlink_metadata(mnt.join("a/.staging")).is_err()
        );
        test_store.ok(&["umount", "mnt"]);
        if round == 0 {
            let mounted = Command::new(env!("CARGO_BIN_EXE_cairnfs"))
                .arg(test_store.store_path())
                .arg(&mnt)
                .args(["-o", "ro,_netdev"])
                .output()
                .unwrap();
            assert!(mounted.status.success(), "{}", text(&mounted.stderr));
        }
    }
}

#[test]
fn cairnfs_mounts_a_runs_staging_directory() {
    let test_store = TestStore::new();
    let mnt = test_store.path("mnt");
    fs::create_dir(&mnt).unwrap();
    let _store = Whole { test_store: &test_store, mnt: mnt.clone(), seconds: Vec::new() };
    let mounted = Command::new(env!("CARGO_BIN_EXE_cairnfs"))
        .arg(test_store.store_path())
        .arg(&mnt)
        .args(["-o", "rw,stage=a,distributed_id=d,run=r"])
        .output()
        .unwrap();
    assert!(mounted.status.success(), "{}", text(&mounted.stderr));
    fs::write(mnt.join("f"), "f").unwrap();
    test_store.ok(&["umount", "mnt"]);
    test_store.ok(&["finish", "a", "--distributed-id", "d"]);
    assert_eq!(test_store.ok(&["ls", "a"]), "f");
}

#[test]
fn with_allow_other_each_user_begins_contributions_of_his_own() {
    let test_store = TestStore::new();
    test_store.open_to_all();
    fs::create_dir(test_store.path("mnt")).unwrap();
    let _store = Whole { test_store: &test_store, mnt: test_store.path("mnt"), seconds: Vec::new() };
    test_store.ok(&["mount", "mnt", "--allow-other"]);
    let script = "mkdir -p mnt/.staging/a/d/r && echo mine > mnt/.staging/a/d/r/f && stat -c %u mnt/.staging/a/d/r \
                  mnt/.staging/a/d/r/f";
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(test_store.dir.path())
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "65534\n65534\n", "{}", text(&output.stderr));
    test_store.ok(&["upsert", "a", "--distributed-id", "d", "--run", "r"]);
    test_store.ok(&["finish", "a", "--distributed-id", "d"]);
    assert_eq!(test_store.ok(&["cat", "a", "f"]), "mine");
    test_store.ok(&["umount", "mnt"]);
}
