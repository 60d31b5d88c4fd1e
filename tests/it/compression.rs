//! Small files that are compressed: every way of reading gives their bytes, what does not get smaller is stored as it
//! is, damage is found and repaired, and a store without the feature stays one that earlier releases can use. Also
//! changes of `cairn.json` that two processes make at once.

use crate::crafted_stores::{fields, write};
use crate::support::{TestStore, files, make_tree, random_bytes, resume, snapshot, steps, text};
use cairn::gc::{GcOptions, collect};
use cairn::verify::{Scope, VerifyOptions, verify};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Text that differs in each line, and for each seed.
fn prose(seed: u64, len: usize) -> Vec<u8> {
    let line = |n: u64| format!("line {n} of {seed}: the value is {} today\n", (n * n + seed) % 9973);
    (0..).flat_map(|n| line(n).into_bytes()).take(len).collect()
}

/// A store whose content is not compressed.
fn uncompressed() -> TestStore {
    let test_store = TestStore { dir: tempfile::tempdir().unwrap() };
    test_store.ok(&["init", "store", "--compression", "none"]);
    test_store
}

/// `d` has three texts and two files that do not get smaller.
fn make_mixed(test_store: &TestStore) {
    make_tree(
        &test_store.path("d"),
        &[
            ("a.txt", &prose(1, 300)),
            ("b.txt", &prose(2, 5000)),
            ("c/c.txt", &prose(3, 131_000)),
            ("short", b"short"),
            ("random", &random_bytes(1, 20_000)),
        ],
    );
}

fn packs(test_store: &TestStore) -> Vec<PathBuf> {
    files(&test_store.store_path().join("packs"))
}

fn stored_bytes(test_store: &TestStore) -> u64 {
    packs(test_store).iter().map(|path| path.metadata().unwrap().len()).sum()
}

fn features(test_store: &TestStore) -> String {
    fields(&test_store.store_path().join("cairn.json")).unwrap()["features"]["incompatible"].to_string()
}

/// Whether a pack has these bytes as they are.
fn is_in_a_pack(test_store: &TestStore, bytes: &[u8]) -> bool {
    packs(test_store).iter().any(|path| fs::read(path).unwrap().windows(bytes.len()).any(|part| part == bytes))
}

/// The codecs of the blobs of a pack, by the entries of its footer, where the headers of the blobs agree.
fn codecs(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let end = bytes.len() - 24;
    let number = |at: usize, n: usize| bytes[at..at + n].iter().rev().fold(0usize, |sum, b| sum << 8 | usize::from(*b));
    let entries = bytes[number(end, 8)..end].chunks_exact(44);
    let codec = |entry: &[u8]| {
        let at = u32::from_le_bytes(entry[32..36].try_into().unwrap()) as usize;
        assert_eq!(
            (&bytes[at..at + 32], bytes[at + 37], &bytes[at + 38..at + 40]),
            (&entry[..32], entry[41], &[0, 0][..])
        );
        entry[41]
    };
    entries.map(codec).collect()
}

fn got(test_store: &TestStore, version: &str) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
    let out = test_store.path("got");
    test_store.ok(&["get", version, "got"]);
    let found = snapshot(&out);
    fs::remove_dir_all(out).unwrap();
    found
}

