//! Copying into a staging directory and sealing it, against a plain `cp -r`, in one run: `cargo bench --bench staging
//! [-- LINE…]`. Ratios of medians, both sides in turn, on the same file system.
//!
//! `CAIRN_BENCH_DIR` (a temporary directory) holds datasets and store; `CAIRN_BENCH_SCALE` (1) makes them smaller;
//! `CAIRN_BENCH_ROUNDS` (5). What was copied is made durable before it is sealed, and by the side that it is compared
//! with; "not synced" leaves that to the seal. The floor of a copy is the smallest FUSE program that takes it; that of
//! a seal is reading, hashing and removing the plain copy, its files joined to one file for each thread.

#[allow(dead_code)]
mod support;

use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::data::{L, S, Shape};
use support::floor::Floor;
use support::process::{Run, here, run, run_and_sync, sync};
use support::settings::{directory, number};
use support::table::{Row, Target};

fn main() -> io::Result<()> {
    let only: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if only.first().is_some_and(|a| a == "floor") {
        return support::floor::serve(&only[1..]);
    }
    let (dir, _temporary) = directory()?;
    fs::create_dir_all(dir.join("mnt"))?;
    let bench = Bench { dir, scale: number("CAIRN_BENCH_SCALE", 1.0), rounds: number("CAIRN_BENCH_ROUNDS", 5) };
    println!("{} rounds", bench.rounds);
    println!("{}", Row::heading());
    for (shape, lines) in [
        (S, ["S cp -r", "S seal", "S not synced: cp -r", "S not synced: seal"]),
        (L, ["L cp -r", "L seal", "L not synced: cp -r", "L not synced: seal"]),
    ] {
        for (synced, lines) in [(true, &lines[..2]), (false, &lines[2..])] {
            if only.is_empty() || lines.iter().any(|line| only.iter().any(|o| line.contains(o.as_str()))) {
                bench.lines(shape, synced, [lines[0], lines[1]])?;
            }
        }
    }
    Ok(())
}

struct Bench {
    dir: PathBuf,
    scale: f64,
    rounds: usize,
}

impl Bench {
    fn cairn(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.arg("-q").arg("--store").arg(self.store()).env("CAIRN_CACHE_DIR", self.dir.join("cache"));
        command
    }

    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// Copies into the smallest FUSE program.
    fn in_floor(&self, how: &str, copy: &dyn Fn(&Path) -> io::Result<Run>) -> io::Result<Run> {
        let (at, back) = (self.dir.join("floor"), self.dir.join("back"));
        fs::create_dir_all(&at)?;
        fs::create_dir(&back)?;
        let floor = Floor::start(how, &back, &at)?;
        let took = copy(&at);
        drop(floor);
        fs::remove_dir_all(&back)?;
        took
    }

