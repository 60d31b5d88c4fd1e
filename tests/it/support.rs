//! What the integration tests share: stores to start from, the real binary, trees to compare.

use cairn::Store;
use cairn::verify::{Scope, VerifyOptions, VerifyReport, verify};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A temporary directory with a store in it.
pub struct TestStore {
    pub dir: tempfile::TempDir,
}

impl TestStore {
    /// A copy of some of its directories, in memory: for tests that try something at each step. On a disk, such a test
    /// would wait for syncs nine tenths of its time.
    pub fn copy(&self, names: &[&str]) -> TestStore {
        self.copy_to(memory_dir(), names)
    }

    /// The same on the disk, whose file system may need other steps: ext4 and xfs keep the order of names, and rename
    /// without replacing.
    pub fn copy_on_disk(&self, names: &[&str]) -> TestStore {
        self.copy_to(tempfile::tempdir().unwrap(), names)
    }

    /// A copy of some of its directories in that one.
    pub fn copy_to(&self, dir: tempfile::TempDir, names: &[&str]) -> TestStore {
        let copy = TestStore { dir };
        names.iter().for_each(|name| copy_tree(&self.path(name), &copy.path(name)));
        copy
    }

    pub fn new() -> TestStore {
        TestStore::new_in(tempfile::tempdir().unwrap())
    }

    /// A new store in memory.
    pub fn in_memory() -> TestStore {
        TestStore::new_in(memory_dir())
    }

