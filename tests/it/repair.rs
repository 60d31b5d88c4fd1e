//! `cairn verify --repair` and `--repair-from`: each kind of damage is repaired from right bytes elsewhere, and never
//! from a guess; what cannot be repaired stays a finding.

use crate::crafted_stores::{self, behind};
use crate::support::{TestStore, copy_tree, files, make_tree, memory_dir, random_bytes, resume, snapshot, steps, text};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

/// A store with two versions, an alias, a note, a removal and a draft, and a copy of it (`backup`).
fn start() -> TestStore {
    let test_store = TestStore::new();
    let many: Vec<(String, Vec<u8>)> =
        (0..300).map(|i| (format!("many/f{i:03}"), format!("content {i:03}").into_bytes())).collect();
    let mut files: Vec<(&str, &[u8])> = many.iter().map(|(p, b)| (p.as_str(), b.as_slice())).collect();
    let large = random_bytes(7, 200_000);
    files.extend([("small", b"small content".as_slice()), ("large", &large)]);
    make_tree(&test_store.path("d"), &files);
    test_store.ok(&["put", "x", "d", "--alias", "prod"]);
    make_tree(&test_store.path("d"), &[("more", b"more")]);
    test_store.ok(&["put", "x", "d"]);
    test_store.ok(&["put", "x", "d", "--tag", "good"]);
    make_tree(&test_store.path("e"), &[("part", b"part")]);
    test_store.ok(&["upsert", "c", "e", "--distributed-id", "j", "--run", "r"]);
    copy_tree(&test_store.store_path(), &test_store.path("backup"));
    test_store
}

/// A copy of what [`start`] made, in memory.
fn copy_of(from: &TestStore) -> TestStore {
    from.copy_to(memory_dir(), &["store", "backup", "d"])
}

/// Changes a file without a trace in its time, size or mode.
fn rot(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let meta = std::fs::metadata(path).unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    crafted_stores::write(path, &bytes);
    std::fs::File::open(path).unwrap().set_modified(meta.modified().unwrap()).unwrap();
    std::fs::set_permissions(path, meta.permissions()).unwrap();
}

fn pack_with(store: &Path, bytes: &[u8]) -> (PathBuf, usize) {
    let at = |p: &PathBuf| std::fs::read(p).unwrap().windows(bytes.len()).position(|w| w == bytes);
    files(&store.join("packs")).into_iter().find_map(|p| at(&p).map(|at| (p, at))).unwrap()
}

fn whole(test_store: &TestStore, label: &str) {
    let output = test_store.cairn(&["verify"]).output().unwrap();
    assert!(output.status.success(), "{label}: {}{}", text(&output.stdout), text(&output.stderr));
    test_store.ok(&["get", "x:prod", "out"]);
    let mut right = snapshot(&test_store.path("d"));
    right.remove(b"more".as_slice());
    assert!(snapshot(&test_store.path("out")) == right, "{label}");
    std::fs::remove_dir_all(test_store.path("out")).unwrap();
    test_store.ok(&["get", "x:v1", "out"]);
    assert!(snapshot(&test_store.path("out")) == snapshot(&test_store.path("d")), "{label}");
    std::fs::remove_dir_all(test_store.path("out")).unwrap();
}

