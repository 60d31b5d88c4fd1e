//! `cairn mount` and `cairn umount`, as commands; what the mount shows is tested in `mount.rs` of the file system.

use crate::support::{TestStore, make_tree, random_bytes, snapshot, text};
use std::process::Stdio;
use std::time::Duration;

fn lab() -> TestStore {
    let lab = TestStore::new();
    make_tree(&lab.path("src"), &[("a/x", b"1"), ("big", &random_bytes(2, 300_000)), ("empty/", b"")]);
    lab.ok(&["put", "x", "src"]);
    std::fs::create_dir(lab.path("mnt")).unwrap();
    lab
}

/// The mount point, as programs are told of it: from the root.
fn at(lab: &TestStore) -> std::path::PathBuf {
    lab.path("mnt").canonicalize().unwrap()
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
    let lab = lab();
    let _guard = Mounted(&lab);
    assert_eq!(lab.ok(&["mount", "mnt", "x:latest"]), "x:v0");
    assert_eq!(snapshot(&lab.path("mnt")), snapshot(&lab.path("src")));
    std::fs::write(lab.path("src/new"), "").unwrap();
    lab.ok(&["put", "x", "src"]);
    assert!(!lab.path("mnt/new").exists(), "it stays with its version");
    let lock = lab.json(&["locks"])[0].clone();
    assert_eq!((&lock["purpose"], &lock["artifact"], &lock["life"]), (&"mount".into(), &"x".into(), &"live".into()));
    assert_eq!((&lock["version"], &lock["mountpoint"]), (&"v0".into(), &at(&lab).to_str().unwrap().into()));
    lab.fails(&["mount", "mnt", "x"], 3);
    assert_eq!(lab.ok(&["umount", "mnt"]), "");
    assert!(std::fs::read_dir(lab.path("mnt")).unwrap().next().is_none());
    assert_eq!(lab.json(&["locks"]), serde_json::json!([]));
    lab.fails(&["umount", "mnt"], 6);
    let document = lab.json(&["mount", "mnt", "x", "--verify", "all", "--threads", "1"]);
    assert_eq!(document, serde_json::json!({ "artifact": "x", "version": "v1", "mountpoint": at(&lab) }));
    assert_eq!(lab.json(&["umount", "mnt"]), serde_json::json!({ "mountpoint": at(&lab), "elsewhere": [] }));
}

#[test]
fn without_a_version_the_whole_store_is_mounted_and_grows() {
    let lab = lab();
    let _guard = Mounted(&lab);
    assert_eq!(lab.ok(&["mount", "mnt"]), "");
    assert_eq!(snapshot(&lab.path("mnt/x/v0")), snapshot(&lab.path("src")));
    std::fs::write(lab.path("src/new"), "").unwrap();
    lab.ok(&["put", "x", "src", "--alias", "prod"]);
    assert_eq!(snapshot(&lab.path("mnt/x/v1")), snapshot(&lab.path("src")), "a new name is not waited for");
    assert_eq!(std::fs::read_link(lab.path("mnt/x/prod")).unwrap().to_str(), Some("v1"));
    let open = std::fs::File::open(lab.path("mnt/x/v0/big")).unwrap();
    let refused = lab.fails(&["rm", "x:v0"], 3);
    assert!(refused.contains("in use by a mount") && refused.contains("hint: unmount it"), "{refused}");
    drop(open);
    lab.ok(&["umount", "mnt"]);
    lab.ok(&["rm", "x:v0"]);
    let document = lab.json(&["mount", "mnt", "--refresh", "5"]);
    assert_eq!(
        document,
        serde_json::json!({ "store": lab.store_path().canonicalize().unwrap(), "mountpoint": at(&lab) })
    );
    assert!(!lab.path("mnt/x/v0").exists());
}

