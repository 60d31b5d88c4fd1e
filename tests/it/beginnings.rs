//! What a new version of a large file begins with is not read again in the earlier version, as far as the digests of
//! beginnings in the user's cache show that it is the same. Whatever damage is in that cache, no version gets wrong
//! bytes that the store does not have already, and damage never gets a right digest.

use crate::support::{TestStore, files, make_tree, memory_dir, random_bytes, text};
use std::fs;
use std::path::{Path, PathBuf};

const MIB: usize = 1 << 20;

/// A store in memory with `a:v0`, whose file `big` has these bytes, and what is known of their beginnings.
fn with_one_version(bytes: &[u8]) -> TestStore {
    let test_store = TestStore::in_memory();
    put(&test_store, bytes);
    test_store
}

fn put(test_store: &TestStore, bytes: &[u8]) -> u64 {
    make_tree(&test_store.path("d"), &[("big", bytes)]);
    test_store.ok(&["put", "a", "d"]);
    test_store.store().version("a").unwrap().record().new_bytes
}

fn got(test_store: &TestStore, version: &str) -> Vec<u8> {
    test_store.run(&["cat", version, "big"], 0).stdout
}

/// The records of beginnings.
fn records(test_store: &TestStore) -> Vec<PathBuf> {
    let is_record = |path: &PathBuf| path.file_name().unwrap().len() == 62;
    let dir = test_store.path("cache/beginnings");
    let dirs = fs::read_dir(&dir).into_iter().flatten().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut found: Vec<PathBuf> = dirs.flat_map(|dir| files(&dir)).filter(is_record).collect();
    found.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    found
}

