//! What is in a version is what is in its mount.

use super::support::*;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

fn odd() -> Things {
    let mut all = things([
        (b"empty", file("")),
        (b"small", file("hello\n")),
        (b"run.sh", Thing::Exec(b"#!/bin/sh\necho ran\n".to_vec())),
        (b"no/such/depth/is/too/deep/x", file("deep")),
        (b"hollow", Thing::Dir),
        (b"a/hollow/too", Thing::Dir),
        (b"link", Thing::Link(b"small".to_vec())),
        (b"dangling", Thing::Link(b"../nowhere/\xff".to_vec())),
        (b"new\nline", file("a")),
        (b"not \xff\xfe utf8", file("b")),
        (b" ", file("c")),
        (b"-rf", file("d")),
        (b"a-b", file("sorts before a/")),
        (b"...", file("three dots")),
        (b"block", Thing::File(random_bytes(1, 4096))),
        (b"almost", Thing::File(random_bytes(2, 131_071))),
        (b"just", Thing::File(random_bytes(3, 131_072))),
        (b"large", Thing::File(random_bytes(4, 3_000_001))),
    ]);
    all.insert(vec![b'n'; 255], file("255"));
    all.insert("é".repeat(127).into_bytes(), file("254 in UTF-8"));
    all.insert(b"long link".to_vec(), Thing::Link(vec![b'x'; 4095]));
    all
}

#[test]
fn the_mount_shows_exactly_the_entries_of_the_version() {
    let place = Location::new();
    let version = odd();
    let mounted = place.mount(place.version(&version));
    assert_eq!(seen(mounted.path()), expected(&version));
    assert_eq!(seen(mounted.path()), expected(&version), "the same when asked again, from the kernel's cache");
    let root = fs::metadata(mounted.path()).unwrap();
    assert_eq!((root.ino(), root.mode() & 0o7777, root.mtime()), (1, 0o755, TIME));
}

#[test]
fn an_empty_version_is_an_empty_directory() {
    let place = Location::new();
    let mounted = place.mount(place.version(&Things::new()));
    assert_eq!(fs::read_dir(mounted.path()).unwrap().count(), 0);
}

#[test]
fn a_program_in_a_version_runs_unless_mounted_noexec() {
    let place = Location::new();
    let tree = place.version(&odd());
    {
        let mounted = place.mount(tree);
        assert_eq!(Command::new(mounted.at("run.sh")).output().unwrap().stdout, b"ran\n");
        assert!(Command::new(mounted.at("small")).output().is_err(), "no exec bit");
    }
    let mounted = place.mount_with(tree, ",noexec");
    assert!(Command::new(mounted.at("run.sh")).output().is_err());
}

#[test]
fn reads_at_any_offset_give_the_bytes_there() {
    let place = Location::new();
    let version = odd();
    let mounted = place.mount(place.version(&version));
    for (name, thing) in &version {
        let Thing::File(want) = thing else { continue };
        let file = File::open(mounted.at_bytes(name)).unwrap();
        for at in [0, 1, 4095, 4096, 65_537, 131_071, 131_072, 2_999_999, 3_000_001, 4_000_000] {
            let mut got = vec![0; 5000];
            let n = file.read_at(&mut got, at as u64).unwrap();
            let from = at.min(want.len());
            assert_eq!(got[..n], want[from..(from + 5000).min(want.len())], "{name:?} at {at}");
        }
    }
}

#[test]
fn small_steps_seeks_and_mmap_read_the_same_bytes() {
    let place = Location::new();
    let bytes = random_bytes(9, 100_000);
    let mounted = place.mount(place.version(&things([(b"f", Thing::File(bytes.clone()))])));
    let mut file = File::open(mounted.at("f")).unwrap();
    let mut got = Vec::new();
    let mut step = [0; 777];
    loop {
        match file.read(&mut step).unwrap() {
            0 => break,
            n => got.extend_from_slice(&step[..n]),
        }
    }
    assert_eq!(got, bytes);
    assert_eq!(file.seek(SeekFrom::End(-5)).unwrap(), 99_995);
    got.clear();
    file.read_to_end(&mut got).unwrap();
    assert_eq!(got, bytes[99_995..]);
    // SAFETY: the mount is read-only, so the mapped bytes don't change.
    let map = unsafe { memmap2::Mmap::map(&file).unwrap() };
    assert_eq!(map[..], bytes[..]);
}

