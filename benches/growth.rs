//! What must not grow with a store, at three sizes each: `cargo bench --bench growth -- [PART…]`.
//!
//! aliases, names, runs: what a put costs in a store with n of them. dead: with what n killed writers left. versions:
//! of one artifact, each with a pack. index: with n contents in nine index segments. commits: n by four processes, the
//! first and the last tenth. files: a version of n, peak memory.
//!
//! Prints a table, and draws the curves into the file that `CAIRN_BENCH_SVG` names. `CAIRN_BENCH_BEFORE` is another
//! `cairn`, which is measured on a copy of each store. `CAIRN_BENCH_SCALE=10` makes all sizes ten times as large.
//! System calls are counted with strace; without it, they are missing. Works in `$TMPDIR`: on a tmpfs the stores are
//! made in a minute.

#[allow(dead_code)]
mod support;

use cairn::catalog::alias::{self, Expected};

use cairn::types::{AliasName, ArtifactName, Digest, Token, VersionNumber};
use cairn::{Artifact, Run, RunOptions, Store};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use support::plot::{Curve, svg};
use support::process::{self, run};
use support::settings::number;

/// How many puts one figure is of.
const PUTS: usize = 5;
/// How many puts are traced, of which the one with the most calls counts.
const TRACED: usize = 100;

type Values = Vec<(&'static str, &'static str, f64)>;
/// Makes a store of that size in a place; measures there.
type Part = (&'static str, [u64; 3], fn(&Place, u64), fn(&Place, u64) -> Values);

/// The files come first: a process begins with the memory that this one has then, and `index` takes much.
const PARTS: [Part; 8] = [
    ("files", [1_000, 10_000, 100_000], make_files, put_files),
    ("aliases", [10, 100, 1_000], make_aliases, put_new),
    ("names", [100, 1_000, 10_000], make_names, put_new),
    ("runs", [100, 1_000, 10_000], make_runs, put_by_runs),
    ("dead", [300, 3_000, 10_000], make_dead, put_after_dead),
    ("versions", [100, 1_000, 10_000], make_versions, put_and_list),
    ("index", [10_000, 100_000, 1_000_000], make_index, several_puts),
    ("commits", [500, 1_000, 2_000], make_one, commit_by_four),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let scale: f64 = number("CAIRN_BENCH_SCALE", 1.0);
    let before = std::env::var_os("CAIRN_BENCH_BEFORE").map(PathBuf::from);
    println!("| | size | | before | after |\n|---|---|---|---|---|");
    let mut curves = Vec::new();
    for (name, sizes, make, measure) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            curves.extend(curves_of(name, &sizes.map(|n| (n as f64 * scale) as u64), make, measure, before.as_deref()));
        }
    }
    if let Some(path) = std::env::var_os("CAIRN_BENCH_SVG") {
        fs::write(path, svg(&curves)).unwrap();
    }
}

/// The curves of one part, printed as they are measured.
fn curves_of(
    name: &str,
    sizes: &[u64; 3],
    make: fn(&Place, u64),
    measure: fn(&Place, u64) -> Values,
    before: Option<&Path>,
) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for size in sizes {
        let place = Place::new();
        make(&place, *size);
        let old = before.map(|binary| measure(&place.copy(binary), *size));
        for (i, (what, unit, after)) in measure(&place, *size).into_iter().enumerate() {
            let before = old.as_ref().map(|old| old[i].2);
            let shown = before.map_or(String::new(), |before| format!("{before:.1}"));
            println!("| {name} | {size} | {what}, {unit} | {shown} | {after:.1} |");
            if curves.len() <= i {
                let title = format!("{name}: {what}");
                curves.push(Curve { title, unit, sizes: sizes.to_vec(), before: Vec::new(), after: Vec::new() });
            }
            curves[i].before.extend(before);
            curves[i].after.push(after);
        }
    }
    curves
}

