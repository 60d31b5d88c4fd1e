//! What is put is what is there: when the stat cache answers, and that a source is walked by descriptors.

use crate::support::{TestStore, make_tree, plain_umount, random_bytes, text};
use cairn::types::Digest;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Directories that are mounted; unmounted at the end, also of a test that fails.
#[derive(Default)]
struct Mounts(Vec<PathBuf>);

impl Mounts {
    /// Runs `mount ARGS AT`; `false` where that is not possible here.
    fn mount(&mut self, args: &[&str], at: &Path) -> bool {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(args).arg(at).output().is_ok_and(|o| o.status.success());
        if mounted {
            self.0.push(at.to_path_buf());
        } else {
            println!("skipped: mount {args:?}");
        }
        mounted
    }

    /// A new file system of this kind in an image.
    fn image(&mut self, kind: &str, at: &Path) -> bool {
        let image = at.with_extension("img");
        File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let made = Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image).output();
        made.is_ok_and(|o| o.status.success()) && self.mount(&["-o", "loop", image.to_str().unwrap()], at)
    }

    fn unmount(&mut self) {
        for at in self.0.drain(..).rev() {
            plain_umount(&at);
        }
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for at in self.0.iter().rev() {
            drop(Command::new("umount").arg("-l").arg(at).status());
        }
    }
}

const HEAD: usize = 8;
const RECORD: usize = 72;

/// The stat cache's file for a source.
fn cache_of(test_store: &TestStore, source: &Path) -> PathBuf {
    let path = fs::canonicalize(source).unwrap();
    test_store.path("cache/stat").join(Digest::of(path.to_str().unwrap().as_bytes()).hex())
}

/// How many files are remembered of a source.
fn remembered(test_store: &TestStore, source: &Path) -> usize {
    fs::read(cache_of(test_store, source)).map_or(0, |bytes| (bytes.len() - HEAD - 32) / RECORD)
}

/// Whether the temporary directory is on a file system that the cache believes.
fn believed(test_store: &TestStore) -> bool {
    let kind = Command::new("stat").args(["-f", "-c", "%T"]).arg(test_store.dir.path()).output().unwrap();
    let kind = text(&kind.stdout);
    let yes = ["ext2/ext3", "xfs", "btrfs"].contains(&kind.trim());
    if !yes {
        println!("skipped: the temporary directory is on {kind}");
    }
    yes
}

/// Longer than a tick of the kernel's clock.
fn let_a_tick_pass() {
    std::thread::sleep(Duration::from_millis(50));
}

/// Puts `source` and expects `content` of `f` in the newest version.
fn put_has(test_store: &TestStore, source: &Path, content: &str, when: &str) {
    test_store.ok(&["put", "x", source.to_str().unwrap()]);
    assert_eq!(test_store.ok(&["cat", "x", "f"]), content, "{source:?} {when}");
}

#[test]
fn what_is_stored_through_a_map_is_put() {
    let test_store = TestStore::new();
    let mut mounts = Mounts::default();
    let mut sources: Vec<PathBuf> = ["ext4", "xfs", "btrfs"]
        .iter()
        .filter(|kind| mounts.image(kind, &test_store.path(kind)))
        .map(|kind| test_store.path(kind))
        .collect();
    sources.extend(mounts.mount(&["-t", "tmpfs", "none"], &test_store.path("tmpfs")).then(|| test_store.path("tmpfs")));
    if sources.is_empty() {
        return;
    }
    let mut maps = Vec::new();
    for source in &sources {
        let file = File::options().read(true).write(true).create_new(true).open(source.join("f")).unwrap();
        file.set_len(3).unwrap();
        // SAFETY: no process truncates the file.
        let mut map = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
        map.copy_from_slice(b"one");
        maps.push(map); // the file is open as long as the map
    }
    std::thread::sleep(Duration::from_millis(2200)); // a file that changed two seconds ago was believed
    for (source, map) in sources.iter().zip(&mut maps) {
        put_has(&test_store, source, "one", "at first");
        map.copy_from_slice(b"two"); // the page is dirty: no time stamp moves
        put_has(&test_store, source, "two", "after another store");
        map.copy_from_slice(b"six");
    }
    drop(maps);
    for source in &sources {
        put_has(&test_store, source, "six", "after the map was closed");
    }
}

