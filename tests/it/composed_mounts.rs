//! Composed files through mounts: which of them the kernel reads by itself, and what becomes of recipes that are wrong.

use crate::crafted_stores;
use crate::support::{TestStore, make_tree, random_bytes, store_on, text, wait_until};
use cairn::internals::manifest::{Edit, MemoryNodes, Node, RootNode, apply};
use cairn::manifest::{Entry, Tree};
use cairn::types::{Digest, RelPath};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const MIB: usize = 1 << 20;

/// A mount of `a`, or of another version. It ends with the value.
struct Mounted<'a> {
    test_store: &'a TestStore,
    at: PathBuf,
    log: PathBuf,
}

impl<'a> Mounted<'a> {
    fn new(test_store: &'a TestStore, name: &str, more: &[&str]) -> Mounted<'a> {
        let (at, log) = (test_store.path("mnt"), test_store.path("log"));
        fs::create_dir_all(&at).unwrap();
        let _ = fs::remove_file(&log);
        let args = ["mount", at.to_str().unwrap(), name, "--log", log.to_str().unwrap()];
        test_store.ok(&[&args, more].concat());
        Mounted { test_store, at, log }
    }

    fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn daemon(&self) -> u32 {
        let found = crate::support::daemons(&self.at);
        assert_eq!(found.len(), 1);
        found[0]
    }

    /// Whether an open file is read right while the daemon is stopped.
    fn is_read_without_the_daemon(&self, file: File, wanted: Vec<u8>) -> bool {
        let signal = |number| {
            // SAFETY: a signal to a daemon that this test started.
            assert_eq!(unsafe { libc::kill(self.daemon() as i32, number) }, 0);
        };
        signal(libc::SIGSTOP);
        let (done, is_done) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; wanted.len()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert!(bytes == wanted);
            let _ = done.send(());
        });
        let read = is_done.recv_timeout(Duration::from_secs(60)).is_ok();
        signal(libc::SIGCONT);
        reader.join().unwrap();
        read
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logged());
        }
        drop(self.test_store.cairn(&["umount", "mnt"]).output());
        crate::support::wait_for_daemons(&self.at);
    }
}

/// Whether mounts here can have passthrough. The log of one that asked for it says if not.
fn refuses_passthrough(mounted: &Mounted<'_>) -> bool {
    let refuses = mounted.logged().contains("passthrough");
    if refuses {
        println!("skipped: the kernel refuses passthrough");
    }
    refuses
}

/// `a` gets a version whose file `big` has these bytes.
fn put(test_store: &TestStore, bytes: &[u8]) {
    make_tree(&test_store.path("d"), &[("big", bytes), ("small", b"small")]);
    test_store.ok(&["put", "a", "d"]);
}

/// `a` has a file that is composed of an object and of what was appended to it three times.
fn appended(test_store: &TestStore) -> Vec<u8> {
    let mut bytes = random_bytes(1, 32 * MIB + 77);
    put(test_store, &bytes);
    for day in 0..3 {
        bytes.extend(random_bytes(10 + day, 300_123));
        put(test_store, &bytes);
    }
    let stored: u64 = crate::support::files(&test_store.store_path().join("objects"))
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    assert!(stored < bytes.len() as u64 + 20_000, "{stored} bytes of objects");
    bytes
}

#[test]
fn where_blocks_can_be_shared_the_kernel_reads_a_composed_file_by_itself() {
    let (disk, test_store) = store_on("xfs", 320 << 20);
    let bytes = appended(&test_store);
    let used = || {
        let space = cairn::internals::disk::space(&disk.0).unwrap();
        (space.blocks - space.blocks_free) * u64::from(space.fragment_size)
    };
    File::open(&disk.0).unwrap().sync_all().unwrap();
    let mut before = used();
    wait_until("the disk is still", || std::mem::replace(&mut before, used()) == before);
    for more in [&[][..], &["--verify", "all"]] {
        let mounted = Mounted::new(&test_store, "a", &[&["--io", "passthrough"], more].concat());
        if refuses_passthrough(&mounted) {
            return;
        }
        let file = File::open(mounted.at.join("big")).unwrap();
        assert!(used() < before + (256 << 10), "{before} to {}: blocks are shared", used());
        assert!(mounted.is_read_without_the_daemon(file, bytes.clone()));
        assert!(fs::read(mounted.at.join("small")).unwrap() == b"small");
        assert_eq!(mounted.logged(), "");
    }
    wait_until("the file is gone with the daemon", || used() <= before);
    test_store.clean("after the mounts");
}

