//! What a new version of a large file costs that differs a little from the one before: `cargo bench --bench chunks`.
//!
//! Makes files as programs do that append, insert and update, puts each, and then the changed one: bytes that the store
//! grows by, and seconds; next to them the seconds of reading and hashing the changed file, a put of it into an empty
//! store, which stores it whole, and restic and borg, where these are installed. SQLite databases and Parquet files are
//! made by `chunks_files.py`; Parquet needs pyarrow. `CAIRN_BENCH_MB` (32) is the size of a file, `CAIRN_BENCH_PYTHON`
//! (python3) the interpreter, `CAIRN_BENCH_ONLY` a part of the name of the changes to measure. Prints a table; works in
//! `$TMPDIR`.
//!
//! `CAIRN_BENCH_DAYS=N` measures a file that grows by a hundredth on each of N days instead (`chunks_days.rs`), and how
//! fast it is then read through mounts.

#[path = "chunks_days.rs"]
mod days;
#[allow(dead_code)]
mod support;

use cairn::{Artifact, Store};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// A reproducible source of bytes.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(len);
        out
    }
}

/// Lines of text until there are `len` bytes.
fn lines(len: usize, seed: u64, mut line: impl FnMut(u64, &mut Noise) -> String) -> Vec<u8> {
    let (mut out, mut noise) = (Vec::with_capacity(len + 200), Noise(seed));
    for i in 0.. {
        if out.len() >= len {
            break;
        }
        out.extend_from_slice(line(i, &mut noise).as_bytes());
    }
    out
}

fn json_line(i: u64, noise: &mut Noise) -> String {
    let (a, b) = (noise.next(), noise.next() % 1000);
    format!(
        "{{\"id\": {i}, \"user\": \"u{:06}\", \"score\": 0.{b:03}, \"text\": \"{a:x} is item {i}\"}}\n",
        a % 999_983
    )
}

fn log_line(i: u64, noise: &mut Noise) -> String {
    let status = [200, 200, 304, 404][(noise.next() % 4) as usize];
    format!("2026-11-28T{:02}:{:02} GET /v1/items/{:x} {status}\n", i / 60 % 24, i % 60, noise.next())
}

/// The names of archived files and their bytes, one after another, each aligned to 512 bytes as in a tar archive.
fn archive(images: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, image) in images.iter().enumerate() {
        let mut header = format!("images/{i:06}.jpg {:o}", image.len()).into_bytes();
        header.resize(512, 0);
        out.extend(header);
        out.extend_from_slice(image);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out
}

/// Row groups and a footer that lists them, as in Parquet.
fn row_groups(groups: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"PAR1".to_vec();
    let mut footer = Vec::new();
    for group in groups {
        footer.extend_from_slice(&(out.len() as u64).to_le_bytes());
        footer.extend_from_slice(&group[..200]);
        out.extend_from_slice(group);
    }
    out.extend(footer);
    out
}

