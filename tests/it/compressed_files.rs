//! Stores that compress files of any size: large files are composed of compressed parts alone, without an object and
//! without an earlier version. Every way of reading gives their bytes; they are collected, repaired and copied as any
//! other file; files that do not get smaller are objects as before.

use crate::staging::support::stage;
use crate::support::{
    Dice, TestStore, copy_tree, files, make_tree, memory_dir, random_bytes, resume, snapshot, steps, text,
};
use cairn::gc::{GcOptions, collect};
use cairn::internals::objects::RecipeSource;
use cairn::manifest::Entry;
use cairn::types::{Digest, RelPath};
use cairn::{Compression, InitOptions, Store};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// The longest part.
const PART: usize = 255 * 64 * KIB;

/// A store with this compression, in memory.
fn store_with(compression: Compression) -> TestStore {
    let test_store = TestStore { dir: memory_dir() };
    Store::init(test_store.store_path(), &InitOptions::default().compression(compression)).unwrap();
    test_store
}

/// Lines as of a log: compression leaves less than half of them.
fn log(seed: u64, len: usize) -> Vec<u8> {
    let noise = random_bytes(seed, len / 8 + 8);
    let line = |(i, id): (usize, &[u8])| {
        let id = u32::from_le_bytes(id.try_into().unwrap());
        format!("2026-11-28T{:02}:{:02} GET /v1/items/{id:08x} 200\n", i / 60 % 24, i % 60).into_bytes()
    };
    noise.chunks_exact(4).enumerate().flat_map(line).take(len).collect()
}

fn put(test_store: &TestStore, bytes: &[u8]) -> u64 {
    make_tree(&test_store.path("d"), &[("big", bytes)]);
    test_store.ok(&["put", "a", "d"]);
    test_store.store().version("a").unwrap().record().new_bytes
}

fn got(test_store: &TestStore, version: &str) -> Vec<u8> {
    let output = test_store.run(&["cat", version, "big"], 0).stdout;
    test_store.ok(&["get", version, "got"]);
    assert!(fs::read(test_store.path("got/big")).unwrap() == output, "get and cat agree");
    fs::remove_dir_all(test_store.path("got")).unwrap();
    output
}

fn sources(test_store: &TestStore, version: &str, path: &str) -> Vec<RecipeSource> {
    let version = test_store.store().version(version).unwrap();
    let Entry::File { digest, size, .. } = version.entry(&RelPath::parse(path.as_bytes()).unwrap()).unwrap() else {
        panic!("{path} is a file")
    };
    version.store().objects().sources_of(&digest, size).unwrap()
}

fn objects(test_store: &TestStore) -> Vec<PathBuf> {
    files(&test_store.store_path().join("objects"))
}

fn packs(test_store: &TestStore) -> Vec<PathBuf> {
    files(&test_store.store_path().join("packs"))
}

fn bytes_of(files: &[PathBuf]) -> usize {
    files.iter().map(|file| fs::metadata(file).unwrap().len() as usize).sum()
}

fn gc(test_store: &TestStore) {
    collect(&test_store.store(), &GcOptions::default().min_age(Duration::ZERO)).unwrap();
}

/// The pack that has a blob, and where its header begins.
fn blob(test_store: &TestStore, digest: &Digest) -> (PathBuf, usize) {
    for pack in packs(test_store) {
        let bytes = fs::read(&pack).unwrap();
        let found = bytes.windows(38).position(|at| at[..32] == digest.0 && at[36..38] == [1, 2]);
        if let Some(at) = found {
            return (pack, at);
        }
    }
    panic!("no pack has {digest}")
}

fn rewritten(pack: &PathBuf, bytes: &[u8]) {
    let permissions = fs::metadata(pack).unwrap().permissions();
    fs::remove_file(pack).unwrap();
    fs::write(pack, bytes).unwrap();
    fs::set_permissions(pack, permissions).unwrap();
}

/// Files at all the bounds of the format, by name.
fn all_sizes() -> Vec<(String, Vec<u8>)> {
    let small = 128 * KIB;
    let sizes = [0, 1, small - 1, small, small + 1, 200_000, 2 * small - 1, 2 * small, 2 * small + 1, MIB - 1, MIB];
    let more = [MIB + 1, 5 * MIB, PART - 1, PART, PART + 1, PART + small, 2 * PART, 2 * PART + 77];
    let logs = sizes.into_iter().chain(more).map(|size| (format!("log-{size}"), log(size as u64, size)));
    let mut out: Vec<_> = logs.collect();
    out.push(("zeros".into(), vec![0; 300 * KIB]));
    out.push(("equal halves".into(), [log(1, 4 * 64 * KIB), log(1, 4 * 64 * KIB)].concat()));
    let hole = vec![0; 3 * PART];
    out.push(("holes".into(), [&log(2, 100_000)[..], &hole, &log(3, 5), &hole].concat()));
    out.push(("random".into(), random_bytes(4, 400_000)));
    out.push(("long random".into(), random_bytes(5, 9 * MIB)));
    out
}