#[test]
fn every_way_of_reading_gives_the_bytes_of_compressed_files() {
    let test_store = TestStore::new();
    make_mixed(&test_store);
    test_store.ok(&["put", "a", "d"]);
    assert!(features(&test_store).contains("compressed-content"));
    assert!(stored_bytes(&test_store) < 80_000, "{}", stored_bytes(&test_store));
    assert_eq!(packs(&test_store).iter().flat_map(|path| codecs(path)).filter(|codec| *codec == 1).count(), 3);
    assert!(is_in_a_pack(&test_store, &random_bytes(1, 20_000)), "what does not get smaller is stored as it is");
    assert!(got(&test_store, "a:v0") == snapshot(&test_store.path("d")));
    assert!(test_store.run(&["cat", "a", "c/c.txt"], 0).stdout == prose(3, 131_000));
    let version = test_store.store().version("a").unwrap();
    assert_eq!(version.record().new_bytes, 300 + 5000 + 131_000 + 5 + 20_000, "the sizes of files count");
    let file = version.open("b.txt").unwrap();
    let mut part = [0; 50];
    assert_eq!(file.read_at(&mut part, 4970).unwrap(), 30);
    assert!(part[..30] == prose(2, 5000)[4970..]);
    test_store.ok(&["warm", "a"]);
    assert_eq!(test_store.run(&["diff", "a", "./d"], 0).stdout, b"");
    let archive = test_store.run(&["archive", "a"], 0).stdout;
    assert!(archive.windows(5000).any(|part| part == prose(2, 5000)));
    test_store.ok(&["verify", "--quick"]);
    test_store.clean("compressed");
    // The same files are not stored again.
    fs::write(test_store.path("d/new"), prose(2, 5000)).unwrap();
    test_store.ok(&["put", "a", "d"]);
    assert_eq!(test_store.store().version("a").unwrap().record().new_bytes, 0);
}

/// Unmounts when it goes.
struct Mount<'a>(&'a TestStore);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = self.0.cairn(&["umount", "mnt"]).output();
    }
}

#[test]
fn mounts_with_and_without_a_cache_show_the_bytes_of_compressed_files() {
    let test_store = TestStore::new();
    make_mixed(&test_store);
    test_store.ok(&["put", "a", "d"]);
    fs::create_dir(test_store.path("mnt")).unwrap();
    for more in [&["--io", "no-open"][..], &["--io", "auto"], &["--cache", "10M"], &["--cache", "10M"]] {
        test_store.ok(&[&["mount", "mnt", "a"], more].concat());
        let mount = Mount(&test_store);
        assert!(snapshot(&test_store.path("mnt")) == snapshot(&test_store.path("d")), "{more:?}");
        assert!(snapshot(&test_store.path("mnt")) == snapshot(&test_store.path("d")), "{more:?}, read again");
        drop(mount);
    }
}

#[test]
fn a_store_without_the_feature_is_written_as_before_until_it_is_upgraded() {
    let test_store = uncompressed();
    make_mixed(&test_store);
    test_store.ok(&["put", "a", "d"]);
    assert_eq!(features(&test_store), "[]");
    assert!(is_in_a_pack(&test_store, &prose(2, 5000)) && is_in_a_pack(&test_store, &prose(3, 131_000)));
    assert!(packs(&test_store).iter().flat_map(|path| codecs(path)).all(|codec| codec == 0));
    let before: Vec<_> = packs(&test_store).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();

    assert_eq!(test_store.ok(&["upgrade"]), "compressed-content");
    assert_eq!(features(&test_store), "[\"compressed-content\"]");
    assert_eq!(test_store.json(&["upgrade"])["added"], serde_json::json!([]), "it lacks nothing now");
    fs::write(test_store.path("d/new"), prose(4, 9000)).unwrap();
    test_store.ok(&["put", "a", "d"]);
    assert!(!is_in_a_pack(&test_store, &prose(4, 9000)), "what is new is compressed");
    assert!(before.iter().all(|(bytes, path)| fs::read(path).unwrap() == *bytes), "what was there is as it was");
    assert!(got(&test_store, "a:v1") == snapshot(&test_store.path("d")));
    test_store.clean("upgraded");
}

#[test]
fn a_copy_to_another_store_is_compressed_if_that_store_has_the_feature() {
    let (with, without) = (TestStore::new(), uncompressed());
    for (from, to) in [(&with, &without), (&without, &with)] {
        make_mixed(from);
        from.ok(&["put", "a", "d"]);
        from.ok(&["copy", "a", "b", "--to", to.store_path().to_str().unwrap()]);
        assert!(got(to, "b") == snapshot(&from.path("d")));
        to.clean("copied");
    }
    assert!(is_in_a_pack(&without, &prose(2, 5000)) && !is_in_a_pack(&with, &prose(2, 5000)));
    assert_eq!(features(&without), "[]");
}

