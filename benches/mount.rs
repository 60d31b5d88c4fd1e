//! A mount against the native file system, in one run: `cargo bench --bench mount`. Prints seconds and ratios; needs root and some GiB in `$TMPDIR`.
//!
//! S: `CAIRN_BENCH_FILES` (100,000) files of 4 KiB in directories of 100. F: as many empty files in one directory. L: one file of 512 MiB.

#[allow(dead_code)]
#[path = "../tests/it/mount/build.rs"]
mod build;
#[path = "../tests/it/mount/support.rs"]
#[allow(dead_code)]
mod support;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use support::*;

fn main() {
    let count: usize = std::env::var("CAIRN_BENCH_FILES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    // More mount options, to compare: `,threads=1`.
    let more = std::env::var("CAIRN_BENCH_OPTIONS").unwrap_or_default();
    let place = Place::new();
    let s: Things = (0..count).map(|i| (format!("d{:05}/f{:02}", i / 100, i % 100).into_bytes(), Thing::File(noise(i as u64, 4096)))).collect();
    let f: Things = (0..count).map(|i| (format!("d/file-{i:07}").into_bytes(), file(""))).collect();
    let l = things([(b"large", Thing::File(noise(0, 512 << 20)))]);
    println!("{count} files, seconds: native, mount, ratio");
    for (name, version) in [("S", &s), ("F", &f), ("L", &l)] {
        let native = place.empty(name);
        for (path, thing) in version {
            let path = native.join(std::str::from_utf8(path).unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if let Thing::File(bytes) = thing {
                fs::write(path, bytes).unwrap();
            }
        }
        let tree = place.version(version);
        let from = Instant::now();
        let mounted = place.mount_with(tree, &more);
        println!("{name}: mounted in {:.0} ms, {} KiB resident", from.elapsed().as_secs_f64() * 1e3, resident(&mounted));
        let row = |what: &str, work: &dyn Fn(&Path)| {
            work(&native);
            let on_native = time(|| work(&native));
            let before = cpu(&mounted);
            let on_mount = time(|| work(mounted.path()));
            let spent = cpu(&mounted) - before;
            println!(
                "{name}: {what:<28} {on_native:7.3} {on_mount:7.3} {:6.2} x   daemon {spent:5.2} s of a processor, {} KiB resident at most",
                on_mount / on_native,
                resident(&mounted)
            );
        };
        if name == "L" {
            row("read in order, first", &read_all);
            row("read in order, warm", &read_all);
            row("4 KiB at random, warm", &read_random);
        } else {
            row("find -printf %s, first", &find);
            row("find -printf %s, warm", &find);
            row("open, read, close, first", &read_all);
            row("open, read, close, warm", &read_all);
        }
    }
}

fn time(work: impl FnOnce()) -> f64 {
    let from = Instant::now();
    work();
    from.elapsed().as_secs_f64()
}

/// Processor seconds that the daemon has used.
fn cpu(mounted: &Mounted) -> f64 {
    let pid = daemons(mounted.path())[0];
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Most that the daemon has had in memory.
fn resident(mounted: &Mounted) -> u64 {
    let pid = daemons(mounted.path())[0];
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn find(dir: &Path) {
    assert!(Command::new("find").arg(dir).args(["-printf", "%s"]).stdout(std::process::Stdio::null()).status().unwrap().success());
}

fn read_all(dir: &Path) {
    let mut buffer = vec![0; 1 << 20];
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let mut file = File::open(entry.path()).unwrap();
            while file.read(&mut buffer).unwrap() > 0 {}
        }
    }
}

fn read_random(dir: &Path) {
    let file = File::open(dir.join("large")).unwrap();
    let blocks = file.metadata().unwrap().size() / 4096;
    let mut x = 88_172_645_463_325_252_u64;
    let mut buffer = [0; 4096];
    for _ in 0..200_000 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        file.read_exact_at(&mut buffer, x % blocks * 4096).unwrap();
    }
}
