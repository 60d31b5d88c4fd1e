//! Large files of which the store has most already: only what is new is stored, and every version stays whole through
//! puts, patches, drafts, collections, restores, damage and repair.

use crate::support::{
    Dice, TestStore, copy_tree, files, make_tree, memory_dir, random_bytes, resume, snapshot, steps, text,
};
use cairn::gc::{GcOptions, collect};
use cairn::internals::objects::{Content, RecipesInPacks};
use cairn::manifest::Entry;
use cairn::types::RelPath;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: usize = 1 << 20;

/// `d/big` has these bytes; `a`'s newest version gets them.
fn put(test_store: &TestStore, bytes: &[u8]) -> u64 {
    make_tree(&test_store.path("d"), &[("big", bytes), ("small", b"small")]);
    test_store.ok(&["put", "a", "d"]);
    test_store.store().version("a").unwrap().record().new_bytes
}

/// Bytes with others in place of a range.
fn edited(bytes: &[u8], range: std::ops::Range<usize>, by: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.splice(range, by.iter().copied());
    out
}

fn got(test_store: &TestStore, version: &str) -> Vec<u8> {
    let output = test_store.run(&["cat", version, "big"], 0).stdout;
    let out = test_store.path("got");
    test_store.ok(&["get", version, "got"]);
    assert!(fs::read(out.join("big")).unwrap() == output, "get and cat agree");
    fs::remove_dir_all(out).unwrap();
    output
}

fn is_composed(test_store: &TestStore, version: &str) -> bool {
    let version = test_store.store().version(version).unwrap();
    let Entry::File { digest, size, place, .. } = version.entry(&RelPath::parse(b"big").unwrap()).unwrap() else {
        panic!("big is a file")
    };
    matches!(version.store().objects().content(&digest, size, place).unwrap(), Content::Composed(_))
}

fn gc(test_store: &TestStore, min_age: u64) {
    collect(&test_store.store(), &GcOptions::default().min_age(Duration::from_secs(min_age))).unwrap();
}

fn objects(test_store: &TestStore) -> Vec<PathBuf> {
    files(&test_store.store_path().join("objects"))
}

/// The object that the content of `a:v0` is.
fn container(test_store: &TestStore, bytes: &[u8]) -> PathBuf {
    objects(test_store).into_iter().find(|path| fs::metadata(path).unwrap().len() == bytes.len() as u64).unwrap()
}

/// Changes a byte without a trace in the time, size or mode.
fn rot(path: &Path, at: usize) {
    let meta = fs::metadata(path).unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    crate::crafted_stores::write(path, &bytes);
    fs::File::open(path).unwrap().set_modified(meta.modified().unwrap()).unwrap();
    fs::set_permissions(path, meta.permissions()).unwrap();
}

/// `a:v0` is an object; v1 has bytes appended (an object of its own), v2 bytes inserted, v3 bytes changed in place.
fn four_versions() -> (TestStore, Vec<Vec<u8>>) {
    let test_store = TestStore::new();
    let v0 = random_bytes(1, 2 * MIB + 17);
    let v1 = [&v0[..], &random_bytes(2, 200_000)].concat();
    let v2 = edited(&v1, 5000..5000, b"inserted");
    let v3 = edited(&v2, MIB..MIB + 9000, &random_bytes(3, 9000));
    let all = vec![v0, v1, v2, v3];
    let new: Vec<u64> = all.iter().map(|bytes| put(&test_store, bytes)).collect();
    assert!(new[0] > 2 * MIB as u64 && new[1] < 260_000 && new[2] < 20_000 && new[3] < 30_000, "{new:?}");
    assert!(!is_composed(&test_store, "a:v0"));
    for i in 1..4 {
        assert!(is_composed(&test_store, &format!("a:v{i}")));
    }
    (test_store, all)
}

fn whole(test_store: &TestStore, all: &[Vec<u8>], versions: std::ops::Range<usize>) {
    for i in versions {
        assert!(got(test_store, &format!("a:v{i}")) == all[i], "v{i}");
    }
}

