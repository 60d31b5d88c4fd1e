//! Packs that a garbage collection rewrites: what is needed stays readable, what is not is freed, whatever happens
//! meanwhile (L14).

use crate::support::{TestStore, copy_tree, faulted, files, make_tree, random_bytes, resume, steps, text};
use cairn::gc::{GcOptions, GcReport, collect};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

fn now() -> GcOptions {
    GcOptions::default().min_age(Duration::ZERO)
}

fn gc(test_store: &TestStore) -> GcReport {
    collect(&test_store.store(), &now()).unwrap()
}

/// The packs in place and their sizes.
fn packs(test_store: &TestStore) -> BTreeMap<PathBuf, u64> {
    let dir = std::fs::read_dir(test_store.store_path().join("packs")).unwrap();
    dir.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), path.metadata().unwrap().len())).collect()
}

fn clean(test_store: &TestStore) {
    let report = test_store.clean("the whole store");
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

fn nothing_is_left_over(test_store: &TestStore) {
    for dir in ["trash", "work", "locks"] {
        let left: Vec<_> =
            std::fs::read_dir(test_store.store_path().join(dir)).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Small files `d/fN`, each of 5,000 bytes that no other has.
fn small_files(test_store: &TestStore, dir: &str, numbers: std::ops::Range<u64>) {
    for n in numbers {
        make_tree(&test_store.path(dir), &[(&format!("d/f{n}"), &random_bytes(1000 + n, 5000))]);
    }
}

/// `a:v0` has 20 files in one pack and is removed; `a:v1` has 3 of them, and one of its own.
fn mostly_dead() -> TestStore {
    let test_store = TestStore::new();
    small_files(&test_store, "old", 0..20);
    test_store.ok(&["put", "a", "old"]);
    small_files(&test_store, "new", 4..7);
    small_files(&test_store, "new", 50..51);
    test_store.ok(&["put", "a", "new"]);
    test_store.ok(&["rm", "a:v0"]);
    test_store
}

fn copy_of(from: &TestStore) -> TestStore {
    from.copy(&["store", "old", "new"])
}

#[test]
fn a_pack_of_which_little_is_needed_is_rewritten() {
    let test_store = mostly_dead();
    let before = packs(&test_store);
    let dry = collect(&test_store.store(), &now().dry_run(true)).unwrap();
    assert_eq!((dry.rewritten.files, dry.moved.files), (1, 0), "{dry:?}");
    assert_eq!(packs(&test_store), before, "a dry run changes nothing");
    let report = gc(&test_store);
    assert_eq!((report.rewritten.files, report.freed.files, report.written.files), (1, 1, 1), "{report:?}");
    assert!(report.rewritten.bytes > 100_000 && report.written.bytes < 20_000, "{report:?}");
    assert!(packs(&test_store).values().sum::<u64>() < 40_000, "{:?}", packs(&test_store));
    clean(&test_store);
    test_store.ok(&["diff", "a:v1", "./new"]);
    let report = gc(&test_store);
    assert_eq!((report.rewritten.files, report.moved.files, report.put_back.files), (0, 0, 0), "{report:?}");
    nothing_is_left_over(&test_store);
    // Writers find the content in the new pack.
    let packs_before = packs(&test_store).len();
    make_tree(&test_store.path("one"), &[("again", &random_bytes(1005, 5000))]);
    test_store.ok(&["put", "b", "one"]);
    let new: Vec<_> = packs(&test_store).into_values().collect();
    assert_eq!(new.len(), packs_before + 1);
    assert!(*new.iter().min().unwrap() < 2000, "only nodes are new: {new:?}");
}

#[test]
fn the_old_pack_stays_in_the_trash_for_the_minimum_age() {
    let test_store = mostly_dead();
    let report = collect(&test_store.store(), &GcOptions::default()).unwrap();
    assert_eq!((report.rewritten.files, report.freed.files, report.in_trash.files), (1, 0, 1), "{report:?}");
    clean(&test_store);
    test_store.ok(&["diff", "a:v1", "./new"]);
    let report = collect(&test_store.store(), &GcOptions::default()).unwrap();
    assert_eq!((report.rewritten.files, report.freed.files, report.in_trash.files), (0, 0, 1), "{report:?}");
    let report = gc(&test_store);
    assert_eq!((report.freed.files, report.in_trash.files, report.put_back.files), (1, 0, 0), "{report:?}");
    clean(&test_store);
    test_store.ok(&["diff", "a:v1", "./new"]);
}

#[test]
fn the_packs_of_a_chain_of_patches_are_merged_and_later_patches_stay_small() {
    let test_store = TestStore::in_memory();
    for i in 0..60 {
        make_tree(&test_store.path("base"), &[(&format!("d{}/f{i}", i % 3), &random_bytes(i, 300))]);
    }
    test_store.ok(&["put", "a", "base"]);
    let mut versions = vec![crate::support::snapshot(&test_store.path("base"))];
    let patch = |n: u64| {
        make_tree(&test_store.path("base"), &[(&format!("d{}/f{}", n % 3, n % 60), &random_bytes(9000 + n, 300))]);
        let newest = format!("a:v{}", n);
        let file = format!("base/d{}/f{}", n % 3, n % 60);
        test_store.ok(&["patch", &newest, &file, "--at", &format!("d{}", n % 3)]);
    };
    for n in 0..40 {
        patch(n);
        versions.push(crate::support::snapshot(&test_store.path("base")));
    }
    let (before, bytes) = (packs(&test_store).len(), packs(&test_store).values().sum::<u64>());
    assert!(before > 40, "{before}");
    let report = gc(&test_store);
    assert!(report.rewritten.files >= 40 && report.put_back.files == 0, "{report:?}");
    assert!(packs(&test_store).len() <= 8 + 2, "{:?}", packs(&test_store));
    assert!(packs(&test_store).values().sum::<u64>() <= bytes);
    clean(&test_store);
    nothing_is_left_over(&test_store);
    let segments = std::fs::read_dir(test_store.store_path().join("index")).unwrap().count();
    assert!(segments <= 2, "{segments}");
    let report = gc(&test_store);
    assert_eq!((report.rewritten.files, report.moved.files), (0, 0), "{report:?}");
    let compare = |versions: &[BTreeMap<Vec<u8>, Vec<u8>>]| {
        for (n, expected) in versions.iter().enumerate() {
            test_store.ok(&["get", &format!("a:v{n}"), "out"]);
            assert_eq!(&crate::support::snapshot(&test_store.path("out")), expected, "v{n}");
            std::fs::remove_dir_all(test_store.path("out")).unwrap();
        }
    };
    compare(&versions);
    // A patch of a version whose packs are gone keeps the nodes where they are now.
    let known = packs(&test_store);
    for n in 40..60 {
        patch(n);
        versions.push(crate::support::snapshot(&test_store.path("base")));
    }
    let all: u64 = known.values().sum();
    for (pack, size) in packs(&test_store).iter().filter(|(pack, _)| !known.contains_key(*pack)) {
        assert!(*size < all / 4, "{}: {size} of {all}", pack.display());
    }
    gc(&test_store);
    clean(&test_store);
    compare(&versions);
}

/// Everything that is published reads as it was put.
fn whole(test_store: &TestStore) {
    clean(test_store);
    test_store.ok(&["diff", "a:v1", "./new"]);
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
            let test_store = copy_of(&from);
            copy_tree(&from.path("late"), &test_store.path("late"));
            test_store
        },
        &["gc", "--min-age", "0"],
    );
    assert!(count > 12, "{count}");
    let mut put_back = 0;
    for step in (1..=count).step_by(2) {
        let test_store = copy_of(&from);
        copy_tree(&from.path("late"), &test_store.path("late"));
        let child = test_store.stopped_before(step, &["gc", "--min-age", "0", "--json"]);
        test_store.ok(&["put", "b", "late"]);
        resume(&child);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{step}: {}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        put_back += report["put_back"]["files"].as_u64().unwrap();
        whole(&test_store);
        test_store.ok(&["diff", "b:v0", "./late"]);
        gc(&test_store);
        whole(&test_store);
        test_store.ok(&["diff", "b:v0", "./late"]);
        gc(&test_store);
        let report = gc(&test_store);
        assert_eq!(
            (report.rewritten.files, report.moved.files, report.put_back.files),
            (0, 0, 0),
            "{step}: {report:?}"
        );
        nothing_is_left_over(&test_store);
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
    let count = steps(&copy_of(&from), &["gc", "--min-age", "0"]);
    for step in (1..=count).step_by(3) {
        let test_store = copy_of(&from);
        let mut child = test_store.stopped_before(step, &["gc", "--min-age", "0"]);
        std::fs::create_dir(test_store.path("mnt")).unwrap();
        test_store.ok(&["mount", "mnt", "a:v0"]);
        let mounted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            test_store.ok(&["rm", "a:v0", "--force"]);
            resume(&child);
            child.wait().unwrap();
            gc(&test_store);
            let read = |root: &str| crate::support::snapshot(&test_store.path(root));
            assert_eq!(read("mnt"), read("old"), "{step}");
        }));
        test_store.ok(&["umount", "mnt"]);
        mounted.unwrap();
        gc(&test_store);
        whole(&test_store);
    }
}

