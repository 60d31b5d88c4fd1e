//! Mounts that read a store through a cache.

use super::support::{Cached, MIB, flip, until};
use crate::support::*;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::Command;

#[test]
fn what_was_read_once_is_read_from_the_cache_by_every_mount_of_the_node() {
    let cached = Cached::new();
    cached.mount("one", &[]).is_right();
    cached.hide_store();
    cached.mount("two", &[]).is_right();
    for io in ["no-open", "passthrough"] {
        cached.mount("three", &["--io", io]).is_right();
    }
    cached.mount("four", &["--verify", "all"]).is_right();
    let whole = cached.mount_with(&["mount", "five", "--cache", cached.dir(), "--no-stage"]);
    assert!(
        std::fs::read(whole.at.join("x/v0/large/a")).unwrap() == std::fs::read(cached.test.path("d/large/a")).unwrap()
    );
    assert!(std::fs::read(whole.at.join("x/latest/small/00/7")).is_ok());
    assert_eq!(std::fs::metadata(&cached.dir).unwrap().mode() & 0o7777, 0o700, "for this user alone");
}

#[test]
fn a_random_read_caches_a_block_not_the_file() {
    let cached = Cached::new();
    let mounted = cached.mount("mnt", &["--io", "no-open"]);
    let file = File::open(mounted.at.join("large/a")).unwrap();
    let mut part = [0; 4096];
    file.read_exact_at(&mut part, 4 * MIB as u64 + 77).unwrap();
    assert!(part[..] == random_bytes(1000, 5 * MIB + 3)[4 * MIB + 77..][..4096]);
    let bytes = cached.show()["bytes"].as_u64().unwrap();
    assert!((MIB as u64..3 * MIB as u64).contains(&bytes), "{bytes} bytes: a block of the file, and the manifest's");
}

#[test]
fn the_kernel_reads_a_whole_file_of_the_cache_by_itself_until_it_is_damaged() {
    let cached = Cached::new();
    let path = "large/a";
    let wanted = std::fs::read(cached.test.path("d").join(path)).unwrap();
    let mounted = cached.mount("mnt", &["--io", "passthrough"]);
    assert!(std::fs::read(mounted.at.join(path)).unwrap() == wanted);
    if std::fs::read_to_string(cached.test.path("mnt.log")).unwrap().contains("passthrough") {
        println!("skipped: the kernel refuses passthrough");
        return;
    }
    // A thread checks it. Then an open has the file of the cache.
    let data = cached.files_named("data").into_iter().find(|f| f.metadata().unwrap().len() == wanted.len() as u64);
    let data = data.unwrap();
    let sums = data.with_file_name("sums");
    until("the whole file is checked", || std::fs::read(&sums).unwrap()[24..52] != [0; 28]);
    drop(mounted);
    cached.hide_store();
    let mounted = cached.mount("mnt", &["--io", "passthrough"]);
    let file = File::open(mounted.at.join(path)).unwrap();
    let before = std::fs::read(&sums).unwrap();
    std::fs::write(&sums, b"").unwrap();
    let mut part = vec![0; wanted.len()];
    file.read_exact_at(&mut part, 0).unwrap();
    assert!(part == wanted, "the daemon, which needs the sums, is not asked");
    std::fs::write(&sums, before).unwrap();
    drop((file, mounted));
    cached.show_store();
    flip(&data, 3 * MIB as u64);
    let mounted = cached.mount("mnt", &["--io", "passthrough"]);
    assert!(std::fs::read(mounted.at.join(path)).unwrap() == wanted, "a damaged file is not given to the kernel");
}

#[test]
fn damage_of_the_cache_heals_by_itself() {
    let cached = Cached::new();
    for name in ["data", "sums"] {
        cached.mount("mnt", &[]).is_right();
        for file in cached.files_named(name) {
            let len = file.metadata().unwrap().len();
            (0..len).step_by(700_000).for_each(|at| flip(&file, at));
            flip(&file, len - 1);
        }
        let mounted = cached.mount("mnt", &[]);
        mounted.is_right();
        drop(mounted);
        cached.hide_store();
        cached.mount("mnt", &[]).is_right();
        cached.show_store();
    }
    for file in cached.files_named("data") {
        File::options().write(true).open(file).unwrap().set_len(100).unwrap();
    }
    cached.mount("mnt", &[]).is_right();
    std::fs::remove_dir_all(&cached.dir).unwrap();
    cached.mount("mnt", &[]).is_right();
    cached.test.clean("the store itself was not touched");
}