#[test]
fn what_is_new_in_a_large_file_is_stored_and_every_version_is_whole() {
    let (test_store, all) = four_versions();
    whole(&test_store, &all, 0..4);
    test_store.clean("four versions");
    test_store.ok(&["verify", "--quick"]);
    // The digest is that of the whole file, whatever form it has.
    let other = TestStore::new();
    put(&other, &all[3]);
    assert_eq!(other.store().version("a").unwrap().digest(), test_store.store().version("a").unwrap().digest());
    // Parts of it are read at any place.
    let mut file = test_store.store().version("a").unwrap().open("big").unwrap();
    for (at, len) in [(0, 10), (4990, 30), (MIB - 3, 9010), (all[3].len() - 5, 100)] {
        let mut part = vec![0; len];
        let mut n = 0;
        while n < len && at + n < all[3].len() {
            n += file.read_at(&mut part[n..], (at + n) as u64).unwrap();
        }
        assert!(part[..n] == all[3][at..at + n], "at {at}");
    }
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
}

#[test]
fn a_store_gets_the_feature_with_its_first_composed_file_and_equal_content_is_stored_once() {
    let test_store = TestStore::new();
    let config = || fs::read_to_string(test_store.store_path().join("cairn.json")).unwrap();
    let v0 = random_bytes(1, 2 * MIB);
    put(&test_store, &v0);
    put(&test_store, &random_bytes(2, 2 * MIB)); // nothing in common
    assert!(!config().contains("composed-files"));
    let v2 = edited(&random_bytes(2, 2 * MIB), 0..1, b"xyz");
    put(&test_store, &v2);
    assert!(config().contains("\"composed-files\""));
    // Again under another name, and again at the same path after a change that was taken back.
    make_tree(&test_store.path("e"), &[("copy", &v2), ("twin", &v2)]);
    test_store.ok(&["put", "b", "e"]);
    assert_eq!(test_store.store().version("b").unwrap().record().new_bytes, 0);
    put(&test_store, &v0);
    assert_eq!(put(&test_store, &v2), 0);
    let before = objects(&test_store).len();
    assert_eq!(before, 2);
    test_store.clean("at the end");
}

#[test]
fn two_files_with_equal_new_content_are_composed_once_in_one_put() {
    let test_store = TestStore::new();
    let old = random_bytes(1, 2 * MIB);
    make_tree(&test_store.path("d"), &[("x", &old), ("y", &old)]);
    test_store.ok(&["put", "a", "d"]);
    let new = edited(&old, 7..7, b"new");
    make_tree(&test_store.path("d"), &[("x", &new), ("y", &new)]);
    test_store.ok(&["put", "a", "d"]);
    test_store.clean("twins");
    test_store.ok(&["get", "a", "out"]);
    assert!(snapshot(&test_store.path("out")) == snapshot(&test_store.path("d")));
}

#[test]
fn a_file_of_which_little_is_shared_or_that_would_keep_too_much_is_stored_whole() {
    let test_store = TestStore::new();
    let v0 = random_bytes(1, 4 * MIB);
    put(&test_store, &v0);
    put(&test_store, &edited(&v0, 0..3 * MIB, &random_bytes(2, 3 * MIB)));
    assert!(!is_composed(&test_store, "a:v1"), "a quarter is shared");
    put(&test_store, &v0);
    put(&test_store, &v0[..MIB + MIB / 2]);
    assert!(!is_composed(&test_store, "a:v3"), "it would keep an object of which it needs a third");
    put(&test_store, &v0);
    put(&test_store, &v0[..3 * MIB]);
    assert!(is_composed(&test_store, "a:v5"));
    test_store.clean("at the end");
}

#[test]
fn what_is_needed_of_a_source_of_which_little_is_used_is_stored_again() {
    let test_store = TestStore::new();
    let v0 = random_bytes(1, 4 * MIB);
    put(&test_store, &v0);
    let v1 = [&v0[..2 * MIB], &random_bytes(2, 15 * MIB / 8)].concat();
    put(&test_store, &v1);
    let v2 = v1[7 * MIB / 4..].to_vec();
    let new = put(&test_store, &v2);
    assert!(is_composed(&test_store, "a:v2") && (256 * 1024..300_000).contains(&new), "{new}");
    test_store.ok(&["rm", "a:v0", "a:v1"]);
    gc(&test_store, 0);
    let kept: u64 = objects(&test_store).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(kept < 9 * MIB as u64 / 4, "{kept} bytes are kept for {}", v2.len());
    assert!(got(&test_store, "a:v2") == v2);
    test_store.clean("at the end");
}