/// A store, what is put into it, and the command that is measured.
struct Place {
    dir: tempfile::TempDir,
    binary: PathBuf,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        Store::init(dir.path().join("store"), &Default::default()).unwrap();
        Place { dir, binary: env!("CARGO_BIN_EXE_cairn").into() }
    }

    /// A copy of it, for another binary.
    fn copy(&self, binary: &Path) -> Place {
        let dir = tempfile::tempdir().unwrap();
        run(Command::new("cp").arg("-a").arg(self.at(".")).arg(dir.path())).unwrap();
        Place { dir, binary: binary.into() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self) -> Store {
        Store::open(self.at("store")).unwrap()
    }

    fn with_store(&self, command: &mut Command, arguments: &[&str]) {
        command.args(arguments).current_dir(self.dir.path()).stderr(Stdio::null());
        command.env("CAIRN_STORE", self.at("store")).env("CAIRN_CACHE_DIR", "");
    }

    fn run(&self, arguments: &[&str]) -> process::Run {
        let mut command = Command::new(&self.binary);
        self.with_store(&mut command, arguments);
        run(&mut command).unwrap()
    }

    /// How many system calls the command makes; not a number without strace.
    fn calls(&self, arguments: &[&str]) -> f64 {
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
    fn write(&self) {
        fs::create_dir_all(self.at("d")).unwrap();
        fs::write(self.at("d/f"), Token::fresh().as_str()).unwrap();
    }

    /// The median of puts of new content, in milliseconds of processor.
    fn put(&self) -> f64 {
        median((0..PUTS).map(|_| {
            self.write();
            millis(self.run(&["put", "x", "d"]))
        }))
    }
}

/// What it took of the processors. (How long it took depends more on what else the machine does.)
fn millis(run: process::Run) -> f64 {
    run.processor.as_secs_f64() * 1e3
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn save(store: &Store, name: &str, content: &str) {
    let mut artifact = Artifact::new(name, None).unwrap();
    artifact.add_bytes("f", content).unwrap();
    artifact.save(store).unwrap();
}

fn make_one(place: &Place, _: u64) {
    save(&place.store(), "x", "0");
    place.write();
}

fn put_new(place: &Place, _: u64) -> Values {
    let time = place.put();
    place.write();
    vec![("put", "calls", place.calls(&["put", "x", "d"])), ("put", "ms of processor", time)]
}

fn make_aliases(place: &Place, aliases: u64) {
    make_one(place, 0);
    let (store, name) = (place.store(), ArtifactName::parse("x").unwrap());
    for n in 0..aliases {
        let alias = AliasName::parse(&format!("alias-{n}")).unwrap();
        alias::set(&store, &name, &alias, Expected::Any, Some(VersionNumber(0))).unwrap();
    }
}

fn make_names(place: &Place, names: u64) {
    make_one(place, 0);
    let store = place.store();
    (1..names).for_each(|n| save(&store, &format!("name-{n}"), "0"));
    place.run(&["gc"]);
}

/// Runs that all made the content of one version.
fn make_runs(place: &Place, runs: u64) {
    make_one(place, 0);
    let store = place.store();
    let content = fs::read(place.at("d/f")).unwrap();
    for n in 0..runs {
        let run = Run::new(&store, RunOptions::default().id(format!("run-{n}"))).unwrap();
        let mut artifact = Artifact::new("x", None).unwrap();
        artifact.add_bytes("f", content.as_slice()).unwrap();
        run.log_artifact(&artifact).unwrap();
    }
}

fn put_by_runs(place: &Place, _: u64) -> Values {
    let put = |n: usize| millis(place.run(&["put", "x", "d", "--run", &format!("new-{n}")]));
    put(0);
    let time = median((1..=PUTS).map(put));
    let calls = place.calls(&["put", "x", "d", "--run", "traced"]);
    vec![("unchanged put", "calls", calls), ("unchanged put", "ms of processor", time)]
}

/// What killed writers left.
fn make_dead(place: &Place, writers: u64) {
    make_one(place, 0);
    let system = |path: &str| fs::read_to_string(path).unwrap().trim().to_owned();
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    for _ in 0..writers {
        let token = Token::fresh();
        let work = place.at("store/work").join(token.as_str());
        fs::create_dir(&work).unwrap();
        symlink(format!("artifacts/x/versions/{}", token.record_name()), work.join("record")).unwrap();
        let lock = serde_json::json!({
            "beat": "000000000000", "purpose": "put", "artifact": "x", "draft": null, "run": null,
            "host": system("/proc/sys/kernel/hostname"), "boot_id": system("/proc/sys/kernel/random/boot_id"),
            "pid": gone.id(), "pid_start": 1, "user": "u", "since": "2026-01-01T00:00:00Z",
        });
        fs::write(place.at("store/locks").join(token.as_str()), lock.to_string()).unwrap();
    }
}

/// A put clears what 2,048 of them left.
fn put_after_dead(place: &Place, _: u64) -> Values {
    let put = || {
        place.write();
        millis(place.run(&["put", "x", "d"]))
    };
    let first = put();
    for _ in 0..6 {
        put();
    }
    place.write();
    let calls = place.calls(&["put", "x", "d"]);
    vec![
        ("first put", "ms of processor", first),
        ("eighth put", "calls", calls),
        ("ninth put", "ms of processor", place.put()),
    ]
}

fn make_versions(place: &Place, versions: u64) {
    let store = place.store();
    (0..versions).for_each(|n| save(&store, "x", &n.to_string()));
}

fn put_and_list(place: &Place, _: u64) -> Values {
    let mut values = several_puts(place, 0);
    let list = place.run(&["list", "x", "--limit", "20"]);
    values.push(("list --limit 20", "ms of processor", millis(list)));
    values.push(("list --limit 20", "MiB", list.peak_kib as f64 / 1024.0));
    let list = place.run(&["list", "x"]);
    values.push(("list", "ms of processor", millis(list)));
    values.push(("list", "MiB", list.peak_kib as f64 / 1024.0));
    values
}

/// Contents in nine segments of one size class. The first put finds no more than these.
fn make_index(place: &Place, contents: u64) {
    make_one(place, 0);
    let store = place.store();
    for segment in 0..9 {
        let work = place.at("store/work").join(Token::fresh().as_str());
        fs::create_dir(&work).unwrap();
        let writer = store.objects().writer(&work).unwrap();
        let mut lane = writer.thread_writer();
        for n in 0..contents / 9 {
            let content = (segment * contents + n).to_le_bytes();
            lane.put_small(Digest::of(&content), &content).unwrap();
        }
        lane.close().unwrap();
        writer.seal(&[], &[]).unwrap();
        fs::remove_dir_all(&work).unwrap();
    }
}

/// The median and the most of several puts.
fn several_puts(place: &Place, _: u64) -> Values {
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..TRACED {
        place.write();
        times.push(millis(place.run(&["put", "x", "d"])));
    }
    let calls = (0..TRACED / 4).map(|_| {
        place.write();
        place.calls(&["put", "x", "d"])
    });
    let calls = calls.fold(0.0, f64::max);
    let most = times.iter().copied().fold(0.0, f64::max);
    vec![
        ("put, most of 25", "calls", calls),
        ("put, median", "ms of processor", median(times.into_iter())),
        ("put, most of 100", "ms of processor", most),
    ]
}

/// Small commits from four processes at a time: the time of each in the first and in the last tenth.
fn commit_by_four(place: &Place, commits: u64) -> Values {
    let begun = Instant::now();
    let writer = |n: u64| {
        let dir = format!("d{n}");
        fs::create_dir_all(place.at(&dir)).unwrap();
        let commit = |i: u64| {
            fs::write(place.at(&dir).join("f"), format!("{n} {i}")).unwrap();
            place.run(&["put", &format!("x{n}"), &dir]);
            begun.elapsed().as_secs_f64()
        };
        (0..commits / 4).map(commit).collect::<Vec<f64>>()
    };
    let mut ends: Vec<f64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4).map(|n| scope.spawn(move || writer(n))).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    ends.sort_by(f64::total_cmp);
    let tenth = ends.len() / 10;
    let (first, last) = (ends[tenth], ends[ends.len() - 1] - ends[ends.len() - 1 - tenth]);
    let each = |seconds: f64| seconds * 1e3 / tenth as f64;
    vec![("the first tenth, each", "ms", each(first)), ("the last tenth, each", "ms", each(last))]
}

fn make_files(place: &Place, files: u64) {
    for n in 0..files {
        let dir = place.at(&format!("d/{:04}", n / 1000));
        if n % 1000 == 0 {
            fs::create_dir_all(&dir).unwrap();
        }
        fs::write(dir.join(format!("{n:07}")), n.to_string()).unwrap();
    }
}

fn put_files(place: &Place, _: u64) -> Values {
    Store::init(place.at("other"), &Default::default()).unwrap();
    let peak = |arguments: &[&str]| place.run(arguments).peak_kib as f64 / 1024.0;
    vec![
        ("put, peak memory", "MiB", peak(&["put", "x", "d"])),
        ("put again, peak memory", "MiB", peak(&["put", "x", "d"])),
        ("verify, peak memory", "MiB", peak(&["verify"])),
        ("get, peak memory", "MiB", peak(&["get", "x", "out"])),
        ("get again, peak memory", "MiB", peak(&["get", "x", "out"])),
        ("copy, peak memory", "MiB", peak(&["copy", "x", "x", "--to", "other"])),
    ]
}
