//! The store's speeds against what the system can do, in one run: `cargo bench --bench store -- [LINE…] [--rounds N]
//! [--dir DIR] [--scale X]`.
//!
//! Both sides run in turn, `cairn` as a process, everything synced; ratios are the medians of the rounds' ratios.
//! Datasets are made once below DIR (target/bench-data), which has to lie on the file system that is measured. Needs
//! some 20 GiB for all lines.

mod support;

use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::data::{self, Shape};
use support::process::{here, run, run_and_sync, sync};
use support::protocol::Protocol;
use support::table::{Row, Target};

type Measure = fn(&Bench) -> io::Result<Vec<Row>>;

/// The lines, by the names they are asked for.
const LINES: [(&str, Measure); 10] = [
    ("put-s", put_s),
    ("put-again-s", put_again_s),
    ("get-s", get_s),
    ("put-l", put_l),
    ("get-l", get_l),
    ("verify", verify),
    ("put-m", put_m),
    ("put-f", put_f),
    ("one-in-a-million", one_in_a_million),
    ("small-commits", small_commits),
];

fn main() -> io::Result<()> {
    let mut bench =
        Bench { dir: Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-data"), rounds: 5, scale: 1.0 };
    let mut wanted = Vec::new();
    let mut args = std::env::args().skip(1);
    let bad = |what: &str| {
        io::Error::other(format!(
            "{what}: expected [LINE…] [--rounds N] [--dir DIR] [--scale X]; lines: {}",
            LINES.map(|l| l.0).join(", ")
        ))
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| bad(&arg));
        match arg.as_str() {
            "--bench" => {} // cargo says so
            "--rounds" => bench.rounds = value()?.parse().map_err(|_| bad("--rounds"))?,
            "--scale" => bench.scale = value()?.parse().map_err(|_| bad("--scale"))?,
            "--dir" => bench.dir = value()?.into(),
            name if LINES.iter().any(|l| l.0 == name) => wanted.push(name.to_owned()),
            other => return Err(bad(other)),
        }
    }
    fs::create_dir_all(&bench.dir)?;
    println!("{}", Row::heading());
    for (name, measure) in LINES {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            for row in measure(&bench)? {
                println!("{}", row.text());
            }
        }
    }
    bench.clear("store")?;
    bench.clear("cache")?;
    bench.clear("copy")
}

/// Where and how it is measured.
struct Bench {
    dir: PathBuf,
    rounds: usize,
    scale: f64,
}

impl Bench {
    fn shape(&self, shape: Shape) -> Shape {
        shape.scaled(self.scale)
    }

