//! Garbage collection: needed content stays and other content is freed, whatever writers, readers, kills, damage and
//! incomplete listings interfere (L14, L18, L19).

use crate::support::{
    TestStore, at_once, faulted, faults, files, make_tree, random_bytes, resume, steps, text, wait_stopped,
};
use cairn::Artifact;
use cairn::catalog::VersionSpec;
use cairn::gc::{GcOptions, GcReport, collect};
use cairn::{Kind, Store};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A collection that frees at once.
fn now() -> GcOptions {
    GcOptions::default().min_age(Duration::ZERO)
}

fn gc(store: &Store) -> GcReport {
    collect(store, &now()).unwrap()
}

/// Objects, packs and batches of the trash.
fn content(test_store: &TestStore) -> BTreeSet<PathBuf> {
    ["objects", "packs", "trash"].iter().flat_map(|dir| files(&test_store.store_path().join(dir))).collect()
}

/// A store with `a:v0` (removed), `a:v1` and `b:v0`. They share a large file and a small one, and each has its own.
fn start() -> TestStore {
    let test_store = TestStore::new();
    let shared = random_bytes(1, 200_000);
    for (artifact, seed) in [("b", 4), ("a", 2), ("a", 3)] {
        let dir = format!("{artifact}{seed}");
        let (own, note) = (random_bytes(seed, 300_000), format!("note {seed}"));
        let files: [(&str, &[u8]); 4] =
            [("shared.bin", &shared), ("d/shared.txt", b"shared"), ("own.bin", &own), ("d/own.txt", note.as_bytes())];
        make_tree(&test_store.path(&dir), &files);
        test_store.ok(&["put", artifact, &dir]);
    }
    test_store.ok(&["rm", "a:v0"]);
    test_store
}

fn copy_of(from: &TestStore) -> TestStore {
    from.copy(&["store", "a2", "a3", "b4"])
}

fn on_disk(from: &TestStore) -> TestStore {
    from.copy_on_disk(&["store", "a2", "a3", "b4"])
}

/// Everything that is published reads as it was put.
fn whole(test_store: &TestStore) {
    test_store.clean("the whole store");
    for (version, source) in [("a:v1", "a3"), ("b:v0", "b4")] {
        test_store.ok(&["diff", version, &format!("./{source}")]);
    }
}

#[test]
fn what_only_a_removed_version_names_is_freed_and_the_rest_stays() {
    let test_store = start();
    let before = content(&test_store);
    let report = gc(&test_store.store());
    // The object of `own.bin`, and the pack of `d/own.txt` and the nodes.
    assert_eq!((report.moved.files, report.freed.files), (2, 2), "{report:?}");
    assert_eq!(report.in_trash.files, 0, "{report:?}");
    let after = content(&test_store);
    assert_eq!(before.difference(&after).count(), 2);
    assert!(after.is_subset(&before));
    whole(&test_store);
    assert_eq!(gc(&test_store.store()).moved.files, 0, "a second collection finds nothing");
}

#[test]
fn a_dry_run_says_what_would_go_and_changes_nothing() {
    let test_store = start();
    let before = crate::support::snapshot(&test_store.store_path());
    let report = collect(&test_store.store(), &now().dry_run(true)).unwrap();
    assert_eq!((report.moved.files, report.freed.files), (2, 0));
    assert!(report.moved.bytes > 300_000);
    assert_eq!(crate::support::snapshot(&test_store.store_path()), before);
}

#[test]
fn content_stays_in_the_trash_for_the_minimum_age_by_the_stores_own_clock() {
    let test_store = start();
    let hour = GcOptions::default().min_age(Duration::from_secs(3600));
    for _ in 0..2 {
        let report = collect(&test_store.store(), &hour).unwrap();
        assert_eq!((report.freed.files, report.in_trash.files), (0, 2), "{report:?}");
    }
    for batch in std::fs::read_dir(test_store.store_path().join("trash")).unwrap() {
        let old = filetime(-7200);
        set_mtime(&batch.unwrap().path(), old);
    }
    let report = collect(&test_store.store(), &hour).unwrap();
    assert_eq!((report.freed.files, report.in_trash.files), (2, 0), "{report:?}");
    whole(&test_store);
}