#[test]
fn an_open_file_is_readable_by_many_at_once() {
    let place = Location::new();
    let bytes = random_bytes(10, 2_000_000);
    let mounted = place.mount(
        place.version(&things([(b"f", Thing::File(bytes.clone())), (b"s", Thing::File(bytes[..9000].to_vec()))])),
    );
    std::thread::scope(|scope| {
        for i in 0..8_usize {
            let (bytes, mounted) = (&bytes, &mounted);
            scope.spawn(move || {
                for round in 0..20 {
                    let file = File::open(mounted.at("f")).unwrap();
                    let at = (i * 131 + round * 97_001) % 1_900_000;
                    let mut got = vec![0; 100_000];
                    file.read_exact_at(&mut got, at as u64).unwrap();
                    assert_eq!(got[..], bytes[at..at + 100_000]);
                    assert_eq!(fs::read(mounted.at("s")).unwrap(), bytes[..9000]);
                }
            });
        }
    });
}

#[test]
fn a_copy_out_of_the_mount_is_its_owners_to_delete() {
    let place = Location::new();
    let version = odd();
    let mounted = place.mount(place.version(&version));
    let copy = place.path("copy");
    assert!(Command::new("cp").arg("-r").arg(mounted.path()).arg(&copy).status().unwrap().success());
    let diff = Command::new("diff").args(["-r", "--no-dereference"]).arg(mounted.path()).arg(&copy).output().unwrap();
    assert!(diff.status.success(), "{}", stderr_of(&diff));
    assert!(as_nobody(Command::new("true").arg("x")).status().unwrap().success());
    fs::remove_dir_all(&copy).unwrap();
}

#[test]
fn names_that_are_not_there_are_enoent_and_too_long_ones_say_so() {
    let place = Location::new();
    let mounted = place.mount(place.version(&odd()));
    for _ in 0..2 {
        assert_eq!(fs::metadata(mounted.at("missing")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!(fs::metadata(mounted.at("a/missing")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
    assert_eq!(fs::metadata(mounted.at("x".repeat(256))).unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
    assert_eq!(fs::metadata(mounted.at("small/x")).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
    assert_eq!(fs::read_link(mounted.at("small")).unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn a_reference_that_cannot_be_read_shows_its_size_and_reads_as_eio() {
    let place = Location::new();
    let reference = |size| {
        Thing::Reference(cairn::manifest::Reference { uri: "odd://bucket/key".into(), size, etag: None, digest: None })
    };
    let version = things([(b"known", reference(Some(12_345))), (b"unknown", reference(None))]);
    let mounted = place.mount(place.version(&version));
    assert_eq!(seen(mounted.path()), expected(&version));
    for name in ["known", "unknown"] {
        assert_eq!(
            fs::read(mounted.at(name)).unwrap_err().raw_os_error(),
            Some(libc::EIO),
            "{name} must not read as an empty file"
        );
    }
    assert!(place.logged().contains("/known: odd://bucket/key cannot be read"), "{}", place.logged());
}

#[test]
fn statfs_is_the_stores_and_du_adds_up() {
    let place = Location::new();
    let mounted = place.mount(place.version(&things([(b"d/f", Thing::File(random_bytes(5, 1_000_000)))])));
    let space = |path| cairn::internals::disk::space(path).unwrap();
    let (of_mount, of_store) = (space(mounted.path()), space(&place.store()));
    assert_eq!(
        (of_mount.blocks, of_mount.files, of_mount.fragment_size),
        (of_store.blocks, of_store.files, of_store.fragment_size)
    );
    let du = Command::new("du").args(["-s", "--block-size=512"]).arg(mounted.path()).output().unwrap();
    let blocks: u64 = String::from_utf8(du.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(blocks, 1_000_000_u64.div_ceil(512) + 2 * 8, "the file, the root and one directory");
}