#[test]
fn a_rewriting_that_is_killed_or_fails_at_any_step_loses_nothing_and_the_next_one_finishes_its_work() {
    let from = mostly_dead();
    let finished = {
        let test_store = copy_of(&from);
        gc(&test_store);
        packs(&test_store).into_values().collect::<Vec<_>>()
    };
    let total = steps(&copy_of(&from), &["gc", "--min-age", "0"]);
    for kind in ["kill", "error"] {
        for step in 1..=total {
            let test_store = copy_of(&from);
            let fault = faulted(&test_store, &["gc", "--min-age", "0"], kind, step);
            whole(&test_store);
            gc(&test_store);
            whole(&test_store);
            gc(&test_store);
            nothing_is_left_over(&test_store);
            assert_eq!(packs(&test_store).into_values().collect::<Vec<_>>(), finished, "{fault}");
        }
    }
}

/// Two collections at once, one of which is stopped at each step.
#[test]
fn two_collections_at_once_lose_nothing() {
    let from = mostly_dead();
    let total = steps(&copy_of(&from), &["gc", "--min-age", "0"]);
    for step in 1..=total {
        let test_store = copy_of(&from);
        let child = test_store.stopped_before(step, &["gc", "--min-age", "0"]);
        gc(&test_store);
        clean(&test_store);
        resume(&child);
        let output = child.wait_with_output().unwrap();
        // Its batch or its token may be gone, which ends it.
        assert!(matches!(output.status.code(), Some(0 | 3 | 5)), "{step}: {output:?}");
        whole(&test_store);
        for _ in 0..2 {
            gc(&test_store);
        }
        whole(&test_store);
        nothing_is_left_over(&test_store);
    }
}

