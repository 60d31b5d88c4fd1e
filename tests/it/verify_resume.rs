//! A verification that was interrupted continues.

use crate::crafted_stores;
use crate::support::{TestStore, make_tree, random_bytes, text};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const OBJECTS: u64 = 24;
const OBJECT: u64 = 256 << 10;

/// The checkpoint, if it was written.
fn checkpoint(test_store: &TestStore) -> Option<PathBuf> {
    let entries = std::fs::read_dir(test_store.path("cache/verify")).ok()?;
    entries.map(|e| e.unwrap()).find(|e| e.file_name().len() == 64).map(|e| e.path())
}

#[test]
fn a_verification_that_was_killed_reads_only_the_rest_and_what_changed() {
    let test_store = TestStore::new();
    let files: Vec<(String, Vec<u8>)> =
        (0..OBJECTS).map(|i| (format!("f{i}"), random_bytes(i, OBJECT as usize))).collect();
    let mut files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), &b[..])).collect();
    files.push(("small", b"small content"));
    make_tree(&test_store.path("d"), &files);
    test_store.ok(&["put", "x", "d"]);
    std::thread::sleep(Duration::from_millis(2100)); // what was changed just now is not recorded
    let whole = test_store.json_with(&["verify"], 0);
    let total = whole["bytes"].as_u64().unwrap();
    assert!(total > OBJECTS * OBJECT && checkpoint(&test_store).is_none(), "a complete run leaves no checkpoint");

    let mut child = test_store.cairn(&["verify", "--limit", "1M"]).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while checkpoint(&test_store).is_none() {
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none(), "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let file = checkpoint(&test_store).unwrap();
    let saved = std::fs::read(&file).unwrap();

    let rest = test_store.json_with(&["verify", "--resume"], 0);
    let (read, before) = (rest["bytes"].as_u64().unwrap(), rest["resumed"]["bytes"].as_u64().unwrap());
    assert_eq!(read + before, total, "{rest}");
    assert_eq!(rest["resumed"]["files"].as_u64().unwrap(), (saved.len() as u64 - 48) / 16);
    assert!(before > OBJECT && read > OBJECT, "{rest}");
    assert_eq!((&rest["packs"], &rest["objects"]), (&whole["packs"], &OBJECTS.into()));
    assert!(checkpoint(&test_store).is_none(), "a complete run forgets the checkpoint");
    let message = text(&test_store.run(&["verify", "--resume"], 0).stderr);
    assert!(message.contains("no interrupted verification"), "{message}");

    // Packs are read first. The bytes of one change, and its size and modification time do not.
    let place = |bytes: &[u8]| bytes.windows(13).position(|w| w == b"small content");
    let packs = std::fs::read_dir(test_store.store_path().join("packs")).unwrap().map(|e| e.unwrap().path());
    let pack = packs.into_iter().find(|p| place(&std::fs::read(p).unwrap()).is_some()).unwrap();
    let (mut bytes, time) = (std::fs::read(&pack).unwrap(), std::fs::metadata(&pack).unwrap().modified().unwrap());
    let at = place(&bytes).unwrap();
    bytes[at] ^= 1;
    crafted_stores::write(&pack, &bytes);
    std::fs::File::open(&pack).unwrap().set_modified(time).unwrap();
    std::fs::write(&file, &saved).unwrap();
    let changed = test_store.json_with(&["verify", "--resume"], 1);
    assert_eq!(changed["bytes"].as_u64().unwrap(), read + bytes.len() as u64, "{changed}");
    assert_eq!(changed["findings"][0]["affects"][0], "x:v0 small");
    // Without --resume, everything is read.
    std::fs::write(&file, &saved).unwrap();
    let anew = test_store.json_with(&["verify"], 1);
    assert_eq!((&anew["bytes"], &anew["resumed"]), (&total.into(), &serde_json::Value::Null));
    assert_eq!(anew["findings"], changed["findings"], "it finds what the whole one finds");
}

#[test]
fn only_a_check_that_reads_the_whole_store_can_be_resumed() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"a")]);
    test_store.ok(&["put", "x", "d"]);
    for more in [&["x"][..], &["--quick"], &["--sample", "1%"], &["--repair"]] {
        let output = test_store.run(&[&["verify", "--resume"], more].concat(), 2);
        assert!(text(&output.stderr).contains("reads all of it"), "{more:?}: {}", text(&output.stderr));
    }
}
