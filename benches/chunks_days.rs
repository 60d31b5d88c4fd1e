//! A file that grows by a hundredth each day, put each day: JSONL, and Parquet where pyarrow is installed. What the
//! store grows by, the seconds of a day, and how fast the last version is read through a mount (`chunks_reads.rs`).
//! The grown file is synced before it is put: a put on a file system without a journal would wait for that otherwise.
//!
//! `CAIRN_BENCH_APPEND` (1) is how many hundredths it grows by. `CAIRN_BENCH_ONLY` is JSONL or Parquet.

#[path = "chunks_reads.rs"]
mod reads;

use super::{json_line, lines, put, size_of};
use cairn::Store;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

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
    Jsonl { path: PathBuf, more: usize, day: u64 },
    Parquet { child: Child, out: BufReader<std::process::ChildStdout> },
}

impl Growing {
    fn new(kind: &str, path: &Path, megabytes: usize, percent: f64) -> Option<Growing> {
        if kind == "JSONL" {
            let len = megabytes * 1_000_000;
            std::fs::write(path, lines(len, 1, json_line)).unwrap();
            return Some(Growing::Jsonl { path: path.into(), more: (len as f64 * percent / 100.0) as usize, day: 0 });
        }
        let mut command = python();
        command.args(["parquet-days", &megabytes.to_string()]).arg(path).arg(percent.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let made = out.read_line(&mut String::new()).is_ok_and(|n| n > 0);
        made.then_some(Growing::Parquet { child, out })
    }

    fn grow(&mut self, file: &Path) {
        match self {
            Growing::Jsonl { path, more, day } => {
                *day += 1;
                let more = lines(*more, 100 + *day, json_line);
                File::options().append(true).open(path).unwrap().write_all(&more).unwrap();
            }
            Growing::Parquet { child, out } => {
                child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
                out.read_line(&mut String::new()).unwrap();
            }
        }
        File::open(file).unwrap().sync_all().unwrap();
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
    let percent = setting("CAIRN_BENCH_APPEND", 1.0);
    let only = std::env::var("CAIRN_BENCH_ONLY").unwrap_or_default();
    for kind in ["JSONL", "Parquet"].into_iter().filter(|kind| kind.contains(&only)) {
        let place = tempfile::tempdir().unwrap();
        let source = place.path().join("source");
        std::fs::create_dir(&source).unwrap();
        let Some(mut growing) = Growing::new(kind, &source.join("file"), megabytes, percent) else {
            println!("skipped: {kind} needs pyarrow");
            continue;
        };
        let store = Store::init(place.path().join("store"), &Default::default()).unwrap();
        grow(kind, &mut growing, &store, &source, days);
        drop(growing);
        let whole = Store::init(place.path().join("whole"), &Default::default()).unwrap();
        put(&whole, &source);
        reads::measure(place.path(), &source.join("file"), &store, &whole);
    }
}

/// Puts the file each day. Prints what the store grew by, and the seconds.
fn grow(kind: &str, growing: &mut Growing, store: &Store, source: &Path, days: usize) {
    let file = source.join("file");
    let size = || std::fs::metadata(&file).unwrap().len();
    let first = size();
    put(store, source);
    let mut measured = Vec::new();
    for _ in 0..days {
        let before = size();
        growing.grow(&file);
        let idle = processor_seconds();
        let hashing = hash(&file);
        let hashed = processor_seconds();
        let (seconds, stored) = put(store, source);
        let processor = [hashed - idle, processor_seconds() - hashed];
        measured.push(Day { hashing, seconds, processor, stored: stored as f64 / (size() - before) as f64 });
    }
    let content = size_of(&store.root().join("objects")) + size_of(&store.root().join("packs"));
    println!("{kind}: {:.1} MB, after {days} days {:.1}", first as f64 / 1e6, size() as f64 / 1e6);
    println!("  store: {:.1} MB of content, {:.2} of the file", content as f64 / 1e6, content as f64 / size() as f64);
    let most = measured.iter().map(|day| day.stored).fold(0.0, f64::max);
    let all = (content as f64 - first as f64) / (size() - first) as f64;
    println!("  stored / appended: on all days {all:.2}, at most {most:.2}");
    let few = measured.len().min(5);
    for (name, days) in [("first", &measured[..few]), ("last", &measured[measured.len() - few..])] {
        let of = |part: &dyn Fn(&Day) -> f64| median(days.iter().map(part).collect());
        let (seconds, hashing) = (of(&|day| day.seconds), of(&|day| day.hashing));
        let ratios = [of(&|day| day.seconds / day.hashing), of(&|day| day.processor[1] / day.processor[0])];
        println!(
            "  {name} {few} days: {seconds:.2} s, hashing {hashing:.2} s, ratio {:.2}; of the processors {:.2}",
            ratios[0], ratios[1]
        );
    }
}

/// What was measured on one day.
struct Day {
    /// Seconds of hashing the file, and of putting it.
    hashing: f64,
    seconds: f64,
    /// Both in seconds of a processor.
    processor: [f64; 2],
    /// Bytes that the store grew by, of those that were appended.
    stored: f64,
}

/// Seconds of a processor that this process has used.
fn processor_seconds() -> f64 {
    // SAFETY: zeros are a valid value, and the pointer is valid.
    let used = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut used);
        used
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(used.ru_utime) + seconds(used.ru_stime)
}

/// The number that an environment variable has.
fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    of[of.len() / 2]
}