#[test]
fn what_cannot_be_mounted_says_why() {
    let lab = lab();
    lab.fails(&["mount", "mnt", "x:v7"], 6);
    lab.fails(&["mount", "mnt", "y"], 6);
    lab.fails(&["mount", "nowhere", "x"], 6);
    lab.fails(&["mount", "src", "x"], 3);
    lab.fails(&["mount", "store/objects", "x"], 2);
    lab.fails(&["mount", "mnt", "x", "--verify", "never"], 2);
    assert!(std::fs::read_dir(lab.path("mnt")).unwrap().next().is_none());
}

#[test]
fn in_the_foreground_ctrl_c_unmounts() {
    let lab = lab();
    let _guard = Mounted(&lab);
    let child = lab
        .cairn(&["mount", "mnt", "x", "--foreground"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let there = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        lab.path("mnt/a/x").exists()
    });
    // SAFETY: the child is ours and not waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let out = child.wait_with_output().unwrap();
    assert!(there);
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(0), "x:v0\n".into()), "{}", text(&out.stderr));
    assert!(std::fs::read_dir(lab.path("mnt")).unwrap().next().is_none());
}

#[test]
fn the_number_of_threads_has_one_range_in_both_programs() {
    let lab = lab();
    let _guard = Mounted(&lab);
    for (threads, good) in [("1", true), ("256", true), ("0", false), ("257", false)] {
        let mut cairnfs = std::process::Command::new(env!("CARGO_BIN_EXE_cairnfs"));
        cairnfs.arg(lab.store_path()).arg(lab.path("mnt")).arg("-o").arg(format!("version=x,threads={threads}"));
        for (i, mut command) in
            [lab.cairn(&["mount", "mnt", "x", "--threads", threads]), cairnfs].into_iter().enumerate()
        {
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(if good { 0 } else { 2 }), "{i} {threads}: {}", text(&output.stderr));
            if good {
                lab.ok(&["umount", "mnt"]);
            }
        }
    }
}

#[test]
fn mounts_lists_what_is_mounted_where_since_when_and_whether_it_answers() {
    let lab = lab();
    let at = |name: &str| {
        std::fs::create_dir_all(lab.path(name)).unwrap();
        lab.path(name).canonicalize().unwrap()
    };
    let mine = |lab: &TestStore| -> Vec<serde_json::Value> {
        let all = lab.json(&["mounts"]);
        let own = lab.store_path().canonicalize().unwrap();
        all.as_array().unwrap().iter().filter(|m| m["store"] == own.to_str().unwrap()).cloned().collect()
    };
    struct Gone<'a>(&'a TestStore, [&'static str; 3]);
    impl Drop for Gone<'_> {
        fn drop(&mut self) {
            self.1.iter().for_each(|mnt| drop(self.0.cairn(&["umount", "--no-seal", mnt]).output()));
        }
    }
    let _guard = Gone(&lab, ["mnt", "all", "stage"]);
    let (version, all, stage) = (at("mnt"), at("all"), at("stage"));
    assert_eq!(mine(&lab), [] as [serde_json::Value; 0]);
    lab.ok(&["mount", "mnt", "x:v0"]);
    lab.ok(&["mount", "all"]);
    lab.ok(&["mount", "stage", "y", "--stage", "--distributed-id", "d", "--run", "r"]);
    let listed = mine(&lab);
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
    let row = lab.ok(&["mounts"]).lines().find(|l| l.starts_with(version.to_str().unwrap())).unwrap().to_owned();
    assert!(row.contains("x:v0") && row.ends_with(" ok"), "{row}");
    // SAFETY: a signal to a daemon of this test's.
    unsafe { libc::kill(of(&version)["pid"].as_i64().unwrap() as i32, libc::SIGKILL) };
    let until = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let m = mine(&lab).into_iter().find(|m| m["mountpoint"] == version.to_str().unwrap()).unwrap();
        if m["state"] == "dead" {
            assert_eq!((&m["healthy"], &m["artifact"]), (&false.into(), &"x".into()));
            break;
        }
        assert!(std::time::Instant::now() < until, "{m}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
