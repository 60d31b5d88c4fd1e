//! Paths of a version's files on this host's disk.

use crate::support::{TestStore, text};
use cairn::view::LocalFiles;
use cairn::{Artifact, Kind, Version};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

const LARGE: usize = 200_000;

fn version(test: &TestStore) -> (Version, PathBuf) {
    let mut artifact = Artifact::new("model", None).unwrap();
    artifact.add_bytes("a/weights.bin", vec![1; LARGE]).unwrap().add_bytes("b/notes.txt", "small").unwrap();
    let bare = cairn::ReferenceOptions::default().checksum(false);
    artifact.add_bytes("c/other.txt", "small").unwrap().add_reference("s3://bucket/far", None, &bare).unwrap();
    (artifact.save(&test.store()).unwrap().version, test.path("local-cache"))
}

#[test]
fn a_large_file_is_a_link_to_its_object_and_a_small_one_a_private_copy() {
    let test = TestStore::new();
    let (version, cache) = version(&test);
    let files = LocalFiles::in_cache(&version, &cache).unwrap();
    let large = files.path("a/weights.bin").unwrap();
    assert_eq!(large.file_name().unwrap(), "weights.bin");
    let object = fs::read_link(&large).unwrap();
    assert!(object.starts_with(version.store().root()) && fs::read(&large).unwrap() == vec![1; LARGE]);
    assert_eq!(fs::metadata(&large).unwrap().permissions().mode() & 0o777, 0o444);
    let small = files.path("b/notes.txt").unwrap();
    assert_eq!((fs::read(&small).unwrap(), small.symlink_metadata().unwrap().is_file()), (b"small".to_vec(), true));
    assert_eq!(fs::metadata(&small).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(fs::metadata(cache.join("files")).unwrap().permissions().mode() & 0o777, 0o700);
    // Files with the same content and other names are next to each other.
    let other = files.path("c/other.txt").unwrap();
    assert!(other.parent() == small.parent() && other != small);
    // A second call makes nothing again.
    let before = fs::metadata(&small).unwrap();
    assert_eq!(files.path("b/notes.txt").unwrap(), small);
    assert_eq!(fs::metadata(&small).unwrap().ino(), before.ino());
    let names = fs::read_dir(small.parent().unwrap()).unwrap();
    assert_eq!(names.count(), 2, "no temporary file is left");
    assert_eq!(files.path("nothing").unwrap_err().kind(), Kind::NotFound);
    for wrong in ["a", "far"] {
        assert_eq!(files.path(wrong).unwrap_err().kind(), Kind::Usage, "{wrong}");
    }
}

#[test]
fn a_copy_or_link_that_someone_changed_is_made_again() {
    let test = TestStore::new();
    let (version, cache) = version(&test);
    let files = LocalFiles::in_cache(&version, &cache).unwrap();
    let (large, small) = (files.path("a/weights.bin").unwrap(), files.path("b/notes.txt").unwrap());
    let object = fs::read_link(&large).unwrap();
    fs::remove_file(&large).unwrap();
    std::os::unix::fs::symlink("/elsewhere", &large).unwrap();
    for wrong in ["", "SMALL", "longer than it was"] {
        fs::remove_file(&small).unwrap();
        fs::write(&small, wrong).unwrap();
        assert_eq!(fs::read(files.path("b/notes.txt").unwrap()).unwrap(), b"small");
    }
    assert_eq!(fs::read_link(files.path("a/weights.bin").unwrap()).unwrap(), object);
    // Damage in the store is an error, as it is for a read.
    fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&object, vec![2; LARGE]).unwrap();
    assert_eq!(files.path("a/weights.bin").unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn the_version_is_pinned_until_it_is_dropped() {
    let test = TestStore::new();
    let (version, cache) = version(&test);
    let pins = version.store().root().join("pins");
    let count = || fs::read_dir(&pins).map_or(0, Iterator::count);
    let files = LocalFiles::in_cache(&version, &cache).unwrap();
    assert_eq!(count(), 1);
    let large = files.path("a/weights.bin").unwrap();
    let message = text(&test.run(&["rm", "model:v0"], 3).stderr);
    assert!(message.contains("in use by a reader of"), "{message}");
    drop(files);
    assert_eq!(count(), 0);
    assert!(fs::read(large).is_ok());
}
