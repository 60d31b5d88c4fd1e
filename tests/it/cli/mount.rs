//! `cairn mount` and `cairn umount`, as commands; what a mount shows is tested in `tests/it/mount`.

use crate::support::{TestStore, make_tree, random_bytes, snapshot, text};
use std::process::{Command, Stdio};
use std::time::Duration;

fn test_store() -> TestStore {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a/x", b"1"), ("big", &random_bytes(2, 300_000)), ("empty/", b"")]);
    test_store.ok(&["put", "x", "src"]);
    std::fs::create_dir(test_store.path("mnt")).unwrap();
    test_store
}

/// The mount point as an absolute path without symlinks, as the system reports it.
fn at(test_store: &TestStore) -> std::path::PathBuf {
    test_store.path("mnt").canonicalize().unwrap()
}

/// Unmounts also when a test panics.
struct Mounted<'a>(&'a TestStore);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = self.0.cairn(&["umount", "mnt"]).output();
    }
}

#[test]
fn a_mount_prints_what_it_resolved_to_shows_it_and_goes_away() {
    let test_store = test_store();
    let _guard = Mounted(&test_store);
    assert_eq!(test_store.ok(&["mount", "mnt", "x:latest"]), "x:v0");
    assert_eq!(snapshot(&test_store.path("mnt")), snapshot(&test_store.path("src")));
    std::fs::write(test_store.path("src/new"), "").unwrap();
    test_store.ok(&["put", "x", "src"]);
    assert!(!test_store.path("mnt/new").exists(), "it stays with its version");
    let lock = test_store.json(&["locks"])[0].clone();
    assert_eq!((&lock["purpose"], &lock["artifact"], &lock["life"]), (&"mount".into(), &"x".into(), &"live".into()));
    assert_eq!((&lock["version"], &lock["mountpoint"]), (&"v0".into(), &at(&test_store).to_str().unwrap().into()));
    test_store.fails(&["mount", "mnt", "x"], 3);
    assert_eq!(test_store.ok(&["umount", "mnt"]), "");
    assert!(std::fs::read_dir(test_store.path("mnt")).unwrap().next().is_none());
    assert_eq!(test_store.json(&["locks"]), serde_json::json!([]));
    test_store.fails(&["umount", "mnt"], 6);
    let document = test_store.json(&["mount", "mnt", "x", "--verify", "all", "--threads", "1"]);
    assert_eq!(document, serde_json::json!({ "artifact": "x", "version": "v1", "mountpoint": at(&test_store) }));
    assert_eq!(
        test_store.json(&["umount", "mnt"]),
        serde_json::json!({ "mountpoint": at(&test_store), "elsewhere": [] })
    );
}

#[test]
fn without_a_version_the_whole_store_is_mounted_and_grows() {
    let test_store = test_store();
    let _guard = Mounted(&test_store);
    assert_eq!(test_store.ok(&["mount", "mnt"]), "");
    assert_eq!(snapshot(&test_store.path("mnt/x/v0")), snapshot(&test_store.path("src")));
    std::fs::write(test_store.path("src/new"), "").unwrap();
    test_store.ok(&["put", "x", "src", "--alias", "prod"]);
    assert_eq!(
        snapshot(&test_store.path("mnt/x/v1")),
        snapshot(&test_store.path("src")),
        "a new name is not waited for"
    );
    assert_eq!(std::fs::read_link(test_store.path("mnt/x/prod")).unwrap().to_str(), Some("v1"));
    let open = std::fs::File::open(test_store.path("mnt/x/v0/big")).unwrap();
    let refused = test_store.fails(&["rm", "x:v0"], 3);
    assert!(refused.contains("in use by a mount") && refused.contains("hint: unmount /"), "{refused}");
    drop(open);
    test_store.ok(&["umount", "mnt"]);
    test_store.ok(&["rm", "x:v0"]);
    let document = test_store.json(&["mount", "mnt", "--refresh", "5"]);
    assert_eq!(
        document,
        serde_json::json!({ "store": test_store.store_path().canonicalize().unwrap(), "mountpoint": at(&test_store) })
    );
    assert!(!test_store.path("mnt/x/v0").exists());
}

