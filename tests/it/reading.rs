//! Reading files of a version at any position, by number, and from a path on.

use crate::support::{TestStore, files, random_bytes, text};
use cairn::manifest::Entry;
use cairn::types::Digest;
use cairn::{Artifact, Kind, Version};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

/// A version with a packed file, an object, a reference and a directory: `a/large`, `a/small`, `b`, `c/d`.
fn version(store: &cairn::Store) -> (Version, Vec<u8>) {
    let large: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    let mut artifact = Artifact::new("mixed", None).unwrap();
    artifact.add_bytes("a/small", "0123456789").unwrap().add_bytes("a/large", &large).unwrap();
    let bare = cairn::ReferenceOptions::default().checksum(false);
    artifact.add_reference("odd://bucket/b", None, &bare).unwrap().add_bytes("c/d", "").unwrap();
    (artifact.save(store).unwrap().version, large)
}

#[test]
fn a_packed_file_and_an_object_are_read_at_any_position() {
    let s = TestStore::new();
    let (version, large) = version(&s.store());
    for (path, want) in [("a/small", &b"0123456789"[..]), ("a/large", &large)] {
        let mut file = version.open(path).unwrap();
        let (size, middle) = (want.len() as u64, want.len() / 2);
        assert_eq!(file.size(), size);
        assert_eq!(file.seek(SeekFrom::Start(middle as u64)).unwrap(), middle as u64);
        let mut rest = Vec::new();
        // Reads at other places do not move the position.
        let mut four = [0; 4];
        assert_eq!(file.read_at(&mut four, 2).unwrap(), 4);
        assert_eq!(four, want[2..6]);
        file.read_to_end(&mut rest).unwrap();
        assert!(rest == want[middle..], "{path}: the second half");
        assert_eq!((file.remaining(), file.stream_position().unwrap()), (0, size));
        assert_eq!(file.seek(SeekFrom::End(-3)).unwrap(), size - 3);
        assert_eq!(file.seek(SeekFrom::Current(1)).unwrap(), size - 2);
        rest.clear();
        file.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, want[want.len() - 2..]);
        // Behind the end there is nothing; before the start there is no position.
        assert_eq!(file.seek(SeekFrom::End(5)).unwrap(), size + 5);
        assert_eq!(file.read(&mut four).unwrap(), 0);
        assert_eq!(file.read_at(&mut four, u64::MAX).unwrap(), 0);
        assert_eq!(file.read_at(&mut four, size - 1).unwrap(), 1);
        assert_eq!(file.seek(SeekFrom::End(-1 - size as i64)).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
}

#[test]
fn an_object_that_is_cut_while_it_is_read_is_an_error() {
    let s = TestStore::new();
    let (version, large) = version(&s.store());
    let Entry::File { digest, .. } = version.entry(&cairn::types::RelPath::parse(b"a/large").unwrap()).unwrap() else {
        panic!("a file")
    };
    let file = version.open("a/large").unwrap();
    let object = s.store().layout().object(&digest);
    std::fs::OpenOptions::new().write(true).open(object).unwrap().set_len(1000).unwrap();
    let e = file.read_at(&mut [0; 10], large.len() as u64 - 10).unwrap_err();
    assert_eq!(e.into_inner().unwrap().downcast::<cairn::Error>().unwrap().kind(), Kind::Damaged);
}

/// Nothing of a store is mapped into memory, where a missing page would be SIGBUS.
#[test]
fn what_is_cut_while_a_mount_and_a_cat_read_it_is_an_error_that_names_the_damage() {
    let s = TestStore::new();
    let small = |i: u64| random_bytes(i, 4000);
    let name = |i: u64| format!("d/{i:04}");
    let large = random_bytes(1000, 8 << 20);
    let mut artifact = Artifact::new("a", None).unwrap();
    artifact.add_bytes("large", &large).unwrap();
    for i in 0..400 {
        artifact.add_bytes(name(i), small(i)).unwrap();
    }
    let version = artifact.save(&s.store()).unwrap().version;
    s.ok(&["gc"]);
    let of = |dir: &str| files(&s.store_path().join(dir));
    let cut = |path: &Path| {
        let len = std::fs::metadata(path).unwrap().len();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
        File::options().write(true).open(path).unwrap().set_len(len / 2).unwrap();
    };
    let mnt = s.path("mnt");
    std::fs::create_dir(&mnt).unwrap();
    s.ok(&["mount", mnt.to_str().unwrap(), "a:v0", "--io", "no-open"]);
    let seen = |i: u64| std::fs::read(mnt.join(name(i)));
    assert!(seen(0).unwrap() == small(0));

    // The index is a cache: what it has is found without it.
    let reader = s.store();
    let digest = Digest::of(&small(7));
    let content = |digest: &Digest| reader.objects().content_into(digest, 4000, None, &mut Vec::new());
    content(&digest).unwrap();
    assert!(!of("index").is_empty());
    of("index").iter().for_each(|path| cut(path));
    content(&Digest::of(&small(399))).unwrap();
    assert!(seen(1).unwrap() == small(1));
    s.ok(&["cat", "a", &name(2)]);

    // A cat that waits for its reader, and a file that is open through the mount.
    let mut cat = s.cairn(&["cat", "a", "large"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut got = vec![0; 1000];
    cat.stdout.as_mut().unwrap().read_exact(&mut got).unwrap();
    let open = File::open(mnt.join("large")).unwrap();
    open.read_exact_at(&mut [0; 1000], 0).unwrap();
    of("objects").iter().for_each(|path| cut(path));
    let output = cat.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("large ends 4194304 bytes early: its object was cut"), "{said}");
    got.extend(output.stdout);
    assert!(got.len() < large.len() && large.starts_with(&got), "what came is right");
    let eio = |result: std::io::Result<usize>| assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EIO));
    eio(open.read_at(&mut [0; 1000], (8 << 20) - 1000));

    of("packs").iter().for_each(|path| cut(path));
    let (mut right, mut wrong) = (0, 0);
    for i in 0..400 {
        match seen(i) {
            Ok(bytes) => {
                assert!(bytes == small(i), "{i}");
                right += 1;
            }
            Err(e) => {
                assert_eq!(e.raw_os_error(), Some(libc::EIO), "{i}");
                wrong += 1;
            }
        }
    }
    assert!(right > 0 && wrong > 100, "{right} are right, {wrong} are not");
    assert!((0..400).any(|i| version.open(name(i)).is_err()));
    let said = text(&s.run(&["cat", "a", &name(399)], 4).stderr);
    assert!(of("packs").iter().any(|pack| said.contains(pack.file_name().unwrap().to_str().unwrap())), "{said}");
    drop(open);
    s.ok(&["umount", "mnt"]);
}

#[test]
fn files_have_numbers_and_a_walk_begins_at_any_path() {
    let s = TestStore::new();
    let (version, _) = version(&s.store());
    let numbered: Vec<String> =
        (0..version.file_count()).map(|n| version.file_at(n).unwrap().unwrap().path.to_string()).collect();
    assert_eq!(numbered, ["a/large", "a/small", "b", "c/d"]);
    assert!(version.file_at(4).unwrap().is_none());
    let small = version.file_at(1).unwrap().unwrap();
    let mut text = String::new();
    version.open_entry(&small.path, &small.entry).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "0123456789");
    let reference = version.file_at(2).unwrap().unwrap();
    assert_eq!(version.open_entry(&reference.path, &reference.entry).unwrap_err().kind(), Kind::Usage);
    let from = |path: &str| -> Vec<String> {
        version.entries_from(path).unwrap().map(|v| v.unwrap().path.to_string()).collect()
    };
    assert_eq!(from("a/small"), ["a/small", "b", "c", "c/d"]);
    assert_eq!(from("a/m"), ["a/small", "b", "c", "c/d"]);
    assert_eq!(from("").len(), 6);
    assert_eq!(version.entries_from("../x").unwrap_err().kind(), Kind::Usage);
}
