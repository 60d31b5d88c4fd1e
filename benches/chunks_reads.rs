//! How fast a composed file is read: through a mount, and through a mount with a cache that has it; next to the same
//! file stored whole, through a mount, to the plain file, and to the plain file through the smallest daemon that reads
//! it (`floor`). In order and at random, with a cold and a warm page cache. Medians of rounds, in which all take turns.
//!
//! `CAIRN_BENCH_ROUNDS` (3); `CAIRN_BENCH_READS` (5,000) is how many random reads of 4 KiB are timed.
//! `CAIRN_BENCH_COMMAND` is the command that mounts, if it is not the one that was built with this program. For a cold
//! page cache the files that are read are dropped from it. With `CAIRN_BENCH_DROP=1`, which root may set, all of it is
//! dropped: only that drops files without a name, which mounts make on xfs and btrfs.

use super::{median, setting};
use crate::support::floor::Floor;
use cairn::Store;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A file to read, and the files to drop from the page cache for that.
struct Way {
    name: &'static str,
    file: PathBuf,
    dropped: Vec<PathBuf>,
    _served: Served,
}

/// What serves the file, until this is dropped.
enum Served {
    Plainly,
    ByMount(PathBuf),
    ByFloor(#[allow(dead_code)] Floor),
}

fn cairn() -> Command {
    let built = env!("CARGO_BIN_EXE_cairn").to_owned();
    Command::new(std::env::var("CAIRN_BENCH_COMMAND").unwrap_or(built))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn files_below(dirs: &[&Path]) -> Vec<PathBuf> {
    let all = dirs.iter().flat_map(|dir| walkdir::WalkDir::new(dir).into_iter().flatten());
    all.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

impl Way {
    fn mount(name: &'static str, place: &Path, store: &Store, cache: Option<&Path>) -> Way {
        let at = place.join(format!("mounted {name}"));
        std::fs::create_dir_all(&at).unwrap();
        let mut command = cairn();
        command.arg("--store").arg(store.root()).arg("mount").arg(&at).arg("a");
        command.args(cache.iter().flat_map(|cache| [Path::new("--cache"), cache]));
        run(&mut command);
        let mut dropped = files_below(&[store.root()]);
        dropped.extend(cache.iter().flat_map(|cache| files_below(&[cache])));
        let file = at.join("file");
        dropped.push(file.clone());
        Way { name, file, dropped, _served: Served::ByMount(at) }
    }

    fn floor(place: &Path, plain: &Path) -> Way {
        let at = place.join("floor");
        std::fs::create_dir_all(&at).unwrap();
        let floor = Floor::start("no-open", plain.parent().unwrap(), &at).unwrap();
        let file = at.join("file");
        Way { name: "floor", dropped: vec![plain.into(), file.clone()], file, _served: Served::ByFloor(floor) }
    }

    /// Bytes a second in order, and reads a second at random, each with a cold page cache and then with a warm one.
    fn measure(&self, reads: u64) -> [f64; 4] {
        let size = std::fs::metadata(&self.file).unwrap().len() as f64;
        self.forget();
        let in_order = [in_order(&self.file), in_order(&self.file)];
        self.forget();
        let cold = at_random(&self.file, reads);
        super::hash(&self.file);
        let random = [cold, at_random(&self.file, reads)];
        [size / in_order[0], size / in_order[1], reads as f64 / random[0], reads as f64 / random[1]]
    }

    /// Drops what the page cache has of it.
    fn forget(&self) {
        if setting("CAIRN_BENCH_DROP", 0.0) > 0.0 {
            // SAFETY: no memory effects.
            unsafe { libc::sync() };
            std::fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
            return;
        }
        for path in &self.dropped {
            let file = File::open(path).unwrap();
            let _ = file.sync_all(); // a mounted file has nothing to sync
            // SAFETY: the descriptor is open.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Served::ByMount(at) = self {
            drop(cairn().arg("umount").arg(at).output());
        }
    }
}

/// Prints how fast the file is read, which the newest versions of both stores have.
pub fn measure(place: &Path, plain: &Path, store: &Store, whole: &Store) {
    let cache = place.join("cache");
    let begun = Instant::now();
    run(cairn().arg("--store").arg(store.root()).args(["warm", "a", "--cache"]).arg(&cache));
    println!("  copied to a cache and checked in {:.2} s", begun.elapsed().as_secs_f64());
    let ways = [
        Way { name: "plain", file: plain.into(), dropped: vec![plain.into()], _served: Served::Plainly },
        Way::floor(place, plain),
        Way::mount("whole", place, whole, None),
        Way::mount("composed", place, store, None),
        Way::mount("composed, cache", place, store, Some(&cache)),
    ];
    let reads = setting("CAIRN_BENCH_READS", 5000.0) as u64;
    let mut measured: Vec<[Vec<f64>; 4]> = ways.iter().map(|_| Default::default()).collect();
    for _ in 0..setting("CAIRN_BENCH_ROUNDS", 3.0) as usize {
        for (way, all) in ways.iter().zip(&mut measured) {
            all.iter_mut().zip(way.measure(reads)).for_each(|(all, one)| all.push(one));
        }
    }
    let medians: Vec<[f64; 4]> = measured.into_iter().map(|all| all.map(median)).collect();
    println!(
        "  | read | MB/s, cold | warm | 4 KiB reads/s, cold | warm \
         | of plain: MB/s, cold | warm | reads/s, cold | warm |"
    );
    println!("  |---|---|---|---|---|---|---|---|---|");
    for (way, [cold, warm, random_cold, random_warm]) in ways.iter().zip(&medians) {
        let of = |i: usize, value: f64| value / medians[0][i];
        println!(
            "  | {} | {:.0} | {:.0} | {random_cold:.0} | {random_warm:.0} | {:.2} | {:.2} | {:.2} | {:.2} |",
            way.name,
            cold / 1e6,
            warm / 1e6,
            of(0, *cold),
            of(1, *warm),
            of(2, *random_cold),
            of(3, *random_warm)
        );
    }
}

/// Seconds of reading a file to its end.
fn in_order(path: &Path) -> f64 {
    let begun = Instant::now();
    let (mut file, mut buffer) = (File::open(path).unwrap(), vec![0; 1 << 20]);
    while file.read(&mut buffer).unwrap() > 0 {}
    begun.elapsed().as_secs_f64()
}

/// Seconds of reads of 4 KiB at random places, others each time.
fn at_random(path: &Path, reads: u64) -> f64 {
    let file = File::open(path).unwrap();
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    let (pages, mut state) = (file.metadata().unwrap().len() / 4096, u64::from(seed) | 1 << 40);
    let begun = Instant::now();
    for _ in 0..reads {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.read_exact_at(&mut [0; 4096], state % pages * 4096).unwrap();
    }
    begun.elapsed().as_secs_f64()
}