#[test]
fn what_a_writer_kept_from_being_freed_is_freed_by_the_next_collection() {
    let test_store = start();
    let hour = GcOptions::default().min_age(Duration::from_secs(3600));
    collect(&test_store.store(), &hour).unwrap();
    for batch in std::fs::read_dir(test_store.store_path().join("trash")).unwrap() {
        set_mtime(&batch.unwrap().path(), filetime(-7200));
    }
    let mut child = test_store.stopped_before(8, &["put", "c", "a3"]);
    let report = collect(&test_store.store(), &hour).unwrap();
    assert_eq!((report.freed.files, report.waits_for.len()), (0, 1), "{report:?}");
    resume(&child);
    assert!(child.wait().unwrap().success());
    let report = collect(&test_store.store(), &hour).unwrap();
    assert_eq!((report.freed.files, report.in_trash.files), (2, 0), "{report:?}");
    whole(&test_store);
}

#[test]
fn content_that_was_removed_and_put_again_several_times_is_freed_from_all_batches_at_once() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("small", b"s"), ("big", &random_bytes(5, 300_000))]);
    for version in ["x:v0", "x:v1", "x:v2", "x:v3"] {
        test_store.ok(&["put", "x", "d", "--new-version"]);
        test_store.ok(&["rm", version]);
        if version != "x:v3" {
            test_store.ok(&["gc"]);
        }
    }
    let stored = content(&test_store).len() as u64;
    assert!(stored >= 4 * 2, "{stored}");
    let report = collect(&test_store.store(), &now()).unwrap();
    assert_eq!((report.freed.files, report.taken_over), (stored, 0), "{report:?}");
    assert_eq!(content(&test_store), BTreeSet::new());
    assert_eq!(std::fs::read_dir(test_store.store_path().join("trash")).unwrap().count(), 0);
}

fn filetime(offset: i64) -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64 + offset
}

fn set_mtime(path: &Path, seconds: i64) {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds as u64);
    std::fs::File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn unfinished_drafts_pins_and_mounted_versions_keep_their_content() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("part"), &[("x", b"in a draft"), ("big", &random_bytes(7, 200_000))]);
    test_store.ok(&["upsert", "eval", "part", "--distributed-id", "e", "--run", "r1"]);
    make_tree(&test_store.path("seen"), &[("y", b"read by a mount"), ("big", &random_bytes(8, 200_000))]);
    test_store.ok(&["put", "seen", "seen"]);
    let mnt = test_store.path("mnt");
    std::fs::create_dir(&mnt).unwrap();
    test_store.ok(&["mount", "mnt", "seen:v0"]);
    let mounted = std::panic::catch_unwind(|| {
        test_store.ok(&["rm", "seen:v0", "--force"]);
        let report = gc(&test_store.store());
        assert_eq!(report.freed.files, 0, "{report:?}");
        assert_eq!(std::fs::read(mnt.join("y")).unwrap(), b"read by a mount");
        assert_eq!(std::fs::read(mnt.join("big")).unwrap(), random_bytes(8, 200_000));
    });
    test_store.ok(&["umount", "mnt"]);
    mounted.unwrap();
    assert_eq!(gc(&test_store.store()).freed.files, 2, "the pin is gone with the mount");
    test_store.ok(&["finish", "eval", "--distributed-id", "e"]);
    gc(&test_store.store());
    test_store.ok(&["diff", "eval:v0", "./part"]);
    test_store.ok(&["rm", "eval:v0"]);
    gc(&test_store.store());
    assert!(content(&test_store).is_empty(), "{:?}", content(&test_store));
    test_store.clean("after all was freed");
}

/// A notebook: one process that lives on, with its store open, its index read and its packs known (L19).
#[test]
fn a_long_running_process_stores_again_what_was_freed_meanwhile() {
    let test_store = TestStore::new();
    let store = test_store.store();
    let big = random_bytes(5, 200_000);
    let save = || {
        let mut artifact = Artifact::new("a", "dataset").unwrap();
        artifact.add_bytes("small.txt", b"small").unwrap();
        artifact.add_bytes("big.bin", &big).unwrap();
        artifact.save(&store).unwrap()
    };
    for round in 0..3 {
        let published = save();
        assert!(published.created && published.new_bytes > 200_000, "round {round}: all of it is stored again");
        test_store.clean("stored again");
        let spec = VersionSpec::parse(&format!("a:v{round}")).unwrap();
        let version = cairn::resolve(&store, &spec).unwrap();
        cairn::catalog::remove::remove(&store, version.artifact(), version.number(), cairn::catalog::remove::Force::No)
            .unwrap();
        assert_eq!(gc(&test_store.store()).freed.files, 2);
    }
}

