//! Long parts of composed files that are packed and compressed: what a log or a table of text grows by.

use crate::support::{
    Dice, TestStore, copy_tree, files, make_tree, memory_dir, random_bytes, resume, snapshot, steps, text,
};
use cairn::gc::{GcOptions, collect};
use cairn::internals::objects::RecipeSource;
use cairn::manifest::Entry;
use cairn::types::RelPath;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

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

fn whole(test_store: &TestStore, all: &[Vec<u8>], versions: std::ops::Range<usize>) {
    for i in versions {
        assert!(got(test_store, &format!("a:v{i}")) == all[i], "v{i}");
    }
}

fn sources(test_store: &TestStore, version: &str) -> Vec<RecipeSource> {
    let version = test_store.store().version(version).unwrap();
    let Entry::File { digest, size, .. } = version.entry(&RelPath::parse(b"big").unwrap()).unwrap() else {
        panic!("big is a file")
    };
    version.store().objects().sources_of(&digest, size).unwrap()
}

fn framed(test_store: &TestStore, version: &str) -> usize {
    sources(test_store, version).iter().filter(|source| source.is_framed()).count()
}

fn gc(test_store: &TestStore) {
    collect(&test_store.store(), &GcOptions::default().min_age(Duration::ZERO)).unwrap();
}

fn packs(test_store: &TestStore) -> Vec<PathBuf> {
    files(&test_store.store_path().join("packs"))
}

fn bytes_of(files: &[PathBuf]) -> u64 {
    files.iter().map(|file| fs::metadata(file).unwrap().len()).sum()
}

fn features(test_store: &TestStore) -> String {
    fs::read_to_string(test_store.store_path().join("cairn.json")).unwrap()
}

/// Changes bytes of a file without a trace in its time, size or mode.
fn rewritten(path: &Path, bytes: &[u8]) {
    let meta = fs::metadata(path).unwrap();
    crate::crafted_stores::write(path, bytes);
    fs::File::open(path).unwrap().set_modified(meta.modified().unwrap()).unwrap();
    fs::set_permissions(path, meta.permissions()).unwrap();
}

/// The pack that has the content with this digest in frames, and where its header is.
fn framed_blob(test_store: &TestStore, source: &RecipeSource) -> (PathBuf, usize) {
    let found = packs(test_store).into_iter().find_map(|path| {
        let bytes = fs::read(&path).unwrap();
        let is_header = |at: &usize| bytes[*at..].starts_with(&source.digest.0) && bytes[*at + 36..*at + 38] == [1, 2];
        let at = (0..bytes.len().saturating_sub(40)).find(is_header)?;
        Some((path, at))
    });
    found.expect("a pack has it")
}

/// `a:v0` is an object, v1 has 400 KiB of a log appended, v2 bytes inserted in these, v3 more of the log and random
/// bytes.
fn four_versions() -> (TestStore, Vec<Vec<u8>>) {
    let test_store = TestStore::new();
    let v0 = log(1, MIB + 100);
    let v1 = [&v0[..], &log(2, 400 * KIB)].concat();
    let mut v2 = v1.clone();
    v2.splice(MIB + 70 * KIB..MIB + 70 * KIB, b"inserted".repeat(100));
    let v3 = [&v2[..], &log(3, 300 * KIB), &random_bytes(3, 20 * KIB)].concat();
    let all = vec![v0, v1, v2, v3];
    for bytes in &all {
        put(&test_store, bytes);
    }
    (test_store, all)
}