fn make_all_sizes(test_store: &TestStore) {
    let files = all_sizes();
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    make_tree(&test_store.path("d"), &files);
}

#[test]
fn files_of_every_size_are_compressed_and_read_back_and_what_does_not_get_smaller_is_an_object() {
    let test_store = store_with(Compression::All);
    make_all_sizes(&test_store);
    test_store.ok(&["put", "a", "d"]);
    let lengths: Vec<_> = objects(&test_store).iter().map(|path| path.metadata().unwrap().len()).collect();
    assert!(lengths.len() == 2 && lengths.contains(&400_000) && lengths.contains(&(9 * MIB as u64)), "{lengths:?}");
    let size: usize = all_sizes().iter().filter(|(name, _)| name.starts_with("log")).map(|(_, log)| log.len()).sum();
    assert!(bytes_of(&packs(&test_store)) < size / 2, "{} of {size}", bytes_of(&packs(&test_store)));
    assert_eq!(sources(&test_store, "a", "zeros").len(), 2, "a long part and a short one");
    assert_eq!(sources(&test_store, "a", "equal halves").len(), 1);
    assert_eq!(sources(&test_store, "a", &format!("log-{}", 2 * PART + 77)).len(), 3);
    let expected = snapshot(&test_store.path("d"));
    test_store.ok(&["get", "a", "got"]);
    assert!(snapshot(&test_store.path("got")) == expected);
    for (name, bytes) in all_sizes() {
        assert!(test_store.run(&["cat", "a", &name], 0).stdout == bytes, "{name}");
    }
    assert_eq!(test_store.run(&["diff", "a", "./d"], 0).stdout, b"");
    test_store.clean("all sizes");
    test_store.ok(&["verify", "--quick"]);
    // It is all known: nothing is stored, also if the files are read again.
    assert_eq!(test_store.ok(&["put", "a", "d", "--rehash", "--new-version"]), "a:v1");
    assert_eq!(test_store.store().version("a").unwrap().record().new_bytes, 0);
    let alone = test_store.json(&["du", "a"]);
    assert_eq!(alone[0]["alone_bytes"], 0, "{alone}");
    // The index is only a cache.
    fs::remove_dir_all(test_store.store_path().join("index")).unwrap();
    fs::remove_dir_all(test_store.path("got")).unwrap();
    test_store.ok(&["get", "a", "got"]);
    assert!(snapshot(&test_store.path("got")) == expected);
    test_store.ok(&["rm", "a:v0", "a:v1", "--force"]);
    gc(&test_store);
    gc(&test_store);
    assert!(objects(&test_store).is_empty() && bytes_of(&packs(&test_store)) < 200 * KIB);
}

#[test]
fn the_setting_is_shown_and_set_and_taken_back_and_the_features_stay() {
    let test_store = TestStore::new();
    let show = || test_store.json(&["info"])["compression"].as_str().unwrap().to_owned();
    let config = || fs::read_to_string(test_store.store_path().join("cairn.json")).unwrap();
    let before = config();
    assert_eq!(show(), "auto");
    assert_eq!(test_store.ok(&["upgrade", "--compression", "auto"]), "");
    assert_eq!(config(), before, "nothing was to be changed");
    let added = test_store.json(&["upgrade", "--compression", "all"]);
    assert_eq!(added["added"], serde_json::json!(["composed-files", "compressed-parts", "compressed-files"]));
    assert_eq!(show(), "all");
    assert!(test_store.ok(&["info"]).contains("all"));
    let bytes = log(1, 300 * KIB);
    put(&test_store, &bytes);
    assert_eq!(objects(&test_store).len(), 0);
    test_store.ok(&["upgrade"]);
    assert_eq!(show(), "all", "an upgrade leaves it as it is");
    test_store.ok(&["upgrade", "--compression", "auto"]);
    assert_eq!(show(), "auto");
    assert!(config().contains("compressed-files"), "what is stored needs it");
    assert_eq!(put(&test_store, &log(2, 300 * KIB)), 300 * KIB as u64);
    assert_eq!(objects(&test_store).len(), 1);
    assert_eq!(put(&test_store, &bytes), 0, "what is composed is found");
    assert!(got(&test_store, "a:v0") == bytes && got(&test_store, "a:v1") == log(2, 300 * KIB));
    test_store.run(&["upgrade", "--compression", "none"], 2);
    test_store.clean("auto again");
    let made = store_with(Compression::All);
    assert_eq!(made.json(&["info"])["compression"], "all");
    let none = TestStore { dir: memory_dir() };
    none.ok(&["init", "store", "--compression", "none"]);
    assert_eq!(none.json(&["info"])["compression"], "none");
    none.ok(&["upgrade", "--compression", "all"]);
    assert_eq!(none.json(&["info"])["compression"], "all");
}