/// Killed at any step: index segments and the stat cache may then name what is gone.
#[test]
fn content_is_stored_again_after_a_collection_that_was_killed_at_any_step() {
    let from = start();
    // A file is remembered once its last change is two seconds old.
    std::thread::sleep(Duration::from_millis(2500));
    let source = from.path("a2");
    let put = |test_store: &TestStore| {
        let args = ["put", "again", source.to_str().unwrap(), "--new-version"];
        test_store.cairn(&args).env("CAIRN_CACHE_DIR", from.path("cache")).output().unwrap()
    };
    assert!(put(&copy_of(&from)).status.success(), "its digests are remembered");
    let total = steps(&copy_of(&from), &["gc", "--min-age", "0"]);
    for step in 1..=total {
        let test_store = copy_of(&from);
        let opened_before = test_store.store();
        let save = |name: &str| {
            let mut artifact = Artifact::new(name, None).unwrap();
            artifact.add_dir(&source).unwrap();
            artifact.save(&opened_before).unwrap()
        };
        assert!(save("known").created, "its index is read");
        test_store.ok(&["rm", "known:v0"]);
        let fault = faulted(&test_store, &["gc", "--min-age", "0"], "kill", step);
        let output = put(&test_store);
        assert!(output.status.success(), "{fault}: {}", text(&output.stderr));
        save("same-process");
        for name in ["again:v0", "same-process:v0"] {
            test_store.ok(&["diff", name, source.to_str().unwrap()]);
        }
        gc(&test_store.store());
        whole(&test_store);
        for name in ["again:v0", "same-process:v0"] {
            test_store.ok(&["diff", name, source.to_str().unwrap()]);
        }
    }
}

/// The last owner of content that a writer finds is removed while the writer is stopped, before each step in turn.
#[test]
fn content_whose_last_owner_is_removed_while_a_writer_is_stopped_stays_or_is_stored_again() {
    let from = start();
    gc(&from.store());
    for (args, made) in [(["put", "c", "a3"], "c:v0"), (["put", "a", "a3"], "a:v2")] {
        let count = steps(&copy_of(&from), &args);
        for step in 1..=count {
            let test_store = copy_of(&from);
            let mut child = test_store.stopped_before(step, &args);
            test_store.ok(&["rm", "a:v1"]);
            for _ in 0..2 {
                gc(&test_store.store());
            }
            resume(&child);
            assert!(child.wait().unwrap().success(), "{args:?}, step {step}");
            // A version that is like the newest one is not made again; that one was removed just then.
            let is_made = test_store.cairn(&["show", made]).output().unwrap().status.code() != Some(6);
            assert!(is_made || made == "a:v2", "{args:?}, step {step}");
            test_store.ok(&args);
            test_store.ok(&["diff", made, "./a3"]);
            gc(&test_store.store());
            test_store.clean("after the collections");
            test_store.ok(&["diff", made, "./a3"]);
            test_store.ok(&["diff", "b:v0", "./b4"]);
        }
    }
}

