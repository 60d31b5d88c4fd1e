//! A disk without a free byte, without a free inode, and a used-up quota: what writes fails with what is missing and
//! leaves the store right; `rm` and `gc` work all the same, and then the same commands succeed.

use crate::support::{TestStore, make_tree, random_bytes, text};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A small file system of its own in a file, unmounted at the end, with a store on it.
struct SmallDisk {
    test_store: TestStore,
    mounted: PathBuf,
    /// Where the store and the file that fills it are.
    at: PathBuf,
    stage: PathBuf,
}

impl SmallDisk {
    /// `None` where it cannot be mounted.
    fn new(mebibytes: u64, mkfs: &[&str], options: &str) -> Option<SmallDisk> {
        let test_store = TestStore::new();
        let image = test_store.path("image");
        File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        let made = Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image).output();
        let (at, stage) = (test_store.path("disk"), test_store.path("stage"));
        std::fs::create_dir(&at).unwrap();
        std::fs::create_dir(&stage).unwrap();
        let mount = || Command::new("mount").args(["-o", options]).arg(&image).arg(&at).output();
        if !made.is_ok_and(|o| o.status.success()) || !mount().is_ok_and(|o| o.status.success()) {
            println!("skipped: {} cannot be made and mounted here", mkfs[0]);
            return None;
        }
        make_tree(&test_store.path("d"), &[("a", b"a"), ("sub/b", b"b"), ("large", &random_bytes(1, 1 << 20))]);
        for n in 0..200 {
            make_tree(&test_store.path("d"), &[(&format!("many/{n}"), &random_bytes(n, 5_000))]);
        }
        make_tree(
            &test_store.path("new"),
            &[("small", &random_bytes(7, 30_000)), ("large", &random_bytes(8, 400_000))],
        );
        Some(SmallDisk { test_store, mounted: at.clone(), at, stage })
    }

    fn ext4(mebibytes: u64, inodes: &str) -> Option<SmallDisk> {
        SmallDisk::new(mebibytes, &["mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-N", inodes], "loop")
    }

    fn store(&self) -> PathBuf {
        self.at.join("store")
    }

    fn run(&self, args: &[&str]) -> Output {
        self.test_store.cairn(args).env("CAIRN_STORE", self.store()).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn init(&self) {
        self.ok(&["init", self.store().to_str().unwrap()]);
        assert_eq!(reserve(&self.store()), (24, 24 * (192 << 10)));
        self.ok(&["put", "x", "d", "--alias", "prod"]);
        self.ok(&["put", "x", "d/sub"]);
        self.ok(&["upsert", "y", "d/sub", "--distributed-id", "j", "--run", "one"]);
        self.ok(&["mount", self.stage.to_str().unwrap(), "y", "--stage", "--distributed-id", "s", "--run", "r"]);
        make_tree(&self.stage, &[("staged", &random_bytes(3, 40_000)), ("large", &random_bytes(4, 200_000))]);
    }

    /// The commands that need space.
    fn writers(&self) -> [Vec<&str>; 7] {
        let stage = self.stage.to_str().unwrap();
        [
            vec!["put", "x", "new"],
            vec!["put", "fresh", "new/small"],
            vec!["patch", "x", "new/small", "--at", "more"],
            vec!["upsert", "y", "new", "--distributed-id", "j", "--run", "two"],
            vec!["alias", "x:v1", "best"],
            vec!["finish", "y", "--distributed-id", "j"],
            vec!["seal", stage],
        ]
    }

    /// Each command that needs space fails and leaves nothing; a version is removed and its space freed; then each
    /// succeeds.
    fn check(&self, causes: &[&str], empty: impl FnOnce()) {
        for args in self.writers() {
            let output = self.run(&args);
            let message = text(&output.stderr);
            assert_eq!(output.status.code(), Some(5), "{args:?}: {}{message}", text(&output.stdout));
            assert!(causes.iter().all(|cause| message.contains(cause)), "{args:?}: {message}");
            assert!(message.contains("hint: ") && !message.contains("unknown"), "{args:?}: {message}");
            self.ok(&["verify"]);
            assert_eq!(names(&self.store().join("work")), [""; 0], "{args:?}");
        }
        assert_eq!(reserve(&self.store()).0, 24, "only rm and gc use the reserve");
        self.ok(&["rm", "x:v0", "--force"]);
        self.ok(&["verify"]);
        assert!(self.ok(&["gc", "--min-age", "0"]).contains("freed: "));
        self.ok(&["verify"]);
        empty();
        self.ok(&["gc", "--min-age", "0"]);
        assert_eq!(reserve(&self.store()), (24, 24 * (192 << 10)), "made again");
        for args in self.writers() {
            self.ok(&args);
        }
        self.ok(&["verify"]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        for at in [&self.stage, &self.mounted] {
            let _ = Command::new("umount").arg("-l").arg(at).output();
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// How many files the reserve has, and how much space they hold.
fn reserve(store: &Path) -> (usize, u64) {
    let names = std::fs::read_dir(store.join("reserve")).unwrap().map(|e| e.unwrap().metadata().unwrap());
    names.fold((0, 0), |(files, bytes), meta| (files + 1, bytes + meta.blocks() * 512))
}

/// Fills a disk to the last block.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let mut size = 1 << 20;
    while size >= 512 {
        if file.write_all(&random_bytes(size as u64, size)).and_then(|()| file.sync_all()).is_err() {
            size /= 2;
        }
    }
}

fn fill_with_files(dir: &Path) {
    std::fs::create_dir(dir).unwrap();
    for n in 0.. {
        if File::create(dir.join(n.to_string())).is_err() {
            return;
        }
    }
}

#[test]
fn without_a_free_byte_versions_are_removed_and_space_is_freed() {
    let Some(disk) = SmallDisk::ext4(40, "4000") else { return };
    disk.init();
    let filler = disk.at.join("filler");
    fill(&filler);
    disk.check(&["No space left on device", " bytes free on the file system of "], || {
        std::fs::remove_file(&filler).unwrap();
    });
}

#[test]
fn without_a_free_inode_versions_are_removed_and_space_is_freed() {
    let Some(disk) = SmallDisk::ext4(64, "600") else { return };
    disk.init();
    let filler = disk.at.join("filler");
    fill_with_files(&filler);
    disk.check(&["No space left on device", "no inodes are left on the file system of "], || {
        std::fs::remove_dir_all(&filler).unwrap();
    });
}

#[test]
fn with_a_quota_that_is_used_up_versions_are_removed_and_space_is_freed() {
    let Some(disk) = SmallDisk::new(300, &["mkfs.btrfs", "-q"], "loop") else { return };
    let btrfs = |args: &[&str]| {
        let output = Command::new("btrfs").args(args).arg(&disk.at).output();
        output.is_ok_and(|o| o.status.success())
    };
    if !btrfs(&["quota", "enable"]) || !btrfs(&["qgroup", "limit", "40M", "0/5"]) {
        return println!("skipped: this kernel has no quotas of btrfs");
    }
    disk.init();
    let filler = disk.at.join("filler");
    fill(&filler);
    disk.check(&["quota"], || std::fs::remove_file(&filler).unwrap());
}

/// `tests/quota/run` runs it in a kernel that has project quotas.
#[test]
fn with_a_project_quota_that_is_used_up_versions_are_removed_and_space_is_freed() {
    let Some(mut disk) = SmallDisk::new(400, &["mkfs.xfs", "-q"], "loop,prjquota") else { return };
    disk.at = disk.mounted.join("project");
    std::fs::create_dir(&disk.at).unwrap();
    let project = format!("project -s -p {} 42", disk.at.display());
    for command in [&project[..], "limit -p bhard=40m 42"] {
        let output = Command::new("xfs_quota").args(["-x", "-c", command]).arg(&disk.mounted).output().unwrap();
        assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    }
    disk.init();
    let filler = disk.at.join("filler");
    fill(&filler);
    disk.check(&["a quota is used up", " bytes free for the project of "], || std::fs::remove_file(&filler).unwrap());
}

#[test]
fn content_that_the_store_has_is_put_again_on_a_disk_without_room_for_a_copy() {
    let Some(disk) = SmallDisk::ext4(48, "4000") else { return };
    disk.ok(&["init", disk.store().to_str().unwrap()]);
    std::fs::write(disk.test_store.path("big"), random_bytes(5, 20 << 20)).unwrap();
    disk.ok(&["put", "x", "big"]);
    std::fs::write(disk.at.join("filler"), random_bytes(6, 8 << 20)).unwrap();
    // Less than one copy is free.
    disk.ok(&["put", "y", "big", "--rehash"]);
    let other = random_bytes(9, 20 << 20);
    std::fs::write(disk.test_store.path("other"), other).unwrap();
    let output = disk.run(&["put", "z", "other"]);
    let message = text(&output.stderr);
    assert!(output.status.code() == Some(5) && message.contains(" bytes needed, "), "{message}");
    disk.ok(&["verify"]);
}

#[test]
fn gc_makes_the_reserve_of_a_store_that_has_none() {
    let test_store = TestStore::new();
    std::fs::remove_dir_all(test_store.store_path().join("reserve")).unwrap();
    test_store.ok(&["gc", "--dry-run"]);
    assert!(!test_store.store_path().join("reserve").exists());
    test_store.ok(&["gc"]);
    assert_eq!(reserve(&test_store.store_path()), (24, 24 * (192 << 10)));
    // A copying tool made a file with holes of one.
    let first = test_store.store_path().join("reserve/00");
    std::fs::remove_file(&first).unwrap();
    File::create(&first).unwrap().set_len(192 << 10).unwrap();
    std::fs::write(test_store.store_path().join("reserve/README"), "not ours").unwrap();
    test_store.ok(&["gc"]);
    assert!(std::fs::metadata(&first).unwrap().blocks() * 512 >= 192 << 10);
    assert!(test_store.store_path().join("reserve/README").exists());
    test_store.ok(&["verify"]);
}
