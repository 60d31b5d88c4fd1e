//! `cairn warm`, and the first reads of a mount after it, against the native file system: `cargo bench --bench warm`.
//! Needs root: each round empties the page cache (`drop_caches`), so nothing else should run on the machine.
//!
//! `CAIRN_BENCH_DIR` (a temporary directory) holds the dataset L (4 files of 512 MiB) and the store, made once;
//! `CAIRN_BENCH_SCALE` (1) makes it smaller; `CAIRN_BENCH_ROUNDS` (5). For a disk that is really cold, the directory
//! should be on a file system of its own: on a loop device with `losetup --direct-io=on`.
//!
//! The lines `floor` are of the smallest FUSE programs (`support/floor.rs`) that do the same with nothing of cairn: by
//! passthrough, or through a daemon that reads the file, or through one that has the answer in memory already.

#[allow(dead_code)]
mod support;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::data::L;
use support::floor::Floor;
use support::process::{Run, here, run};
use support::settings::{directory, number};
use support::table::{Row, Target};

const COLD: &str = "the files one after the other";
const NATIVE: &str = "native, read once before";

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if args.first().is_some_and(|a| a == "floor") {
        return support::floor::serve(&args[1..]);
    }
    let (dir, _temporary) = directory()?;
    let shape = L.scaled(number("CAIRN_BENCH_SCALE", 1.0));
    let bench = Bench { native: shape.at(&dir)?, dir };
    fs::create_dir_all(bench.mnt())?;
    if !bench.dir.join("store").exists() {
        run(bench.cairn().arg("init").arg(bench.dir.join("store")))?;
        run(bench.cairn().args(["put", "large"]).arg(&bench.native))?;
    }
    println!("{}", Row::heading());
    bench.lines(number("CAIRN_BENCH_ROUNDS", 5))
}

struct Bench {
    dir: PathBuf,
    native: PathBuf,
}

/// One line.
type Ours<'a> = (Row, Box<dyn Fn() -> io::Result<Run> + 'a>);

impl Bench {
    fn mnt(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    fn cairn(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.arg("-q").arg("--store").arg(self.dir.join("store")).env("CAIRN_CACHE_DIR", self.dir.join("cache"));
        command
    }

    fn lines(&self, rounds: usize) -> io::Result<()> {
        let row = Row::new;
        let ratio = Target::Ratio(1.1);
        let mut lines: Vec<Ours<'_>> = vec![
            (row("after warm, first read", NATIVE, ratio), Box::new(|| self.after_warm("passthrough"))),
            (row("  floor, passthrough", NATIVE, Target::None), Box::new(|| self.floor("passthrough"))),
            (row("  without a mount", NATIVE, Target::None), Box::new(|| self.objects_after_warm())),
            (row("through the daemon", NATIVE, Target::None), Box::new(|| self.after_warm("no-open"))),
            (row("  floor, daemon", NATIVE, Target::None), Box::new(|| self.floor("no-open"))),
            (row("  floor, from memory", NATIVE, Target::None), Box::new(|| self.floor("memory"))),
        ];
        let mut warm = row("warm, cold page cache", COLD, ratio);
        // All lines in each round, so that what slows the machine for a while slows all of them.
        for _ in 0..rounds {
            self.drop_caches()?;
            let ours = run(self.cairn().args(["warm", "large"]))?;
            self.drop_caches()?;
            warm.runs.push((ours, here(|| read_all(&self.native))?));
            let native = here(|| read_all(&self.native))?;
            for (row, ours) in &mut lines {
                row.runs.push((ours()?, native));
            }
        }
        println!("{}", warm.text());
        lines.iter().for_each(|(row, _)| println!("{}", row.text()));
        Ok(())
    }

    fn drop_caches(&self) -> io::Result<()> {
        support::process::sync(&self.dir)?;
        fs::write("/proc/sys/vm/drop_caches", "3")
    }

    fn after_warm(&self, io: &str) -> io::Result<Run> {
        self.drop_caches()?;
        run(self.cairn().args(["warm", "large"]))?;
        run(self.cairn().arg("mount").arg(self.mnt()).args(["large", "--io", io]))?;
        let ran = here(|| read_all(&self.mnt()));
        run(Command::new("umount").arg(self.mnt()))?;
        ran
    }

    fn objects_after_warm(&self) -> io::Result<Run> {
        self.drop_caches()?;
        run(self.cairn().args(["warm", "large"]))?;
        here(|| read_all(&self.dir.join("store/objects")))
    }

    fn floor(&self, how: &str) -> io::Result<Run> {
        self.drop_caches()?;
        read_all(&self.native)?;
        let _floor = Floor::start(how, &self.native, &self.mnt())?;
        here(|| read_all(&self.mnt()))
    }
}

/// Reads all files below a directory, one after the other, as `cat` does.
fn read_all(dir: &Path) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            let mut file = File::open(entry.path())?;
            while file.read(&mut buffer)? > 0 {}
        }
    }
    Ok(())
}
