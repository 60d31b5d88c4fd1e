//! A file that grows by a thousandth each day, put each day: JSONL, and Parquet where pyarrow is installed. What the
//! store grows by, the seconds of a day, and how fast the last version is read through a mount, against a plain file
//! and the same file stored whole.
//!
//! `CAIRN_BENCH_COMMAND` is the command that mounts, if it is not the one that was built with this program.

use super::{json_line, lines, put, size_of};
use cairn::Store;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// How many random reads are timed.
const READS: u64 = 20_000;

/// The Python program that makes files.
pub fn python() -> Command {
    let mut command = Command::new(std::env::var("CAIRN_BENCH_PYTHON").unwrap_or("python3".into()));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/chunks_files.py"));
    command
}

/// Seconds of reading and hashing a file.
pub fn hash(path: &Path) -> f64 {
    use sha2::Digest;
    let begun = Instant::now();
    let (mut file, mut buffer, mut hasher) = (File::open(path).unwrap(), vec![0; 1 << 20], sha2::Sha256::new());
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    std::hint::black_box(hasher.finalize());
    begun.elapsed().as_secs_f64()
}

/// What makes the file of the next day.
enum Growing {
    Jsonl { path: PathBuf, len: usize, day: u64 },
    Parquet { child: Child, out: BufReader<std::process::ChildStdout> },
}

impl Growing {
    fn new(kind: &str, path: &Path, megabytes: usize) -> Option<Growing> {
        if kind == "JSONL" {
            let len = megabytes * 1_000_000;
            std::fs::write(path, lines(len, 1, json_line)).unwrap();
            return Some(Growing::Jsonl { path: path.into(), len, day: 0 });
        }
        let mut command = python();
        command.args(["parquet-days", &megabytes.to_string()]).arg(path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let made = out.read_line(&mut String::new()).is_ok_and(|n| n > 0);
        made.then_some(Growing::Parquet { child, out })
    }

    fn grow(&mut self) {
        match self {
            Growing::Jsonl { path, len, day } => {
                *day += 1;
                let more = lines(*len / 1000, 100 + *day, json_line);
                File::options().append(true).open(path).unwrap().write_all(&more).unwrap();
            }
            Growing::Parquet { child, out } => {
                child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
                out.read_line(&mut String::new()).unwrap();
            }
        }
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if let Growing::Parquet { child, .. } = self {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}

/// Measures both kinds of files.
pub fn run(megabytes: usize, days: usize) {
    for kind in ["JSONL", "Parquet"] {
        let place = tempfile::tempdir().unwrap();
        let source = place.path().join("source");
        std::fs::create_dir(&source).unwrap();
        let file = source.join("file");
        let Some(mut growing) = Growing::new(kind, &file, megabytes) else {
            println!("skipped: {kind}");
            continue;
        };
        let size = || std::fs::metadata(&file).unwrap().len();
        let store = Store::init(place.path().join("store"), &Default::default()).unwrap();
        let (first, mut measured) = (size(), Vec::new());
        put(&store, &source);
        for _ in 0..days {
            let before = size();
            growing.grow();
            let hashing = hash(&file);
            let (seconds, stored) = put(&store, &source);
            measured.push((hashing, seconds, stored as f64 / (size() - before) as f64));
        }
        drop(growing);
        let content = size_of(&store.root().join("objects")) + size_of(&store.root().join("packs"));
        println!("{kind}: {:.1} MB, after {days} days {:.1}", first as f64 / 1e6, size() as f64 / 1e6);
        println!("  store: {:.1} MB of content", content as f64 / 1e6);
        let most = measured.iter().map(|day| day.2).fold(0.0, f64::max);
        println!("  stored / appended: on all days {:.2}, at most {most:.2}", {
            (content as f64 - first as f64) / (size() - first) as f64
        });
        for (name, day) in [("first", measured[0]), ("last", measured[days - 1])] {
            println!("  {name} day: {:.2} s, hashing {:.2} s, stored / appended {:.2}", day.1, day.0, day.2);
        }
        let whole = Store::init(place.path().join("whole"), &Default::default()).unwrap();
        put(&whole, &source);
        read(place.path(), &file, &[&store, &whole]);
    }
}

/// Prints how fast a plain file is read, and the newest versions of stores through mounts, each with a cold and a warm
/// page cache.
fn read(place: &Path, plain: &Path, stores: &[&Store]) {
    let built = env!("CARGO_BIN_EXE_cairn").to_owned();
    let cairn = std::env::var("CAIRN_BENCH_COMMAND").unwrap_or(built);
    let mut rows = vec![("plain", timed(plain, &[plain.to_path_buf()]))];
    for (name, store) in ["composed", "whole"].into_iter().zip(stores) {
        let at = place.join(name);
        std::fs::create_dir_all(&at).unwrap();
        let mounted = Command::new(&cairn).arg("--store").arg(store.root()).arg("mount").arg(&at).arg("a").status();
        assert!(mounted.unwrap().success(), "the mount");
        let under = walkdir::WalkDir::new(store.root()).into_iter().flatten().filter(|e| e.file_type().is_file());
        let mut forgotten: Vec<PathBuf> = under.map(walkdir::DirEntry::into_path).collect();
        forgotten.push(at.join("file"));
        rows.push((name, timed(&at.join("file"), &forgotten)));
        assert!(Command::new(&cairn).arg("umount").arg(&at).status().unwrap().success(), "the umount");
    }
    for (name, [cold, warm, random_cold, random_warm]) in rows {
        println!(
            "  read {name}: {cold:.2} s cold, {warm:.2} warm; {READS} random 4 KiB {random_cold:.2} s cold, \
             {random_warm:.2} warm"
        );
    }
}

/// Seconds of reading a file to its end and of random reads, each cold and warm.
fn timed(path: &Path, forgotten: &[PathBuf]) -> [f64; 4] {
    let sequential = || {
        let begun = Instant::now();
        let (mut file, mut buffer) = (File::open(path).unwrap(), vec![0; 1 << 20]);
        while file.read(&mut buffer).unwrap() > 0 {}
        begun.elapsed().as_secs_f64()
    };
    let random = || {
        let file = File::open(path).unwrap();
        let (pages, mut state) = (file.metadata().unwrap().len() / 4096, 88_172_645_463_325_252_u64);
        let begun = Instant::now();
        for _ in 0..READS {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            file.read_exact_at(&mut [0; 4096], state % pages * 4096).unwrap();
        }
        begun.elapsed().as_secs_f64()
    };
    let cold = |read: &dyn Fn() -> f64| {
        forgotten.iter().for_each(|path| forget(path));
        read()
    };
    [cold(&sequential), sequential(), cold(&random), random()]
}

/// Drops what the page cache has of a file.
fn forget(path: &Path) {
    let file = File::open(path).unwrap();
    let _ = file.sync_all(); // a mounted file has nothing to sync
    // SAFETY: the descriptor is open.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}
