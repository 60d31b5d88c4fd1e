//! A mount against the native file system, in one run: `cargo bench --bench mount [-- LINE…]`. Ratios of medians, both
//! sides in turn.
//!
//! `CAIRN_BENCH_DIR` (a temporary directory) holds the datasets and the store, made once; `CAIRN_BENCH_SCALE` (1) makes
//! them smaller; `CAIRN_BENCH_ROUNDS` (5). As another user than root it measures what that user gets. After each line
//! `floor` is the same of the smallest FUSE program that serves the same tree from memory (`support/floor.rs`), with
//! nothing of cairn: what it costs more than the native directory is the kernel's part.

#[allow(dead_code)]
mod support;

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::data::{F, L, M, S, Shape};
use support::floor::Floor;
use support::process::{Run, run};
use support::settings::{directory, number};
use support::table::{Row, Target};

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if args.first().is_some_and(|a| a == "child") {
        let number = |i: usize| args[i].parse().expect("a number");
        return child(Path::new(&args[1]), Path::new(&args[2]), number(3), number(4));
    }
    if args.first().is_some_and(|a| a == "floor") {
        return support::floor::serve(&args[1..]);
    }
    let bench = Bench::new(args)?;
    println!(
        "{} threads, {} rounds, as {}",
        num_threads(),
        bench.rounds,
        if is_root() { "root" } else { "an ordinary user" }
    );
    println!("{}", Row::heading());
    bench.small()?;
    bench.large()?;
    bench.metadata()
}

fn num_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn is_root() -> bool {
    // SAFETY: no memory effects.
    unsafe { libc::geteuid() == 0 }
}

struct Bench {
    dir: PathBuf,
    _temporary: Option<tempfile::TempDir>,
    only: Vec<String>,
    scale: f64,
    rounds: usize,
}

/// A mount of one dataset by one program, taken away at the end.
struct Mount {
    at: PathBuf,
    took: Duration,
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg(&self.at)
            .output()
            .map(|o| o.status.success() || Command::new("fusermount3").arg("-u").arg(&self.at).status().is_ok());
    }
}

impl Bench {
    fn new(only: Vec<String>) -> io::Result<Bench> {
        let (dir, temporary) = directory()?;
        fs::create_dir_all(dir.join("mnt"))?;
        let bench = Bench {
            dir,
            _temporary: temporary,
            only,
            scale: number("CAIRN_BENCH_SCALE", 1.0),
            rounds: number("CAIRN_BENCH_ROUNDS", 5),
        };
        if !bench.store().exists() {
            run(bench.cairn().arg("init").arg(bench.store()))?;
        }
        Ok(bench)
    }

    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    fn mnt(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    fn cairn(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.arg("-q").arg("--store").arg(self.store()).env("CAIRN_CACHE_DIR", self.dir.join("cache"));
        command
    }

    fn wants(&self, line: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|o| line.contains(o.as_str()))
    }

    /// Whether any line of a dataset may be wanted: their names begin with its.
    fn wants_any(&self, shape: Shape) -> bool {
        self.only.is_empty() || self.only.iter().any(|o| o.starts_with(shape.name))
    }

    /// The dataset as a directory, and as the newest version of its name.
    fn data(&self, shape: Shape) -> io::Result<(Shape, PathBuf)> {
        let shape = shape.scaled(self.scale);
        let native = shape.at(&self.dir)?;
        if !self.store().join("artifacts").join(artifact(shape)).exists() {
            run(self.cairn().args(["put", &artifact(shape)]).arg(&native))?;
        }
        Ok((shape, native))
    }

    fn mount(&self, shape: Shape, io: &str) -> io::Result<Mount> {
        let begun = Instant::now();
        run(self.cairn().arg("mount").arg(self.mnt()).arg(artifact(shape)).args(["--io", io]))?;
        fs::metadata(self.mnt())?;
        Ok(Mount { at: self.mnt(), took: begun.elapsed() })
    }