    fn new_in(dir: tempfile::TempDir) -> TestStore {
        let test_store = TestStore { dir };
        Store::init(test_store.store_path(), &Default::default()).unwrap();
        test_store
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store_path(&self) -> PathBuf {
        self.path("store")
    }

    pub fn store(&self) -> Store {
        Store::open(self.store_path()).unwrap()
    }

    /// Lets every user write to the store, and see the way there.
    pub fn open_to_all(&self) {
        std::fs::set_permissions(self.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(self.store_path().join("work"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    }

    /// The command, on this test store's store, without anything of the environment that changes what it does.
    pub fn cairn(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        for name in ["CAIRN_RUN", "CAIRN_RUN_GROUP", "CAIRN_JOB_TYPE", "CAIRN_FAULT"] {
            command.env_remove(name);
        }
        command
            .env("CAIRN_STORE", self.store_path())
            .env("CAIRN_CACHE_DIR", self.path("cache"))
            .current_dir(self.dir.path())
            .args(args);
        command
    }

    /// Runs the command and expects that exit status.
    pub fn run(&self, args: &[&str], status: i32) -> Output {
        let output = self.cairn(args).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "cairn {args:?}\n{}\n{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        output
    }

    /// Starts the command, which stops itself before change number `step` of the disk, and waits until it has stopped.
    /// Its stdout and stderr are pipes.
    pub fn stopped_before(&self, step: u64, args: &[&str]) -> Child {
        let mut command = self.cairn(args);
        command.env("CAIRN_FAULT", format!("stop:{step}")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        wait_stopped(&child);
        child
    }

    /// Runs the command, expects that exit status, and gives its system calls, a line each; `None`: there is no strace.
    pub fn traced(&self, args: &[&str], status: i32) -> Option<Vec<String>> {
        let (trace, command) = (self.path("trace"), self.cairn(args));
        let mut traced = Command::new("strace");
        traced.args(["-f", "-s", "300", "-o"]).arg(&trace).arg(command.get_program()).args(command.get_args());
        traced.current_dir(self.dir.path()).env_clear().envs(std::env::vars_os());
        command.get_envs().for_each(|(name, value)| match value {
            Some(value) => drop(traced.env(name, value)),
            None => drop(traced.env_remove(name)),
        });
        let Ok(output) = traced.output() else {
            println!("skipped: strace is missing");
            return None;
        };
        assert_eq!(output.status.code(), Some(status), "{}{}", text(&output.stdout), text(&output.stderr));
        Some(text(&std::fs::read(trace).unwrap()).lines().map(str::to_owned).collect())
    }

    /// Runs the command with success and gives its trimmed stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        text(&self.run(args, 0).stdout).trim_end().to_owned()
    }

    /// Runs with `--json` and success; the one document.
    pub fn json(&self, args: &[&str]) -> Value {
        self.json_with(args, 0)
    }

    /// Runs with `--json` and expects that exit status; the one document on stdout.
    pub fn json_with(&self, args: &[&str], status: i32) -> Value {
        let out = self.run(&[args, &["--json"]].concat(), status).stdout;
        serde_json::from_slice(&out).unwrap_or_else(|e| panic!("cairn {args:?} --json: {e}\n{}", text(&out)))
    }

    /// Verifies the whole store, and expects no finding.
    #[track_caller]
    pub fn clean(&self, label: &str) -> VerifyReport {
        let report = verify(&self.store(), &Scope::All, &VerifyOptions::default()).unwrap();
        assert!(report.findings.is_empty(), "{label}: {:?}", report.findings);
        report
    }

    /// Runs a script of the documents in a directory, as a reader does: with the commands in the PATH, and no store
    /// named. stderr goes to stdout.
    pub fn reader(&self, shell: &str, home: &Path, script: &str) -> Output {
        Command::new(shell)
            .args(["-c", &format!("exec 2>&1\n{script}")])
            .current_dir(home)
            .env("PATH", path_with_cairn())
            .env("CAIRN_CACHE_DIR", self.path("cache"))
            .env_remove("CAIRN_STORE")
            .env_remove("CAIRN_RUN")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

/// The PATH, with the commands of this build first.
pub fn path_with_cairn() -> String {
    let binaries = Path::new(env!("CARGO_BIN_EXE_cairn")).parent().unwrap();
    format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap())
}

/// The number in the environment variable `name`, or `default`.
pub fn setting<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes files given as path and content; a path that ends with `/` is a directory.
pub fn make_tree(root: &Path, files: &[(&str, &[u8])]) {
    std::fs::create_dir_all(root).unwrap();
    for (path, bytes) in files {
        let at = root.join(path);
        if path.ends_with('/') {
            std::fs::create_dir_all(&at).unwrap();
            continue;
        }
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, bytes).unwrap();
    }
}

/// Bytes that look random, from a seed.
pub fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// A tree as a map from path to what is there: `dir`, `link TARGET`, or exec bit and content.
pub fn snapshot(root: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut out = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let kind = entry.file_type();
        let value = if kind.is_dir() {
            b"dir".to_vec()
        } else if kind.is_symlink() {
            [b"link ", std::fs::read_link(entry.path()).unwrap().as_os_str().as_bytes()].concat()
        } else {
            let exec = entry.metadata().unwrap().permissions().mode() & 0o111 != 0;
            [if exec { b"x ".as_slice() } else { b"- ".as_slice() }, &std::fs::read(entry.path()).unwrap()].concat()
        };
        out.insert(path, value);
    }
    out
}

/// All files below a directory, in the order of their names.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(Result::unwrap);
    all.filter(|e| e.file_type().is_file()).map(|e| e.into_path()).collect()
}

/// Copies a directory as it is, symlinks as symlinks.
pub fn copy_tree(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Copies a program to where other users can run it, by a process of its own. If this process wrote the copy, a child
/// that another test starts at that moment would have it open for writing until its own exec, and an attempt to run the
/// copy meanwhile would fail with ETXTBSY.
pub fn copy_program(from: impl AsRef<Path>, to: &Path) {
    let status = Command::new("cp").arg(from.as_ref()).arg(to).status().unwrap();
    assert!(status.success());
}

/// The processes of `cairn mount` and `cairnfs` that serve a mount at `mnt`.
pub fn daemons(mnt: &Path) -> Vec<u32> {
    let serves = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        let mounts = args[0].ends_with(b"cairnfs") || args[0].ends_with(b"cairn") && args.contains(&&b"mount"[..]);
        mounts && args.contains(&mnt.as_os_str().as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).filter(serves).collect()
}

/// Waits until no daemon serves `mnt`, at most ten seconds. `cairn umount` does not wait while another mount namespace
/// has a copy of the mount, which is so for a moment whenever another test makes a namespace.
pub fn wait_for_daemons(mnt: &Path) {
    let begun = Instant::now();
    while !daemons(mnt).is_empty() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a child has stopped itself.
pub fn wait_stopped(child: &Child) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        if stat.rsplit_once(')').unwrap().1.trim_start().starts_with('T') {
            return;
        }
        assert!(Instant::now() < until, "it never stopped: {stat}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Wakes it.
pub fn resume(child: &Child) {
    // SAFETY: a signal to a child of ours that was not waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGCONT) };
}

/// How many steps change the disk when the command runs; it succeeds.
pub fn steps(test_store: &TestStore, args: &[&str]) -> u64 {
    let count = test_store.path("steps");
    let output = test_store.cairn(args).env("CAIRN_FAULT", format!("count:{}", count.display())).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    std::fs::read_to_string(&count).unwrap().parse().unwrap()
}

/// Runs the command with a fault of that kind, `kill` or `error`, at a step, and returns the fault. After an error the
/// command fails, or it succeeds where the step is not needed, as when a lock cannot be removed.
pub fn faulted(test_store: &TestStore, args: &[&str], kind: &str, step: u64) -> String {
    let fault = format!("{kind}:{step}");
    let output = test_store.cairn(args).env("CAIRN_FAULT", &fault).output().unwrap();
    match kind {
        "kill" => assert_eq!(output.status.signal(), Some(9), "{fault}"),
        _ => assert!(matches!(output.status.code(), Some(0 | 5)), "{fault}: {}", text(&output.stderr)),
    }
    fault
}

/// Calls `act` with each item, eight at once: for tests that wait for the disk or for time to pass.
pub fn at_once<T: Sync>(items: &[T], act: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    act(item);
                }
            });
        }
    });
}