type Damage = (&'static str, bool, fn(&Path));

/// Each kind of damage, and whether the store can repair it by itself.
const DAMAGES: &[Damage] = &[
    ("a flipped bit in an object", false, |store| rot(&files(&store.join("objects"))[0], |b| b[1000] ^= 1)),
    ("a lost object", false, |store| std::fs::remove_file(&files(&store.join("objects"))[0]).unwrap()),
    ("a truncated object", false, |store| rot(&files(&store.join("objects"))[0], |b| b.truncate(1000))),
    ("a flipped bit in packed content", false, |store| {
        let (pack, at) = pack_with(store, b"small content");
        rot(&pack, |b| b[at] ^= 1);
    }),
    ("a truncated pack", false, |store| {
        let (pack, at) = pack_with(store, b"small content");
        rot(&pack, |b| b.truncate(at + 5));
    }),
    ("a lost pack", false, |store| std::fs::remove_file(pack_with(store, b"small content").0).unwrap()),
    ("all packs and objects lost", false, |store| {
        files(&store.join("packs"))
            .iter()
            .chain(&files(&store.join("objects")))
            .for_each(|p| std::fs::remove_file(p).unwrap());
    }),
    ("a damaged root node in its pack", true, |store| {
        let manifest = std::fs::read(behind(&store.join("artifacts/x/versions/v1")).join("manifest")).unwrap();
        let packs = usize::from(manifest[8]);
        let root = &manifest[12 + 32 * packs + 4..][..60];
        let (pack, at) = pack_with(store, root);
        rot(&pack, |b| b[at + 20] ^= 1);
    }),
    ("a damaged index segment", true, |store| {
        rot(&files(&store.join("index"))[0], |b| {
            let last = b.len() - 1;
            b[last] ^= 1;
        })
    }),
    ("a damaged version.json", false, |store| {
        rot(&behind(&store.join("artifacts/x/versions/v1")).join("version.json"), |b| b[30] ^= 1)
    }),
    ("a damaged manifest file", false, |store| {
        rot(&behind(&store.join("artifacts/x/versions/v1")).join("manifest"), |b| b[30] ^= 1)
    }),
    ("a lost version directory", false, |store| {
        std::fs::remove_dir_all(behind(&store.join("artifacts/x/versions/v1"))).unwrap()
    }),
    ("a lost number", true, |store| std::fs::remove_file(store.join("artifacts/x/versions/v0")).unwrap()),
    ("a damaged alias record", false, |store| {
        rot(&behind(&store.join("artifacts/x/aliases/prod/000001")), |b| b[9] ^= 1)
    }),
    ("a damaged note", false, |store| rot(&behind(&store.join("artifacts/x/notes/v1/000001")), |b| b[9] ^= 1)),
    ("a damaged record of a draft", false, |store| {
        rot(&behind(&store.join("artifacts/c/drafts/j/log/000001")), |b| b[40] ^= 1)
    }),
    ("a damaged artifact.json", true, |store| rot(&behind(&store.join("artifacts/x/artifact.json")), |b| b[9] ^= 1)),
    ("a lost artifact.json", true, |store| std::fs::remove_file(store.join("artifacts/x/artifact.json")).unwrap()),
];

#[test]
fn each_kind_of_damage_is_repaired_from_what_is_right_elsewhere_and_only_then() {
    let from = start();
    let draft = |test_store: &TestStore| test_store.json(&["draft", "show", "c", "j"]);
    assert_eq!(draft(&from)["contributions"][0]["run"], "r");
    for (label, by_itself, damage) in DAMAGES {
        let test_store = copy_of(&from);
        damage(&test_store.store_path());
        let found = text(&test_store.cairn(&["verify"]).output().unwrap().stdout);
        assert!(!found.is_empty(), "{label} is found");
        let output = test_store.cairn(&["verify", "--repair"]).output().unwrap();
        let printed = format!("{label}: {}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(if *by_itself { 0 } else { 1 }), "{printed}");
        if !by_itself {
            let output = test_store.cairn(&["verify", "--repair-from", "backup"]).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{printed}\n{}{}", text(&output.stdout), text(&output.stderr));
        }
        whole(&test_store, label);
        assert_eq!(draft(&test_store), draft(&from), "{label}");
        test_store.ok(&["put", "x", "d", "--new-version"]);
    }
}

#[test]
fn damage_that_nothing_names_is_cleared_and_right_content_next_to_it_is_kept() {
    let test_store = TestStore::new();
    make_tree(
        &test_store.path("d"),
        &[("small", b"small content"), ("other", b"other"), ("large", &random_bytes(3, 200_000))],
    );
    test_store.ok(&["put", "x", "d"]);
    std::fs::remove_file(test_store.path("d/small")).unwrap();
    std::fs::remove_file(test_store.path("d/large")).unwrap();
    test_store.ok(&["put", "x", "d"]);
    test_store.ok(&["rm", "x:v0"]);
    let (pack, at) = pack_with(&test_store.store_path(), b"small content");
    rot(&pack, |b| b[at] ^= 1);
    rot(&files(&test_store.store_path().join("objects"))[0], |b| b[1000] ^= 1);
    test_store.run(&["verify"], 1);
    let printed = text(&test_store.run(&["verify", "--repair"], 0).stderr);
    assert!(printed.contains("cleared 2"), "{printed}");
    assert!(!pack.exists() && files(&test_store.store_path().join("objects")).is_empty());
    assert_eq!(files(&test_store.store_path().join("damaged")), Vec::<PathBuf>::new());
    assert_eq!(test_store.ok(&["cat", "x:v1", "other"]), "other");
    assert_eq!(text(&test_store.run(&["verify"], 0).stdout), "");
}

#[test]
fn another_store_with_wrong_bytes_repairs_nothing() {
    let test_store = start();
    for store in [test_store.store_path(), test_store.path("backup")] {
        rot(&files(&store.join("objects"))[0], |b| b[1000] ^= 1);
        let (pack, at) = pack_with(&store, b"small content");
        rot(&pack, |b| b[at] ^= 1);
    }
    let printed = text(&test_store.run(&["verify", "--repair-from", "backup"], 1).stdout);
    assert!(printed.contains("affects x:v0 small") && printed.contains("affects x:v0 large"), "{printed}");
}

#[test]
fn a_repair_killed_or_failed_at_every_step_loses_nothing_and_succeeds_when_repeated() {
    let from = start();
    rot(&files(&from.store_path().join("objects"))[0], |b| b[1000] ^= 1);
    let (pack, at) = pack_with(&from.store_path(), b"small content");
    rot(&pack, |b| b[at] ^= 1);
    rot(&behind(&from.store_path().join("artifacts/x/versions/v1")).join("version.json"), |b| b[30] ^= 1);
    let args = ["verify", "--repair-from", "backup"];
    let steps = steps(&copy_of(&from), &args);
    assert!(steps > 20, "{steps} steps");
    for kind in ["kill", "error"] {
        for step in 1..=steps {
            let test_store = copy_of(&from);
            let output = test_store.cairn(&args).env("CAIRN_FAULT", format!("{kind}:{step}")).output().unwrap();
            let label = format!("{kind} at step {step}: {:?} {}", output.status, text(&output.stderr));
            match kind {
                "kill" => assert!(output.status.signal() == Some(9) || step + 8 > steps, "{label}"),
                _ => assert!(matches!(output.status.code(), Some(0 | 1 | 5)), "{label}"),
            }
            let output = test_store.cairn(&args).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "again after {label}: {}", text(&output.stdout));
            whole(&test_store, &label);
        }
    }
}

#[test]
fn a_repair_is_of_the_whole_store() {
    let test_store = start();
    let printed = text(&test_store.run(&["verify", "--repair", "x"], 2).stderr);
    assert!(printed.contains("whole store"), "{printed}");
}

#[test]
fn a_repair_has_no_limit_and_no_sample() {
    let test_store = start();
    for repair in [&["--repair"][..], &["--repair-from", "other"]] {
        for more in [["--limit", "50M"], ["--sample", "1%"]] {
            let said = text(&test_store.run(&[&["verify"], repair, &more].concat(), 2).stderr);
            assert!(said.contains("cannot be used with") && said.contains(more[0]), "{said}");
        }
    }
}

#[test]
fn a_verification_is_limited_in_speed_and_to_a_sample() {
    let test_store = start();
    rot(&files(&test_store.store_path().join("objects"))[0], |b| b[1000] ^= 1);
    test_store.run(&["verify", "--sample", "100%"], 1);
    let begun = std::time::Instant::now();
    test_store.run(&["verify", "--limit", "100K"], 1);
    assert!(begun.elapsed().as_millis() > 150, "{:?}", begun.elapsed());
    for wrong in [["--limit", "fast"], ["--limit", "0"], ["--limit", "50"], ["--sample", "200%"], ["--sample", "0%"]] {
        test_store.run(&["verify", wrong[0], wrong[1]], 2);
    }
    test_store.run(&["verify", "x", "--sample", "1%"], 2);
}

/// `x:v0`, which is removed and has packed content of its own, and `x:v1`.
fn with_removed() -> TestStore {
    let test_store = TestStore::new();
    make_tree(&test_store.path("one"), &[("a", b"first small"), ("b", b"second small"), ("c/d", b"third small")]);
    test_store.ok(&["put", "x", "one"]);
    make_tree(&test_store.path("two"), &[("e", b"of version one")]);
    test_store.ok(&["put", "x", "two"]);
    test_store.ok(&["rm", "x:v0"]);
    test_store
}

#[test]
fn a_pack_with_a_damaged_footer_is_read_by_the_headers_of_its_blobs() {
    type Case = (&'static str, fn(&mut Vec<u8>));
    let cases: [Case; 4] = [
        ("a flipped bit in the footer", |b| {
            let at = b.len() - 60;
            b[at] ^= 1;
        }),
        ("a lost footer", |b| {
            let at = b.len() - 24;
            let start = u64::from_le_bytes(b[at..at + 8].try_into().unwrap());
            b.truncate(start as usize);
        }),
        ("a footer of zeros", |b| b.iter_mut().rev().take(100).for_each(|byte| *byte = 0)),
        ("foreign bytes before the blobs, too", |b| {
            b.splice(8..8, *b"0123456");
        }),
    ];
    let from = with_removed();
    for (label, damage) in cases {
        for needed in [false, true] {
            let test_store = from.copy(&["store", "one", "two"]);
            if needed {
                test_store.ok(&["restore", "x:v0"]);
            }
            let (pack, _) = pack_with(&test_store.store_path(), b"second small");
            rot(&pack, damage);
            test_store.run(&["verify"], 1);
            let printed = text(&test_store.run(&["verify", "--repair"], 0).stderr);
            assert!(printed.contains("cleared 1 damaged file") && !pack.exists(), "{label}: {printed}");
            if !needed {
                test_store.ok(&["restore", "x:v0"]);
            }
            test_store.ok(&["get", "x:v0", "out"]);
            assert!(
                snapshot(&test_store.path("out")) == snapshot(&test_store.path("one")),
                "{label}, needed: {needed}"
            );
            assert_eq!(text(&test_store.run(&["verify"], 0).stdout), "", "{label}");
        }
    }
}

#[test]
fn a_damaged_pack_that_a_writer_replaces_while_a_repair_clears_it_stays() {
    let from = with_removed();
    let right = std::fs::read(pack_with(&from.store_path(), b"second small").0).unwrap();
    let again = || {
        let test_store = from.copy(&["store", "one", "two"]);
        let (pack, at) = pack_with(&test_store.store_path(), b"second small");
        rot(&pack, |b| b[at] ^= 1);
        test_store.run(&["verify"], 1);
        (test_store, pack)
    };
    let mut replaced = 0;
    for step in 1..=steps(&again().0, &["verify", "--repair"]) {
        let (test_store, pack) = again();
        let child = test_store.stopped_before(step, &["verify", "--repair"]);
        // As a writer does that stores the same pack.
        let there = pack.exists();
        if there {
            let new = pack.with_extension("new");
            crafted_stores::write(&new, &right);
            std::fs::rename(&new, &pack).unwrap();
            replaced += 1;
        }
        resume(&child);
        let output = child.wait_with_output().unwrap();
        let label = format!("stopped at {step}: {}{}", text(&output.stdout), text(&output.stderr));
        assert!(!there || pack.exists(), "{label}");
        test_store.run(&["verify", "--repair"], 0);
        if there {
            test_store.ok(&["restore", "x:v0"]);
            test_store.ok(&["get", "x:v0", "out"]);
            assert!(snapshot(&test_store.path("out")) == snapshot(&test_store.path("one")), "{label}");
        }
    }
    assert!(replaced > 2, "{replaced}");
}