#[test]
fn content_that_was_wrong_in_the_store_when_it_was_cached_is_right_after_a_repair() {
    let cached = Cached::new();
    let packs = files(&cached.test.store_path().join("packs"));
    let wanted = std::fs::read(cached.test.path("d/small/00/7")).unwrap();
    let (pack, at) = packs
        .iter()
        .find_map(|pack| {
            let bytes = std::fs::read(pack).unwrap();
            Some((pack, bytes.windows(wanted.len()).position(|w| w == wanted)?))
        })
        .unwrap();
    std::fs::set_permissions(pack, std::fs::Permissions::from_mode(0o644)).unwrap();
    flip(pack, at as u64 + 5);
    let mounted = cached.mount("mnt", &[]);
    let path = mounted.at.join("small/00/7");
    assert_eq!(std::fs::read(&path).unwrap_err().raw_os_error(), Some(libc::EIO));
    flip(pack, at as u64 + 5);
    std::fs::set_permissions(pack, std::fs::Permissions::from_mode(0o444)).unwrap();
    assert!(std::fs::read(&path).unwrap() == wanted);
    drop(mounted);
    cached.mount("mnt", &[]).is_right();
    cached.hide_store();
    assert!(std::fs::read(cached.mount("mnt", &[]).at.join("small/00/7")).unwrap() == wanted);
}

#[test]
fn two_daemons_and_killed_ones_share_a_cache() {
    let cached = Cached::new();
    for round in 0..3 {
        let (one, two) = (cached.mount("one", &[]), cached.mount("two", &[]));
        std::thread::scope(|s| {
            s.spawn(|| two.is_right());
            // It is killed while it reads.
            s.spawn(|| drop(std::fs::read(one.at.join("large/a"))));
            std::thread::sleep(std::time::Duration::from_millis(7 * round));
            let mounts = cached.test.json(&["mounts"]);
            let own = mounts.as_array().unwrap().iter().find(|m| m["mountpoint"].as_str() == one.at.to_str());
            // SAFETY: a signal to a daemon that this test started.
            unsafe { libc::kill(own.unwrap()["pid"].as_i64().unwrap() as i32, libc::SIGKILL) };
        });
        drop((one, two));
        cached.hide_store();
        cached.mount("one", &[]).is_right();
        cached.show_store();
        cached.test.ok(&["cache", "trim", cached.dir(), "--size", "0"]);
    }
}

#[test]
fn a_full_disk_of_the_cache_fails_no_read() {
    let cached = Cached::new();
    std::fs::create_dir(&cached.dir).unwrap();
    let tmpfs = |size: &str| {
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&cached.dir).output();
        mounted.is_ok_and(|o| o.status.success())
    };
    let unmount = || drop(Command::new("umount").arg(&cached.dir).output());
    for size in ["4k", "100k", "3m"] {
        if !tmpfs(size) {
            println!("skipped: tmpfs cannot be mounted here");
            return;
        }
        std::fs::set_permissions(&cached.dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        let mounted = cached.mount("mnt", &[]);
        mounted.is_right();
        drop(mounted);
        let mounted = cached.mount("mnt", &[]);
        mounted.is_right();
        drop(mounted);
        unmount();
    }
}