#[test]
fn what_a_log_grows_by_is_packed_and_compressed_and_every_version_is_whole() {
    let test_store = TestStore::new();
    let v0 = log(1, MIB + 100);
    put(&test_store, &v0);
    let before = bytes_of(&packs(&test_store));
    let v1 = [&v0[..], &log(2, 400 * KIB)].concat();
    let new = put(&test_store, &v1);
    assert!((400 * KIB as u64..404 * KIB as u64).contains(&new), "{new}: what is new is counted as it is in the file");
    assert_eq!(files(&test_store.store_path().join("objects")).len(), 1);
    let stored = bytes_of(&packs(&test_store)) - before;
    assert!(stored < 200 * KIB as u64, "{stored}");
    assert_eq!(framed(&test_store, "a:v1"), 1);
    assert_eq!(put(&test_store, &v0), 0);
    assert_eq!(put(&test_store, &v1), 0, "content that is composed is known");
    test_store.clean("a log");

    let (test_store, all) = four_versions();
    assert!(framed(&test_store, "a:v2") == 1 && sources(&test_store, "a:v2").len() == 3, "it has parts of the parts");
    assert_eq!(framed(&test_store, "a:v3"), 2);
    whole(&test_store, &all, 0..4);
    test_store.clean("four versions");
    test_store.ok(&["verify", "--quick"]);
    let file = test_store.store().version("a:v3").unwrap().open("big").unwrap();
    let mut dice = Dice(5);
    for _ in 0..300 {
        let at = dice.pick(all[3].len());
        let mut part = vec![0; (1 + dice.pick(200 * KIB)).min(all[3].len() - at)];
        let mut n = 0;
        while n < part.len() {
            n += file.read_at(&mut part[n..], (at + n) as u64).unwrap();
        }
        assert!(part == all[3][at..at + n], "{n} at {at}");
    }
}

#[test]
fn a_store_gets_the_feature_with_the_first_such_part_and_without_compression_never() {
    let test_store = TestStore::new();
    let v0 = random_bytes(1, MIB);
    put(&test_store, &v0);
    let v1 = [&v0[..], &random_bytes(2, 200 * KIB)].concat();
    put(&test_store, &v1);
    put(&test_store, &[&v1[..], &log(1, 100 * KIB)].concat());
    assert!(features(&test_store).contains("composed-files") && !features(&test_store).contains("compressed-parts"));
    assert_eq!(files(&test_store.store_path().join("objects")).len(), 2, "what does not shrink is an object");
    put(&test_store, &[&v1[..], &log(9, 200 * KIB)].concat());
    assert!(features(&test_store).contains("\"compressed-parts\""));
    assert_eq!(files(&test_store.store_path().join("objects")).len(), 2);
    test_store.clean("with the feature");

    let plain = TestStore { dir: memory_dir() };
    plain.ok(&["init", "store", "--compression", "none"]);
    put(&plain, &v0);
    put(&plain, &[&v0[..], &log(1, 200 * KIB)].concat());
    assert!(!features(&plain).contains("compressed-parts"));
    assert_eq!(files(&plain.store_path().join("objects")).len(), 2);
}

#[test]
fn a_log_that_grows_every_day_is_stored_compressed_once() {
    let test_store = TestStore { dir: memory_dir() };
    cairn::Store::init(test_store.store_path(), &Default::default()).unwrap();
    let mut all = vec![log(1, MIB)];
    put(&test_store, &all[0]);
    let days = 220;
    for day in 0..days {
        let next = [&all[day][..], &log(100 + day as u64, 130 * KIB)].concat();
        // Each put is of a whole file, so most days are not kept in memory by the test.
        put(&test_store, &next);
        all[day] = if day % 20 == 0 { std::mem::take(&mut all[day]) } else { Vec::new() };
        all.push(next);
    }
    let appended = (days * 130 * KIB) as u64;
    let stored = bytes_of(&packs(&test_store)) + bytes_of(&files(&test_store.store_path().join("objects")));
    assert!(stored < MIB as u64 + appended / 2, "{stored} bytes for {appended} that were appended");
    let sources = sources(&test_store, "a").len();
    assert!((2..=254).contains(&sources), "{sources} sources");
    for i in [0, 20, 180, 200, days] {
        assert!(got(&test_store, &format!("a:v{i}")) == all[i], "v{i}");
    }
    gc(&test_store);
    assert!(packs(&test_store).len() < 40);
    assert!(got(&test_store, "a") == all[days]);
    test_store.clean("at the end");
}

#[test]
fn a_rest_of_several_pieces_is_read_back_where_extents_cross_them() {
    let test_store = TestStore { dir: memory_dir() };
    cairn::Store::init(test_store.store_path(), &Default::default()).unwrap();
    let v0 = random_bytes(1, 20 * MIB);
    put(&test_store, &v0);
    let new = log(2, 18 * MIB);
    // The first pieces of the rest are short, so a long one begins and ends in the middle of pieces.
    let v1 = [&new[..5000], &v0[..], &new[5000..]].concat();
    put(&test_store, &v1);
    assert_eq!(framed(&test_store, "a:v1"), 2);
    assert!(got(&test_store, "a:v1") == v1);
    let v2 = [&v1[..], &log(3, 200 * KIB)].concat();
    put(&test_store, &v2);
    assert!(got(&test_store, "a:v2") == v2);
    test_store.clean("at the end");
}