#[test]
fn a_file_that_grows_every_day_is_stored_once_and_has_few_parts() {
    let test_store = TestStore { dir: memory_dir() };
    cairn::Store::init(test_store.store_path(), &Default::default()).unwrap();
    let mut bytes = random_bytes(1, MIB);
    let mut all = vec![bytes.clone()];
    put(&test_store, &bytes);
    for day in 0..70 {
        bytes.extend(random_bytes(100 + day, 10_000));
        put(&test_store, &bytes);
        all.push(bytes.clone());
    }
    let stored: u64 = ["objects", "packs"]
        .iter()
        .flat_map(|dir| files(&test_store.store_path().join(dir)))
        .map(|file| fs::metadata(file).unwrap().len())
        .sum();
    assert!(stored < 4 * MIB as u64, "{stored} bytes for 71 versions of more than 1 MiB");
    let last = test_store.store().version("a").unwrap();
    let Entry::File { digest, size, .. } = last.entry(&RelPath::parse(b"big").unwrap()).unwrap() else { panic!() };
    let sources = last.store().objects().sources_of(&digest, size).unwrap();
    assert!((2..=32).contains(&sources.len()), "{} sources", sources.len());
    for i in [0, 1, 30, 31, 32, 33, 69, 70] {
        assert!(got(&test_store, &format!("a:v{i}")) == all[i], "v{i}");
    }
    test_store.clean("after 70 days");
}

#[test]
fn a_patch_and_a_draft_compose_too_and_a_copy_to_another_store_is_whole() {
    let (test_store, all) = four_versions();
    let v4 = edited(&all[3], 100..200, b"patched");
    make_tree(&test_store.path("p"), &[("big", &v4)]);
    test_store.ok(&["patch", "a", "p"]);
    let v5 = edited(&v4, 0..0, b"drafted");
    make_tree(&test_store.path("u"), &[("big", &v5)]);
    test_store.ok(&["upsert", "a", "u", "--distributed-id", "j", "--run", "r"]);
    gc(&test_store, 0);
    test_store.clean("with an open draft");
    test_store.ok(&["finish", "a", "--distributed-id", "j"]);
    assert!(is_composed(&test_store, "a:v4") && is_composed(&test_store, "a:v5"));
    assert!(got(&test_store, "a:v4") == v4 && got(&test_store, "a:v5") == v5);
    test_store.ok(&["init", "other"]);
    test_store.ok(&["copy", "a:v5", "b", "--to", "other"]);
    test_store.ok(&["--store", "other", "get", "b", "whole"]);
    assert!(fs::read(test_store.path("whole/big")).unwrap() == v5);
    test_store.ok(&["--store", "other", "verify"]);
    test_store.clean("at the end");
}

#[test]
fn a_collection_keeps_what_composed_files_need_and_frees_it_with_the_last_of_them() {
    let (test_store, all) = four_versions();
    let kept_for_parts = || {
        let report = test_store.json(&["gc", "--dry-run"]);
        let kept = |what| report["kept_for_parts"][what].as_u64().unwrap();
        (kept("files"), kept("bytes"))
    };
    let stored: u64 = objects(&test_store).iter().map(|object| fs::metadata(object).unwrap().len()).sum();
    assert_eq!(kept_for_parts(), (1, stored - all[0].len() as u64), "v0 names the other object");
    test_store.ok(&["rm", "a:v0"]);
    gc(&test_store, 0);
    test_store.clean("without v0");
    assert_eq!(kept_for_parts(), (2, stored));
    assert!(test_store.ok(&["gc"]).contains("not freed: 2 files"));
    whole(&test_store, &all, 1..4);
    test_store.ok(&["rm", "a:v1", "a:v2"]);
    gc(&test_store, 0);
    test_store.clean("without v1 and v2");
    whole(&test_store, &all, 3..4);
    assert_eq!(objects(&test_store).len(), 2);
    put(&test_store, &random_bytes(9, 1000));
    test_store.ok(&["rm", "a:v3"]);
    gc(&test_store, 0);
    gc(&test_store, 0);
    assert_eq!(objects(&test_store), [] as [PathBuf; 0]);
    assert_eq!(kept_for_parts(), (0, 0));
    test_store.clean("without all of them");
}

