//! No version is acknowledged on content that the store has lost, or that it knows to be damaged.

use crate::support::*;
use cairn::Store;
use cairn::internals::store;
use std::path::Path;

/// One large file and one small one.
fn sources(lab: &TestStore) {
    make_tree(&lab.path("d"), &[("large", &random_bytes(1, 300_000)), ("sub/small", b"small")]);
}

fn files(root: &Path) -> Vec<std::path::PathBuf> {
    walkdir::WalkDir::new(root)
        .into_iter()
        .map(|e| e.unwrap())
        .filter(|e| e.file_type().is_file())
        .map(|e| e.into_path())
        .collect()
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
        ("a large object is known to be damaged", |lab, b| {
            spoil(&large_object(b));
            lab.run(&["--store", b.to_str().unwrap(), "verify"], 1);
        }),
        ("the packs are missing", |_, b| remove_packs(b)),
        ("nothing", |_, _| {}),
    ];
    for (what, lose) in lost {
        println!("{what}");
        let lab = TestStore::new();
        sources(&lab);
        lab.ok(&["put", "a", "d"]);
        let other = lab.path("other");
        Store::init(&other, &store::InitOptions::default()).unwrap();
        let b = other.to_str().unwrap();
        assert_eq!(lab.ok(&["copy", "a", "a", "--to", b]), "a:v0");
        lose(&lab, &other);
        assert_eq!(lab.ok(&["copy", "a", "a", "--to", b]), "a:v0", "{what}");
        lab.ok(&["--store", b, "get", "a", "out"]);
        assert_eq!(snapshot(&lab.path("out")), snapshot(&lab.path("d")));
        // A version that differs in something else names the lost content as well.
        lose(&lab, &other);
        std::fs::write(lab.path("d/more"), "more").unwrap();
        lab.ok(&["put", "a", "d"]);
        assert_eq!(lab.ok(&["copy", "a", "a", "--to", b]), "a:v1", "{what}");
        lab.ok(&["--store", b, "get", "a", "out1"]);
        assert_eq!(snapshot(&lab.path("out1")), snapshot(&lab.path("d")));
        lab.run(&["--store", b, "verify", "a:v1"], 0);
    }
}

#[test]
fn a_finish_refuses_what_the_store_has_lost_and_the_run_can_upsert_it_again() {
    let lost: [(&str, fn(&TestStore)); 3] = [
        ("large", |lab| std::fs::remove_file(large_object(&lab.store_path())).unwrap()),
        ("large", |lab| {
            spoil(&large_object(&lab.store_path()));
            lab.run(&["verify"], 1);
        }),
        ("", |lab| remove_packs(&lab.store_path())),
    ];
    for (path, lose) in lost {
        println!("{path}");
        let lab = TestStore::new();
        sources(&lab);
        let upsert = ["upsert", "x", "d", "--distributed-id", "job", "--run", "r"];
        let finish = ["finish", "x", "--distributed-id", "job"];
        lab.ok(&upsert);
        lose(&lab);
        let said = text(&lab.run(&finish, 4).stderr);
        assert!(said.contains(path) && said.contains("run r") && said.contains("upsert"), "{said}");
        lab.run(&["get", "x", "out"], 6);
        lab.ok(&upsert);
        assert_eq!(lab.ok(&finish), "x:v0");
        lab.ok(&["get", "x", "out"]);
        assert_eq!(snapshot(&lab.path("out")), snapshot(&lab.path("d")));
        lab.run(&["verify"], 0);
    }
}

#[test]
fn a_finish_does_not_miss_what_a_later_contribution_replaced() {
    let lab = TestStore::new();
    sources(&lab);
    let upsert = ["upsert", "x", "d", "--distributed-id", "job", "--run", "r"];
    lab.ok(&upsert);
    std::fs::remove_file(large_object(&lab.store_path())).unwrap();
    std::fs::write(lab.path("d/large"), "other").unwrap();
    lab.ok(&upsert);
    assert_eq!(lab.ok(&["finish", "x", "--distributed-id", "job"]), "x:v0");
    lab.ok(&["get", "x", "out"]);
    assert_eq!(snapshot(&lab.path("out")), snapshot(&lab.path("d")));
}

#[test]
fn a_copy_in_one_store_refuses_what_is_lost() {
    for known in [false, true] {
        let lab = TestStore::new();
        sources(&lab);
        lab.ok(&["put", "x", "d"]);
        let object = large_object(&lab.store_path());
        if known {
            spoil(&object);
            lab.run(&["verify"], 1);
        } else {
            std::fs::remove_file(object).unwrap();
        }
        for target in ["x", "y"] {
            let said = text(&lab.run(&["copy", "x", target], 4).stderr);
            assert!(said.contains("large") && said.contains("cairn put"), "{said}");
        }
        lab.ok(&["put", "x", "d"]);
        assert_eq!(lab.ok(&["copy", "x", "y"]), "y:v0");
    }
}

#[test]
fn a_patch_refuses_known_damage_unless_it_mends_it() {
    let lab = TestStore::new();
    sources(&lab);
    lab.ok(&["put", "x", "d"]);
    spoil(&large_object(&lab.store_path()));
    lab.run(&["verify"], 1);
    std::fs::write(lab.path("f"), "f").unwrap();
    let said = text(&lab.run(&["patch", "x", "f"], 4).stderr);
    assert!(said.contains("large"), "{said}");
    assert_eq!(lab.ok(&["patch", "x", "f", "d/large"]), "x:v1");
    lab.ok(&["get", "x", "out"]);
    // Damage of other content doesn't matter.
    std::fs::write(lab.path("g"), "g").unwrap();
    lab.ok(&["put", "other", "f"]);
    assert_eq!(lab.ok(&["patch", "x", "g"]), "x:v2");
}