#[test]
fn collections_keep_copy_and_free_parts_and_a_restore_and_a_copy_are_whole() {
    let (test_store, all) = four_versions();
    for i in 0..12 {
        make_tree(&test_store.path("e"), &[("small", &random_bytes(50 + i, 3000))]);
        test_store.ok(&["put", "b", "e"]);
    }
    gc(&test_store); // small packs are rewritten
    test_store.clean("collected");
    fs::remove_dir_all(test_store.store_path().join("index")).unwrap();
    whole(&test_store, &all, 0..4);
    test_store.ok(&["rm", "a:v0", "a:v1"]);
    gc(&test_store);
    test_store.clean("without v0 and v1");
    whole(&test_store, &all, 2..4);
    let kept = test_store.json(&["gc", "--dry-run"])["kept_for_parts"]["files"].as_u64();
    assert_eq!(kept, Some(1), "the object; packed parts are none");
    put(&test_store, b"other");
    test_store.ok(&["rm", "a:v2", "a:v3"]);
    collect(&test_store.store(), &GcOptions::default().min_age(Duration::from_secs(3600))).unwrap();
    test_store.ok(&["restore", "a:v3"]);
    whole(&test_store, &all, 3..4);
    gc(&test_store);
    test_store.clean("restored");
    whole(&test_store, &all, 3..4);
    test_store.ok(&["init", "other"]);
    test_store.ok(&["copy", "a:v3", "c", "--to", "other"]);
    test_store.ok(&["--store", "other", "get", "c", "whole"]);
    assert!(fs::read(test_store.path("whole/big")).unwrap() == all[3]);
    test_store.ok(&["--store", "other", "verify"]);
    test_store.ok(&["rm", "a:v3", "--force"]);
    gc(&test_store);
    gc(&test_store);
    assert_eq!(files(&test_store.store_path().join("objects")).len(), 0);
    assert!(bytes_of(&packs(&test_store)) < 100 * KIB as u64);
    test_store.clean("without all of them");
}

#[test]
fn a_put_that_is_stopped_at_any_step_keeps_the_parts_that_its_recipe_needs() {
    let start = TestStore::new();
    let v0 = log(1, MIB + 100_000);
    put(&start, &v0);
    let v1 = [&v0[..], &log(2, 200_000)].concat();
    put(&start, &v1);
    put(&start, b"other");
    let v3 = [&v1[..], &log(3, 150_000)].concat();
    make_tree(&start.path("d"), &[("big", &v3)]);
    start.ok(&["rm", "a:v2"]); // v1 is the newest, and is compared with
    let copy = || start.copy_to(memory_dir(), &["store", "d"]);
    let args = ["put", "a", "d"];
    let steps = steps(&copy(), &args);
    assert!(steps > 15, "{steps}");
    for step in 1..=steps {
        let test_store = copy();
        let child = test_store.stopped_before(step, &args);
        test_store.ok(&["rm", "--force", "a:v0", "a:v1"]);
        gc(&test_store);
        resume(&child);
        let output = child.wait_with_output().unwrap();
        let label = format!("stopped before step {step}: {}", text(&output.stderr));
        assert!(output.status.success(), "{label}");
        gc(&test_store);
        test_store.clean(&label);
        assert!(got(&test_store, "a:v3") == v3, "{label}");
    }
}