/// Each kind of change: its name, the file before and after.
fn changes(len: usize) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let mut out = Vec::new();
    let more = |bytes: &[u8], by: usize| [bytes, &Noise(99).bytes(by)].concat();

    let jsonl = lines(len + len / 100, 1, json_line);
    out.push(("JSONL, 1 % appended", jsonl[..len].to_vec(), jsonl));
    let log = lines(len + len / 20, 2, log_line);
    out.push(("log, 5 % appended", log[..len].to_vec(), log));

    let csv = lines(len, 3, |i, noise| format!("{i},{},{:x}\n", noise.next() % 5000, noise.next()));
    let rows: Vec<&[u8]> = csv.split_inclusive(|b| *b == b'\n').collect();
    let mut inserted = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        inserted.extend_from_slice(row);
        if i % 10_000 == 5000 {
            inserted.extend_from_slice(format!("new,{i},row\n").as_bytes());
        }
    }
    let mut shuffled = rows.clone();
    shuffled.sort_by_key(|row| row.iter().fold(7u32, |h, b| h.wrapping_mul(31) ^ u32::from(*b)));
    let shuffled = shuffled.concat();
    out.push(("CSV, 0.01 % of rows inserted", csv.clone(), inserted));
    out.push(("CSV, rows shuffled", csv, shuffled));

    let mut noise = Noise(4);
    let mut images: Vec<Vec<u8>> = (0..len / 60_000).map(|i| noise.bytes(40_000 + i * 7919 % 40_000)).collect();
    let before = archive(&images);
    for i in (50..images.len()).step_by(100) {
        images[i] = noise.bytes(55_000);
    }
    out.push(("tar of images, 1 % changed", before, archive(&images)));

    let embeddings = Noise(5).bytes(len);
    out.push(("embeddings, 1 % appended", embeddings.clone(), more(&embeddings, len / 100)));
    let layers: Vec<Vec<u8>> = (0..12).map(|i| Noise(100 + i).bytes(len / 12)).collect();
    let tuned: Vec<Vec<u8>> = (0..12).map(|i| Noise(if i < 10 { 100 + i } else { 200 + i }).bytes(len / 12)).collect();
    out.push(("weights, 10 of 12 layers frozen", layers.concat(), tuned.concat()));
    let vocabulary = [&layers[0][..], &Noise(6).bytes(60_000), &layers[1..].concat()].concat();
    out.push(("weights, vocabulary extended", layers.concat(), vocabulary));
    out.push(("weights, all tuned", layers.concat(), Noise(7).bytes(len / 12 * 12)));

    let groups: Vec<Vec<u8>> = (0..len / 500_000).map(|i| Noise(300 + i as u64).bytes(500_000)).collect();
    let mut appended = groups.clone();
    appended.push(Noise(8).bytes(250_000));
    out.push(("row groups and a footer, rows appended", row_groups(&groups), row_groups(&appended)));
    out.extend(changes_in_place(len));
    out
}

/// Changes of a few bytes, and those of databases and tables.
fn changes_in_place(len: usize) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let (mut out, mut noise) = (Vec::new(), Noise(13));
    let pages = Noise(9).bytes(len);
    let mut updated = pages.clone();
    for i in (0..len / 4096).step_by(100) {
        updated[i * 4096 + 100..i * 4096 + 180].copy_from_slice(&noise.bytes(80));
    }
    out.push(("database, 1 % of pages updated", pages, updated));
    let moved = Noise(10).bytes(len);
    let mut changed = moved.clone();
    changed[len / 2..len / 2 + (len / 2).min(1 << 20)].copy_from_slice(&Noise(11).bytes((len / 2).min(1 << 20)));
    let mut longer = moved.clone();
    longer.splice(len / 3..len / 3, Noise(12).bytes(1000));
    out.push(("1,000 bytes inserted", moved.clone(), longer));
    out.push(("1 MiB changed in place", moved, changed));
    for (name, args) in [
        ("SQLite, 1 % of rows appended", ["sqlite", "append"]),
        ("SQLite, 0.1 % of rows updated", ["sqlite", "update"]),
        ("Parquet, 1 % of rows appended", ["parquet", "append"]),
        ("Parquet, 1 % of rows updated", ["parquet", "update"]),
        ("Parquet, a column added", ["parquet", "column"]),
    ] {
        out.extend(made(args, len).map(|[before, after]| (name, before, after)));
    }
    out
}

/// A file before and after a change, made by a Python program. `None`: what that needs is not installed.
fn made(args: [&str; 2], len: usize) -> Option<[Vec<u8>; 2]> {
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("before"), dir.path().join("after")];
    let mut command = days::python();
    let ended = command.args(args).arg((len / 1_000_000).to_string()).args(&paths).status();
    if !ended.is_ok_and(|status| status.success()) {
        println!("skipped: {} {}", args[0], args[1]);
        return None;
    }
    Some(paths.map(|path| std::fs::read(path).unwrap()))
}

/// Bytes of the files below a directory.
fn size_of(dir: &Path) -> u64 {
    let files = walkdir::WalkDir::new(dir).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.metadata().unwrap().len()).sum()
}

/// Puts the directory. Returns the seconds, and the bytes that the store grew by.
fn put(store: &Store, source: &Path) -> (f64, u64) {
    let content = || size_of(&store.root().join("objects")) + size_of(&store.root().join("packs"));
    let before = content();
    let begun = Instant::now();
    let mut artifact = Artifact::new("a", None).unwrap();
    artifact.add_dir(source).unwrap();
    artifact.save(store).unwrap();
    (begun.elapsed().as_secs_f64(), content() - before)
}