#[test]
fn rm_and_du_count_what_is_stored_for_a_version_alone() {
    let (test_store, all) = four_versions();
    let frees = |versions: &[&str]| {
        let args = [&["rm", "--dry-run"], versions].concat();
        test_store.json(&args)["frees_bytes"].as_u64().unwrap()
    };
    let (object, rest) = (all[0].len() as u64, (all[1].len() - all[0].len()) as u64);
    assert_eq!(frees(&["a:v0"]), 0, "the others have parts of it");
    assert_eq!(frees(&["a:v0", "a:v1"]), 0);
    let last = frees(&["a:v3"]);
    assert!((9000..20_000).contains(&last), "{last}");
    let every = frees(&["a:v0", "a:v1", "a:v2", "a:v3"]);
    assert!((object + rest + last..object + rest + last + 100).contains(&every), "{every}");
    let alone: Vec<u64> = test_store
        .json(&["du", "a"])
        .as_array()
        .unwrap()
        .iter()
        .map(|usage| usage["alone_bytes"].as_u64().unwrap())
        .collect();
    assert!(alone[..2] == [0, 0] && alone[2] < 20 && alone[3] == last, "{alone:?}: of v2 it is what was inserted");
    assert_eq!(test_store.json(&["du"])[0]["alone_bytes"].as_u64(), Some(every));
}

#[test]
fn many_small_packs_with_recipes_are_rewritten_into_one() {
    let test_store = TestStore { dir: memory_dir() };
    cairn::Store::init(test_store.store_path(), &Default::default()).unwrap();
    let mut all = vec![random_bytes(1, 2 * MIB)];
    put(&test_store, &all[0]);
    for i in 1..14 {
        all.push(edited(&all[i - 1], 1000 * i..1000 * i + 50, &random_bytes(i as u64, 60)));
        put(&test_store, &all[i]);
    }
    let before = files(&test_store.store_path().join("packs")).len();
    gc(&test_store, 0);
    let after = files(&test_store.store_path().join("packs")).len();
    assert!(before > 10 && after < 5, "{before} packs, then {after}");
    test_store.clean("rewritten");
    fs::remove_dir_all(test_store.store_path().join("index")).unwrap();
    whole(&test_store, &all, 0..14);
}

/// The content of a recipe was removed with what the recipe takes parts of, and then stored again as an object.
#[test]
fn a_recipe_whose_content_is_an_object_now_is_freed_and_its_pack_is_not_put_back() {
    let test_store = TestStore::new();
    let base = random_bytes(1, 2 * MIB);
    let grown = [&base[..], &random_bytes(2, 200_000)].concat();
    put(&test_store, &base);
    // Its pack has the recipe, and mostly small files that another artifact needs.
    let others: Vec<_> = (0..4).map(|n| (format!("other{n}"), random_bytes(10 + n, 20_000))).collect();
    let mut tree: Vec<(&str, &[u8])> = others.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    make_tree(&test_store.path("others"), &tree);
    tree.push(("big", &grown));
    make_tree(&test_store.path("d"), &tree);
    test_store.ok(&["put", "a", "d"]);
    test_store.ok(&["put", "o", "others"]);
    assert!(is_composed(&test_store, "a"));
    test_store.ok(&["rm", "a:v0", "a:v1"]);
    gc(&test_store, 0);
    assert_eq!(objects(&test_store).len(), 0, "what the recipe takes parts of is freed");
    make_tree(&test_store.path("e"), &[("big", &grown)]);
    test_store.ok(&["put", "c", "e"]);
    assert!(!is_composed(&test_store, "c"));
    test_store.ok(&["rm", "o:v0"]);
    let now = GcOptions::default().min_age(Duration::ZERO);
    let report = collect(&test_store.store(), &now).unwrap();
    assert!(report.freed.files > 0 && report.put_back.files == 0 && report.damaged.is_empty(), "{report:?}");
    assert_eq!(files(&test_store.store_path().join("trash")), Vec::<PathBuf>::new());
    assert!(got(&test_store, "c") == grown);
    test_store.clean("at the end");
}

