//! What sealing makes of a stage, and what is there afterwards.

use super::support::{LARGE, contributions, finished, left, stage, stage_with, whole};
use crate::support::{TestStore, files, make_tree, random_bytes, snapshot, store_on, text, wait_until};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

fn python(code: &str, args: &[&str]) {
    let output = Command::new("python3").arg("-c").arg(code).args(args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_large_file_that_is_similar_to_one_of_the_newest_version_is_composed_when_it_is_sealed() {
    let test_store = TestStore::new();
    let old = random_bytes(8, 3 << 20);
    let staged = stage(&test_store, "first");
    make_tree(&staged.mnt, &[("large", &old)]);
    staged.sealed();
    drop(staged);
    finished(&test_store);
    assert!(test_store.run(&["cat", "a:v0", "large"], 0).stdout == old);
    let new = [&old[..1 << 20], b"between", &old[1 << 20..]].concat();
    fs::create_dir(test_store.path("t")).unwrap();
    test_store.ok(&["mount", "t", "a", "--stage", "--distributed-id", "second", "--run", "r2"]);
    make_tree(&test_store.path("t"), &[("large", &new)]);
    test_store.ok(&["seal", "t"]);
    let mounted = fs::read(test_store.path("t/large"));
    test_store.ok(&["umount", "t"]);
    assert!(mounted.unwrap() == new, "the sealed stage shows it");
    test_store.ok(&["finish", "a", "--distributed-id", "second"]);
    let objects = files(&test_store.store_path().join("objects"));
    assert_eq!(objects.len(), 1, "{objects:?}");
    assert!(test_store.run(&["cat", "a", "large"], 0).stdout == new);
    whole(&test_store, "composed by a seal");
    test_store.clean("composed by a seal");
}

#[test]
fn after_the_seal_every_change_is_erofs_and_everything_reads_as_before() {
    for io in ["auto", "no-open"] {
        let test_store = TestStore::new();
        let staged = stage_with(&test_store, "r", &["--io", io]);
        make_tree(
            &staged.mnt,
            &[
                ("small", b"small"),
                ("d/large", &random_bytes(1, 3 * LARGE)),
                ("tool", b"#!/bin/sh\necho ran\n"),
                ("empty/", b""),
            ],
        );
        fs::set_permissions(staged.at("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("d/large", staged.at("link")).unwrap();
        let before = snapshot(&staged.mnt);
        let reader = File::open(staged.at("d/large")).unwrap();
        staged.sealed();
        assert!(left(&test_store).is_empty());
        assert!(snapshot(&staged.mnt) == before);
        assert_eq!(text(&Command::new(staged.at("tool")).output().unwrap().stdout), "ran\n");
        let mut through = vec![0; 3 * LARGE];
        std::os::unix::fs::FileExt::read_exact_at(&reader, &mut through, 0).unwrap();
        assert!(through == random_bytes(1, 3 * LARGE), "a reader from before continues");
        python(
            "import os, sys, errno
os.chdir(sys.argv[1])
calls = [lambda: open('new', 'w'), lambda: open('small', 'a'), lambda: open('d/large', 'r+'),
  lambda: os.truncate('d/large', 1),
  lambda: os.mkdir('m'), lambda: os.mkfifo('f'),
  lambda: os.symlink('a', 'b'), lambda: os.link('small', 'hard'), lambda: os.rename('small', 'other'),
  lambda: os.unlink('small'), lambda: os.rmdir('empty'),
  lambda: os.chmod('small', 0o777), lambda: os.chown('small', 1, 1), lambda: os.utime('small'),
  lambda: os.setxattr('small', 'user.x', b'1'), lambda: os.utime('d')]
for i, call in enumerate(calls):
    try: call()
    except OSError as e: assert e.errno == errno.EROFS, (i, e)
    else: sys.exit(f'call {i} was done')",
            &[staged.mnt.to_str().unwrap()],
        );
        assert!(snapshot(&staged.mnt) == before);
        staged.sealed(); // repeated
        assert_eq!(contributions(&test_store, "r"), 1);
        assert!(finished(&test_store) == before);
    }
}

#[test]
fn a_large_file_is_taken_over_by_its_inode_and_no_byte_is_copied() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    fs::write(staged.at("large"), random_bytes(1, 8 << 20)).unwrap();
    File::open(staged.at("large")).unwrap().sync_all().unwrap();
    let before = fs::metadata(staged.backing().join("large")).unwrap();
    staged.sealed();
    let objects = files(&test_store.store_path().join("objects"));
    assert_eq!(objects.len(), 1);
    let object = objects[0].metadata().unwrap();
    assert_eq!(
        (object.ino(), object.blocks(), object.nlink(), object.mode() & 0o7777, object.mtime()),
        (before.ino(), before.blocks(), 1, 0o444, 1_000_000_000)
    );
    whole(&test_store, "taken over");
}

#[test]
fn a_large_file_that_differs_from_the_one_of_the_newest_version_is_taken_over_too() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("large", &random_bytes(1, 4 << 20)), ("half", &random_bytes(2, 4 << 20))]);
    test_store.ok(&["put", "a", "d"]);
    let staged = stage(&test_store, "r");
    fs::write(staged.at("large"), random_bytes(3, 4 << 20)).unwrap();
    let half = [&random_bytes(2, 4 << 20)[..3 << 19], &random_bytes(4, 3 << 20)].concat();
    fs::write(staged.at("half"), &half).unwrap();
    let inodes = ["large", "half"].map(|name| fs::metadata(staged.backing().join(name)).unwrap().ino());
    staged.sealed();
    let objects = files(&test_store.store_path().join("objects"));
    let kept: Vec<u64> = objects.iter().map(|path| path.metadata().unwrap().ino()).collect();
    assert!(objects.len() == 4 && inodes.iter().all(|inode| kept.contains(inode)), "{objects:?}");
    whole(&test_store, "taken over");
}