    /// One line: `work` on the mount and on the native directory, in turn. `first`: on a new mount each time. The floor
    /// takes a line of its own after it.
    fn line(
        &self,
        name: &'static str,
        of: (Shape, &Path),
        io: &str,
        first: bool,
        target: Target,
        work: &dyn Fn(&Path) -> io::Result<Run>,
    ) -> io::Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let (shape, native) = of;
        let mut row = Row::new(name, "the native directory", target);
        work(native)?;
        let mut mount = None;
        for _ in 0..self.rounds {
            if first || mount.is_none() {
                drop(mount.take());
                mount = Some(self.mount(shape, io)?);
                if !first {
                    work(&self.mnt())?;
                }
            }
            let ours = work(&self.mnt())?;
            row.runs.push((ours, work(native)?));
        }
        row.note = format!(
            "daemon {} MiB at most, {:.2} s of a processor",
            daemon("VmHWM:", &mount.as_ref().expect("mounted").at)? / 1024,
            cpu(&self.mnt())?
        );
        drop(mount);
        println!("{}", row.text());
        self.floor(name, of, io, first, work)
    }

    /// The same line of the smallest FUSE program that serves the same tree in the same way.
    fn floor(
        &self,
        name: &'static str,
        (shape, native): (Shape, &Path),
        io: &str,
        first: bool,
        work: &dyn Fn(&Path) -> io::Result<Run>,
    ) -> io::Result<()> {
        let mut row = Row::new("  floor", "the native directory", Target::None);
        let passes = io == "auto" && is_root() && shape.bytes > 1 << 20;
        let mut floor = None;
        for _ in 0..self.rounds {
            if first || floor.is_none() {
                drop(floor.take());
                floor = Some(Floor::start(if passes { "passthrough" } else { "no-open" }, native, &self.mnt())?);
                if !first {
                    work(&self.mnt())?;
                }
            }
            row.runs.push((work(&self.mnt())?, work(native)?));
        }
        let pid = floor.as_ref().expect("it is mounted").pid();
        row.note = format!("{name}; {:.2} s of a processor", cpu_of(&pid.to_string())?);
        println!("{}", row.text());
        Ok(())
    }

    fn small(&self) -> io::Result<()> {
        if !self.wants_any(S) {
            return Ok(());
        }
        let (shape, native) = self.data(S)?;
        let of = (shape, native.as_path());
        let read = |processes: usize| {
            let native = native.clone();
            move |dir: &Path| read_all(&native, dir, processes)
        };
        self.line("S warm, 1 process", of, "auto", false, Target::Ratio(1.2), &read(1))?;
        self.line("S warm, 4 processes", of, "auto", false, Target::Ratio(1.2), &read(4))?;
        self.line("S first, by a walk", of, "auto", true, Target::Ratio(8.0), &|dir| walk_all(dir))?;
        self.line("S first, by name", of, "auto", true, Target::None, &read(1))?;
        self.line("S first, by name, 4", of, "auto", true, Target::None, &read(4))
    }

    fn large(&self) -> io::Result<()> {
        if !self.wants_any(L) {
            return Ok(());
        }
        let (shape, native) = self.data(L)?;
        let of = (shape, native.as_path());
        for (io, names, first) in [
            (
                "auto",
                ["L warm, in order", "L warm, at random", "L warm, mmap", "L first, in order"],
                if is_root() { 1.2 } else { 5.0 },
            ),
            ("no-open", ["L no-open, in order", "L no-open, at random", "L no-open, mmap", "L no-open, first"], 5.0),
        ] {
            self.line(names[0], of, io, false, Target::Ratio(1.1), &|dir| read_all(&native, dir, 1))?;
            self.line(names[1], of, io, false, Target::Ratio(1.1), &|dir| here(|| read_random(dir)))?;
            self.line(names[2], of, io, false, Target::Ratio(1.1), &|dir| here(|| read_mapped(dir)))?;
            self.line(names[3], of, io, true, Target::Ratio(first), &|dir| read_all(&native, dir, 1))?;
        }
        Ok(())
    }

    fn metadata(&self) -> io::Result<()> {
        let find = |dir: &Path| run(Command::new("find").arg(dir).args(["-printf", "%s"]));
        let list = |dir: &Path| run(Command::new("ls").arg("-l").arg(dir));
        for (shape, names) in [
            (F, ["F first find %s", "F warm find %s", "F first ls -l", "F warm ls -l"]),
            (M, ["M first find %s", "M warm find %s", "", ""]),
        ] {
            if !self.wants_any(shape) {
                continue;
            }
            let (shape, native) = self.data(shape)?;
            let of = (shape, native.as_path());
            self.line(names[0], of, "auto", true, Target::Ratio(2.5), &find)?;
            self.line(names[1], of, "auto", false, Target::Ratio(1.1), &find)?;
            if !names[2].is_empty() {
                self.line(names[2], of, "auto", true, Target::Ratio(1.1), &list)?;
                self.line(names[3], of, "auto", false, Target::Ratio(1.1), &list)?;
            }
            self.mount_time(shape)?;
        }
        Ok(())
    }

    /// From the command to the first answer of the mount.
    fn mount_time(&self, shape: Shape) -> io::Result<()> {
        let mut row = Row::new("mount, first stat", "the command `true`", Target::Millis(50));
        row.note = format!("{} files", shape.files);
        for _ in 0..self.rounds {
            let mount = self.mount(shape, "auto")?;
            row.runs.push((Run { time: mount.took, ..Run::default() }, run(&mut Command::new("true"))?));
        }
        println!("{}", row.text());
        Ok(())
    }
}