#[test]
fn a_put_that_is_stopped_at_any_step_keeps_what_its_recipe_needs_through_a_collection() {
    let start = TestStore::new();
    let v0 = random_bytes(1, MIB + 100_000);
    put(&start, &v0);
    put(&start, b"other");
    let v2 = [&edited(&v0, 10..20, b"x")[..], &random_bytes(2, 200_000)].concat();
    make_tree(&start.path("d"), &[("big", &v2), ("small", b"small")]);
    start.ok(&["rm", "a:v1"]); // v0 is the newest, and is compared with
    let copy = || start.copy_to(memory_dir(), &["store", "d"]);
    let args = ["put", "a", "d"];
    let steps = steps(&copy(), &args);
    assert!(steps > 20);
    for step in 1..=steps {
        let test_store = copy();
        let child = test_store.stopped_before(step, &args);
        test_store.ok(&["rm", "--force", "a:v0"]);
        gc(&test_store, 0);
        resume(&child);
        let output = child.wait_with_output().unwrap();
        let label = format!("stopped before step {step}: {}", text(&output.stderr));
        assert!(output.status.success(), "{label}");
        test_store.clean(&label);
        gc(&test_store, 0);
        test_store.clean(&label);
        assert!(got(&test_store, "a:v2") == v2, "{label}");
    }
}

#[test]
fn a_composed_version_that_was_removed_is_restored_with_its_objects_from_the_trash() {
    let (test_store, all) = four_versions();
    put(&test_store, b"other");
    test_store.ok(&["rm", "a:v0", "a:v1", "a:v2", "a:v3"]);
    gc(&test_store, 3600);
    assert_eq!(objects(&test_store), [] as [PathBuf; 0]);
    test_store.ok(&["restore", "a:v3"]);
    whole(&test_store, &all, 3..4);
    test_store.clean("restored");
    gc(&test_store, 0);
    test_store.clean("restored, and collected");
    whole(&test_store, &all, 3..4);
}

#[test]
fn a_damaged_object_names_every_version_that_has_parts_of_it_and_the_same_put_heals_them() {
    let (test_store, all) = four_versions();
    copy_tree(&test_store.store_path(), &test_store.path("backup"));
    let object = container(&test_store, &all[0]);
    rot(&object, 77);
    let damaged = |args: &[&str]| text(&test_store.run(args, 1).stdout);
    for args in [&["verify"][..], &["verify", "--quick"]] {
        let printed = damaged(args);
        for version in ["a:v0 big", "a:v1 big", "a:v2 big", "a:v3 big"] {
            assert!(printed.contains(version), "{version}: {printed}");
        }
        assert_eq!(printed.matches("F1-object").count(), 1 + printed.matches("hint: F1-object").count(), "{printed}");
    }
    let one = damaged(&["verify", "a:v2"]);
    assert!(one.contains("a:v2 big"), "{one}");
    // What is damaged is not compared with, and does not count as stored.
    assert!(put(&test_store, &all[3]) == 0 || got(&test_store, "a:v3") == all[3]);
    assert!(got(&test_store, "a:v3") == all[3]);
    let left = damaged(&["verify"]);
    assert!(left.contains("a:v1 big") && !left.contains("a:v3 big"), "{left}");
    test_store.ok(&["verify", "--repair-from", "backup"]);
    test_store.clean("repaired");
    whole(&test_store, &all, 0..4);
}

/// A damaged object must not hide a recipe of the same content. The next put of the content replaces it.
#[test]
fn content_with_a_damaged_object_is_read_from_its_recipe_and_stored_again() {
    let put_as = |test_store: &TestStore, name: &str, bytes: &[u8]| {
        make_tree(&test_store.path("d"), &[("big", bytes), ("small", b"small")]);
        test_store.ok(&["put", name, "d", "--rehash"]);
    };
    let old = random_bytes(1, 3 * MIB);
    let new = edited(&old, 70_000..70_004, b"new!");
    // The object is there first, and then what could be composed.
    let test_store = TestStore::new();
    put_as(&test_store, "a", &old);
    put_as(&test_store, "b", &new);
    let object = objects(&test_store).into_iter().find(|path| fs::read(path).unwrap() == new).unwrap();
    rot(&object, 77);
    test_store.run(&["verify"], 1);
    put_as(&test_store, "a", &new);
    for version in ["a", "b"] {
        assert!(got(&test_store, version) == new, "{version}");
    }
    test_store.clean("stored again as an object");
    // Both forms are there, as after two puts at once.
    let other = TestStore::new();
    put_as(&other, "a", &old);
    put_as(&other, "a", &new);
    assert_eq!(objects(&other).len(), 1);
    let place = other.store_path().join(object.strip_prefix(test_store.store_path()).unwrap());
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    copy_tree(&object, &place);
    rot(&place, 77);
    assert!(got(&other, "a") != new, "nothing shows that the object is wrong");
    let verified = text(&other.run(&["verify"], 0).stdout);
    assert!(verified.contains("note: F1-object"), "{verified}");
    assert!(got(&other, "a") == new);
    put_as(&other, "b", &new);
    other.clean("replaced");
    assert!(got(&other, "a") == new && got(&other, "b") == new);
}

