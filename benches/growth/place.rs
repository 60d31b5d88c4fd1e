//! A store to measure in, and the command that is measured.

use super::support::process::{self, Transferred, run};
use cairn::types::Token;
use cairn::{Artifact, Store};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// How many puts one figure is of.
const PUTS: usize = 5;

/// What was measured, in which unit, and the value.
pub type Values = Vec<(&'static str, &'static str, f64)>;

/// A store, what is put into it, and the command that is measured.
pub struct Place {
    dir: tempfile::TempDir,
    binary: PathBuf,
    /// What works in this process cannot be measured with another binary.
    pub is_other: bool,
}

impl Place {
    /// An empty store that `before` made, so that it can read the store.
    pub fn new(before: Option<&Path>) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let binary = std::env::var_os("CAIRN_BENCH_AFTER").unwrap_or_else(|| env!("CARGO_BIN_EXE_cairn").into());
        let binary = PathBuf::from(binary);
        let place = Place { dir, binary, is_other: false };
        place.init("store", before.unwrap_or(&place.binary));
        place
    }

    fn init(&self, name: &str, binary: &Path) {
        run(Command::new(binary).arg("init").arg(self.at(name)).stderr(Stdio::null())).unwrap();
    }

    /// Another empty store.
    pub fn another(&self, name: &str) {
        self.init(name, &self.binary);
    }

    /// Puts `d` as the next version of `x` without the command.
    pub fn save_directory(&self) {
        let mut artifact = Artifact::new("x", None).unwrap();
        artifact.add_dir(self.at("d")).unwrap();
        artifact.save(&self.store()).unwrap();
    }

    /// A copy of it, for another binary.
    pub fn copy(&self, binary: &Path) -> Place {
        let dir = tempfile::tempdir().unwrap();
        run(Command::new("cp").arg("-a").arg(self.at(".")).arg(dir.path())).unwrap();
        Place { dir, binary: binary.into(), is_other: true }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store(&self) -> Store {
        Store::open(self.at("store")).unwrap()
    }

    pub fn with_store(&self, command: &mut Command, arguments: &[&str]) {
        command.args(arguments).current_dir(self.dir.path()).stderr(Stdio::null());
        command.env("CAIRN_STORE", self.at("store")).env("CAIRN_CACHE_DIR", "");
    }

    /// The command.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        self.with_store(&mut command, arguments);
        command
    }

    /// Runs a command that must succeed.
    pub fn run(&self, arguments: &[&str]) -> process::Run {
        run(&mut self.command(arguments)).unwrap()
    }

    /// What a command prints, to stdout and stderr, whatever its exit status.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stderr(Stdio::piped()).output().unwrap()
    }

    /// What a command takes, which reads and writes these many bytes.
    pub fn counted(&self, command: &mut Command) -> (process::Run, Transferred) {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        process::wait_counted(child).unwrap()
    }

    /// How many system calls the command makes; not a number without strace.
    pub fn calls(&self, arguments: &[&str]) -> f64 {
        let summary = self.at("calls");
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-o"]).arg(&summary).arg(&self.binary);
        self.with_store(&mut command, arguments);
        if run(&mut command).is_err() {
            return f64::NAN;
        }
        let summary = fs::read_to_string(summary).unwrap();
        let total = summary.lines().find(|line| line.ends_with("total")).unwrap_or_default();
        total.split_whitespace().nth(3).and_then(|calls| calls.parse().ok()).unwrap_or(f64::NAN)
    }

    /// New content for `put NAME d`.
    pub fn write(&self) {
        fs::create_dir_all(self.at("d")).unwrap();
        fs::write(self.at("d/f"), Token::fresh().as_str()).unwrap();
    }

    /// The median of puts of new content, in milliseconds of processor.
    pub fn put(&self) -> f64 {
        median((0..PUTS).map(|_| {
            self.write();
            millis(self.run(&["put", "x", "d"]))
        }))
    }
}

/// What it took of the processors. (How long it took depends more on what else the machine does.)
pub fn millis(run: process::Run) -> f64 {
    run.processor.as_secs_f64() * 1e3
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn save(store: &Store, name: &str, content: &str) {
    let mut artifact = Artifact::new(name, None).unwrap();
    artifact.add_bytes("f", content).unwrap();
    artifact.save(store).unwrap();
}