#[test]
fn what_a_cache_has_of_a_composed_file_is_read_by_the_kernel_itself() {
    let test_store = TestStore::new();
    let bytes = appended(&test_store);
    let cached = |name: &str| {
        let cache = test_store.path(name);
        let mounted = Mounted::new(&test_store, "a", &["--io", "passthrough", "--cache", cache.to_str().unwrap()]);
        let file = File::open(mounted.at.join("big")).unwrap();
        (file, mounted, cache)
    };
    // Read once, and then checked as a whole by a thread.
    let (file, mounted, cache) = cached("node cache");
    if refuses_passthrough(&mounted) {
        return;
    }
    assert!(fs::read(mounted.at.join("big")).unwrap() == bytes);
    drop((file, mounted));
    let is_checked = || {
        let whole = |path: &PathBuf| {
            path.ends_with("sums") && {
                let sums = fs::read(path).unwrap();
                sums[8..16] == (bytes.len() as u64).to_le_bytes() && sums[24..52] != [0; 28]
            }
        };
        crate::support::files(&cache).iter().any(whole)
    };
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while !is_checked() {
        assert!(std::time::Instant::now() < until);
        drop(cached("node cache"));
        std::thread::sleep(Duration::from_millis(100));
    }
    let (file, mounted, _) = cached("node cache");
    assert!(mounted.is_read_without_the_daemon(file, bytes.clone()));
    drop(mounted);
    // Read ahead by a command.
    test_store.ok(&["warm", "a", "--cache", test_store.path("warmed cache").to_str().unwrap()]);
    let (file, mounted, _) = cached("warmed cache");
    assert!(mounted.is_read_without_the_daemon(file, bytes.clone()));
    drop(mounted);
    test_store.clean("after the mounts");
}

/// The parts of a recipe: sources with their sizes, and extents (source, offset, length).
struct Parts<'a> {
    size: u64,
    sources: &'a [(Digest, u64)],
    extents: &'a [(u32, u64, u64)],
}

/// A recipe with a right checksum.
fn recipe(of: &Digest, Parts { size, sources, extents }: &Parts<'_>) -> Vec<u8> {
    let mut out = 1u32.to_le_bytes().to_vec();
    out.extend((sources.len() as u32).to_le_bytes());
    out.extend((extents.len() as u32).to_le_bytes());
    out.extend(size.to_le_bytes());
    for (digest, size) in *sources {
        out.extend(digest.0);
        out.extend(size.to_le_bytes());
    }
    for (source, offset, len) in *extents {
        out.extend(source.to_le_bytes());
        out.extend(offset.to_le_bytes());
        out.extend(len.to_le_bytes());
    }
    sealed(of, out)
}

fn sealed(of: &Digest, mut recipe: Vec<u8>) -> Vec<u8> {
    let sum = Digest::of(&[&b"cairn-recipe-1\n"[..], &of.0, &recipe].concat());
    recipe.extend(sum.0);
    recipe
}

/// Stores files with these digests, sizes and recipes, each in a pack of its own, as version 0 of `x`.
fn publish(store: &Path, crafted: &[(&str, Digest, u64, Vec<u8>)]) {
    let nodes = MemoryNodes::new();
    let empty = Tree::of(&RootNode { node: Arc::new(Node::empty()), place: None }, Arc::new(nodes.clone()));
    let edits = crafted.iter().map(|(name, digest, size, recipe)| {
        let (pack, bytes) = crafted_stores::pack(&[(*digest, 3, recipe.clone())]);
        crafted_stores::write(&store.join("packs").join(pack.hex()), &bytes);
        let entry = Entry::File { digest: *digest, size: *size, exec: false, place: None };
        Edit::put(RelPath::parse(name.as_bytes()).unwrap(), entry)
    });
    let root = apply(&empty, edits.collect(), &mut nodes.clone()).unwrap();
    let tree = Tree::of(&root, empty.source().clone());
    crafted_stores::publish(store, "x", 0, &tree, &nodes, &[]);
}