#[test]
fn a_part_that_is_changed_anywhere_gives_no_wrong_byte_is_found_and_the_same_put_heals_it() {
    let (test_store, all) = four_versions();
    copy_tree(&test_store.store_path(), &test_store.path("backup"));
    let part = sources(&test_store, "a:v1").into_iter().find(RecipeSource::is_framed).unwrap();
    let (pack, header) = framed_blob(&test_store, &part);
    let before = fs::read(&pack).unwrap();
    let length = u32::from_le_bytes(before[header + 32..header + 36].try_into().unwrap()) as usize;
    let mut dice = Dice(3);
    for round in 0..60 {
        // The header, the table, and anywhere in the frames.
        let at = header + if round < 30 { dice.pick(110) } else { 40 + dice.pick(length) };
        let mut bytes = before.clone();
        bytes[at] ^= 1 << dice.pick(8);
        rewritten(&pack, &bytes);
        let mut wrong = 0;
        for (i, expected) in all.iter().enumerate() {
            let read = test_store.store().version(&format!("a:v{i}")).and_then(|version| version.open("big"));
            let mut out = vec![0; expected.len()];
            let Ok(file) = read else {
                wrong += 1;
                continue;
            };
            match read_whole(&file, &mut out) {
                true => assert!(out == *expected, "round {round}, byte {at}: v{i} has wrong bytes"),
                false => wrong += 1,
            }
        }
        assert!(wrong == 3 || wrong == 0, "round {round}: v1 to v3 have parts of it, {wrong} are wrong");
        let verified = test_store.run(&["verify"], i32::from(wrong > 0));
        if wrong > 0 {
            let printed = text(&verified.stdout);
            assert!(printed.contains("a:v1 big") && printed.contains("a:v3 big"), "round {round}: {printed}");
        }
        rewritten(&pack, &before);
        let _ = fs::remove_dir_all(test_store.store_path().join("damaged"));
    }
    test_store.clean("all is as it was");
    // A reader lists the damage, and after the same put a copy is found, by that reader too.
    let reader = test_store.store();
    let mut bytes = before.clone();
    bytes[header + 40 + length / 2] ^= 1;
    rewritten(&pack, &bytes);
    let file = reader.version("a:v1").unwrap().open("big").unwrap();
    let mut out = vec![0; all[1].len()];
    assert!(!read_whole(&file, &mut out));
    let listed = files(&test_store.store_path().join("damaged"));
    assert!(listed.len() == 1 && listed[0].to_str().unwrap().contains(&part.digest.hex()), "{listed:?}");
    put(&test_store, &all[1]);
    assert!(got(&test_store, "a") == all[1]);
    test_store.ok(&["verify", "--repair-from", "backup"]);
    test_store.clean("repaired");
    whole(&test_store, &all, 0..4);
    let file = reader.version("a:v1").unwrap().open("big").unwrap();
    assert!(read_whole(&file, &mut out) && out == all[1]);
}

fn read_whole(file: &cairn::view::FileReader, out: &mut [u8]) -> bool {
    let mut n = 0;
    while n < out.len() {
        match file.read_at(&mut out[n..], n as u64) {
            Ok(more) if more > 0 => n += more,
            _ => return false,
        }
    }
    true
}

#[test]
fn parts_are_read_through_a_mount_and_through_its_cache() {
    let (test_store, all) = four_versions();
    let cache = test_store.path("cache-of-mount");
    for more in [&[][..], &["--cache", cache.to_str().unwrap()]] {
        let at = test_store.path("mnt");
        fs::create_dir_all(&at).unwrap();
        test_store.ok(&[&["mount", at.to_str().unwrap(), "a:v3"][..], more].concat());
        let file = fs::File::open(at.join("big")).unwrap();
        let mut dice = Dice(8);
        for _ in 0..100 {
            let from = dice.pick(all[3].len() - 5000);
            let mut part = vec![0; 1 + dice.pick(5000)];
            file.read_exact_at(&mut part, from as u64).unwrap();
            assert!(part == all[3][from..from + part.len()], "at {from}");
        }
        assert!(fs::read(at.join("big")).unwrap() == all[3]);
        assert!(snapshot(&at).len() == 1);
        drop(file);
        test_store.ok(&["umount", "mnt"]);
    }
}

#[test]
fn a_file_that_is_what_an_earlier_one_grew_by_is_not_composed_of_itself() {
    let test_store = TestStore::new();
    let (v0, new) = (log(1, 2 * MIB), log(2, MIB));
    put(&test_store, &v0);
    put(&test_store, &[&v0[..], &new].concat());
    assert!(sources(&test_store, "a:v1").iter().any(|source| source.size() == MIB as u64 && source.is_framed()));
    put(&test_store, &new); // as when a log is rotated
    test_store.clean("rotated");
    gc(&test_store);
    assert!(got(&test_store, "a:v2") == new);
    test_store.ok(&["rm", "a:v0", "a:v1"]);
    gc(&test_store);
    test_store.clean("without the log before");
    assert!(got(&test_store, "a:v2") == new);
}