#[test]
fn where_blocks_can_be_shared_they_are() {
    let (at, test_store) = store_on("xfs", 320 << 20);
    let used = || {
        let s = cairn::internals::disk::space(&at.0).unwrap();
        (s.blocks - s.blocks_free) * u64::from(s.fragment_size)
    };
    {
        let staged = stage(&test_store, "r");
        fs::write(staged.at("large"), random_bytes(1, 64 << 20)).unwrap();
        File::open(staged.at("large")).unwrap().sync_all().unwrap();
        let (before, inode) = (used(), fs::metadata(staged.backing().join("large")).unwrap().ino());
        staged.sealed();
        assert!(used() < before + (8 << 20), "{} to {}: nothing was copied", before, used());
        let object = &files(&test_store.store_path().join("objects"))[0];
        assert_ne!(object.metadata().unwrap().ino(), inode);
        whole(&test_store, "shared");
        test_store.ok(&["umount", staged.mnt.to_str().unwrap()]);
    }
    drop(test_store);
}

#[test]
fn where_blocks_can_be_shared_a_composed_file_shares_them_with_what_get_makes() {
    let (at, test_store) = store_on("xfs", 320 << 20);
    let used = || {
        let s = cairn::internals::disk::space(&at.0).unwrap();
        (s.blocks - s.blocks_free) * u64::from(s.fragment_size)
    };
    let mut bytes = random_bytes(1, (32 << 20) + 77);
    make_tree(&test_store.path("d"), &[("large", &bytes)]);
    test_store.ok(&["put", "a", "d"]);
    for place in 1..16 {
        bytes[place << 21..][100..200].copy_from_slice(&random_bytes(9, 100));
    }
    bytes.extend(random_bytes(2, 300_000));
    {
        let staged = stage(&test_store, "r");
        fs::write(staged.at("large"), &bytes).unwrap();
        File::open(staged.at("large")).unwrap().sync_all().unwrap();
        let before = used();
        staged.sealed();
        // xfs frees the blocks of a removed file in the background.
        wait_until("the staged file to be gone, with only what is new stored", || used() < before);
        test_store.ok(&["umount", staged.mnt.to_str().unwrap()]);
    }
    test_store.ok(&["finish", "a", "--distributed-id", "d"]);
    let (before, out) = (used(), at.0.join("out"));
    test_store.ok(&["get", "a", out.to_str().unwrap()]);
    File::open(out.join("large")).unwrap().sync_all().unwrap();
    assert!(used() < before + (3 << 20), "{before} to {}: blocks are shared", used());
    assert!(fs::read(out.join("large")).unwrap() == bytes);
    drop(test_store);
}

#[test]
fn a_full_disk_is_enospc_and_what_there_is_can_be_sealed() {
    let (_at, test_store) = store_on("ext4", 64 << 20);
    let staged = stage(&test_store, "r");
    fs::write(staged.at("kept"), random_bytes(1, 1 << 20)).unwrap();
    let full = fs::write(staged.at("full"), random_bytes(2, 80 << 20)).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    fs::remove_file(staged.at("full")).unwrap();
    fs::write(staged.at("again"), random_bytes(3, 1 << 20)).unwrap();
    staged.sealed();
    assert_eq!(finished(&test_store).len(), 2);
    test_store.ok(&["umount", staged.mnt.to_str().unwrap()]);
}

#[test]
fn device_nodes_fifos_and_sockets_are_refused_by_name_and_the_stage_stays_writable() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    make_tree(&staged.mnt, &[("d/file", b"x"), ("large", &random_bytes(1, LARGE))]);
    python(
        "import os,socket,stat,sys\nos.chdir(sys.argv[1])\nos.mkfifo('d/pipe')\n\
         os.mknod('null', 0o600 | stat.S_IFCHR, os.makedev(1, 3))\nsocket.socket(socket.AF_UNIX).bind('sock')",
        &[staged.mnt.to_str().unwrap()],
    );
    let output = staged.seal();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(["d/pipe", "null", "sock"].iter().all(|name| stderr.contains(name)), "{stderr}");
    for name in ["d/pipe", "null", "sock"] {
        fs::remove_file(staged.at(name)).unwrap();
    }
    fs::write(staged.at("large"), random_bytes(2, LARGE)).unwrap();
    staged.sealed();
    whole(&test_store, "after the refusal");
    assert_eq!(finished(&test_store)[&b"large"[..]], [b"- ".as_slice(), &random_bytes(2, LARGE)].concat());
}