/// Bytes that a put reads by system calls.
fn read_by_put(test_store: &TestStore) -> u64 {
    let script = "\"$@\" >&2 || exit 1; cat /proc/$$/io";
    let put = test_store.cairn(&["put", "a", "d"]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh"]).arg(put.get_program()).args(put.get_args()).current_dir(test_store.path(""));
    command.envs(put.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok()).unwrap()
}

/// Changes a byte of the object that `a:v0` is, without a trace in its time, size or mode.
fn rot(test_store: &TestStore, at: usize) {
    let path = files(&test_store.store_path().join("objects")).pop().unwrap();
    let meta = fs::metadata(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1;
    crate::crafted_stores::write(&path, &bytes);
    fs::File::open(&path).unwrap().set_modified(meta.modified().unwrap()).unwrap();
    fs::set_permissions(&path, meta.permissions()).unwrap();
}

/// Another file in place of a record.
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_appended_to_a_large_file_is_put_without_a_read_of_the_version_before() {
    let mut bytes = random_bytes(1, 20 * MIB + 300);
    let test_store = with_one_version(&bytes);
    let mut all = vec![bytes.clone()];
    for day in 0..3 {
        bytes.extend(b"a line of text\n".repeat(40_000 + day));
        make_tree(&test_store.path("d"), &[("big", &bytes)]);
        let read = read_by_put(&test_store);
        assert!(read < bytes.len() as u64 + 4 * MIB as u64, "day {day}: {read} bytes, {} in the file", bytes.len());
        all.push(bytes.clone());
    }
    // What was changed is compared from the step before on.
    bytes[15 * MIB] ^= 1;
    make_tree(&test_store.path("d"), &[("big", &bytes)]);
    let read = read_by_put(&test_store) - bytes.len() as u64;
    assert!((4 * MIB as u64..12 * MIB as u64).contains(&read), "{read} bytes of the version before");
    all.push(bytes.clone());
    assert_eq!(records(&test_store).len(), all.len());
    // Without the cache, all of both is read; the object alone has 20 MiB.
    fs::remove_dir_all(test_store.path("cache")).unwrap();
    bytes.extend(random_bytes(2, 1000));
    make_tree(&test_store.path("d"), &[("big", &bytes)]);
    assert!(read_by_put(&test_store) > (bytes.len() + 19 * MIB) as u64);
    all.push(bytes);
    for (i, bytes) in all.iter().enumerate() {
        assert!(got(&test_store, &format!("a:v{i}")) == *bytes, "v{i}");
    }
    test_store.clean("at the end");
}

#[test]
fn a_file_that_is_cut_that_ends_in_a_step_or_that_has_another_name_shares_its_beginning() {
    let v0 = random_bytes(1, 24 * MIB);
    let test_store = with_one_version(&v0);
    for (i, len) in [24 * MIB - 1, 23 * MIB, 22 * MIB + 5, 17 * MIB, 24 * MIB].into_iter().enumerate() {
        let version = format!("a:v{}", i + 1);
        assert!(put(&test_store, &v0[..len]) < 4096, "{version}");
        assert!(got(&test_store, &version) == v0[..len], "{version}");
    }
    let read = {
        let longer = [&v0[..], b"more"].concat();
        fs::remove_dir_all(test_store.path("d")).unwrap();
        make_tree(&test_store.path("d"), &[("big-2", &longer)]);
        read_by_put(&test_store)
    };
    assert!(read < 28 * MIB as u64, "{read} bytes: the new name and what is near it are read");
    assert!(test_store.run(&["cat", "a", "big-2"], 0).stdout == [&v0[..], b"more"].concat());
    test_store.clean("at the end");
}

/// As with content that is found by its digest, the earlier version is trusted as far as it is not known to be damaged.
/// So damage that nobody knows shows whether the earlier version was read.
#[test]
fn a_record_that_is_changed_missing_or_of_another_content_is_not_believed_and_all_is_compared() {
    let v0 = random_bytes(1, 17 * MIB);
    let v1 = [&v0[..], b"appended"].concat();
    let start = with_one_version(&v0);
    let [record] = &records(&start)[..] else { panic!("one record") };
    let right = fs::read(record).unwrap();
    let name = record.strip_prefix(start.path("")).unwrap().to_path_buf();
    put(&start, &edited(&v0, 3));
    let other = records(&start).pop().unwrap();
    let other = fs::read(other).unwrap();
    assert_eq!(other.len(), right.len());
    rot(&start, 5 * MIB + 7);
    let uses = |change: &dyn Fn(&TestStore, &Path), environment: &[(&str, &str)]| {
        let test_store = start.copy_to(memory_dir(), &["store", "cache"]);
        test_store.ok(&["rm", "a:v1"]);
        change(&test_store, &test_store.path("").join(&name));
        make_tree(&test_store.path("d"), &[("big", &v1)]);
        let output = test_store.cairn(&["put", "a", "d"]).envs(environment.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let is_right = got(&test_store, "a:v2") == v1;
        let printed = text(&test_store.run(&["verify"], 1).stdout);
        assert!(printed.contains("a:v0 big"), "{printed}");
        assert!(is_right || printed.contains("a:v2 big"), "verify names what is wrong: {printed}");
        // What is known to be damaged is not trusted, whatever the cache says.
        test_store.ok(&["put", "a", "d", "--rehash"]);
        assert!(got(&test_store, "a") == v1);
        !is_right
    };
    assert!(uses(&|_, _| (), &[]), "a right record is believed");
    assert!(!uses(&|test_store, _| fs::remove_dir_all(test_store.path("cache")).unwrap(), &[]));
    assert!(!uses(&|_, record| fs::remove_file(record).unwrap(), &[]));
    assert!(!uses(&|_, record| overwrite(record, &other), &[]), "it is of another content");
    assert!(!uses(&|_, record| overwrite(record, &right[..right.len() - 32]), &[]));
    for at in [0, 8, 40, 300, right.len() - 1] {
        let mut flipped = right.clone();
        flipped[at] ^= 0x10;
        assert!(!uses(&|_, record| overwrite(record, &flipped), &[]), "byte {at}");
    }
    assert!(!uses(&|_, _| (), &[("CAIRN_STAT_CACHE", "off")]));
    assert!(!uses(&|_, _| (), &[("CAIRN_CACHE_DIR", "")]));
    let open_to_all = |test_store: &TestStore, _: &Path| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(test_store.path("cache/beginnings"), fs::Permissions::from_mode(0o777)).unwrap();
    };
    assert!(!uses(&open_to_all, &[]), "every user could write records");
}

/// The same bytes with another one at a place.
fn edited(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out[at] ^= 1;
    out
}

#[test]
fn what_is_stored_again_of_a_beginning_that_was_not_compared_is_hashed_first() {
    // v1 is composed of most of v0 and of an object of its own. v2 needs so little of v0 that it is stored again.
    let v0 = random_bytes(1, 20 * MIB);
    let v1 = [&v0[..18 * MIB], &random_bytes(2, 16 * MIB)].concat();
    let v2 = [&v1[..2 * MIB + 99], &v1[18 * MIB..]].concat();
    // Less than half of v3 is shared, so all of it is stored: it is copied, with what it shares left out at first.
    let v3 = [&v1[..9 * MIB], &random_bytes(3, 20 * MIB)].concat();
    for is_damaged in [false, true] {
        let start = with_one_version(&v0);
        if is_damaged {
            rot(&start, MIB + 7);
        }
        put(&start, &v1);
        for (name, bytes) in [("stored again", &v2), ("stored whole", &v3)] {
            let test_store = start.copy_to(memory_dir(), &["store", "cache"]);
            put(&test_store, bytes);
            assert!(got(&test_store, "a:v2") == *bytes, "{name}, damaged: {is_damaged}");
            if !is_damaged {
                test_store.clean(name);
                continue;
            }
            let printed = text(&test_store.run(&["verify"], 1).stdout);
            let hits = ["a:v0 big", "a:v1 big", "a:v2 big"].map(|version| printed.contains(version));
            assert_eq!(hits, [true, true, false], "{name}: {printed}");
        }
    }
}