/// Stopped before each step in turn, with the content that it has found about to be freed.
#[test]
fn a_writer_that_is_stopped_anywhere_loses_nothing_to_a_collection() {
    let from = start();
    let count = {
        let test_store = copy_of(&from);
        steps(&test_store, &["put", "c", "a2"])
    };
    let mut waited = 0;
    for step in 1..=count {
        for break_lock in [false, true] {
            if break_lock && step % 3 != 0 {
                continue;
            }
            let test_store = copy_of(&from);
            let mut child = test_store.stopped_before(step, &["put", "c", "a2"]);
            if break_lock {
                for lock in std::fs::read_dir(test_store.store_path().join("locks")).unwrap() {
                    std::fs::remove_file(lock.unwrap().path()).unwrap();
                }
            }
            let report = collect(&test_store.store(), &now());
            resume(&child);
            let status = child.wait().unwrap();
            let report = report.unwrap();
            if !report.waits_for.is_empty() {
                waited += 1;
                assert_eq!(report.freed.files, 0, "step {step}: {report:?}");
            }
            // With its lock broken the writer may be refused; what it acknowledges is whole.
            assert!(status.success() || break_lock, "step {step}, lock broken: {break_lock}: {status:?}");
            whole(&test_store);
            if status.success() {
                test_store.ok(&["diff", "c:v0", "./a2"]);
            }
            test_store.ok(&["put", "c", "a2"]);
            gc(&test_store.store());
            whole(&test_store);
            test_store.ok(&["diff", "c:v0", "./a2"]);
        }
    }
    assert!(waited > 4, "most steps are between a token's begin and its end: {waited} of {count}");
}

#[test]
fn a_collection_that_is_killed_or_fails_at_any_step_loses_nothing_and_the_next_one_finishes_its_work() {
    let from = start();
    // In memory and on the disk: only some file systems can rename without replacing.
    for copy in [copy_of, on_disk] {
        let total = steps(&copy(&from), &["gc", "--min-age", "0"]);
        assert!(total > 8, "{total}");
        at_once(&faults(total), |(kind, step)| {
            let test_store = copy(&from);
            let fault = faulted(&test_store, &["gc", "--min-age", "0"], kind, *step);
            whole(&test_store);
            gc(&test_store.store());
            whole(&test_store);
            let left: Vec<_> =
                content(&test_store).into_iter().filter(|p| p.to_string_lossy().contains("/trash/")).collect();
            assert!(left.is_empty(), "{fault}: {left:?}");
            assert_eq!(content(&test_store).len(), 5, "{fault}: two packs and three objects");
        });
    }
}

#[test]
fn what_a_killed_writer_left_is_freed() {
    let from = start();
    gc(&from.store());
    let clean_content = content(&from).len();
    let count = {
        let test_store = copy_of(&from);
        steps(&test_store, &["put", "c", "a2"])
    };
    for step in (1..=count).step_by(2) {
        let test_store = copy_of(&from);
        let fault = format!("kill:{step}");
        let output = test_store.cairn(&["put", "c", "a2"]).env("CAIRN_FAULT", &fault).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{fault}");
        gc(&test_store.store());
        whole(&test_store);
        // A token without a lock may belong to a writer that begins just now: it is fenced first, and then removed.
        gc(&test_store.store());
        let published = test_store.store_path().join("artifacts/c/versions/v0").is_symlink();
        if !published {
            assert_eq!(content(&test_store).len(), clean_content, "{fault}: {:?}", content(&test_store));
            let records = test_store.store_path().join("artifacts/c/versions");
            let left: Vec<_> = std::fs::read_dir(records).into_iter().flatten().collect();
            assert!(left.is_empty(), "{fault}: {left:?}");
        }
        for dir in ["work", "locks", "trash"] {
            let left: Vec<_> =
                std::fs::read_dir(test_store.store_path().join(dir)).unwrap().map(|e| e.unwrap()).collect();
            assert!(left.is_empty(), "{fault}: {dir} has {left:?}");
        }
        test_store.ok(&["put", "c", "a2"]);
        test_store.ok(&["diff", "c:v0", "./a2"]);
    }
}