#[test]
fn another_image_with_the_same_times_is_read_by_put_diff_upsert_and_patch() {
    let test_store = TestStore::new();
    let mut mounts = Mounts::default();
    let (source, upper) = (test_store.path("m"), test_store.path("upper"));
    for (name, content) in [("one", "one"), ("two", "two")] {
        make_tree(&test_store.path(name), &[("f", content.as_bytes())]);
        let image = test_store.path(&format!("{name}.sq"));
        let args = ["-all-time", "1700000000", "-all-root", "-noappend", "-quiet"];
        if !Command::new("mksquashfs")
            .arg(test_store.path(name))
            .arg(&image)
            .args(args)
            .output()
            .is_ok_and(|o| o.status.success())
        {
            println!("skipped: no mksquashfs");
            return;
        }
    }
    let image = |name: &str| test_store.str(&format!("{name}.sq"));
    if !mounts.mount(&["-o", "loop,ro", &image("one")], &source) {
        return;
    }
    put_has(&test_store, &source, "one", "the first image");
    mounts.unmount();
    assert!(mounts.mount(&["-o", "loop,ro", &image("two")], &source));
    test_store.run(&["diff", "x:v0", "./m"], 1);
    test_store.ok(&["upsert", "u", "m", "--distributed-id", "d", "--run", "r"]);
    test_store.ok(&["finish", "u", "--distributed-id", "d"]);
    assert_eq!(test_store.ok(&["cat", "u", "f"]), "two");
    test_store.ok(&["patch", "p", "m", "--create", "--at", "d"]);
    assert_eq!(test_store.ok(&["cat", "p", "d/f"]), "two");
    put_has(&test_store, &source, "two", "the second image");
    mounts.unmount();
    // The same below an overlay.
    for name in ["one", "two"] {
        assert!(mounts.mount(&["-o", "loop,ro", &image(name)], &test_store.path("lower")));
        make_tree(&upper, &[("up/", b""), ("work/", b"")]);
        let layers = format!(
            "lowerdir={},upperdir={}/up,workdir={}/work",
            test_store.str("lower"),
            upper.display(),
            upper.display()
        );
        if mounts.mount(&["-t", "overlay", "overlay", "-o", &layers], &source) {
            put_has(&test_store, &source, name, "through an overlay");
        }
        mounts.unmount();
    }
    assert_eq!(remembered(&test_store, &source), 0);
}

#[test]
fn what_a_mount_of_ours_shows_is_not_remembered() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("f", b"one"), ("g/h", b"two")]);
    test_store.ok(&["put", "x", "src"]);
    fs::create_dir(test_store.path("m")).unwrap();
    if !test_store.cairn(&["mount", "m", "x"]).status().unwrap().success() {
        println!("skipped: no mount");
        return;
    }
    let put = test_store.cairn(&["put", "copy", "m"]).output().unwrap();
    let records = remembered(&test_store, &test_store.path("m"));
    test_store.ok(&["umount", "m"]);
    assert!(put.status.success(), "{}", text(&put.stderr));
    assert_eq!(records, 0);
}

#[test]
fn a_file_that_is_put_as_soon_as_it_is_closed_is_remembered_and_one_that_is_open_for_writing_is_not() {
    let test_store = TestStore::new();
    if !believed(&test_store) {
        return;
    }
    let source = test_store.path("src");
    make_tree(&source, &[("checkpoint", &random_bytes(1, 3 << 20)), ("small", b"hello")]);
    let_a_tick_pass();
    test_store.ok(&["put", "x", "src"]);
    assert_eq!(remembered(&test_store, &source), 2);
    let mut open = File::options().append(true).open(source.join("checkpoint")).unwrap();
    open.write_all(b"more").unwrap();
    let_a_tick_pass();
    test_store.ok(&["put", "x", "src"]);
    assert_eq!(remembered(&test_store, &source), 1, "its pages are dirty, and who has it open may have mapped it");
    drop(open);
    fs::write(source.join("checkpoint"), random_bytes(2, 3 << 20)).unwrap();
    test_store.ok(&["put", "x", "src"]);
    assert_eq!(remembered(&test_store, &source), 2, "a large file is read after the tick in which it was written");
}

#[test]
fn a_mount_inside_a_source_is_judged_by_itself() {
    let test_store = TestStore::new();
    let mut mounts = Mounts::default();
    let source = test_store.path("src");
    make_tree(&source, &[("outside", b"1"), ("deep/outside", b"2"), ("file", b"")]);
    if !believed(&test_store) || !mounts.mount(&["-t", "tmpfs", "none"], &source.join("ram")) {
        return;
    }
    make_tree(&source.join("ram"), &[("inside", b"3"), ("deep/inside", b"4")]);
    File::create(source.join("file")).unwrap();
    let bound =
        Command::new("mount").arg("--bind").arg(source.join("ram/inside")).arg(source.join("file")).status().unwrap();
    assert!(bound.success());
    mounts.0.push(source.join("file"));
    let_a_tick_pass();
    test_store.ok(&["put", "x", "src"]);
    assert_eq!(test_store.ok(&["cat", "x", "file"]), "3");
    assert_eq!(remembered(&test_store, &source), 2, "the two that lie on the disk");
}

/// Makes the cache say of two files of one size that each has the other's content.
fn exchange(cache: &Path) {
    let mut bytes = fs::read(cache).unwrap();
    assert_eq!(bytes.len(), HEAD + 2 * RECORD + 32);
    let (first, second) = bytes[HEAD..HEAD + 2 * RECORD].split_at_mut(RECORD);
    first[40..].swap_with_slice(&mut second[40..]);
    bytes.truncate(HEAD + 2 * RECORD);
    let sum = Digest::of(&bytes);
    bytes.extend_from_slice(&sum.0);
    fs::write(cache, bytes).unwrap();
}