/// `x` and `y` hold the same small content in two packs: the first copy was thought to be damaged when `y` was put.
fn stored_twice() -> (TestStore, Vec<PathBuf>) {
    let test_store = TestStore::new();
    small_files(&test_store, "x", 0..6);
    test_store.ok(&["put", "x", "x"]);
    let first = packs(&test_store).into_keys().next().unwrap();
    let pack = first.file_name().unwrap().to_str().unwrap().to_owned();
    let entry = test_store.store_path().join("damaged").join(format!("pack-{pack}"));
    std::fs::write(&entry, b"").unwrap();
    small_files(&test_store, "y", 0..3);
    test_store.ok(&["put", "y", "y"]);
    std::fs::remove_file(entry).unwrap();
    let second = packs(&test_store).into_keys().find(|path| *path != first).unwrap();
    assert!(second.metadata().unwrap().len() > 15_000);
    (test_store, vec![first, second])
}

/// Changes one byte of the content of `d/f1` in a pack.
fn damage(test_store: &TestStore, pack: &PathBuf) {
    let content = std::fs::read(test_store.path("y/d/f1")).unwrap();
    let mut bytes = std::fs::read(pack).unwrap();
    let at = bytes.windows(content.len()).position(|window| window == content).unwrap();
    bytes[at + 100] ^= 1;
    crate::crafted_stores::write(pack, &bytes);
}