#[test]
fn content_that_is_an_object_is_not_composed_and_the_reverse() {
    let test_store = TestStore::in_memory();
    let (text, long) = (log(1, 700 * KIB), log(2, 12 * MIB));
    make_tree(&test_store.path("d"), &[("text", &text), ("long", &long)]);
    test_store.ok(&["put", "a", "d"]);
    assert_eq!(objects(&test_store).len(), 2);
    test_store.ok(&["upgrade", "--compression", "all"]);
    fs::rename(test_store.path("d/text"), test_store.path("d/other")).unwrap();
    test_store.ok(&["put", "b", "d", "--rehash"]);
    let version = test_store.store().version("b").unwrap();
    assert_eq!(version.record().new_bytes, 700 * KIB as u64, "only what is too short to be looked up first is new");
    assert!(sources(&test_store, "b", "long").is_empty(), "the object is enough");
    test_store.clean("an object and its parts");
    gc(&test_store);
    test_store.clean("collected");
    test_store.ok(&["rm", "a:v0"]);
    gc(&test_store);
    test_store.clean("without the first");
    assert!(test_store.run(&["cat", "b", "other"], 0).stdout == text);
    assert!(test_store.run(&["cat", "b", "long"], 0).stdout == long);
}

#[test]
fn a_later_version_shares_what_is_equal_and_one_that_shares_nothing_is_compressed() {
    let test_store = store_with(Compression::All);
    let mut all = vec![log(1, 18 * MIB)];
    put(&test_store, &all[0]);
    all.push([&all[0][..5 * MIB], &log(2, 30_000), &all[0][5 * MIB..], &log(3, 200_000)].concat());
    assert!(put(&test_store, &all[1]) < 250_000);
    // A third is as before: too little to be composed of.
    all.push([log(4, 12 * MIB), all[0][..6 * MIB].to_vec()].concat());
    put(&test_store, &all[2]);
    all.push(log(5, 18 * MIB)); // shuffled
    put(&test_store, &all[3]);
    all.push([&all[3][..], &random_bytes(6, 3 * MIB)].concat());
    put(&test_store, &all[4]);
    let lengths: Vec<_> = objects(&test_store).iter().map(|path| path.metadata().unwrap().len()).collect();
    assert!(lengths.len() == 1 && lengths[0].abs_diff(3 * MIB as u64) < 8192, "only random bytes: {lengths:?}");
    assert!(bytes_of(&packs(&test_store)) < 30 * MIB, "{}", bytes_of(&packs(&test_store)));
    for (i, bytes) in all.iter().enumerate() {
        assert!(got(&test_store, &format!("a:v{i}")) == *bytes, "v{i}");
    }
    test_store.clean("five versions");
    gc(&test_store);
    test_store.ok(&["rm", "a:v0", "a:v3", "--force"]);
    gc(&test_store);
    test_store.clean("three versions");
    for i in [1, 2, 4] {
        assert!(got(&test_store, &format!("a:v{i}")) == all[i], "v{i}");
    }
    collect(&test_store.store(), &GcOptions::default().min_age(Duration::from_secs(3600))).unwrap();
    test_store.ok(&["rm", "a:v1"]);
    collect(&test_store.store(), &GcOptions::default().min_age(Duration::from_secs(3600))).unwrap();
    test_store.ok(&["restore", "a:v1"]);
    gc(&test_store);
    test_store.clean("restored");
    assert!(got(&test_store, "a:v1") == all[1]);
}