#[test]
fn a_patch_and_a_large_file_with_new_text_are_compressed_and_read_back() {
    let test_store = TestStore::new();
    let big = random_bytes(5, 1_200_000);
    make_tree(&test_store.path("d"), &[("big", &big), ("b.txt", &prose(2, 5000))]);
    test_store.ok(&["put", "a", "d"]);
    let grown = [&big[..], &prose(6, 90_000)].concat();
    make_tree(&test_store.path("d"), &[("big", &grown), ("b.txt", &prose(7, 5000))]);
    test_store.ok(&["patch", "a", "d"]);
    assert!(got(&test_store, "a:v1") == snapshot(&test_store.path("d")));
    assert!(stored_bytes(&test_store) < 60_000, "{}", stored_bytes(&test_store));
    test_store.clean("composed of an object and compressed text");
}

#[test]
fn a_collection_that_rewrites_packs_keeps_what_is_compressed() {
    let test_store = TestStore::new();
    for n in 0..20 {
        make_tree(&test_store.path("old"), &[(&format!("f{n}"), &prose(n, 20_000))]);
    }
    test_store.ok(&["put", "a", "old"]);
    let (all, before) = (stored_bytes(&test_store), packs(&test_store));
    make_tree(&test_store.path("new"), &[("f4", &prose(4, 20_000)), ("random", &random_bytes(3, 300))]);
    test_store.ok(&["put", "a", "new"]);
    test_store.ok(&["rm", "a:v0"]);
    collect(&test_store.store(), &GcOptions::default().min_age(Duration::ZERO)).unwrap();
    assert!(packs(&test_store).iter().all(|path| !before.contains(path)), "what it needed of them was rewritten");
    assert!(stored_bytes(&test_store) < all / 5, "{} of {all}", stored_bytes(&test_store));
    assert!(packs(&test_store).iter().any(|path| codecs(path).contains(&1)));
    assert!(got(&test_store, "a:v1") == snapshot(&test_store.path("new")));
    test_store.clean("rewritten");
}

/// Changes a byte of a pack, and leaves its mode as it was.
fn rot(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    write(path, &bytes);
}

#[test]
fn damage_to_a_compressed_file_is_found_and_repaired() {
    let from = TestStore::new();
    make_tree(&from.path("d"), &[("b.txt", &prose(2, 5000))]);
    from.ok(&["put", "a", "d"]);
    let other = from.copy(&["store"]);
    let [pack] = &packs(&from)[..] else { panic!("one pack") };
    // The blob is the first one: its codec, its length, what the frame begins with, its length there, its first block,
    // and two bytes of that.
    for at in [8 + 37, 8 + 32, 48, 53, 58, 300, 501] {
        let test_store = from.copy(&["store", "d"]);
        let pack = test_store.store_path().join("packs").join(pack.file_name().unwrap());
        rot(&pack, at);
        test_store.run(&["cat", "a", "b.txt"], 4);
        let report = verify(&test_store.store(), &Scope::All, &VerifyOptions::default()).unwrap();
        assert!(!report.findings.is_empty(), "byte {at}");
        let output = test_store.run(&["verify"], 1);
        assert!(text(&output.stdout).contains("b.txt"), "{}", text(&output.stdout));
        if at % 2 == 0 {
            // It is stored again, because its source is there.
            test_store.ok(&["put", "b", "d"]);
        } else {
            let source = other.store_path();
            test_store.cairn(&["verify", "--repair", "--repair-from", source.to_str().unwrap()]).output().unwrap();
        }
        assert!(test_store.run(&["cat", "a", "b.txt"], 0).stdout == prose(2, 5000), "byte {at}");
    }
}

#[test]
fn a_pack_whose_footer_is_damaged_gives_its_compressed_files_back() {
    let test_store = TestStore::new();
    make_mixed(&test_store);
    test_store.ok(&["put", "a", "d"]);
    let pack = packs(&test_store).remove(0);
    rot(&pack, pack.metadata().unwrap().len() as usize - 30);
    test_store.run(&["verify"], 1);
    test_store.cairn(&["verify", "--repair"]).output().unwrap();
    assert!(got(&test_store, "a") == snapshot(&test_store.path("d")));
    test_store.clean("repaired");
}