/// Each kind of fault, `kill` and `error`, at each of `steps` steps.
pub fn faults(steps: u64) -> Vec<(&'static str, u64)> {
    ["kill", "error"].into_iter().flat_map(|kind| (1..=steps).map(move |step| (kind, step))).collect()
}

/// A temporary directory in memory where there is one: for tests that do not depend on the disk, and make thousands of
/// small changes, which take time on one.
pub fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Builds a shim for `LD_PRELOAD` from a source next to this file; `None` where there is no C compiler.
pub fn shim(test_store: &TestStore, source: &str) -> Option<PathBuf> {
    let shim = test_store.path(source).with_extension("so");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(source);
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(path).arg("-ldl").status();
    if !built.is_ok_and(|status| status.success()) {
        println!("skipped: no cc to build {source} with");
        return None;
    }
    Some(shim)
}

/// Random numbers from a seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = u64::from_le_bytes(random_bytes(self.0, 8).try_into().unwrap());
        (self.0 >> 20) % below
    }

    pub fn pick(&mut self, below: usize) -> usize {
        self.roll(below as u64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.pick(i + 1));
        }
    }
}

/// Waits up to ten seconds.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("waited for {what}");
}

/// A file system of its own in a file, gone with the value.
pub struct Loop(pub PathBuf);

impl Loop {
    fn new(test_store: &TestStore, kind: &str, size: u64) -> Loop {
        let image = test_store.path(&format!("{kind}.img"));
        std::fs::File::create(&image).unwrap().set_len(size).unwrap();
        let made = Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image).output().unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        let at = test_store.path(kind);
        std::fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at).output().unwrap();
        assert!(mounted.status.success(), "{}", text(&mounted.stderr));
        Loop(at)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if !unmounts(&self.0) {
            drop(Command::new("umount").arg("-l").arg(&self.0).status());
        }
    }
}

/// Unmounts by the system's command, not by cairn's.
#[track_caller]
pub fn plain_umount(at: &Path) {
    assert!(unmounts(at), "umount {}", at.display());
}

/// Tries again what is in use: a daemon has not ended yet, or another test is starting a program. Until that runs, its
/// process has all files of this one.
fn unmounts(at: &Path) -> bool {
    (0..100).any(|_| {
        let done = Command::new("umount").arg(at).output();
        let busy = done.as_ref().is_ok_and(|done| text(&done.stderr).contains("busy"));
        if busy {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        done.is_ok_and(|done| done.status.success())
    })
}

/// A test store whose directory lies on a file system of its own.
pub fn store_on(kind: &str, size: u64) -> (Loop, TestStore) {
    let test_store = TestStore { dir: tempfile::tempdir().unwrap() };
    let at = Loop::new(&test_store, kind, size);
    cairn::Store::init(at.0.join("store"), &Default::default()).unwrap();
    std::os::unix::fs::symlink(at.0.join("store"), test_store.store_path()).unwrap();
    (at, test_store)
}