#[test]
fn a_mount_with_and_without_a_cache_shows_the_bytes_at_any_place() {
    let test_store = store_with(Compression::All);
    make_all_sizes(&test_store);
    test_store.ok(&["put", "a", "d"]);
    let expected = snapshot(&test_store.path("d"));
    let at = test_store.path("mnt");
    fs::create_dir(&at).unwrap();
    let (name, bytes) = all_sizes().into_iter().find(|(name, _)| *name == format!("log-{}", PART + 1)).unwrap();
    for more in [&["--io", "no-open"][..], &["--io", "auto"], &["--verify", "all"], &["--cache", "200M"]] {
        test_store.ok(&[&["mount", "mnt", "a"], more].concat());
        let file = File::open(at.join(&name)).unwrap();
        let mut dice = Dice(7);
        let mut right = true;
        for _ in 0..60 {
            let from = dice.pick(bytes.len() - 5000);
            let mut part = vec![0; 1 + dice.pick(5000)];
            file.read_exact_at(&mut part, from as u64).unwrap();
            right &= part == bytes[from..from + part.len()];
        }
        drop(file);
        let whole = snapshot(&at) == expected;
        test_store.ok(&["umount", "mnt"]);
        assert!(right && whole, "{more:?}");
    }
}

#[test]
fn a_sealed_stage_is_compressed_and_its_draft_is_read_back() {
    let test_store = TestStore::new();
    test_store.ok(&["upgrade", "--compression", "all"]);
    let (text, noise) = (log(1, 2 * MIB), random_bytes(2, 300_000));
    let staged = stage(&test_store, "r");
    make_tree(&staged.mnt, &[("text", &text), ("noise", &noise), ("small", b"small")]);
    staged.sealed();
    let shown = fs::read(staged.at("text")).unwrap();
    drop(staged);
    assert!(shown == text, "the sealed stage shows it");
    test_store.ok(&["finish", "a", "--distributed-id", "d"]);
    let lengths: Vec<_> = objects(&test_store).iter().map(|path| path.metadata().unwrap().len()).collect();
    assert_eq!(lengths, [300_000]);
    assert!(test_store.run(&["cat", "a", "text"], 0).stdout == text);
    assert!(test_store.run(&["cat", "a", "noise"], 0).stdout == noise);
    test_store.clean("sealed");
}

#[test]
fn a_copy_is_stored_as_the_other_store_stores_files() {
    let (all, auto) = (store_with(Compression::All), store_with(Compression::Auto));
    let are_large = all_sizes().iter().filter(|(_, bytes)| bytes.len() >= 128 * KIB).count();
    for (from, to, are_objects) in [(&all, &auto, are_large), (&auto, &all, 2)] {
        make_all_sizes(from);
        from.ok(&["put", "a", "d"]);
        from.ok(&["copy", "a", "copied", "--to", to.store_path().to_str().unwrap()]);
        to.ok(&["get", "copied", "got"]);
        assert!(snapshot(&to.path("got")) == snapshot(&from.path("d")));
        fs::remove_dir_all(to.path("got")).unwrap();
        assert_eq!(objects(to).len(), are_objects);
        to.clean("copied");
        for store in [from, to] {
            fs::remove_dir_all(store.store_path()).unwrap();
        }
        Store::init(all.store_path(), &InitOptions::default().compression(Compression::All)).unwrap();
        Store::init(auto.store_path(), &InitOptions::default()).unwrap();
    }
}

#[test]
fn a_part_that_is_changed_anywhere_gives_no_wrong_byte_is_found_and_healed() {
    let test_store = store_with(Compression::All);
    let bytes = log(1, 3 * MIB);
    put(&test_store, &bytes);
    copy_tree(&test_store.store_path(), &test_store.path("backup"));
    let all = sources(&test_store, "a", "big");
    assert!(all.len() == 2 && all.iter().all(RecipeSource::is_framed));
    let (pack, header) = blob(&test_store, &all[1].digest);
    let before = fs::read(&pack).unwrap();
    let length = u32::from_le_bytes(before[header + 32..header + 36].try_into().unwrap()) as usize;
    let mut dice = Dice(5);
    for round in 0..40 {
        let at = header + if round < 20 { dice.pick(100) } else { 40 + dice.pick(length) };
        let mut changed = before.clone();
        changed[at] ^= 1 << dice.pick(8);
        rewritten(&pack, &changed);
        let output = test_store.cairn(&["cat", "a", "big"]).output().unwrap();
        assert!(bytes.starts_with(&output.stdout), "round {round}: byte {at} gives wrong bytes");
        let is_wrong = output.status.code() != Some(0);
        assert!(is_wrong || output.stdout == bytes);
        let verified = test_store.run(&["verify"], i32::from(is_wrong));
        assert!(!is_wrong || text(&verified.stdout).contains("a:v0 big"), "round {round}: {}", text(&verified.stdout));
        match round % 4 {
            0 if is_wrong => drop(put(&test_store, &bytes)), // a new copy of the part, and of the recipe
            1 if is_wrong => drop(test_store.ok(&["verify", "--repair-from", "backup"])),
            _ => rewritten(&pack, &before),
        }
        assert!(got(&test_store, "a") == bytes, "round {round}: byte {at}");
        fs::remove_dir_all(test_store.store_path()).unwrap();
        copy_tree(&test_store.path("backup"), &test_store.store_path());
    }
}