#[test]
fn recipes_that_are_wrong_are_eio_with_a_log_line_in_bounded_memory() {
    let test_store = TestStore::new();
    let base = random_bytes(1, 2 * MIB);
    put(&test_store, &base);
    put(&test_store, &[&base[..], &random_bytes(2, 200_000)].concat());
    let (big, small) = ((Digest::of(&base), base.len() as u64), (Digest::of(b"small"), 5));
    let mib = MIB as u64;
    let mut crafted: Vec<(&str, Digest, u64, Vec<u8>)> = Vec::new();
    let right = [&base[..MIB], &base[MIB / 2..MIB], b"small"].concat();
    let parts = Parts {
        size: right.len() as u64,
        sources: &[big, small],
        extents: &[(0, 0, mib), (0, mib / 2, mib / 2), (1, 0, 5)],
    };
    let digest = Digest::of(&right);
    crafted.push(("right", digest, right.len() as u64, recipe(&digest, &parts)));
    let mut add = |name: &'static str, sources: &[(Digest, u64)], extents: &[(u32, u64, u64)]| {
        let of = Digest::of(name.as_bytes());
        crafted.push((name, of, mib, recipe(&of, &Parts { size: mib, sources, extents })));
    };
    add("beyond its source", &[big], &[(0, 2 * mib - 10, 20), (0, 0, mib - 20)]);
    add("no bytes", &[big], &[(0, 5, 0), (0, 0, mib)]);
    add("an end past all numbers", &[big], &[(0, u64::MAX - 5, 10), (0, 0, mib - 10)]);
    add("lengths past all numbers", &[(big.0, u64::MAX)], &[(0, 0, u64::MAX), (0, 0, mib + 1)]);
    add("too few bytes", &[big], &[(0, 0, mib - 1)]);
    add("too many bytes", &[big], &[(0, 0, mib), (0, 0, 1)]);
    add("no such source", &[big], &[(1, 0, mib)]);
    add("nothing", &[], &[]);
    add("a missing object", &[(Digest::of(b"missing"), 2 * mib)], &[(0, 0, mib)]);
    add("a missing small content", &[big, (Digest::of(b"lost"), 4)], &[(0, 0, mib - 4), (1, 0, 4)]);
    add("an object that is shorter", &[(big.0, 3 * mib)], &[(0, 2 * mib, mib)]);
    add("a small content that is shorter", &[big, (small.0, 9)], &[(0, 0, mib - 9), (1, 0, 9)]);
    add("an object of which nothing is used is missing", &[big, (Digest::of(b"m"), 3 * mib)], &[(0, 0, mib)]);
    add("itself", &[(Digest::of(b"itself"), mib)], &[(0, 0, mib)]);
    add("another composed content", &[(digest, right.len() as u64)], &[(0, 0, mib)]);
    add("too many sources", &[big; 257], &[(0, 0, mib)]);
    let many: Vec<(u32, u64, u64)> = (0..65_537).map(|i| (0, i, if i == 0 { mib - 65_536 } else { 1 })).collect();
    add("too many extents", &[big], &many);
    for (name, counts) in [("no end of sources", [u32::MAX, 1]), ("no end of extents", [1, u32::MAX])] {
        let of = Digest::of(name.as_bytes());
        let fields = [&1u32.to_le_bytes()[..], &counts[0].to_le_bytes(), &counts[1].to_le_bytes(), &mib.to_le_bytes()];
        crafted.push((name, of, mib, sealed(&of, [&fields.concat()[..], &[0; 60]].concat())));
    }
    let of = Digest::of(b"for another size");
    let parts = Parts { size: mib, sources: &[big], extents: &[(0, 0, mib)] };
    crafted.push(("for another size", of, mib + 1, recipe(&of, &parts)));
    publish(&test_store.store_path(), &crafted);
    for io in ["passthrough", "no-open"] {
        let mounted = Mounted::new(&test_store, "x", &["--io", io]);
        assert!(fs::read(mounted.at.join("right")).unwrap() == right);
        for (name, ..) in &crafted[1..] {
            let error = fs::read(mounted.at.join(name)).expect_err(name);
            assert_eq!(error.raw_os_error(), Some(libc::EIO), "{name}: {error}");
            let log = mounted.logged();
            assert_eq!(log.lines().filter(|line| line.contains(&format!("/{name}:"))).count(), 1, "{name}: {log}");
        }
        let status = fs::read_to_string(format!("/proc/{}/status", mounted.daemon())).unwrap();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kilobytes: u64 = most.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kilobytes < 100 << 10, "{kilobytes} kB");
    }
    for (name, digest, ..) in &crafted[1..] {
        let message = text(&test_store.run(&["cat", "x", name], 4).stderr);
        assert!(message.contains(&digest.hex()) && message.len() < 3000, "{message}");
    }
    let printed = text(&test_store.run(&["verify", "x"], 1).stdout);
    assert!(crafted[1..].iter().all(|(name, ..)| printed.contains(&format!("x:v0 {name}"))), "{printed}");
    assert!(!printed.contains("x:v0 right"), "{printed}");
}