#[test]
fn of_content_that_is_stored_twice_one_copy_is_freed() {
    let (test_store, packs_before) = stored_twice();
    let report = gc(&test_store);
    // The nodes of `y` stay, without the content.
    assert_eq!((report.rewritten.files, report.freed.files), (1, 1), "{report:?}");
    assert!(packs_before[0].exists() && !packs_before[1].exists());
    assert!(packs(&test_store).values().sum::<u64>() < 35_000, "{:?}", packs(&test_store));
    clean(&test_store);
    for name in ["x", "y"] {
        test_store.ok(&["diff", &format!("{name}:v0"), &format!("./{name}")]);
    }
}

#[test]
fn if_the_copy_that_would_stay_is_damaged_the_other_one_stays_too() {
    let (test_store, packs_before) = stored_twice();
    damage(&test_store, &packs_before[0]);
    let report = gc(&test_store);
    assert_eq!((report.freed.files, report.put_back.files), (0, 1), "{report:?}");
    for name in ["x", "y"] {
        test_store.ok(&["diff", &format!("{name}:v0"), &format!("./{name}")]);
    }
    // By now the damage is known, so the right copy is the one that counts.
    for _ in 0..2 {
        let report = gc(&test_store);
        assert_eq!(report.put_back.files, 0, "{report:?}");
        for name in ["x", "y"] {
            test_store.ok(&["diff", &format!("{name}:v0"), &format!("./{name}")]);
        }
    }
    assert_eq!(gc(&test_store).moved.files, 0);
}

#[test]
fn a_pack_with_the_only_copy_of_something_needed_damaged_stays() {
    let test_store = mostly_dead();
    let before = packs(&test_store).len();
    let pack = packs(&test_store).into_iter().max_by_key(|(_, size)| *size).unwrap().0;
    let content = std::fs::read(test_store.path("new/d/f5")).unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let at = bytes.windows(content.len()).position(|window| window == content).unwrap();
    bytes[at] ^= 1;
    crate::crafted_stores::write(&pack, &bytes);
    for round in 0..2 {
        let report = gc(&test_store);
        assert_eq!(report.rewritten.files, 0, "{round}: {report:?}");
        assert_eq!(report.damaged.len(), usize::from(round == 0), "{report:?}");
        assert!(pack.exists());
    }
    // What was copied before the damage was met is freed again.
    assert_eq!(packs(&test_store).len(), before);
    test_store.run(&["get", "a:v1", "out"], 4);
}

#[test]
fn a_damaged_object_does_not_make_versions_look_damaged_whose_packs_were_rewritten() {
    let test_store = TestStore::new();
    for n in 0..20 {
        make_tree(&test_store.path(&format!("d{n}")), &[("f", &random_bytes(n, 100))]);
        test_store.ok(&["put", &format!("a{n}"), &format!("d{n}")]);
    }
    make_tree(&test_store.path("big"), &[("object", &random_bytes(99, 300_000)), ("small", b"small")]);
    test_store.ok(&["put", "big", "big"]);
    assert!(gc(&test_store).rewritten.files > 0);
    let object = &files(&test_store.store_path().join("objects"))[0];
    let findings = || -> Vec<String> {
        let report = test_store.store().verify(&Default::default()).unwrap();
        report.findings.iter().map(|f| format!("{} {}", f.code, f.affects.join(","))).collect()
    };
    std::fs::set_permissions(object, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(object, random_bytes(98, 300_000)).unwrap();
    let found = findings();
    assert!(found.iter().all(|f| f.starts_with("F1-") && !f.contains(":v0 f")), "{found:?}");
    assert!(found.contains(&"F1-object big:v0 object".to_owned()), "{found:?}");
    // Only the version that names what is missing may be affected by missing packs.
    std::fs::remove_file(object).unwrap();
    let found = findings();
    assert!(found.iter().any(|f| f.starts_with("F6-missing big:v0 object")), "{found:?}");
    assert!(found.iter().all(|f| !f.contains("a1:v0")), "{found:?}");
}