/// An object that was found damaged is known to be so in the trash too, and when a restore puts it back.
#[test]
fn damage_is_not_forgotten_in_the_trash() {
    let test_store = TestStore::new();
    let bytes = random_bytes(1, 300_000);
    put(&test_store, &bytes);
    put(&test_store, b"other");
    let object = container(&test_store, &bytes);
    rot(&object, 77);
    test_store.run(&["verify"], 1);
    test_store.ok(&["rm", "a:v0"]);
    test_store.ok(&["gc"]);
    assert!(!object.exists());
    test_store.run(&["restore", "a:v0"], 6);
    put(&test_store, &bytes);
    assert!(got(&test_store, "a:v2") == bytes);
    test_store.ok(&["restore", "a:v0"]);
    assert!(got(&test_store, "a:v0") == bytes);
    test_store.clean("stored again");
}

#[test]
fn a_missing_object_or_a_damaged_recipe_is_found_and_collections_free_nothing_they_may_need() {
    let (test_store, all) = four_versions();
    copy_tree(&test_store.store_path(), &test_store.path("backup"));
    let object = container(&test_store, &all[0]);
    fs::rename(&object, test_store.path("aside")).unwrap();
    let printed = text(&test_store.run(&["verify"], 1).stdout);
    assert!(["a:v0 big", "a:v1 big", "a:v3 big"].iter().all(|what| printed.contains(what)), "{printed}");
    let message = text(&test_store.run(&["cat", "a:v3", "big"], 4).stderr);
    let name = object.file_name().unwrap().to_str().unwrap();
    assert!(message.contains(name), "the error names the object {name}: {message}");
    fs::rename(test_store.path("aside"), &object).unwrap();
    test_store.clean("it is there again");
    // The recipe of v3 becomes unreadable, and v3 is the only version that is left.
    let store = test_store.store();
    let Entry::File { digest, .. } = store.version("a:v3").unwrap().entry(&RelPath::parse(b"big").unwrap()).unwrap()
    else {
        panic!("big is a file")
    };
    let (pack, at) = files(&test_store.store_path().join("packs"))
        .into_iter()
        .find_map(|path| {
            let bytes = fs::read(&path).unwrap();
            let is_recipe = |at: &usize| bytes[*at..].starts_with(&digest.0) && bytes.get(at + 36) == Some(&3);
            (0..bytes.len() - 40).find(is_recipe).map(|at| (path, at))
        })
        .unwrap();
    test_store.ok(&["rm", "a:v0", "a:v1", "a:v2"]);
    rot(&pack, at + 50);
    let printed = text(&test_store.run(&["verify"], 1).stdout);
    assert!(printed.contains("recipe") && printed.contains("a:v3 big"), "{printed}");
    let error = collect(&test_store.store(), &GcOptions::default().min_age(Duration::ZERO)).unwrap_err();
    assert!(error.message().contains("recipe"), "{error:#}");
    assert_eq!(objects(&test_store).len(), 2, "nothing was freed");
    let healed = test_store.copy(&["store", "d"]);
    healed.ok(&["put", "a", "d"]);
    assert!(got(&healed, "a:v3") == all[3]);
    collect(&healed.store(), &GcOptions::default().min_age(Duration::ZERO)).unwrap();
    test_store.ok(&["verify", "--repair-from", "backup"]);
    assert!(got(&test_store, "a:v3") == all[3]);
}

