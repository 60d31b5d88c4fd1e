//! What mounts cost: the time of walks, and the memory of the daemon.

use super::place::{Place, Values, save};
use super::support::process::{Run, run};
use cairn::Artifact;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A mount, until it is dropped.
struct Mounted {
    at: PathBuf,
    daemon: u32,
}

impl Mounted {
    fn new(place: &Place, arguments: &[&str]) -> Mounted {
        let at = place.at("mnt");
        fs::create_dir_all(&at).unwrap();
        let mut command = place.command(&["mount"]);
        run(command.arg(&at).args(arguments)).unwrap();
        let mounted = Mounted { daemon: daemon_of(&at), at };
        assert!(mounted.daemon > 0, "the daemon was not found");
        mounted
    }

    /// The most memory that the daemon had, in MiB.
    fn peak(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// What the daemon took of the processors until now, in milliseconds (the kernel counts in steps of 10 ms).
    fn processor(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.daemon)).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() * 10.0
    }

    fn find(&self) -> Run {
        run(Command::new("find").arg(&self.at)).unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
        // The next store is made when its place is free.
        for _ in 0..100 {
            if !Path::new(&format!("/proc/{}", self.daemon)).exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// The process that serves the mount point: the one whose command line names it.
fn daemon_of(at: &Path) -> u32 {
    let names_it = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).any(|argument| argument == at.as_os_str().as_encoded_bytes())
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(names_it).max().unwrap_or(0)
}

/// Nested directories with a file in each, in the store and natively.
pub fn make_nested(place: &Place, directories: u64) {
    let mut artifact = Artifact::new("x", None).unwrap();
    let (mut path, mut native) = (String::new(), place.at("native"));
    for n in 0..directories {
        path.push_str("d/");
        native.push("d");
        artifact.add_bytes(format!("{path}f"), n.to_string()).unwrap();
        fs::create_dir_all(&native).unwrap();
        fs::write(native.join("f"), n.to_string()).unwrap();
    }
    artifact.save(&place.store()).unwrap();
}

/// The first walk through a new mount, with the native one.
pub fn find_nested(place: &Place, _: u64) -> Values {
    let mounted = Mounted::new(place, &["x"]);
    let first = mounted.find();
    let native = run(Command::new("find").arg(place.at("native"))).unwrap();
    let millis = |run: Run| run.time.as_secs_f64() * 1e3;
    vec![
        ("first find through a mount", "ms", millis(first)),
        ("times the native find", "", first.time.as_secs_f64() / native.time.as_secs_f64()),
    ]
}

/// A listing of all versions through a mount of the store, one after a commit, and a walk into each.
pub fn show_versions(place: &Place, _: u64) -> Values {
    let mounted = Mounted::new(place, &[]);
    let list = || {
        let begun = Instant::now();
        let count = fs::read_dir(mounted.at.join("x")).unwrap().count();
        assert!(count > 0);
        begun.elapsed().as_secs_f64() * 1e3
    };
    list();
    let listed = mounted.peak();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    save(&place.store(), "x", "one more");
    let begun = Instant::now();
    fs::read(mounted.at.join("x/latest/f")).unwrap();
    let look = begun.elapsed().as_secs_f64() * 1e3;
    let daemon = mounted.processor();
    let after_commit = list();
    let daemon = mounted.processor() - daemon;
    mounted.find();
    let holders = fs::read_dir(place.at("store/pins")).unwrap();
    let pins = holders.map(|holder| fs::read_dir(holder.unwrap().path()).unwrap().count()).sum::<usize>();
    vec![
        ("listing of a mounted store, peak memory", "MiB", listed),
        ("read of latest after a commit", "ms", look),
        ("listing after a commit", "ms", after_commit),
        ("of this the daemon", "ms of processor", daemon),
        ("find, peak memory", "MiB", mounted.peak()),
        ("find, files in pins", "", pins as f64),
    ]
}

/// Files that are made in a staging directory.
pub fn stage(place: &Place, files: u64) -> Values {
    let mounted = Mounted::new(place, &["staged", "--stage", "--distributed-id", "d", "--run", "r"]);
    let begun = Instant::now();
    for n in 0..files {
        let dir = mounted.at.join(format!("{:04}", n / 1000));
        if n % 1000 == 0 {
            fs::create_dir(&dir).unwrap();
        }
        fs::write(dir.join(format!("{n:07}")), n.to_string()).unwrap();
    }
    let each = begun.elapsed().as_secs_f64() * 1e6 / files as f64;
    vec![("files in a stage, peak memory", "MiB", mounted.peak()), ("each file made", "µs", each)]
}