/// Four versions, of which the last three have a damaged part; a copy of the store from before, `backup`; and the pack
/// with that part.
fn a_damaged_part() -> (TestStore, Vec<Vec<u8>>, PathBuf) {
    let (test_store, all) = four_versions();
    copy_tree(&test_store.store_path(), &test_store.path("backup"));
    let part = sources(&test_store, "a:v1").into_iter().find(RecipeSource::is_framed).unwrap();
    let (pack, header) = framed_blob(&test_store, &part);
    let mut bytes = fs::read(&pack).unwrap();
    bytes[header + 300] ^= 1;
    rewritten(&pack, &bytes);
    (test_store, all, pack)
}

#[test]
fn a_part_that_a_repair_stores_as_an_object_serves_all_versions_that_have_it() {
    let (test_store, all, _) = a_damaged_part();
    test_store.ok(&["verify", "--repair-from", "backup"]);
    let objects = || bytes_of(&files(&test_store.store_path().join("objects")));
    let repaired = objects();
    assert!(repaired < all[0].len() as u64 + 410 * KIB as u64, "{repaired}: no version is stored whole");
    test_store.clean("repaired");
    whole(&test_store, &all, 0..4);
    assert_eq!(put(&test_store, &all[1]), 0, "content whose parts are there is known");
    let v5 = [&all[1][..], b"more"].concat();
    assert!(put(&test_store, &v5) < 8 * KIB as u64, "and is compared with");
    assert_eq!(objects(), repaired);
    test_store.ok(&["rm", "a:v3"]);
    collect(&test_store.store(), &GcOptions::default().min_age(Duration::from_secs(3600))).unwrap();
    test_store.ok(&["restore", "a:v3"]);
    gc(&test_store);
    assert_eq!(objects(), repaired);
    test_store.clean("restored");
    whole(&test_store, &all, 0..4);
}

#[test]
fn a_collection_frees_the_pack_of_a_damaged_part_that_a_repair_stored_as_an_object() {
    let (test_store, all, pack) = a_damaged_part();
    // While a writer is at work, a repair removes no pack.
    make_tree(&test_store.path("e"), &[("small", b"other")]);
    let writer = test_store.stopped_before(4, &["put", "b", "e"]);
    test_store.cairn(&["verify", "--repair-from", "backup"]).output().unwrap();
    assert!(pack.exists() && files(&test_store.store_path().join("objects")).len() == 2);
    resume(&writer);
    assert!(writer.wait_with_output().unwrap().status.success());
    gc(&test_store);
    assert!(!pack.exists(), "what is needed of it has other copies");
    test_store.clean("collected");
    whole(&test_store, &all, 0..4);
}

#[test]
fn a_cache_with_wrong_bytes_of_a_part_is_not_in_the_way_when_the_store_is_right_again() {
    let (test_store, all) = four_versions();
    let part = sources(&test_store, "a:v1").into_iter().find(RecipeSource::is_framed).unwrap();
    let (pack, header) = framed_blob(&test_store, &part);
    let before = fs::read(&pack).unwrap();
    let length = u32::from_le_bytes(before[header + 32..header + 36].try_into().unwrap()) as usize;
    let mut bytes = before.clone();
    bytes[header + 40 + length / 2] ^= 1;
    let at = test_store.path("mnt");
    fs::create_dir_all(&at).unwrap();
    let cache = test_store.path("cache-of-mount");
    let mount = || test_store.ok(&["mount", at.to_str().unwrap(), "a:v3", "--cache", cache.to_str().unwrap()]);
    rewritten(&pack, &bytes);
    mount();
    assert!(fs::read(at.join("big")).is_err());
    test_store.ok(&["umount", "mnt"]);
    rewritten(&pack, &before);
    mount();
    assert!(fs::read(at.join("big")).unwrap() == all[3]);
    test_store.ok(&["umount", "mnt"]);
    test_store.ok(&["verify"]); // takes it off the list of known damage
    test_store.clean("right again");
}