#[test]
fn what_a_version_cannot_hold_is_kept_while_staged_only() {
    let test_store = TestStore::new();
    let staged = stage_with(&test_store, "r", &["--allow-other"]);
    make_tree(
        &staged.mnt,
        &[("one", &random_bytes(1, LARGE)), ("secret", b"secret"), ("tool", &random_bytes(2, LARGE)), ("old", b"old")],
    );
    fs::hard_link(staged.at("one"), staged.at("two")).unwrap();
    python(
        "import os,sys\nos.chdir(sys.argv[1])\nos.setxattr('one','user.colour',b'red')\n\
         os.chmod('secret',0o600)\nos.chown('secret',65534,65534)\nos.chmod('tool',0o755)\nos.utime('old',(5,5))",
        &[staged.mnt.to_str().unwrap()],
    );
    let (one, two) = (fs::metadata(staged.at("one")).unwrap(), fs::metadata(staged.at("two")).unwrap());
    assert_eq!((one.ino(), one.nlink()), (two.ino(), 2));
    staged.sealed();
    let got = finished(&test_store);
    assert!(got[&b"one"[..]] == got[&b"two"[..]] && got[&b"one"[..]].starts_with(b"- "));
    assert_ne!(
        fs::metadata(test_store.path("got/one")).unwrap().ino(),
        fs::metadata(test_store.path("got/two")).unwrap().ino()
    );
    assert_eq!(got[&b"secret"[..]], b"- secret", "root's daemon reads other users' files");
    assert!(got[&b"tool"[..]].starts_with(b"x "));
    python("import os,sys\nassert os.listxattr(sys.argv[1]) == []", &[test_store.path("got/one").to_str().unwrap()]);
    whole(&test_store, "kept while staged");
}

#[test]
fn a_seal_remembers_no_files_that_are_gone_afterwards() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    make_tree(&staged.mnt, &[("large", &random_bytes(1, LARGE)), ("small", b"1")]);
    staged.sealed();
    let remembered = fs::read_dir(test_store.path("cache/stat")).map_or(0, |files| files.count());
    assert_eq!(remembered, 0, "stat caches of the staging directory");
}

#[test]
fn a_capability_set_on_a_new_file_is_seen() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    let code = "import os,sys,errno
os.chdir(sys.argv[1])
name, value = 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000')
f = open('tool', 'wb', 0)
f.write(b'#!')
for path in ('tool', f.fileno()):
    try: os.getxattr(path, name); sys.exit('none was set')
    except OSError as e: assert e.errno == errno.ENODATA, e
os.setxattr('tool', name, value)
assert os.getxattr('tool', name) == value and name in os.listxattr('tool')
f.write(b'changed')
try: sys.exit(f'a write leaves it: {os.getxattr(\"tool\", name)}')
except OSError as e: assert e.errno == errno.ENODATA, e";
    python(code, &[staged.mnt.to_str().unwrap()]);
    staged.sealed();
}

#[test]
fn a_seal_that_fails_leaves_the_stage_as_it_was() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    make_tree(&staged.mnt, &[("large", &random_bytes(1, LARGE)), ("small", b"1")]);
    fs::set_permissions(staged.at("large"), fs::Permissions::from_mode(0o640)).unwrap();
    python("import os,sys\nos.utime(sys.argv[1],(7,7))", &[staged.at("large").to_str().unwrap()]);
    fs::write(test_store.path("more"), "1").unwrap();
    test_store.ok(&["upsert", "a", "more", "--run", "other", "--distributed-id", "d"]);
    // The type is compared after the files were stored.
    let stderr =
        text(&test_store.run(&["upsert", "a", "--run", "r", "--distributed-id", "d", "--type", "model"], 3).stderr);
    assert!(stderr.contains("dataset"), "{stderr}");
    let meta = fs::metadata(staged.backing().join("large")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.nlink()), (0o640, 7, 1));
    fs::write(staged.at("large"), "written again").unwrap();
    whole(&test_store, "after a seal that failed");
    test_store.ok(&["finish", "a", "--distributed-id", "d", "--skip-open"]);
    let output = staged.seal();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("finished as a:v0"));
    let e = fs::write(staged.at("small"), "2").unwrap_err();
    assert_eq!(e.raw_os_error(), Some(libc::EROFS), "what can come into no version is not taken");
    whole(&test_store, "after the draft was finished");
}