#[test]
fn a_cache_that_may_not_be_written_to_is_read_and_one_open_to_all_is_refused() {
    let cached = Cached::new();
    cached.mount("mnt", &[]).is_right();
    std::fs::set_permissions(&cached.dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    let out = cached.test.run(&["mount", "mnt", "x", "--cache", cached.dir()], 3);
    assert!(text(&out.stderr).contains("every user of this node may write to it"), "{}", text(&out.stderr));
    std::fs::set_permissions(&cached.dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    let ro = |on| {
        let bind = if on { vec!["--bind", cached.dir(), cached.dir()] } else { vec![cached.dir()] };
        let done = Command::new(if on { "mount" } else { "umount" }).args(bind).status().unwrap().success();
        done && (!on || Command::new("mount").args(["-o", "remount,bind,ro", cached.dir()]).status().unwrap().success())
    };
    if !ro(true) {
        println!("skipped: no bind mounts here");
        return;
    }
    cached.hide_store();
    cached.mount("mnt", &[]).is_right();
    cached.show_store();
    assert!(ro(false));
}

#[test]
fn a_cache_stays_within_its_size_and_show_and_trim_say_what_is_there() {
    let cached = Cached::new();
    let missing = cached.test.run(&["cache", "show", cached.dir()], 6);
    assert!(text(&missing.stderr).contains("nothing was cached there yet"));
    std::fs::write(cached.test.path("d/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n# another\n")
        .unwrap();
    for command in ["show", "trim"] {
        let other = cached.test.run(&["cache", command, cached.test.path("d").to_str().unwrap()], 2);
        assert!(text(&other.stderr).contains("is not a cache of cairn"), "another program's cache");
    }
    std::fs::remove_file(cached.test.path("d/CACHEDIR.TAG")).unwrap();
    cached.mount("mnt", &["--cache-size", "4M"]).is_right();
    let shown = cached.show();
    assert_eq!(shown["limit"], 4 << 20);
    assert!(shown["bytes"].as_u64().unwrap() <= 4 << 20, "{shown}");
    cached.mount("mnt", &["--cache-size", "1G"]).is_right();
    cached.mount("mnt", &[]).is_right();
    let shown = cached.show();
    assert!(shown["limit"] == 1 << 30 && shown["bytes"].as_u64().unwrap() > 8 << 20, "{shown}");
    assert!(shown["entries"].as_u64().unwrap() >= 4 && shown["oldest_use"].as_str().unwrap().ends_with('Z'), "{shown}");
    let text = cached.test.ok(&["cache", "show", cached.dir()]);
    assert!(text.contains("limit") && text.contains("1.00 GiB"), "{text}");
    let trimmed = cached.test.json(&["cache", "trim", cached.dir(), "--size", "5M"]);
    assert!(
        trimmed["bytes"].as_u64().unwrap() <= 5 << 20 && trimmed["removed_entries"].as_u64().unwrap() > 0,
        "{trimmed}"
    );
    assert_eq!(cached.show()["bytes"], trimmed["bytes"]);
    let wrong = cached.test.run(&["mount", "mnt", "x", "--cache", cached.dir(), "--cache-size", "many"], 2);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("expected a size such as 500M, 100G or 2T"));
    cached.mount("mnt", &[]).is_right();
}

#[test]
fn references_in_a_mount_with_a_cache_are_cached_there() {
    use crate::references::{Server, cairn};
    let (cached, server) = (Cached::new(), Server::start());
    let bytes = random_bytes(9, 3 * MIB);
    server.put("bucket/far", &bytes);
    let run = |args: &[&str]| {
        let out = cairn(&cached.test, &server, args).output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
    };
    run(&["put", "r", "s3://bucket/far"]);
    std::fs::create_dir(cached.test.path("mnt")).unwrap();
    for round in 0..2 {
        run(&["mount", "mnt", "r", "--cache", cached.dir()]);
        assert!(std::fs::read(cached.test.path("mnt/far")).unwrap() == bytes);
        cached.test.ok(&["umount", "mnt"]);
        let fetched = server.counted().1;
        assert!(if round == 0 { fetched >= bytes.len() as u64 } else { fetched == 0 }, "{fetched}");
    }
    assert!(!cached.test.path("cache/references").exists());
}

#[test]
fn the_kernel_reads_a_whole_reference_of_the_cache_by_itself() {
    use crate::references::{Server, cairn};
    let (cached, server) = (Cached::new(), Server::start());
    let bytes = random_bytes(9, 3 * MIB + 77);
    server.put("bucket/far", &bytes);
    let run = |args: &[&str]| {
        let out = cairn(&cached.test, &server, args).output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
    };
    run(&["put", "r", "s3://bucket/far"]);
    std::fs::create_dir(cached.test.path("mnt")).unwrap();
    let log = cached.test.path("r.log");
    let mount = || {
        run(&["mount", "mnt", "r", "--cache", cached.dir(), "--io", "passthrough", "--log", log.to_str().unwrap()]);
    };
    mount();
    let path = cached.test.path("mnt/far");
    assert!(std::fs::read(&path).unwrap() == bytes);
    if std::fs::read_to_string(&log).unwrap_or_default().contains("passthrough") {
        cached.test.ok(&["umount", "mnt"]);
        println!("skipped: the kernel refuses passthrough");
        return;
    }
    let data = cached.files_named("data").into_iter().find(|f| f.metadata().unwrap().len() == bytes.len() as u64);
    let data = data.unwrap();
    let sums = data.with_file_name("sums");
    until("the whole object is checked", || std::fs::read(&sums).unwrap()[24..52] != [0; 28]);
    cached.test.ok(&["umount", "mnt"]);
    server.down(true);
    mount();
    let file = File::open(&path).unwrap();
    let before = std::fs::read(&sums).unwrap();
    std::fs::write(&sums, b"").unwrap();
    let mut part = vec![0; bytes.len()];
    file.read_exact_at(&mut part, 0).unwrap();
    assert!(part == bytes, "the daemon, which needs the sums, is not asked");
    std::fs::write(&sums, before).unwrap();
    drop(file);
    cached.test.ok(&["umount", "mnt"]);
    server.down(false);
    flip(&data, 2 * MIB as u64);
    mount();
    assert!(std::fs::read(&path).unwrap() == bytes, "a damaged file is not given to the kernel");
    cached.test.ok(&["umount", "mnt"]);
}