#[test]
fn a_listing_that_shows_less_than_the_last_time_is_refused() {
    let test_store = start();
    gc(&test_store.store());
    make_tree(&test_store.path("part"), &[("x", b"in a draft")]);
    test_store.ok(&["upsert", "b", "part", "--distributed-id", "e", "--run", "r1"]);
    gc(&test_store.store());
    let hidden = test_store.path("hidden");
    for (what, message, kind) in [
        ("artifacts/b", "artifact b", Kind::Conflict),
        ("artifacts/a/versions/v1", "a:v1", Kind::Damaged), // a mark shows that it was given
        ("artifacts/b/drafts/e", "number 1 of draft e of b", Kind::Conflict),
    ] {
        let path = test_store.store_path().join(what);
        std::fs::rename(&path, &hidden).unwrap();
        let error = collect(&test_store.store(), &now()).unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(error.to_string().contains(message), "{what}: {error}");
        std::fs::rename(&hidden, &path).unwrap();
    }
    // A hole in the numbers is damage, whatever was there before.
    std::fs::remove_file(test_store.store_path().join("gc.json")).unwrap();
    test_store.ok(&["put", "a", "b4"]);
    let path = test_store.store_path().join("artifacts/a/versions/v1");
    std::fs::rename(&path, &hidden).unwrap();
    assert_eq!(collect(&test_store.store(), &now()).unwrap_err().kind(), Kind::Damaged);
    std::fs::rename(&hidden, &path).unwrap();
    assert_eq!(gc(&test_store.store()).freed.files, 0);
    whole(&test_store);
}

#[test]
fn a_store_with_a_feature_that_is_not_known_is_not_collected() {
    for list in ["compatible", "read_only"] {
        let test_store = start();
        let opened_before = test_store.store();
        add_feature(&test_store, list);
        for store in [test_store.store(), opened_before] {
            let error = collect(&store, &now()).unwrap_err();
            assert_eq!(error.kind(), Kind::Conflict, "{list}: {error}");
            assert!(error.to_string().contains("later"), "{error}");
        }
    }
}

fn add_feature(test_store: &TestStore, list: &str) {
    crate::crafted_stores::resign(&test_store.store_path().join("cairn.json"), |record| {
        record["features"][list] = serde_json::json!(["later"]);
    });
}

#[test]
fn a_feature_that_comes_before_a_collection_has_its_lock_stops_it() {
    let test_store = start();
    let child = test_store.stopped_before(1, &["gc", "--min-age", "0"]);
    assert_eq!(std::fs::read_dir(test_store.store_path().join("locks")).unwrap().count(), 0);
    add_feature(&test_store, "compatible");
    resume(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
}

#[test]
fn files_that_are_not_cairns_stay_everywhere() {
    let test_store = start();
    let strangers = [
        "README",
        "objects/README",
        "objects/ab/README",
        "packs/.DS_Store",
        "packs/lost+found/x",
        "trash/README",
        "trash/.nfs0001",
        "artifacts/README",
        "artifacts/.snapshot/x",
        "artifacts/a/versions/notes.txt",
        "pins/README",
        "work/README",
        "locks/README",
        "artifacts/lost+found/x",
        "index/README",
        "damaged/README",
        "reserve/README",
        "staging/README",
        "artifacts/a/README",
        "artifacts/a/removed/.nfs0002",
        "artifacts/a/aliases/README",
        "artifacts/a/notes/README",
        "artifacts/a/drafts/README",
    ];
    for stranger in strangers {
        let path = test_store.store_path().join(stranger);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"not cairn's").unwrap();
    }
    let report = gc(&test_store.store());
    assert_eq!(report.freed.files, 2, "{report:?}");
    assert!(report.unknown.len() >= 4, "{report:?}");
    for stranger in strangers {
        assert!(test_store.store_path().join(stranger).exists(), "{stranger}");
    }
    // What may be an artifact of a later release is not garbage.
    std::fs::create_dir(test_store.store_path().join("artifacts/späterer name")).unwrap();
    assert_eq!(collect(&test_store.store(), &now()).unwrap_err().kind(), Kind::Conflict);
    std::fs::remove_dir(test_store.store_path().join("artifacts/späterer name")).unwrap();
    for stranger in strangers {
        std::fs::remove_file(test_store.store_path().join(stranger)).unwrap();
    }
    for dir in ["packs/lost+found", "artifacts/.snapshot", "artifacts/lost+found"] {
        std::fs::remove_dir(test_store.store_path().join(dir)).unwrap();
    }
    whole(&test_store);
}

