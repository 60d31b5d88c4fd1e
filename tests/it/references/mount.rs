//! References in a mount: read on demand, in threads that may wait.

use super::far::{cairn, run};
use super::server::{Faults, Server};
use crate::support::*;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

pub struct Mounted<'a>(pub &'a TestStore);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        drop(self.0.cairn(&["umount", "mnt"]).output());
    }
}

fn mount<'a>(test: &'a TestStore, server: &Server) -> Mounted<'a> {
    std::fs::create_dir_all(test.path("mnt")).unwrap();
    let mounted = Mounted(test);
    let out =
        cairn(test, server, &["mount", "mnt", "x", "--log", test.path("log").to_str().unwrap()]).output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    mounted
}

fn logged(test: &TestStore) -> String {
    std::fs::read_to_string(test.path("log")).unwrap_or_default()
}

fn eio(result: std::io::Result<usize>) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EIO));
}

#[test]
fn random_reads_fetch_blocks_not_the_object_and_many_readers_fetch_once() {
    let (test, server) = (TestStore::new(), Server::start());
    let bytes = random_bytes(1, 48 * MIB + 999);
    server.put("bucket/big", &bytes);
    run(&test, &server, &["put", "x", "s3://bucket/big"], 0);
    let mounted = mount(&test, &server);
    let path = test.path("mnt/big");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes.len() as u64);
    let file = File::open(&path).unwrap();
    server.counted();
    let mut part = [0; 4096];
    for n in [40, 3, 17, 29, 8] {
        let at = n * MIB + 123_456;
        file.read_exact_at(&mut part, at as u64).unwrap();
        assert!(part[..] == bytes[at..at + 4096], "at {at}");
    }
    let fetched = server.counted().1;
    assert!(fetched <= 5 * (4 * 4096 + MIB as u64), "{fetched} bytes for 5 reads");
    server.gets();
    let gate = std::sync::Barrier::new(32);
    std::thread::scope(|s| {
        for _ in 0..32 {
            s.spawn(|| {
                gate.wait();
                assert!(std::fs::read(&path).unwrap() == bytes);
            });
        }
    });
    drop(file);
    let (gets, fetched) = (server.gets(), server.counted().1);
    assert!(fetched <= bytes.len() as u64 + 8 * MIB as u64, "{fetched} bytes in {gets} requests");
    drop(mounted);
    // Another daemon finds all of it in the cache.
    let _mounted = mount(&test, &server);
    assert!(std::fs::read(&path).unwrap() == bytes);
    assert_eq!(server.counted(), (0, 0));
}

#[test]
fn a_change_under_a_reader_is_eio_with_a_line_in_the_log_and_never_other_bytes() {
    let (test, server) = (TestStore::new(), Server::start());
    for ignores_if_match in [false, true] {
        server.faults(Faults { ignores_if_match, ..Faults::default() });
        let object = format!("big-{ignores_if_match}");
        let (old, new) = (random_bytes(1, 24 * MIB), random_bytes(2, 24 * MIB));
        server.put(&format!("bucket/{object}"), &old);
        run(&test, &server, &["put", "x", &format!("s3://bucket/{object}")], 0);
        let mounted = mount(&test, &server);
        let file = File::open(test.path("mnt").join(&object)).unwrap();
        let mut part = vec![0; 4096];
        file.read_exact_at(&mut part, 0).unwrap();
        server.put(&format!("bucket/{object}"), &new);
        eio(file.read_at(&mut part, 20 * MIB as u64));
        let log = logged(&test);
        assert!(log.contains(&format!("/{object}: cannot read s3://bucket/{object}: it changed")), "{log}");
        file.read_exact_at(&mut part, 0).unwrap();
        assert!(part[..] == old[..4096], "what was fetched before is what was recorded");
        server.remove(&format!("bucket/{object}"));
        eio(file.read_at(&mut part, 21 * MIB as u64));
        server.put(&format!("bucket/{object}"), &old); // with its old ETag
        file.read_exact_at(&mut part, 20 * MIB as u64).unwrap();
        assert!(part[..] == old[20 * MIB..20 * MIB + 4096], "it is back");
        drop((file, mounted));
    }
}