/// What another program stores for the second of two backups, and its seconds. `begin` makes its repository, `backup`
/// is the number of a backup. `None`: it is not installed.
fn other(
    repository: &Path,
    source: &Path,
    bytes: [&[u8]; 2],
    run: &dyn Fn(Option<usize>) -> Option<()>,
) -> Option<(f64, u64)> {
    run(None)?;
    let mut last = (0.0, 0);
    for (number, bytes) in bytes.into_iter().enumerate() {
        std::fs::write(source.join("file"), bytes).unwrap();
        let before = size_of(repository);
        let begun = Instant::now();
        run(Some(number))?;
        last = (begun.elapsed().as_secs_f64(), size_of(repository) - before);
    }
    Some(last)
}

fn succeeds(command: &mut Command) -> Option<()> {
    command.output().ok().filter(|output| output.status.success()).map(drop)
}

fn restic(place: &Path, source: &Path, bytes: [&[u8]; 2]) -> Option<(f64, u64)> {
    let repository = place.join("restic");
    let run = |backup: Option<usize>| {
        let mut command = Command::new("restic");
        command.args(["--quiet", "--no-cache", "--repo"]).arg(&repository).env("RESTIC_PASSWORD", "bench");
        match backup {
            None => succeeds(command.arg("init")),
            Some(_) => succeeds(command.arg("backup").arg(source)),
        }
    };
    other(&repository, source, bytes, &run)
}

fn borg(place: &Path, source: &Path, bytes: [&[u8]; 2]) -> Option<(f64, u64)> {
    let repository = place.join("borg");
    let run = |backup: Option<usize>| {
        let mut command = Command::new("borg");
        command.env("BORG_BASE_DIR", place.join("borg-home"));
        match backup {
            None => succeeds(command.args(["init", "--encryption", "none"]).arg(&repository)),
            Some(number) => {
                succeeds(command.arg("create").arg(format!("{}::{number}", repository.display())).arg(source))
            }
        }
    };
    other(&repository, source, bytes, &run)
}

fn shown(measured: Option<(f64, u64)>) -> String {
    measured.map_or("not installed | ".into(), |(s, bytes)| format!("{:.2} | {s:.2}", bytes as f64 / 1e6))
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().is_some_and(|arg| arg == "floor") {
        return support::floor::serve(&args[1..]).unwrap();
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<usize>().ok());
    let megabytes = number("CAIRN_BENCH_MB").unwrap_or(32);
    if let Some(days) = number("CAIRN_BENCH_DAYS") {
        return days::run(megabytes, days);
    }
    let only = std::env::var("CAIRN_BENCH_ONLY").unwrap_or_default();
    println!(
        "| change | stored for v0, MB | stored for v1 | whole | v0, s | hashing v1 | v1 | whole | restic: MB | s \
         | borg: MB | s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (name, before, after) in changes(megabytes * 1_000_000).into_iter().filter(|(name, ..)| name.contains(&only)) {
        let place = tempfile::tempdir().unwrap();
        let source = place.path().join("source");
        std::fs::create_dir(&source).unwrap();
        let init = |name: &str| Store::init(place.path().join(name), &Default::default()).unwrap();
        let (store, other) = (init("store"), init("other"));
        std::fs::write(source.join("file"), &before).unwrap();
        let first = put(&store, &source);
        std::fs::write(source.join("file"), &after).unwrap();
        let hashing = days::hash(&source.join("file"));
        let second = put(&store, &source);
        let whole = put(&other, &source);
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut store.version("a").unwrap().open("file").unwrap(), &mut read).unwrap();
        assert!(read == after, "{name}: what is read is what was put");
        let [restic, borg] = [restic, borg].map(|other| shown(other(place.path(), &source, [&before, &after])));
        let [mb0, mb1, mb_whole] = [first.1, second.1, whole.1].map(|bytes| bytes as f64 / 1e6);
        let (s0, s1, s_whole) = (first.0, second.0, whole.0);
        println!(
            "| {name} | {mb0:.2} | {mb1:.2} | {mb_whole:.2} | {s0:.2} | {hashing:.2} | {s1:.2} | {s_whole:.2} \
             | {restic} | {borg} |"
        );
    }
}