#[test]
fn damage_ends_the_collection_or_stays() {
    let test_store = start();
    // With a damaged footer, it is unknown what the pack holds.
    let packs: Vec<_> = content(&test_store).into_iter().filter(|p| p.to_string_lossy().contains("/packs/")).collect();
    let removed = {
        let dry = collect(&test_store.store(), &now().dry_run(true)).unwrap();
        assert_eq!(dry.moved.files, 2);
        let other = copy_of(&test_store);
        gc(&other.store());
        let left: BTreeSet<_> = content(&other).into_iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        packs.iter().find(|p| !left.contains(p.file_name().unwrap())).unwrap().clone()
    };
    let mut bytes = std::fs::read(&removed).unwrap();
    let end = bytes.len() - 10;
    bytes[end] ^= 1;
    crate::crafted_stores::write(&removed, &bytes);
    let report = gc(&test_store.store());
    assert_eq!((report.freed.files, report.damaged.len()), (1, 1), "{report:?}");
    assert!(removed.exists());
    // A damaged version may name anything.
    let manifest = test_store.store_path().join("artifacts/a/versions/v1/manifest");
    let bytes = std::fs::read(&manifest).unwrap();
    crate::crafted_stores::write(&std::fs::canonicalize(&manifest).unwrap(), &bytes[..bytes.len() / 2]);
    test_store.ok(&["rm", "b:v0"]);
    let before = content(&test_store);
    let error = collect(&test_store.store(), &now()).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged, "{error}");
    assert_eq!(content(&test_store), before);
    // After its removal it no longer stops a collection.
    test_store.ok(&["rm", "a:v1", "--force"]);
    assert!(gc(&test_store.store()).freed.files > 0);
}

/// A patch may have one number only. If another patch took it and the first one died, the first one's record and
/// content are garbage, although its token committed.
#[test]
fn a_patch_that_lost_its_number_and_died_leaves_nothing() {
    let from = start();
    gc(&from.store());
    std::fs::write(from.path("a3/new.bin"), random_bytes(9, 250_000)).unwrap();
    let before = content(&from).len();
    // The second patch does not wait for the first, which is stopped.
    let patch = |test_store: &TestStore, file: &str| {
        let mut command = test_store.cairn(&["patch", "a:v1", file]);
        command.env("CAIRN_PATIENCE", "20");
        command
    };
    let outcome = |test_store: &TestStore| {
        let mut tokens = std::fs::read_dir(test_store.store_path().join("work")).unwrap();
        tokens.next().map(|token| token.unwrap().path().join("outcome"))
    };
    let mut step = 0;
    let test_store = loop {
        step += 1;
        let test_store = copy_of(&from);
        std::fs::write(test_store.path("other.txt"), b"the other patch").unwrap();
        // Stopped before a step, the next of which finds it committed: its record is complete.
        let stop = |step: u64| {
            let mut child =
                patch(&test_store, "a3/new.bin").env("CAIRN_FAULT", format!("stop:{step}")).spawn().unwrap();
            wait_stopped(&child);
            let is_committed = outcome(&test_store).is_some_and(|outcome| outcome.is_symlink());
            child.kill().unwrap();
            child.wait().unwrap();
            is_committed
        };
        if stop(step + 1) {
            let test_store = copy_of(&from);
            std::fs::write(test_store.path("other.txt"), b"the other patch").unwrap();
            let mut child =
                patch(&test_store, "a3/new.bin").env("CAIRN_FAULT", format!("stop:{step}")).spawn().unwrap();
            wait_stopped(&child);
            assert!(patch(&test_store, "other.txt").output().unwrap().status.success());
            child.kill().unwrap();
            child.wait().unwrap();
            break test_store;
        }
        assert!(step < 100, "the patch commits");
    };
    let outcome = outcome(&test_store).unwrap();
    std::os::unix::fs::symlink("commit", &outcome).unwrap();
    gc(&test_store.store());
    test_store.clean("after the collection");
    test_store.ok(&["ls", "a:v2", "other.txt"]);
    assert!(!outcome.exists() && std::fs::read_dir(test_store.store_path().join("work")).unwrap().next().is_none());
    // The second patch stored one pack.
    assert_eq!(content(&test_store).len(), before + 1, "{:?}", content(&test_store));
    let versions = std::fs::read_dir(test_store.store_path().join("artifacts/a/versions")).unwrap();
    let (numbers, records): (Vec<_>, Vec<_>) = versions.map(|e| e.unwrap().path()).partition(|path| path.is_symlink());
    assert_eq!((numbers.len(), records.len()), (3, 3), "{records:?}");
}