fn artifact(shape: Shape) -> String {
    format!("{}-{}x{}", shape.name, shape.files, shape.bytes)
}

fn here(work: impl FnOnce() -> io::Result<()>) -> io::Result<Run> {
    support::process::here(work)
}

/// Opens, reads and closes every file below `dir`, by several processes, which know the paths (from `native`) before
/// the clock starts.
fn read_all(native: &Path, dir: &Path, processes: usize) -> io::Result<Run> {
    let mut children = Vec::new();
    for part in 0..processes {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("child")
            .arg(native)
            .arg(dir)
            .args([part.to_string(), processes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (stdin, stdout) =
            (child.stdin.take().expect("piped"), io::BufReader::new(child.stdout.take().expect("piped")));
        children.push((child, stdin, stdout));
    }
    for (_, _, stdout) in &mut children {
        stdout.read_line(&mut String::new())?;
    }
    let begun = Instant::now();
    for (_, stdin, _) in &mut children {
        stdin.write_all(b"go\n")?;
    }
    for (child, _, _) in &mut children {
        assert!(child.wait()?.success());
    }
    let time = begun.elapsed();
    Ok(Run { time, ended: time, ..Run::default() })
}

/// Walks `dir` and opens, reads and closes every file, as grep -r and cp -r do.
fn walk_all(dir: &Path) -> io::Result<Run> {
    here(|| {
        let mut buffer = vec![0; 256 << 10];
        for entry in walkdir::WalkDir::new(dir).into_iter().map(|e| e.map_err(io::Error::from)) {
            let entry = entry?;
            if entry.file_type().is_file() {
                read_file(entry.path(), &mut buffer)?;
            }
        }
        Ok(())
    })
}

fn read_file(path: &Path, buffer: &mut [u8]) -> io::Result<()> {
    let mut file = File::open(path)?;
    while file.read(buffer)? > 0 {}
    Ok(())
}

fn child(native: &Path, dir: &Path, part: usize, parts: usize) -> io::Result<()> {
    let listed = walkdir::WalkDir::new(native)
        .sort_by_file_name()
        .into_iter()
        .filter_map(Result::ok)
        .filter(|e| e.file_type().is_file());
    let files: Vec<PathBuf> = listed
        .enumerate()
        .filter(|(i, _)| i % parts == part)
        .map(|(_, e)| dir.join(e.path().strip_prefix(native).expect("below it")))
        .collect();
    println!("ready");
    io::stdin().read_line(&mut String::new())?;
    let mut buffer = vec![0; 256 << 10];
    files.iter().try_for_each(|path| read_file(path, &mut buffer))
}

fn largest(dir: &Path) -> io::Result<(File, u64)> {
    let path = fs::read_dir(dir)?.next().expect("a file")?.path();
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn read_random(dir: &Path) -> io::Result<()> {
    let (file, size) = largest(dir)?;
    let mut x = 88_172_645_463_325_252_u64;
    let mut buffer = [0; 4096];
    for _ in 0..200_000 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        file.read_exact_at(&mut buffer, x % (size / 4096) * 4096)?;
    }
    Ok(())
}

fn read_mapped(dir: &Path) -> io::Result<()> {
    let (file, _) = largest(dir)?;
    // SAFETY: no process changes the datasets while they are measured.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    let sum: u64 =
        map.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().expect("eight"))).fold(0, u64::wrapping_add);
    std::hint::black_box(sum);
    Ok(())
}

/// The process that serves `mnt`: its arguments name it.
fn daemon_pid(mnt: &Path) -> io::Result<String> {
    use std::os::unix::ffi::OsStrExt;
    for process in fs::read_dir("/proc")?.flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let mut args = line.split(|b| *b == 0);
        if args.next().is_some_and(|w| w.ends_with(b"cairn")) && args.any(|w| w == mnt.as_os_str().as_bytes()) {
            return Ok(process.file_name().to_string_lossy().into_owned());
        }
    }
    Err(io::Error::other("no daemon"))
}

fn daemon(field: &str, mnt: &Path) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon_pid(mnt)?))?;
    let line = status.lines().find(|l| l.starts_with(field)).ok_or_else(|| io::Error::other("no such field"))?;
    Ok(line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0))
}

/// Processor seconds of the daemon.
fn cpu(mnt: &Path) -> io::Result<f64> {
    cpu_of(&daemon_pid(mnt)?)
}

fn cpu_of(pid: &str) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Ok((fields[11].parse::<f64>().unwrap_or(0.0) + fields[12].parse::<f64>().unwrap_or(0.0)) / 100.0)
}