#[test]
fn content_that_is_whole_by_itself_and_a_part_of_another_is_read_and_repaired_in_both() {
    let test_store = store_with(Compression::All);
    let (first, second) = (log(1, 4 * MIB), log(2, 4 * MIB));
    let both = [&first[..], &second].concat();
    make_tree(&test_store.path("d"), &[("first", &first), ("both", &both)]);
    test_store.ok(&["put", "a", "d"]);
    let half = Digest::of(&first);
    assert!(sources(&test_store, "a", "both").iter().any(|source| source.digest == half));
    let right = |label: &str| {
        let at = test_store.path("mnt");
        fs::create_dir_all(&at).unwrap();
        test_store.ok(&["mount", "mnt", "a"]);
        let (one, two) = (fs::read(at.join("first")), fs::read(at.join("both")));
        test_store.ok(&["umount", "mnt"]);
        assert!(one.unwrap() == first && two.unwrap() == both, "{label}");
    };
    right("stored");
    copy_tree(&test_store.store_path(), &test_store.path("backup"));
    let (pack, header) = blob(&test_store, &half);
    let mut bytes = fs::read(&pack).unwrap();
    bytes[header + 5000] ^= 1;
    rewritten(&pack, &bytes);
    test_store.run(&["verify"], 1);
    test_store.ok(&["verify", "--repair-from", "backup"]);
    test_store.clean("repaired");
    right("repaired");
    gc(&test_store);
    test_store.clean("collected");
    right("collected");
}

#[test]
fn an_object_that_recipes_name_is_replaced_if_it_is_damaged_and_its_file_is_put_again() {
    let test_store = TestStore::in_memory();
    let v0 = log(1, 2 * MIB);
    put(&test_store, &v0);
    let v1 = [&v0[..], &log(2, 150_000)].concat();
    put(&test_store, &v1);
    test_store.ok(&["upgrade", "--compression", "all"]);
    let object = objects(&test_store).remove(0);
    let mut bytes = v0.clone();
    bytes[MIB] ^= 1;
    rewritten(&object, &bytes);
    test_store.run(&["verify"], 1);
    make_tree(&test_store.path("d"), &[("big", &v0)]);
    test_store.ok(&["put", "b", "d", "--rehash"]);
    test_store.clean("healed");
    assert!(got(&test_store, "a:v0") == v0 && got(&test_store, "a:v1") == v1);
}

#[test]
fn a_put_that_is_stopped_at_any_step_keeps_the_parts_that_its_recipe_needs() {
    let start = store_with(Compression::All);
    let old = log(1, MIB);
    make_tree(&start.path("d"), &[("big", &old)]);
    start.ok(&["put", "b", "d"]);
    let new = [&log(2, 400_000)[..], &old[..MIB / 2]].concat();
    make_tree(&start.path("d"), &[("big", &new), ("same", &old)]);
    let copy = || start.copy_to(memory_dir(), &["store", "d"]);
    let args = ["put", "a", "d"];
    let steps = steps(&copy(), &args);
    assert!(steps > 8, "{steps}");
    for step in 1..=steps {
        let test_store = copy();
        let child = test_store.stopped_before(step, &args);
        test_store.ok(&["rm", "--force", "b:v0"]);
        gc(&test_store);
        resume(&child);
        let output = child.wait_with_output().unwrap();
        let label = format!("stopped before step {step}: {}", text(&output.stderr));
        assert!(output.status.success(), "{label}");
        gc(&test_store);
        test_store.clean(&label);
        assert!(got(&test_store, "a") == new, "{label}");
        assert!(test_store.run(&["cat", "a", "same"], 0).stdout == old, "{label}");
    }
}