/// Changes bytes of a file: some are flipped, overwritten, cut off, or appear a second time.
fn mutate(bytes: &mut Vec<u8>, near: usize, dice: &mut Dice, seed: u64) {
    let at = if dice.roll(2) == 0 { near + dice.pick(300) } else { dice.pick(bytes.len()) }.min(bytes.len() - 1);
    let end = (at + 1 + dice.pick(60)).min(bytes.len());
    match dice.roll(6) {
        0 => bytes[at] ^= 1 << dice.roll(8),
        1 => bytes[at..end].copy_from_slice(&random_bytes(seed, end - at)),
        2 => bytes[at..end].fill(0),
        3 => bytes.truncate(at),
        4 => drop(bytes.splice(at..at, random_bytes(seed, end - at))),
        _ => {
            let twice = bytes[at..end].to_vec();
            let to = dice.pick(bytes.len() - twice.len());
            bytes[to..to + twice.len()].copy_from_slice(&twice);
        }
    }
}

#[test]
fn a_pack_with_recipes_that_is_changed_anywhere_is_found_and_gives_no_wrong_byte() {
    let (test_store, all) = four_versions();
    let (dice, mut changed) = (&mut Dice(17), 0);
    let packs = files(&test_store.store_path().join("packs"));
    for round in 0..80 {
        let version = 1 + dice.pick(3);
        let store = test_store.store();
        let entry = store.version(&format!("a:v{version}")).unwrap().entry(&RelPath::parse(b"big").unwrap()).unwrap();
        let Entry::File { digest, .. } = entry else { panic!("big is a file") };
        let is_header = |bytes: &[u8]| bytes.windows(37).position(|b| b.starts_with(&digest.0) && b[36] == 3);
        let (pack, near) = packs.iter().find_map(|path| Some((path, is_header(&fs::read(path).unwrap())?))).unwrap();
        let (before, meta) = (fs::read(pack).unwrap(), fs::metadata(pack).unwrap());
        let mut bytes = before.clone();
        mutate(&mut bytes, near, dice, round);
        if bytes == before {
            continue;
        }
        changed += 1;
        let restore = |bytes: &[u8]| {
            crate::crafted_stores::write(pack, bytes);
            fs::File::open(pack).unwrap().set_modified(meta.modified().unwrap()).unwrap();
            fs::set_permissions(pack, meta.permissions()).unwrap();
        };
        restore(&bytes);
        for (i, expected) in all.iter().enumerate() {
            let mut got = Vec::new();
            let read = test_store.store().version(&format!("a:v{i}")).and_then(|version| version.open("big"));
            let Ok(mut file) = read else { continue };
            if std::io::Read::read_to_end(&mut file, &mut got).is_ok() {
                assert!(got == *expected, "round {round}: v{i} has wrong bytes");
            }
        }
        let printed = text(&test_store.run(&["verify"], 1).stdout);
        assert!(printed.contains("F"), "round {round}: {printed}");
        restore(&before);
        let _ = fs::remove_dir_all(test_store.store_path().join("damaged"));
    }
    assert!(changed > 60, "{changed}");
    test_store.clean("all is as it was");
}

#[test]
fn a_pack_that_cannot_be_read_stops_a_collection_of_a_store_with_composed_files() {
    let (test_store, _) = four_versions();
    let store = test_store.store();
    let mut recipes = RecipesInPacks::default();
    store.objects().read_recipes(&mut recipes, true).unwrap();
    assert_eq!(recipes.contents().count(), 3);
    let pack = files(&test_store.store_path().join("packs")).remove(0);
    let end = fs::metadata(&pack).unwrap().len() as usize;
    rot(&pack, end - 30);
    test_store.ok(&["rm", "a:v0"]);
    let error = collect(&test_store.store(), &GcOptions::default().min_age(Duration::ZERO)).unwrap_err();
    assert!(matches!(error.kind(), cairn::Kind::Damaged), "{error:#}");
    assert_eq!(objects(&test_store).len(), 2);
    assert!(store.objects().read_recipes(&mut RecipesInPacks::default(), false).is_ok());
}

