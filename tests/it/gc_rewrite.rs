//! Packs that a garbage collection rewrites: what is needed stays readable, what is not is freed, whatever happens
//! meanwhile (L14).

use crate::support::{TestStore, copy_tree, go_on, make_tree, random_bytes, steps, text, wait_stopped};
use cairn::gc::{GcOptions, GcReport, collect};
use cairn::verify::{Scope, VerifyOptions, verify};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

fn now() -> GcOptions {
    GcOptions::default().min_age(Duration::ZERO)
}

fn gc(lab: &TestStore) -> GcReport {
    collect(&lab.store(), &now()).unwrap()
}

/// The packs in place and their sizes.
fn packs(lab: &TestStore) -> BTreeMap<PathBuf, u64> {
    let dir = std::fs::read_dir(lab.store_path().join("packs")).unwrap();
    dir.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), path.metadata().unwrap().len())).collect()
}

fn clean(lab: &TestStore) {
    let report = verify(&lab.store(), &Scope::All, &VerifyOptions::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

fn nothing_is_left_over(lab: &TestStore) {
    for dir in ["trash", "work", "locks"] {
        let left: Vec<_> = std::fs::read_dir(lab.store_path().join(dir)).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Small files `d/fN`, each of 5,000 bytes that no other has.
fn small_files(lab: &TestStore, dir: &str, numbers: std::ops::Range<u64>) {
    for n in numbers {
        make_tree(&lab.path(dir), &[(&format!("d/f{n}"), &random_bytes(1000 + n, 5000))]);
    }
}

/// `a:v0` has 20 files in one pack and is removed; `a:v1` has 3 of them, and one of its own.
fn mostly_dead() -> TestStore {
    let lab = TestStore::new();
    small_files(&lab, "old", 0..20);
    lab.ok(&["put", "a", "old"]);
    small_files(&lab, "new", 4..7);
    small_files(&lab, "new", 50..51);
    lab.ok(&["put", "a", "new"]);
    lab.ok(&["rm", "a:v0"]);
    lab
}

fn again(from: &TestStore) -> TestStore {
    let lab = TestStore { dir: tempfile::tempdir().unwrap() };
    for name in ["store", "old", "new"] {
        copy_tree(&from.path(name), &lab.path(name));
    }
    lab
}

#[test]
fn a_pack_of_which_little_is_needed_is_rewritten() {
    let lab = mostly_dead();
    let before = packs(&lab);
    let dry = collect(&lab.store(), &now().dry_run(true)).unwrap();
    assert_eq!((dry.rewritten.files, dry.moved.files), (1, 0), "{dry:?}");
    assert_eq!(packs(&lab), before, "a dry run changes nothing");
    let report = gc(&lab);
    assert_eq!((report.rewritten.files, report.freed.files, report.written.files), (1, 1, 1), "{report:?}");
    assert!(report.rewritten.bytes > 100_000 && report.written.bytes < 20_000, "{report:?}");
    assert!(packs(&lab).values().sum::<u64>() < 40_000, "{:?}", packs(&lab));
    clean(&lab);
    lab.ok(&["diff", "a:v1", "./new"]);
    let report = gc(&lab);
    assert_eq!((report.rewritten.files, report.moved.files, report.put_back.files), (0, 0, 0), "{report:?}");
    nothing_is_left_over(&lab);
    // Writers find the content in the new pack.
    let packs_before = packs(&lab).len();
    make_tree(&lab.path("one"), &[("again", &random_bytes(1005, 5000))]);
    lab.ok(&["put", "b", "one"]);
    let new: Vec<_> = packs(&lab).into_values().collect();
    assert_eq!(new.len(), packs_before + 1);
    assert!(*new.iter().min().unwrap() < 2000, "only nodes are new: {new:?}");
}

#[test]
fn the_old_pack_stays_in_the_trash_for_the_minimum_age() {
    let lab = mostly_dead();
    let report = collect(&lab.store(), &GcOptions::default()).unwrap();
    assert_eq!((report.rewritten.files, report.freed.files, report.in_trash.files), (1, 0, 1), "{report:?}");
    clean(&lab);
    lab.ok(&["diff", "a:v1", "./new"]);
    let report = collect(&lab.store(), &GcOptions::default()).unwrap();
    assert_eq!((report.rewritten.files, report.freed.files, report.in_trash.files), (0, 0, 1), "{report:?}");
    let report = gc(&lab);
    assert_eq!((report.freed.files, report.in_trash.files, report.put_back.files), (1, 0, 0), "{report:?}");
    clean(&lab);
    lab.ok(&["diff", "a:v1", "./new"]);
}

#[test]
fn the_packs_of_a_chain_of_patches_are_merged_and_later_patches_stay_small() {
    let lab = TestStore::new();
    for i in 0..60 {
        make_tree(&lab.path("base"), &[(&format!("d{}/f{i}", i % 3), &random_bytes(i, 300))]);
    }
    lab.ok(&["put", "a", "base"]);
    let mut versions = vec![crate::support::snapshot(&lab.path("base"))];
    let patch = |n: u64| {
        make_tree(&lab.path("base"), &[(&format!("d{}/f{}", n % 3, n % 60), &random_bytes(9000 + n, 300))]);
        let newest = format!("a:v{}", n);
        let file = format!("base/d{}/f{}", n % 3, n % 60);
        lab.ok(&["patch", &newest, &file, "--at", &format!("d{}", n % 3)]);
    };
    for n in 0..40 {
        patch(n);
        versions.push(crate::support::snapshot(&lab.path("base")));
    }
    let (before, bytes) = (packs(&lab).len(), packs(&lab).values().sum::<u64>());
    assert!(before > 40, "{before}");
    let report = gc(&lab);
    assert!(report.rewritten.files >= 40 && report.put_back.files == 0, "{report:?}");
    assert!(packs(&lab).len() <= 8 + 2, "{:?}", packs(&lab));
    assert!(packs(&lab).values().sum::<u64>() <= bytes);
    clean(&lab);
    nothing_is_left_over(&lab);
    let segments = std::fs::read_dir(lab.store_path().join("index")).unwrap().count();
    assert!(segments <= 2, "{segments}");
    let report = gc(&lab);
    assert_eq!((report.rewritten.files, report.moved.files), (0, 0), "{report:?}");
    let compare = |versions: &[BTreeMap<Vec<u8>, Vec<u8>>]| {
        for (n, expected) in versions.iter().enumerate() {
            lab.ok(&["get", &format!("a:v{n}"), "out"]);
            assert_eq!(&crate::support::snapshot(&lab.path("out")), expected, "v{n}");
            std::fs::remove_dir_all(lab.path("out")).unwrap();
        }
    };
    compare(&versions);
    // A patch of a version whose packs are gone keeps the nodes where they are now.
    let known = packs(&lab);
    for n in 40..60 {
        patch(n);
        versions.push(crate::support::snapshot(&lab.path("base")));
    }
    let all: u64 = known.values().sum();
    for (pack, size) in packs(&lab).iter().filter(|(pack, _)| !known.contains_key(*pack)) {
        assert!(*size < all / 4, "{}: {size} of {all}", pack.display());
    }
    gc(&lab);
    clean(&lab);
    compare(&versions);
}

/// Everything that is published reads as it was put.
fn whole(lab: &TestStore) {
    clean(lab);
    lab.ok(&["diff", "a:v1", "./new"]);
}

/// Stopped before each step in turn, while a writer comes to rely on what is being rewritten, or on what of it goes.
#[test]
fn what_is_needed_of_a_rewritten_pack_only_since_it_was_read_stays() {
    let from = mostly_dead();
    // Two files that the collection copies, one that it does not, one that is new.
    small_files(&from, "late", 5..7);
    small_files(&from, "late", 12..13);
    small_files(&from, "late", 70..71);
    let count = steps(
        &{
            let lab = again(&from);
            copy_tree(&from.path("late"), &lab.path("late"));
            lab
        },
        &["gc", "--min-age", "0"],
    );
    assert!(count > 12, "{count}");
    let mut put_back = 0;
    for step in (1..=count).step_by(2) {
        let lab = again(&from);
        copy_tree(&from.path("late"), &lab.path("late"));
        let child = lab
            .cairn(&["gc", "--min-age", "0", "--json"])
            .env("CAIRN_FAULT", format!("stop:{step}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_stopped(&child);
        lab.ok(&["put", "b", "late"]);
        go_on(&child);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{step}: {}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        put_back += report["put_back"]["files"].as_u64().unwrap();
        whole(&lab);
        lab.ok(&["diff", "b:v0", "./late"]);
        gc(&lab);
        whole(&lab);
        lab.ok(&["diff", "b:v0", "./late"]);
        gc(&lab);
        let report = gc(&lab);
        assert_eq!(
            (report.rewritten.files, report.moved.files, report.put_back.files),
            (0, 0, 0),
            "{step}: {report:?}"
        );
        nothing_is_left_over(&lab);
    }
    assert!(put_back > 2, "{put_back}");
}

/// A pin that is made while the pack is being rewritten, of a version that is removed then.
#[test]
fn a_version_that_is_mounted_and_removed_meanwhile_stays_readable() {
    let from = TestStore::new();
    small_files(&from, "old", 0..20);
    small_files(&from, "new", 4..7);
    for dir in ["old", "new"] {
        from.ok(&["put", "a", dir]);
    }
    small_files(&from, "dead", 100..150);
    from.ok(&["put", "c", "dead"]);
    small_files(&from, "some", 100..105);
    from.ok(&["put", "d", "some"]);
    from.ok(&["rm", "c:v0"]);
    let count = steps(&again(&from), &["gc", "--min-age", "0"]);
    for step in (1..=count).step_by(3) {
        let lab = again(&from);
        let mut child = lab
            .cairn(&["gc", "--min-age", "0", "--json"])
            .stdout(Stdio::null())
            .env("CAIRN_FAULT", format!("stop:{step}"))
            .spawn()
            .unwrap();
        wait_stopped(&child);
        std::fs::create_dir(lab.path("mnt")).unwrap();
        lab.ok(&["mount", "mnt", "a:v0"]);
        let mounted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lab.ok(&["rm", "a:v0", "--force"]);
            go_on(&child);
            child.wait().unwrap();
            gc(&lab);
            let read = |root: &str| crate::support::snapshot(&lab.path(root));
            assert_eq!(read("mnt"), read("old"), "{step}");
        }));
        lab.ok(&["umount", "mnt"]);
        mounted.unwrap();
        gc(&lab);
        whole(&lab);
    }
}

#[test]
fn a_rewriting_that_is_killed_or_fails_at_any_step_loses_nothing_and_the_next_one_finishes_its_work() {
    let from = mostly_dead();
    let finished = {
        let lab = again(&from);
        gc(&lab);
        packs(&lab).into_values().collect::<Vec<_>>()
    };
    let total = steps(&again(&from), &["gc", "--min-age", "0"]);
    for kind in ["kill", "error"] {
        for step in 1..=total {
            let lab = again(&from);
            let fault = format!("{kind}:{step}");
            let output = lab.cairn(&["gc", "--min-age", "0"]).env("CAIRN_FAULT", &fault).output().unwrap();
            match kind {
                "kill" => assert_eq!(output.status.signal(), Some(9), "{fault}"),
                _ => assert!(matches!(output.status.code(), Some(0 | 5)), "{fault}: {}", text(&output.stderr)),
            }
            whole(&lab);
            gc(&lab);
            whole(&lab);
            gc(&lab);
            nothing_is_left_over(&lab);
            assert_eq!(packs(&lab).into_values().collect::<Vec<_>>(), finished, "{fault}");
        }
    }
}

/// Two collections at once, one of which is stopped at each step.
#[test]
fn two_collections_at_once_lose_nothing() {
    let from = mostly_dead();
    let total = steps(&again(&from), &["gc", "--min-age", "0"]);
    for step in 1..=total {
        let lab = again(&from);
        let child = lab
            .cairn(&["gc", "--min-age", "0"])
            .env("CAIRN_FAULT", format!("stop:{step}"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_stopped(&child);
        gc(&lab);
        clean(&lab);
        go_on(&child);
        let output = child.wait_with_output().unwrap();
        // Its batch or its token may be gone, which ends it.
        assert!(matches!(output.status.code(), Some(0 | 3 | 5)), "{step}: {output:?}");
        whole(&lab);
        for _ in 0..2 {
            gc(&lab);
        }
        whole(&lab);
        nothing_is_left_over(&lab);
    }
}

/// `x` and `y` hold the same small content in two packs: the first copy was thought to be damaged when `y` was put.
fn stored_twice() -> (TestStore, Vec<PathBuf>) {
    let lab = TestStore::new();
    small_files(&lab, "x", 0..6);
    lab.ok(&["put", "x", "x"]);
    let first = packs(&lab).into_keys().next().unwrap();
    let pack = first.file_name().unwrap().to_str().unwrap().to_owned();
    let entry = lab.store_path().join("damaged").join(format!("pack-{pack}"));
    std::fs::write(&entry, b"").unwrap();
    small_files(&lab, "y", 0..3);
    lab.ok(&["put", "y", "y"]);
    std::fs::remove_file(entry).unwrap();
    let second = packs(&lab).into_keys().find(|path| *path != first).unwrap();
    assert!(second.metadata().unwrap().len() > 15_000);
    (lab, vec![first, second])
}

/// Changes one byte of the content of `d/f1` in a pack.
fn damage(lab: &TestStore, pack: &PathBuf) {
    let content = std::fs::read(lab.path("y/d/f1")).unwrap();
    let mut bytes = std::fs::read(pack).unwrap();
    let at = bytes.windows(content.len()).position(|window| window == content).unwrap();
    bytes[at + 100] ^= 1;
    crate::crafted_stores::write(pack, &bytes);
}

#[test]
fn of_content_that_is_stored_twice_one_copy_is_freed() {
    let (lab, packs_before) = stored_twice();
    let report = gc(&lab);
    // The nodes of `y` stay, without the content.
    assert_eq!((report.rewritten.files, report.freed.files), (1, 1), "{report:?}");
    assert!(packs_before[0].exists() && !packs_before[1].exists());
    assert!(packs(&lab).values().sum::<u64>() < 35_000, "{:?}", packs(&lab));
    clean(&lab);
    for name in ["x", "y"] {
        lab.ok(&["diff", &format!("{name}:v0"), &format!("./{name}")]);
    }
}

#[test]
fn if_the_copy_that_would_stay_is_damaged_the_other_one_stays_too() {
    let (lab, packs_before) = stored_twice();
    damage(&lab, &packs_before[0]);
    let report = gc(&lab);
    assert_eq!((report.freed.files, report.put_back.files), (0, 1), "{report:?}");
    for name in ["x", "y"] {
        lab.ok(&["diff", &format!("{name}:v0"), &format!("./{name}")]);
    }
    // By now the damage is known, so the right copy is the one that counts.
    for _ in 0..2 {
        let report = gc(&lab);
        assert_eq!(report.put_back.files, 0, "{report:?}");
        for name in ["x", "y"] {
            lab.ok(&["diff", &format!("{name}:v0"), &format!("./{name}")]);
        }
    }
    assert_eq!(gc(&lab).moved.files, 0);
}

#[test]
fn a_pack_with_the_only_copy_of_something_needed_damaged_stays() {
    let lab = mostly_dead();
    let before = packs(&lab).len();
    let pack = packs(&lab).into_iter().max_by_key(|(_, size)| *size).unwrap().0;
    let content = std::fs::read(lab.path("new/d/f5")).unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let at = bytes.windows(content.len()).position(|window| window == content).unwrap();
    bytes[at] ^= 1;
    crate::crafted_stores::write(&pack, &bytes);
    for round in 0..2 {
        let report = gc(&lab);
        assert_eq!(report.rewritten.files, 0, "{round}: {report:?}");
        assert_eq!(report.damaged.len(), usize::from(round == 0), "{report:?}");
        assert!(pack.exists());
    }
    // What was copied before the damage was met is freed again.
    assert_eq!(packs(&lab).len(), before);
    lab.run(&["get", "a:v1", "out"], 4);
}