#[test]
fn an_object_of_a_composed_file_that_is_cut_or_missing_is_eio_where_it_is_read_and_right_after_its_repair() {
    let test_store = TestStore::new();
    let bytes = appended(&test_store);
    let last = crate::support::files(&test_store.store_path().join("objects"))
        .into_iter()
        .find(|path| fs::read(path).unwrap().ends_with(&bytes[bytes.len() - 1000..]))
        .unwrap();
    let (content, meta) = (fs::read(&last).unwrap(), fs::metadata(&last).unwrap());
    let write = |bytes: &[u8]| {
        crafted_stores::write(&last, bytes);
        File::open(&last).unwrap().set_modified(meta.modified().unwrap()).unwrap();
        fs::set_permissions(&last, meta.permissions()).unwrap();
    };
    for io in ["passthrough", "no-open"] {
        let mounted = Mounted::new(&test_store, "a", &["--io", io]);
        let file = File::open(mounted.at.join("big")).unwrap();
        let read = |from: usize| {
            let mut part = vec![0; 8192];
            file.read_exact_at(&mut part, from as u64).map(|()| assert!(part == bytes[from..from + 8192]))
        };
        read(0).unwrap();
        for cut in [false, true] {
            fs::remove_file(&last).unwrap();
            if cut {
                write(&content[..content.len() / 2]);
            }
            let from = bytes.len() - 300_000 + 12_288 * usize::from(cut);
            let in_last: Vec<usize> = (0..24).map(|i| from + i * 8192).collect();
            let failed = in_last.iter().filter(|from| read(**from).is_err()).count();
            assert!(failed > 0 && mounted.logged().contains("cannot read /big: "), "{io} {cut}: {}", mounted.logged());
            write(&content);
            for from in in_last {
                read(from).unwrap();
            }
        }
    }
    let _ = fs::remove_dir_all(test_store.store_path().join("damaged"));
    test_store.clean("repaired");
}

/// A byte that changed without a trace in size and time is found by `verify` alone. From then on it is not read.
#[test]
fn what_verify_found_damaged_is_not_read_until_it_is_right() {
    let test_store = TestStore::new();
    let bytes = appended(&test_store);
    let objects = crate::support::files(&test_store.store_path().join("objects"));
    let first = objects.iter().find(|path| bytes.starts_with(&fs::read(path).unwrap())).unwrap();
    let (content, meta) = (fs::read(first).unwrap(), fs::metadata(first).unwrap());
    let write = |bytes: &[u8]| {
        crafted_stores::write(first, bytes);
        File::open(first).unwrap().set_modified(meta.modified().unwrap()).unwrap();
        fs::set_permissions(first, meta.permissions()).unwrap();
    };
    // `a:v0` is the object, and the newest version has parts of it.
    let versions = ["a:v0", "a"];
    let is_read = || {
        let out = |version: &str| test_store.cairn(&["cat", version, "big"]).output().unwrap();
        versions.map(out).map(|out| {
            let is_read = out.status.success();
            assert!(is_read || (out.status.code() == Some(4) && out.stdout.is_empty()), "{}", text(&out.stderr));
            is_read
        })
    };
    for io in ["passthrough", "no-open"] {
        let mut wrong = content.clone();
        wrong[77] ^= 1;
        write(&wrong);
        let mounted = Mounted::new(&test_store, "a", &["--io", io]);
        let path = mounted.at.join("big");
        fs::read(&path).unwrap();
        assert_eq!(is_read(), [true, true], "nothing shows that it is wrong");
        assert!(text(&test_store.run(&["verify"], 1).stdout).contains("F1-object"));
        assert_eq!(is_read(), [false, false]);
        wait_until("the mount to see the list", || {
            drop_page_cache(&path);
            fs::read(&path).is_err_and(|e| e.raw_os_error() == Some(libc::EIO))
        });
        assert!(mounted.logged().contains("/big: "), "{}", mounted.logged());
        for _ in 0..2 {
            let refused = test_store.run(&["get", "a:v0", "out"], 4);
            assert!(text(&refused.stderr).contains("verify"), "{}", text(&refused.stderr));
        }
        // Right bytes are read again without a `verify`, and are not listed any more.
        write(&content);
        assert_eq!(is_read(), [true, true]);
        assert!(fs::read_dir(test_store.store_path().join("damaged")).unwrap().next().is_none());
        wait_until("the mount to read it", || {
            drop_page_cache(&path);
            fs::read(&path).is_ok_and(|read| read == bytes)
        });
        test_store.clean("right again");
    }
}

/// Lets the kernel forget what it has of a file.
fn drop_page_cache(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    // SAFETY: the descriptor is open.
    unsafe { libc::posix_fadvise(std::os::fd::AsRawFd::as_raw_fd(&file), 0, 0, libc::POSIX_FADV_DONTNEED) };
}