#[test]
fn rehash_and_cairn_stat_cache_off_read_everything() {
    let test_store = TestStore::new();
    if !believed(&test_store) {
        return;
    }
    let source = test_store.path("src");
    make_tree(&source, &[("f", b"one"), ("g", b"two")]);
    let_a_tick_pass();
    test_store.ok(&["put", "x", "src"]);
    let cache = cache_of(&test_store, &source);
    exchange(&cache);
    test_store.run(&["diff", "x:v0", "./src"], 1); // the cache is believed
    test_store.run(&["diff", "x:v0", "./src", "--rehash"], 0);
    assert_eq!(
        test_store.json(&["diff", "x:v0", "./src"])["changes"],
        serde_json::json!([]),
        "what was read is remembered"
    );
    exchange(&cache);
    let off = |args: &[&str]| {
        let out = test_store.cairn(args).env("CAIRN_STAT_CACHE", "off").output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
    };
    let before = fs::read(&cache).unwrap();
    off(&["diff", "x:v0", "./src"]);
    off(&["put", "x", "src"]);
    assert_eq!(fs::read(&cache).unwrap(), before, "nothing is remembered either");
    assert_eq!(test_store.ok(&["put", "x", "src", "--rehash"]), "x:v0");
    exchange(&cache);
    test_store.ok(&["patch", "p", "src", "--create", "--rehash"]);
    assert_eq!(test_store.ok(&["cat", "p", "f"]), "one");
    exchange(&cache);
    test_store.ok(&["upsert", "u", "src", "--distributed-id", "d", "--run", "r", "--rehash"]);
    test_store.ok(&["finish", "u", "--distributed-id", "d"]);
    assert_eq!(test_store.ok(&["cat", "u", "f"]), "one");
}

#[test]
fn what_becomes_a_symlink_while_it_is_read_is_not_followed() {
    let test_store = TestStore::new();
    let source = test_store.path("src");
    for i in 0..300 {
        make_tree(&source, &[(&format!("f{i}"), b"inside")]);
    }
    make_tree(&source, &[("sub/file", b"inside"), ("name", b"inside")]);
    make_tree(&test_store.path("outside"), &[("file", b"secret"), ("only-outside", b"secret")]);
    symlink("../outside", source.join("swap")).unwrap();
    symlink("../outside/file", source.join("link")).unwrap();
    test_store.ok(&["put", "empty", "src/sub"]);
    let stop = AtomicBool::new(false);
    let secret = Digest::of(b"secret").to_string();
    let exchange = |a: &str, b: &str| {
        let [a, b] = [a, b].map(|n| std::ffi::CString::new(source.join(n).to_str().unwrap()).unwrap());
        // SAFETY: two valid C strings.
        unsafe { libc::renameat2(libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), libc::RENAME_EXCHANGE) };
    };
    let (mut whole, mut refused) = (0, 0);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                exchange("sub", "swap");
                exchange("name", "link");
            }
        });
        for _ in 0..60 {
            let out = test_store.cairn(&["diff", "empty:v0", "./src", "--json"]).output().unwrap();
            let (document, error) = (text(&out.stdout), text(&out.stderr));
            if document.contains(&secret) || document.contains("only-outside") {
                stop.store(true, Ordering::Relaxed);
                panic!("what lies outside of the source was read");
            }
            match out.status.code() {
                Some(1) => whole += 1,
                _ if error.contains("changed while it was read") => refused += 1,
                _ => {
                    stop.store(true, Ordering::Relaxed);
                    panic!("{:?} {error}", out.status);
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(whole > 0, "{whole} {refused}");
}

#[test]
fn a_deep_and_wide_source_needs_few_open_files() {
    let test_store = TestStore::new();
    let source = test_store.path("src");
    make_tree(&source.join("d/".repeat(900)), &[("bottom", b"down here")]);
    for i in 0..200 {
        make_tree(
            &source,
            &[(&format!("wide/{i}/file"), format!("{i}").as_bytes()), (&format!("{}z{i}", "d/".repeat(4 * i)), b"z")],
        );
    }
    let put = |args: &[&str]| {
        let mut command = test_store.cairn(args);
        // SAFETY: setrlimit may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                let few = libc::rlimit { rlim_cur: 48, rlim_max: 48 };
                libc::setrlimit(libc::RLIMIT_NOFILE, &few);
                Ok(())
            })
        };
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout)
    };
    assert_eq!(put(&["put", "x", "src"]), "x:v0\n");
    assert_eq!(put(&["put", "x", "src", "--rehash"]), "x:v0\n");
    test_store.run(&["diff", "x:v0", "./src"], 0);
}