#[test]
fn a_frame_that_claims_to_be_long_or_has_another_form_is_damage() {
    let from = TestStore::new();
    make_tree(&from.path("d"), &[("z", &prose(1, 70_000))]);
    from.ok(&["put", "a", "d"]);
    let [pack] = &packs(&from)[..] else { panic!("one pack") };
    let bytes = fs::read(pack).unwrap();
    assert_eq!((&bytes[48..53], &bytes[53..57]), (&b"\x28\xb5\x2f\xfd\xa0"[..], &70_000u32.to_le_bytes()[..]));
    let changes: [(usize, &[u8]); 5] = [
        (53, &u32::MAX.to_le_bytes()),
        (53, &0xff_ffff_u32.to_le_bytes()),
        (53, &1u32.to_le_bytes()),
        (52, &[0xe0]), // eight bytes of length
        (52, &[0xa4]), // a checksum
    ];
    for (at, new) in changes {
        let mut changed = bytes.clone();
        changed[at..at + new.len()].copy_from_slice(new);
        write(pack, &changed);
        from.run(&["cat", "a", "z"], 4);
        from.run(&["verify"], 1);
    }
    write(pack, &bytes);
    from.clean("as it was");
}

#[test]
fn two_processes_that_change_the_configuration_at_once_both_succeed() {
    let from = uncompressed();
    make_tree(&from.path("d"), &[("x", b"1")]);
    from.ok(&["put", "a", "d"]);
    from.ok(&["put", "b", "d"]);
    from.ok(&["rm", "a:v0"]);
    let steps = steps(&from.copy(&["store"]), &["upgrade"]);
    for step in 1..=steps {
        let test_store = from.copy(&["store"]);
        let first = test_store.stopped_before(step, &["upgrade"]);
        // This adds `restored-versions`.
        test_store.ok(&["restore", "a:v0"]);
        resume(&first);
        let output = first.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "step {step}: {}", text(&output.stderr));
        let config = fields(&test_store.store_path().join("cairn.json")).unwrap()["features"].to_string();
        assert!(config.contains("restored-versions") && config.contains("compressed-content"), "step {step}: {config}");
        test_store.clean("both features");
    }
    println!("upgrade: stopped before each of {steps} steps");
}

#[test]
fn a_change_of_the_configuration_killed_or_failed_at_every_step_is_made_when_repeated() {
    let from = uncompressed();
    make_tree(&from.path("d"), &[("b.txt", &prose(2, 5000))]);
    from.ok(&["put", "a", "d"]);
    let steps = steps(&from.copy(&["store"]), &["upgrade"]);
    assert!(steps >= 5);
    for kind in ["kill", "error"] {
        for step in 1..=steps {
            let test_store = from.copy(&["store", "d"]);
            let fault = format!("{kind}:{step}");
            let output = test_store.cairn(&["upgrade"]).env("CAIRN_FAULT", &fault).output().unwrap();
            if output.status.success() {
                assert_eq!(features(&test_store), "[\"compressed-content\"]", "{fault}");
            }
            test_store.clean(&fault);
            test_store.ok(&["upgrade"]);
            assert_eq!(features(&test_store), "[\"compressed-content\"]", "{fault}");
            test_store.clean(&fault);
        }
    }
}

#[test]
fn many_processes_that_change_the_configuration_at_once_lose_nothing() {
    for _ in 0..5 {
        let test_store = uncompressed();
        make_tree(&test_store.path("d"), &[("x", b"1")]);
        test_store.ok(&["put", "a", "d"]);
        test_store.ok(&["put", "b", "d"]);
        test_store.ok(&["rm", "a:v0"]);
        let group = own_group();
        let commands: [&[&str]; 4] = [&["upgrade"], &["restore", "a:v0"], &["access", "--group", &group], &["upgrade"]];
        let children: Vec<_> = commands.iter().map(|args| test_store.cairn(args).spawn().unwrap()).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        let config = fields(&test_store.store_path().join("cairn.json")).unwrap();
        assert_eq!(config["group"], group.as_str());
        assert_eq!(config["features"]["incompatible"], serde_json::json!(["compressed-content"]));
        assert_eq!(config["features"]["compatible"], serde_json::json!(["restored-versions"]));
    }
}

/// A group that this user may give a store to.
fn own_group() -> String {
    // SAFETY: it has no effect.
    unsafe { libc::getegid() }.to_string()
}