/// A bind mount of a mount, until it is dropped.
struct Copy(std::path::PathBuf);

impl Copy {
    /// `None` without the right to mount.
    fn of(mount: &std::path::Path, at: std::path::PathBuf) -> Option<Copy> {
        std::fs::create_dir(&at).unwrap();
        let made = Command::new("mount").arg("--bind").arg(mount).arg(&at).status().unwrap();
        made.success().then_some(Copy(at))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn mounts_shows_what_a_bind_mount_is_a_copy_of_also_when_only_the_copy_is_left() {
    let test_store = test_store();
    let _guard = Mounted(&test_store);
    test_store.ok(&["mount", "mnt", "x"]);
    let Some(copy) = Copy::of(&test_store.path("mnt"), test_store.path("copy")) else {
        return eprintln!("skipped: no right to bind");
    };
    let listed = || {
        let all = test_store.json(&["mounts"]);
        let place = copy.0.canonicalize().unwrap();
        all.as_array().unwrap().iter().find(|m| m["mountpoint"] == place.to_str().unwrap()).unwrap().clone()
    };
    for round in 0..2 {
        let found = listed();
        assert_eq!((&found["shows"], &found["version"]), (&"version".into(), &"v0".into()), "{round}: {found}");
        assert_eq!(found["copy_of"], at(&test_store).to_str().unwrap(), "{round}: {found}");
        assert!(found["user"].is_string() && found["pid"].is_number(), "{round}: {found}");
        if round == 0 {
            assert!(test_store.ok(&["mounts"]).contains(", copy of "));
            test_store.ok(&["umount", "mnt"]);
        }
    }
}

#[test]
fn an_unmount_without_seal_that_leaves_a_copy_hints_at_the_copy_first() {
    let test_store = test_store();
    let _guard = Mounted(&test_store);
    test_store.ok(&["mount", "mnt", "e", "--stage", "--distributed-id", "d", "--run", "r"]);
    std::fs::write(test_store.path("mnt/f"), "1").unwrap();
    let Some(copy) = Copy::of(&test_store.path("mnt"), test_store.path("copy")) else {
        return eprintln!("skipped: no right to bind");
    };
    let stderr = text(&test_store.run(&["umount", "mnt", "--no-seal"], 0).stderr);
    assert!(stderr.contains("still mounted at") && stderr.contains("left open: e d r"), "{stderr}");
    assert!(stderr.contains("unmount the other place first; then `cairn mount MNT e --stage"), "{stderr}");
    // What the hint says works, and its second half does not without the first.
    let resume = ["mount", "mnt", "e", "--stage", "--distributed-id", "d", "--run", "r"];
    test_store.fails(&resume, 3);
    test_store.ok(&["umount", copy.0.to_str().unwrap(), "--no-seal"]);
    test_store.ok(&resume);
    assert_eq!(std::fs::read(test_store.path("mnt/f")).unwrap(), b"1");
}

#[test]
fn what_cannot_be_mounted_says_why() {
    let test_store = test_store();
    test_store.fails(&["mount", "mnt", "x:v7"], 6);
    test_store.fails(&["mount", "mnt", "y"], 6);
    test_store.fails(&["mount", "nowhere", "x"], 6);
    test_store.fails(&["mount", "src", "x"], 3);
    test_store.fails(&["mount", "store/objects", "x"], 2);
    test_store.fails(&["mount", "mnt", "x", "--verify", "never"], 2);
    assert!(std::fs::read_dir(test_store.path("mnt")).unwrap().next().is_none());
}

#[test]
fn in_the_foreground_ctrl_c_unmounts() {
    let test_store = test_store();
    let _guard = Mounted(&test_store);
    let child = test_store
        .cairn(&["mount", "mnt", "x", "--foreground"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let there = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        test_store.path("mnt/a/x").exists()
    });
    // SAFETY: the child is ours and not waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let out = child.wait_with_output().unwrap();
    assert!(there);
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(0), "x:v0\n".into()), "{}", text(&out.stderr));
    assert!(std::fs::read_dir(test_store.path("mnt")).unwrap().next().is_none());
}