#[test]
fn any_series_of_edits_removals_and_collections_keeps_every_version_whole() {
    for seed in 1..=3 {
        let test_store = TestStore { dir: memory_dir() };
        cairn::Store::init(test_store.store_path(), &Default::default()).unwrap();
        let mut dice = Dice(seed);
        let mut all: Vec<Option<Vec<u8>>> = Vec::new();
        let mut bytes = random_bytes(seed, MIB + MIB / 4);
        for i in 0..24 {
            let (len, at) = (1 + dice.pick(60_000), dice.pick(bytes.len()));
            let end = (at + len).min(bytes.len());
            bytes = match dice.roll(6) {
                0 => [&bytes[..], &random_bytes(seed * 100 + i, len)].concat(),
                1 => edited(&bytes, at..at, &random_bytes(seed * 100 + i, len)),
                2 => edited(&bytes, at..end, &random_bytes(seed * 100 + i, end - at)),
                3 => edited(&bytes, at..end, b""),
                4 => edited(&bytes, at..at, &vec![0; 3 * len]),
                _ => [&bytes[at..], &bytes[..at]].concat(),
            };
            let before = all.len();
            put(&test_store, &bytes);
            let number = test_store.store().version("a").unwrap().number().0 as usize;
            assert!(number == before || all[number].as_ref() == Some(&bytes));
            all.resize(number + 1, None);
            all[number] = Some(bytes.clone());
            if dice.roll(3) == 0 {
                let victim = dice.pick(all.len());
                if victim + 1 < all.len() && all[victim].take().is_some() {
                    test_store.ok(&["rm", &format!("a:v{victim}")]);
                    gc(&test_store, 0);
                }
            }
        }
        test_store.clean(&format!("seed {seed}"));
        for (i, expected) in all.iter().enumerate().filter_map(|(i, bytes)| Some((i, bytes.as_ref()?))) {
            assert!(got(&test_store, &format!("a:v{i}")) == *expected, "seed {seed}: v{i}");
        }
    }
}

/// Bytes that a command and its children read by system calls.
pub fn bytes_read(test_store: &TestStore, args: &[&str]) -> Option<u64> {
    let script = "\"$@\" >&2 || exit 1; cat /proc/$$/io";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_cairn"), "--store"]).arg(test_store.store_path()).args(args);
    let output = command.current_dir(test_store.path("")).env("CAIRN_STAT_CACHE", "off").output().unwrap();
    let printed = text(&output.stdout);
    assert!(output.status.success() || printed.is_empty(), "{}", text(&output.stderr));
    printed.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok())
}

#[test]
fn an_unchanged_large_file_is_hashed_and_the_stored_one_is_not_read() {
    let test_store = TestStore::new();
    let bytes = random_bytes(1, 16 * MIB);
    make_tree(&test_store.path("d"), &[("big", &bytes)]);
    let big = fs::File::options().write(true).open(test_store.path("d/big")).unwrap();
    big.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
    test_store.ok(&["put", "a", "d"]);
    let Some(read) = bytes_read(&test_store, &["put", "a", "d"]) else { return };
    assert!((16 * MIB as u64..20 * MIB as u64).contains(&read), "{read} bytes");
    // A changed file is read once, and so is what it is compared with.
    fs::write(test_store.path("d/big"), edited(&bytes, 5..5, b"inserted")).unwrap();
    let read = bytes_read(&test_store, &["put", "a", "d"]).unwrap();
    assert!((32 * MIB as u64..40 * MIB as u64).contains(&read), "{read} bytes");
    assert!(is_composed(&test_store, "a"));
    test_store.clean("at the end");
}

#[test]
fn small_changes_cost_little_more_than_their_bytes_wherever_they_are() {
    let test_store = TestStore::new();
    let mut bytes = random_bytes(1, 8 * MIB);
    put(&test_store, &bytes);
    // In place, 80 bytes in one page of a hundred; then a few bytes more or less in many places.
    for page in (0..2048).step_by(100) {
        bytes.splice(page * 4096 + 100..page * 4096 + 180, random_bytes(page as u64, 80));
    }
    let in_place = put(&test_store, &bytes);
    assert!(in_place < 8 * 1024, "{in_place}");
    for i in 0..24 {
        let at = 300_000 * i + 77;
        bytes.splice(at..at + 5 * (i % 3), random_bytes(i as u64, 30));
    }
    let moved = put(&test_store, &bytes);
    assert!(moved < 8 * 1024, "{moved}");
    // Long parts in place of others of another length.
    for i in 0..4 {
        let at = 2 * MIB * i + 100_000;
        bytes.splice(at..at + 60_000, random_bytes(90 + i as u64, 55_000 + 3000 * i));
    }
    let replaced = put(&test_store, &bytes);
    assert!(replaced < 250_000, "{replaced}");
    assert!(is_composed(&test_store, "a"));
    assert!(got(&test_store, "a") == bytes);
    test_store.clean("at the end");
}