#[test]
fn a_silent_server_is_eio_within_a_bound_and_holds_up_nothing_else() {
    let (test, server) = (TestStore::new(), Server::start());
    let bytes = random_bytes(1, 4 * MIB);
    server.put("bucket/far", &bytes);
    make_tree(&test.path("src"), &[("near", b"here"), ("other", b"too")]);
    run(&test, &server, &["put", "x", "s3://bucket/far", "src"], 0);
    let _mounted = mount(&test, &server);
    server.faults(Faults { silent: true, ..Faults::default() });
    let began = Instant::now();
    std::thread::scope(|s| {
        let readers: Vec<_> = (0..8)
            .map(|_| s.spawn(|| File::open(test.path("mnt/far")).unwrap().read_at(&mut [0; 100], 0).unwrap_err()))
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        let asked = Instant::now();
        assert_eq!(std::fs::read(test.path("mnt/near")).unwrap(), b"here");
        assert_eq!(std::fs::read_dir(test.path("mnt")).unwrap().count(), 3);
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        for reader in readers {
            assert_eq!(reader.join().unwrap().raw_os_error(), Some(libc::EIO));
        }
    });
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert!(logged(&test).contains("/far: cannot read s3://bucket/far"), "{}", logged(&test));
    server.faults(Faults::default());
    let back = Instant::now();
    while std::fs::read(test.path("mnt/far")).ok().as_ref() != Some(&bytes) {
        assert!(back.elapsed() < Duration::from_secs(10), "the server is back");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_local_reference_is_read_through_the_mount_and_a_change_is_eio() {
    let (test, server) = (TestStore::new(), Server::start());
    std::fs::write(test.path("far"), random_bytes(1, 500_000)).unwrap();
    let uri = format!("file://{}", test.path("far").display());
    run(&test, &server, &["put", "x", &uri], 0);
    let _mounted = mount(&test, &server);
    let (file, bytes) = (File::open(test.path("mnt/far")).unwrap(), random_bytes(1, 500_000));
    let mut part = [0; 4096];
    file.read_exact_at(&mut part, 0).unwrap();
    assert!(part[..] == bytes[..4096]);
    std::fs::write(test.path("far"), random_bytes(2, 500_000)).unwrap();
    eio(file.read_at(&mut part, 400_000));
    assert!(logged(&test).contains("it changed since it was added"), "{}", logged(&test));
    std::fs::write(test.path("far"), &bytes).unwrap();
    assert!(std::fs::read(test.path("mnt/far")).unwrap() == bytes, "it is back");
}

#[test]
fn a_size_that_was_not_recorded_is_asked_for_and_its_state_counts_for_the_mount() {
    let (test, server) = (TestStore::new(), Server::start());
    let (old, new) = (random_bytes(1, 3 * MIB + 5), random_bytes(2, 3 * MIB + 5));
    for name in ["stat", "read", "list", "gone"] {
        server.put(&format!("bucket/{name}"), &old);
    }
    std::fs::write(test.path("near"), &old).unwrap();
    let near = format!("file://{}", test.path("near").display());
    let [stat, read, list, gone] = ["stat", "read", "list", "gone"].map(|name| format!("s3://bucket/{name}"));
    run(&test, &server, &["put", "x", &stat, &read, &list, &gone, &near, "--no-checksum"], 0);
    server.remove("bucket/gone");
    server.counted();
    let mounted = mount(&test, &server);
    let at = |name: &str| test.path("mnt").join(name);
    assert_eq!(std::fs::read_dir(test.path("mnt")).unwrap().count(), 5);
    assert_eq!(server.counted().0, 0, "names alone are listed without their sources");
    assert_eq!(std::fs::metadata(at("stat")).unwrap().len(), old.len() as u64);
    let mut found = Vec::new();
    File::open(at("read")).unwrap().read_to_end(&mut found).unwrap();
    assert!(found == old, "a program that does not ask for the size gets all of it");
    assert!(std::fs::read(at("near")).unwrap() == old);
    let listed = std::process::Command::new("ls").arg("-l").arg(test.path("mnt")).output().unwrap();
    let sizes = text(&listed.stdout).matches(&old.len().to_string()).count();
    assert_eq!(sizes, 4, "{}", text(&listed.stdout));
    // What is missing has no size; reading it says why.
    assert_eq!(std::fs::metadata(at("gone")).unwrap().len(), 1);
    assert_eq!(std::fs::read(at("gone")).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert!(logged(&test).contains("/gone: cannot read s3://bucket/gone"), "{}", logged(&test));
    // The state that was found first counts for this mount. Another mount finds the next one.
    server.put("bucket/stat", &new[..MIB]);
    assert_eq!(std::fs::metadata(at("stat")).unwrap().len(), old.len() as u64);
    eio(File::open(at("stat")).unwrap().read_at(&mut [0; 100], 2 * MIB as u64));
    assert!(logged(&test).contains("/stat: cannot read s3://bucket/stat: it changed"), "{}", logged(&test));
    drop(mounted);
    let _mounted = mount(&test, &server);
    assert!(std::fs::read(at("stat")).unwrap() == new[..MIB]);
}

#[test]
fn a_silent_server_is_asked_once_for_the_sizes_of_a_listing() {
    let (test, server) = (TestStore::new(), Server::start());
    let uris: Vec<String> = (0..20).map(|n| format!("s3://bucket/{n}")).collect();
    for n in 0..20 {
        server.put(&format!("bucket/{n}"), b"content");
    }
    let args = [&["put", "x", "--no-checksum"], &uris.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat();
    run(&test, &server, &args, 0);
    let _mounted = mount(&test, &server);
    server.faults(Faults { silent: true, ..Faults::default() });
    let began = Instant::now();
    for name in std::fs::read_dir(test.path("mnt")).unwrap() {
        assert_eq!(std::fs::metadata(name.unwrap().path()).unwrap().len(), 1);
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?} for 20 files", began.elapsed());
    assert!(logged(&test).contains("cannot learn the size of /0"), "{}", logged(&test));
}