#[test]
fn the_number_of_threads_has_one_range_in_both_programs() {
    let test_store = test_store();
    let _guard = Mounted(&test_store);
    for (threads, good) in [("1", true), ("256", true), ("0", false), ("257", false)] {
        let mut cairnfs = std::process::Command::new(env!("CARGO_BIN_EXE_cairnfs"));
        cairnfs
            .arg(test_store.store_path())
            .arg(test_store.path("mnt"))
            .arg("-o")
            .arg(format!("version=x,threads={threads}"));
        for (i, mut command) in
            [test_store.cairn(&["mount", "mnt", "x", "--threads", threads]), cairnfs].into_iter().enumerate()
        {
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(if good { 0 } else { 2 }), "{i} {threads}: {}", text(&output.stderr));
            if good {
                test_store.ok(&["umount", "mnt"]);
            }
        }
    }
}

#[test]
fn mounts_lists_what_is_mounted_where_since_when_and_whether_it_answers() {
    let test_store = test_store();
    let at = |name: &str| {
        std::fs::create_dir_all(test_store.path(name)).unwrap();
        test_store.path(name).canonicalize().unwrap()
    };
    let mine = |test_store: &TestStore| -> Vec<serde_json::Value> {
        let all = test_store.json(&["mounts"]);
        let own = test_store.store_path().canonicalize().unwrap();
        all.as_array().unwrap().iter().filter(|m| m["store"] == own.to_str().unwrap()).cloned().collect()
    };
    struct Gone<'a>(&'a TestStore, [&'static str; 3]);
    impl Drop for Gone<'_> {
        fn drop(&mut self) {
            self.1.iter().for_each(|mnt| drop(self.0.cairn(&["umount", "--no-seal", mnt]).output()));
        }
    }
    let _guard = Gone(&test_store, ["mnt", "all", "stage"]);
    let (version, all, stage) = (at("mnt"), at("all"), at("stage"));
    assert_eq!(mine(&test_store), [] as [serde_json::Value; 0]);
    test_store.ok(&["mount", "mnt", "x:v0"]);
    test_store.ok(&["mount", "all"]);
    test_store.ok(&["mount", "stage", "y", "--stage", "--distributed-id", "d", "--run", "r"]);
    let listed = mine(&test_store);
    assert_eq!(listed.len(), 3, "the second mount of a whole store is not listed by itself: {listed:?}");
    let of = |at: &std::path::Path| listed.iter().find(|m| m["mountpoint"] == at.to_str().unwrap()).unwrap().clone();
    for (at, shows, fields) in [
        (&version, "version", [("artifact", "x"), ("version", "v0")]),
        (&all, "store", [("state", "ok"), ("shows", "store")]),
        (&stage, "stage", [("distributed_id", "d"), ("run", "r")]),
    ] {
        let m = of(at);
        assert_eq!((&m["shows"], &m["healthy"]), (&shows.into(), &true.into()), "{m}");
        assert!(fields.iter().all(|(name, value)| m[name] == *value), "{m}");
        assert!(m["user"].is_string() && m["since"].is_string() && m["pid"].is_number(), "{m}");
    }
    let row = test_store.ok(&["mounts"]).lines().find(|l| l.starts_with(version.to_str().unwrap())).unwrap().to_owned();
    assert!(row.contains("x:v0") && row.ends_with(" ok"), "{row}");
    // SAFETY: a signal to a daemon of this test's.
    unsafe { libc::kill(of(&version)["pid"].as_i64().unwrap() as i32, libc::SIGKILL) };
    let until = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let m = mine(&test_store).into_iter().find(|m| m["mountpoint"] == version.to_str().unwrap()).unwrap();
        if m["state"] == "dead" {
            assert_eq!((&m["healthy"], &m["artifact"]), (&false.into(), &"x".into()));
            break;
        }
        assert!(std::time::Instant::now() < until, "{m}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