    fn data(&self, shape: Shape) -> io::Result<PathBuf> {
        self.shape(shape).at(&self.dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The command, on this bench's store and its own cache.
    fn cairn(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        for name in ["CAIRN_RUN", "CAIRN_RUN_GROUP", "CAIRN_JOB_TYPE"] {
            command.env_remove(name);
        }
        command
            .arg("--quiet")
            .args(args)
            .env("CAIRN_STORE", self.path("store"))
            .env("CAIRN_CACHE_DIR", self.path("cache"));
        command
    }

    fn clear(&self, name: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.path(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// An empty store, and nothing remembered.
    fn fresh_store(&self) -> io::Result<()> {
        self.clear("store")?;
        self.clear("cache")?;
        run(&mut self.cairn(&["init"]))?;
        sync(&self.dir)
    }

    fn put(&self, name: &str, source: &Path) -> Command {
        let mut command = self.cairn(&["put", name]);
        command.arg(source);
        command
    }

    /// A store that holds these datasets, settled long enough for the stat cache to believe them.
    fn store_of(&self, shapes: &[Shape]) -> io::Result<()> {
        self.fresh_store()?;
        for shape in shapes {
            run(&mut self.put(shape.name, &self.data(*shape)?))?;
        }
        sync(&self.dir)
    }

    /// What the store takes on the disk.
    fn stored(&self) -> io::Result<(u64, String)> {
        let (mut files, mut bytes) = (0, 0);
        for entry in walkdir::WalkDir::new(self.path("store")) {
            let entry = entry?;
            if !entry.file_type().is_dir() {
                files += 1;
                bytes += entry.metadata()?.len();
            }
        }
        Ok((files, format!("{files} files, {:.1} MiB in the store", bytes as f64 / f64::from(1 << 20))))
    }

    /// Copies a dataset to `copy` with `cp -r`, and syncs.
    fn copy(&self, source: &Path) -> io::Result<support::process::Run> {
        self.clear("copy")?;
        sync(&self.dir)?;
        run_and_sync(Command::new("cp").arg("-r").arg("--reflink=never").arg(source).arg(self.path("copy")), &self.dir)
    }

    /// Checks a version out to `copy`, and syncs.
    fn get(&self, version: &str, link: &str) -> io::Result<support::process::Run> {
        self.clear("copy")?;
        sync(&self.dir)?;
        let mut command = self.cairn(&["get", version, "--link", link]);
        command.arg(self.path("copy"));
        run_and_sync(&mut command, &self.dir)
    }

    /// Whether the file system shares blocks between files.
    fn reflinks(&self) -> io::Result<bool> {
        let (from, to) = (self.path("reflink-from"), self.path("reflink-to"));
        fs::write(&from, [1; 4096])?;
        let works = Command::new("cp")
            .arg("--reflink=always")
            .args([&from, &to])
            .stderr(std::process::Stdio::null())
            .status()?
            .success();
        fs::remove_file(&from)?;
        let _ = fs::remove_file(&to);
        Ok(works)
    }
}

fn put_s(bench: &Bench) -> io::Result<Vec<Row>> {
    let source = bench.data(data::S)?;
    let mut row = Row { memory: Some(150), ..Row::new("put-s", "cp -r + sync", Target::Ratio(0.3)) };
    for _ in 0..bench.rounds {
        bench.fresh_store()?;
        let ours = run(&mut bench.put("S", &source))?;
        row.runs.push((ours, bench.copy(&source)?));
    }
    row.note = bench.stored()?.1;
    Ok(vec![row])
}

fn put_again_s(bench: &Bench) -> io::Result<Vec<Row>> {
    let source = bench.data(data::S)?;
    bench.store_of(&[data::S])?;
    let mut row = Row::new("put-again-s", "find -printf '%s %T@\\n'", Target::Ratio(1.5));
    for _ in 0..bench.rounds {
        let ours = run(&mut bench.put("S", &source))?;
        let other = run(Command::new("find").arg(&source).args(["-printf", "%s %T@\\n"]))?;
        row.runs.push((ours, other));
    }
    Ok(vec![row])
}

fn get_s(bench: &Bench) -> io::Result<Vec<Row>> {
    bench.store_of(&[data::S])?;
    get(bench, data::S, "get-s", "get-s unsynced", Target::Ratio(0.8))
}

fn get_l(bench: &Bench) -> io::Result<Vec<Row>> {
    bench.store_of(&[data::L])?;
    let mut rows = get(bench, data::L, "get-l", "get-l unsynced", Target::Ratio(0.9))?;
    let source = bench.data(data::L)?;
    let mut links = vec![("hardlink", "get-l hardlink")];
    if bench.reflinks()? {
        links.push(("reflink", "get-l reflink"));
    } else {
        eprintln!("get-l reflink: skipped, {} has no reflinks", bench.dir.display());
    }
    for (link, line) in links {
        let mut row = Row::new(line, "cp -al", Target::Millis(50));
        for _ in 0..bench.rounds {
            let mut ours = bench.get("L", link)?;
            ours.time = ours.ended; // nothing was written
            bench.clear("copy")?;
            row.runs.push((ours, run(Command::new("cp").arg("-al").arg(&source).arg(bench.path("copy")))?));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// A checkout against `cp -r`: until it is durable, and until the process ends.
fn get(
    bench: &Bench,
    shape: Shape,
    line: &'static str,
    unsynced: &'static str,
    target: Target,
) -> io::Result<Vec<Row>> {
    let source = bench.data(shape)?;
    let mut row = Row::new(line, "cp -r + sync, both", target);
    for _ in 0..bench.rounds {
        let ours = bench.get(shape.name, "copy")?;
        row.runs.push((ours, bench.copy(&source)?));
    }
    let ended = |mut r: support::process::Run| {
        r.time = r.ended;
        r
    };
    let runs = row.runs.iter().map(|(a, b)| (ended(*a), ended(*b))).collect();
    Ok(vec![row, Row { runs, ..Row::new(unsynced, "cp -r", target) }])
}

fn put_l(bench: &Bench) -> io::Result<Vec<Row>> {
    let source = bench.data(data::L)?;
    let files: Vec<PathBuf> = files_of(&source)?;
    let reflinks = bench.reflinks()?;
    let mut row = if reflinks {
        Row::new("put-l", "hashing alone, 2 threads", Target::Ratio(1.2))
    } else {
        Row::new("put-l", "cp -r + sync", Target::Ratio(1.15))
    };
    let mut hashing = Row::new("put-l", "hashing alone, 2 threads", Target::None);
    for _ in 0..bench.rounds {
        bench.fresh_store()?;
        let ours = run(&mut bench.put("L", &source))?;
        let hashed = here(|| hash_all(&files))?;
        hashing.runs.push((ours, hashed));
        row.runs.push((ours, if reflinks { hashed } else { bench.copy(&source)? }));
    }
    row.note = bench.stored()?.1;
    Ok(if reflinks { vec![row] } else { vec![row, hashing] })
}

fn verify(bench: &Bench) -> io::Result<Vec<Row>> {
    bench.store_of(&[data::S, data::L])?;
    let files = files_of(&bench.path("store"))?;
    let mut row = Row::new("verify", "read + hash alone, 2 threads", Target::Ratio(1.15));
    for _ in 0..bench.rounds {
        let ours = run(&mut bench.cairn(&["verify"]))?;
        row.runs.push((ours, here(|| hash_all(&files))?));
    }
    row.note = bench.stored()?.1;
    Ok(vec![row])
}

fn put_m(bench: &Bench) -> io::Result<Vec<Row>> {
    put_many(bench, data::M, "put-m, a file")
}

fn put_f(bench: &Bench) -> io::Result<Vec<Row>> {
    put_many(bench, data::F, "put-f, a file")
}

/// Time for a file, against that of S.
fn put_many(bench: &Bench, shape: Shape, line: &'static str) -> io::Result<Vec<Row>> {
    let (many, small) = (bench.data(shape)?, bench.data(data::S)?);
    let each = (bench.shape(shape).files, bench.shape(data::S).files);
    let mut row = Row { memory: Some(400), each, ..Row::new(line, "put-s, a file", Target::Ratio(1.0)) };
    let mut again = Row {
        memory: Some(400),
        ..Row::new(if shape.dirs > 0 { "put-m again" } else { "put-f again" }, "find -printf '%s %T@\\n'", Target::None)
    };
    for _ in 0..bench.rounds {
        bench.fresh_store()?;
        let other = run(&mut bench.put("S", &small))?;
        bench.fresh_store()?;
        row.runs.push((run(&mut bench.put(shape.name, &many))?, other));
        let find = run(Command::new("find").arg(&many).args(["-printf", "%s %T@\\n"]))?;
        again.runs.push((run(&mut bench.put(shape.name, &many))?, find));
    }
    row.note = bench.stored()?.1;
    Ok(vec![row, again])
}

fn one_in_a_million(bench: &Bench) -> io::Result<Vec<Row>> {
    let shapes = [(data::M, ["ls of M", "show of M", "cat of M"]), (data::F, ["ls of F", "show of F", "cat of F"])];
    bench.store_of(&shapes.map(|s| s.0))?;
    let mut rows = Vec::new();
    for (shape, lines) in shapes {
        let scaled = bench.shape(shape);
        let path = scaled.path(scaled.files / 3);
        let commands: [&[&str]; 3] = [&["ls", shape.name, &path], &["show", shape.name], &["cat", shape.name, &path]];
        for (line, args) in lines.into_iter().zip(commands) {
            let mut row = Row::new(line, "true", Target::Millis(15));
            for _ in 0..bench.rounds * 4 {
                row.runs.push((run(&mut bench.cairn(args))?, run(&mut Command::new("true"))?));
            }
            rows.push(row);
        }
    }
    Ok(rows)
}

/// How many commits a round has.
const COMMITS: usize = 1_000;

/// Puts of one small file each: in this process through the library, and as processes.
fn small_commits(bench: &Bench) -> io::Result<Vec<Row>> {
    let count = ((COMMITS as f64 * bench.scale) as usize).max(10);
    let failed = |e: cairn::Error| io::Error::other(format!("{e:#}"));
    let each = (count as u64, count as u64);
    let mut library = Row { each, ..Row::new("commit, library", "write + fsync file + fsync dir", Target::Ratio(3.0)) };
    let mut floor = Row { each, ..Row::new("  floor", "write + fsync file + fsync dir", Target::None) };
    floor.note = "the protocol's system calls only".to_owned();
    let mut process = Row { each, ..Row::new("commit, process", "write + fsync file + fsync dir", Target::None) };
    let mut start = Row { each, ..Row::new("  start of it", "write + fsync file + fsync dir", Target::None) };
    start.note = "cairn version".to_owned();
    let files = bench.path("copy");
    let plain = || {
        bench.clear("copy")?;
        fs::create_dir(&files)?;
        sync(&bench.dir)?;
        here(|| (0..count).try_for_each(|i| write_durably(&files, i)))
    };
    for _ in 0..bench.rounds {
        bench.fresh_store()?;
        let before = bench.stored()?.0;
        let store = cairn::Store::open(bench.path("store")).map_err(failed)?;
        let ours = here(|| {
            (0..count).try_for_each(|i| {
                let mut artifact = cairn::Artifact::new("small", None).map_err(failed)?;
                artifact.add_bytes("data.txt", content(i)).map_err(failed)?;
                artifact.save(&store).map(drop).map_err(failed)
            })
        })?;
        drop(store);
        let (after, message) = bench.stored()?;
        let each = (after - before) as f64 / count as f64;
        library.note = format!("{each:.2} files a commit (≤ 4); {message}");
        library.sound &= each <= 4.0;
        library.runs.push((ours, plain()?));

        bench.clear("floor")?;
        let protocol = Protocol::at(&bench.path("floor"))?;
        sync(&bench.dir)?;
        floor.runs.push((here(|| (0..count).try_for_each(|i| protocol.commit(i)))?, plain()?));
        bench.clear("floor")?;

        bench.fresh_store()?;
        bench.clear("copy")?;
        fs::create_dir(&files)?;
        let source = files.join("data.txt");
        let ours = here(|| {
            (0..count).try_for_each(|i| {
                fs::write(&source, content(i))?;
                run(&mut bench.put("small", &source)).map(drop)
            })
        })?;
        process.runs.push((ours, plain()?));
        let begun = here(|| (0..count).try_for_each(|_| run(&mut bench.cairn(&["version"])).map(drop)))?;
        start.runs.push((begun, plain()?));
    }
    Ok(vec![library, floor, process, start])
}

fn content(i: usize) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    data::Noise(i as u64).fill(&mut bytes);
    bytes
}

fn write_durably(dir: &Path, i: usize) -> io::Result<()> {
    let mut file = File::create_new(dir.join(format!("{i:06}")))?;
    file.write_all(&content(i))?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// All regular files below `dir`, in the order in which the directories list them.
fn files_of(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            out.push(entry.into_path());
        }
    }
    Ok(out)
}

/// Reads and hashes files with two threads: the least that a check of them can take.
fn hash_all(files: &[PathBuf]) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    n => hasher.update(&buffer[..n]),
                }
            }
            std::hint::black_box(hasher.finalize());
        }
        Ok(())
    };
    std::thread::scope(|s| {
        let other = s.spawn(work);
        work()?;
        other.join().expect("a hashing thread does not panic")
    })
}