    /// Copies and seals, a new store each time: nothing of it is there before.
    fn lines(&self, shape: Shape, synced: bool, [copy, seal]: [&'static str; 2]) -> io::Result<()> {
        let source = shape.scaled(self.scale).at(&self.dir)?;
        let mut copied = Row::new(copy, copied_of(synced), Target::None);
        let floor = |name| Row::new(name, copied_of(synced), Target::None);
        let mut floors = [("write", floor("  floor")), ("write-plain", floor("  floor, no xattrs"))];
        let mut least = floor("  floor");
        let mut sealed = Row::new(seal, copied.other, if synced { Target::Ratio(0.5) } else { Target::None });
        for round in 0..self.rounds {
            let (mnt, plain) = (self.dir.join("mnt"), self.dir.join("plain"));
            run(self.cairn().arg("init").arg(self.store()))?;
            let args = ["bench", "--stage", "--distributed-id", "d", "--run", "r"];
            let threads = std::env::var("CAIRN_BENCH_THREADS").ok();
            let threads = threads.iter().flat_map(|n| ["--threads", n.as_str()]);
            run(self.cairn().arg("mount").arg(&mnt).args(args).args(threads))?;
            let _mounted = Mounted(&mnt);
            let cp = |to: &Path| {
                let mut command = Command::new("cp");
                command.arg("-r").arg(&source).arg(to);
                if synced { run_and_sync(&mut command, &self.dir) } else { run(&mut command) }
            };
            fs::create_dir(&plain)?;
            sync(&self.dir)?;
            let mut ours = Run::default();
            let mut other = Run::default();
            // Each is first in every other round.
            for i in 0..2 {
                if (i + round) % 2 == 0 { ours = cp(&mnt)? } else { other = cp(&plain)? }
            }
            let inodes = large_inodes(&self.store().join("staging"))?;
            let mut command = self.cairn();
            command.arg("seal").arg(&mnt);
            let took = if synced { run_and_sync(&mut command, &self.dir)? } else { run(&mut command)? };
            copied.runs.push((ours, other));
            for (how, row) in &mut floors {
                row.runs.push((self.in_floor(how, &cp)?, other));
            }
            sealed.runs.push((took, other));
            let objects = large_inodes(&self.store().join("objects"))?;
            sealed.note = format!(
                "{} of {} large files kept their inodes",
                objects.iter().filter(|o| inodes.contains(o)).count(),
                objects.len()
            );
            sealed.sound = objects == inodes;
            run(self.cairn().arg("umount").arg(&mnt))?;
            // A large file is sealed without a copy: that has no such floor.
            if shape.bytes < 128 << 10 {
                least.runs.push((pack_and_remove(&plain, &self.dir)?, other));
            } else {
                fs::remove_dir_all(&plain)?;
            }
            fs::remove_dir_all(self.store())?;
        }
        println!("{}", copied.text());
        floors.iter().for_each(|(_, row)| println!("{}", row.text()));
        println!("{}", sealed.text());
        if !least.runs.is_empty() {
            println!("{}", least.text());
        }
        Ok(())
    }
}

/// The least that sealing small files takes: two threads read and hash them and join them to a file each, which become
/// durable, then remove them.
fn pack_and_remove(dir: &Path, place: &Path) -> io::Result<Run> {
    let packs = [place.join("pack-0"), place.join("pack-1")];
    let run = here(|| {
        let dirs: Vec<PathBuf> = walkdir::WalkDir::new(dir)
            .into_iter()
            .filter_map(|e| e.ok().filter(|e| e.file_type().is_dir()).map(walkdir::DirEntry::into_path))
            .collect();
        in_two_threads(|half| pack(&dirs, half, &packs[half]))?;
        in_two_threads(|half| {
            let files = dirs.iter().skip(half).step_by(2).flat_map(fs::read_dir).flatten().flatten();
            files.filter(|e| e.file_type().is_ok_and(|t| t.is_file())).try_for_each(|e| fs::remove_file(e.path()))
        })?;
        fs::remove_dir_all(dir)?;
        sync(place)
    })?;
    packs.iter().try_for_each(fs::remove_file)?;
    Ok(run)
}

fn pack(dirs: &[PathBuf], half: usize, to: &Path) -> io::Result<()> {
    let (mut pack, mut joined, mut buffer) = (File::create_new(to)?, Vec::new(), vec![0; 128 << 10]);
    for entry in dirs.iter().skip(half).step_by(2).flat_map(fs::read_dir).flatten() {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOATIME).open(entry.path())?;
        let n = file.read_at(&mut buffer, 0)?;
        std::hint::black_box(Sha256::digest(&buffer[..n]));
        joined.extend_from_slice(&buffer[..n]);
        if joined.len() > 1 << 20 {
            pack.write_all(&joined)?;
            joined.clear();
        }
    }
    pack.write_all(&joined)?;
    pack.sync_all()
}

fn in_two_threads(work: impl Fn(usize) -> io::Result<()> + Sync) -> io::Result<()> {
    std::thread::scope(|s| {
        let other = s.spawn(|| work(1));
        work(0)?;
        other.join().expect("it does not panic")
    })
}

fn copied_of(synced: bool) -> &'static str {
    if synced { "cp -r + sync" } else { "cp -r" }
}

/// Inode and blocks of every large file.
fn large_inodes(dir: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut out = Vec::new();
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_file() && meta.len() >= 128 << 10 {
            out.push((meta.ino(), meta.blocks()));
        }
    }
    out.sort_unstable();
    Ok(out)
}

/// Unmounted at the end, also of a run that fails.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}
