//! No version is acknowledged on content that the store has lost, or that it knows to be damaged.

use crate::support::*;
use cairn::Store;
use cairn::internals::store;
use std::path::Path;

/// One large file and one small one.
fn sources(test_store: &TestStore) {
    make_tree(&test_store.path("d"), &[("large", &random_bytes(1, 300_000)), ("sub/small", b"small")]);
}

fn large_object(store: &Path) -> std::path::PathBuf {
    let objects = files(&store.join("objects"));
    objects.into_iter().find(|p| p.metadata().unwrap().len() == 300_000).unwrap()
}

/// Changes a byte in the middle, and keeps the time and mode.
fn spoil(path: &Path) {
    let meta = path.metadata().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(meta.modified().unwrap()).unwrap();
    std::fs::set_permissions(path, meta.permissions()).unwrap();
}

fn remove_packs(store: &Path) {
    files(&store.join("packs")).iter().for_each(|p| std::fs::remove_file(p).unwrap());
}

#[test]
fn a_copy_to_another_store_stores_again_what_that_store_has_lost() {
    let lost: [(&str, fn(&TestStore, &Path)); 4] = [
        ("a large object is missing", |_, b| std::fs::remove_file(large_object(b)).unwrap()),
        ("a large object is known to be damaged", |test_store, b| {
            spoil(&large_object(b));
            test_store.run(&["--store", b.to_str().unwrap(), "verify"], 1);
        }),
        ("the packs are missing", |_, b| remove_packs(b)),
        ("nothing", |_, _| {}),
    ];
    for (what, lose) in lost {
        println!("{what}");
        let test_store = TestStore::new();
        sources(&test_store);
        test_store.ok(&["put", "a", "d"]);
        let other = test_store.path("other");
        Store::init(&other, &store::InitOptions::default()).unwrap();
        let b = other.to_str().unwrap();
        assert_eq!(test_store.ok(&["copy", "a", "a", "--to", b]), "a:v0");
        lose(&test_store, &other);
        assert_eq!(test_store.ok(&["copy", "a", "a", "--to", b]), "a:v0", "{what}");
        test_store.ok(&["--store", b, "get", "a", "out"]);
        assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("d")));
        // A version that differs in something else names the lost content as well.
        lose(&test_store, &other);
        std::fs::write(test_store.path("d/more"), "more").unwrap();
        test_store.ok(&["put", "a", "d"]);
        assert_eq!(test_store.ok(&["copy", "a", "a", "--to", b]), "a:v1", "{what}");
        test_store.ok(&["--store", b, "get", "a", "out1"]);
        assert_eq!(snapshot(&test_store.path("out1")), snapshot(&test_store.path("d")));
        test_store.run(&["--store", b, "verify", "a:v1"], 0);
    }
}

#[test]
fn a_finish_refuses_what_the_store_has_lost_and_the_run_can_upsert_it_again() {
    let lost: [(&str, fn(&TestStore)); 3] = [
        ("large", |test_store| std::fs::remove_file(large_object(&test_store.store_path())).unwrap()),
        ("large", |test_store| {
            spoil(&large_object(&test_store.store_path()));
            test_store.run(&["verify"], 1);
        }),
        ("", |test_store| remove_packs(&test_store.store_path())),
    ];
    for (path, lose) in lost {
        println!("{path}");
        let test_store = TestStore::new();
        sources(&test_store);
        let upsert = ["upsert", "x", "d", "--distributed-id", "job", "--run", "r"];
        let finish = ["finish", "x", "--distributed-id", "job"];
        test_store.ok(&upsert);
        lose(&test_store);
        let stderr = text(&test_store.run(&finish, 4).stderr);
        assert!(stderr.contains(path) && stderr.contains("run r") && stderr.contains("upsert"), "{stderr}");
        test_store.run(&["get", "x", "out"], 6);
        test_store.ok(&upsert);
        assert_eq!(test_store.ok(&finish), "x:v0");
        test_store.ok(&["get", "x", "out"]);
        assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("d")));
        test_store.run(&["verify"], 0);
    }
}

#[test]
fn a_finish_does_not_miss_what_a_later_contribution_replaced() {
    let test_store = TestStore::new();
    sources(&test_store);
    let upsert = ["upsert", "x", "d", "--distributed-id", "job", "--run", "r"];
    test_store.ok(&upsert);
    std::fs::remove_file(large_object(&test_store.store_path())).unwrap();
    std::fs::write(test_store.path("d/large"), "other").unwrap();
    test_store.ok(&upsert);
    assert_eq!(test_store.ok(&["finish", "x", "--distributed-id", "job"]), "x:v0");
    test_store.ok(&["get", "x", "out"]);
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("d")));
}

#[test]
fn a_copy_in_one_store_refuses_what_is_lost() {
    for known in [false, true] {
        let test_store = TestStore::new();
        sources(&test_store);
        test_store.ok(&["put", "x", "d"]);
        let object = large_object(&test_store.store_path());
        if known {
            spoil(&object);
            test_store.run(&["verify"], 1);
        } else {
            std::fs::remove_file(object).unwrap();
        }
        for target in ["x", "y"] {
            let stderr = text(&test_store.run(&["copy", "x", target], 4).stderr);
            assert!(stderr.contains("large") && stderr.contains("cairn put"), "{stderr}");
        }
        test_store.ok(&["put", "x", "d"]);
        assert_eq!(test_store.ok(&["copy", "x", "y"]), "y:v0");
    }
}

#[test]
fn a_patch_refuses_known_damage_unless_it_mends_it() {
    let test_store = TestStore::new();
    sources(&test_store);
    test_store.ok(&["put", "x", "d"]);
    spoil(&large_object(&test_store.store_path()));
    test_store.run(&["verify"], 1);
    std::fs::write(test_store.path("f"), "f").unwrap();
    let stderr = text(&test_store.run(&["patch", "x", "f"], 4).stderr);
    assert!(stderr.contains("large"), "{stderr}");
    assert_eq!(test_store.ok(&["patch", "x", "f", "d/large"]), "x:v1");
    test_store.ok(&["get", "x", "out"]);
    // Damage of other content doesn't matter.
    std::fs::write(test_store.path("g"), "g").unwrap();
    test_store.ok(&["put", "other", "f"]);
    assert_eq!(test_store.ok(&["patch", "x", "g"]), "x:v2");
}
