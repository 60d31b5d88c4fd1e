//! What collaboration costs: `cargo bench --bench drafts -- [upserts] [finish] [ranks]`; without names, all parts.
//!
//! upserts: 1,000 upserts of one small file each (`CAIRN_BENCH_UPSERTS`) by 1, 8 and 64 writers, against writing and
//! fsyncing a file and its directory. finish: 64 contributions of 10,000 files (`CAIRN_BENCH_FILES`), each in a
//! directory of its own and all in one, finished by a process of its own. ranks: 64 processes that upsert 1,000 files
//! of 1 KiB each at once, and a finish, against one process that puts the same; in turn. Works in `$TMPDIR`.

#[allow(dead_code)]
mod support;

use cairn::types::{ArtifactName, DistributedId};
use cairn::{Artifact, Draft, FinishOptions, Run, RunOptions, Store};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::data::Noise;
use support::process;
use support::protocol::Protocol;
use support::settings::number;

const RANKS: usize = 64;

fn main() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if let [part, store] = parts.as_slice()
        && part == "finish-it"
    {
        return finish_it(Path::new(store));
    }
    let wanted = |name: &str| parts.is_empty() || parts.iter().any(|w| w == name);
    let place = tempfile::tempdir().unwrap();
    if wanted("upserts") {
        upserts(place.path(), number("CAIRN_BENCH_UPSERTS", 1000));
    }
    if wanted("finish") {
        finish(place.path(), number("CAIRN_BENCH_FILES", 10_000));
    }
    if wanted("ranks") {
        ranks(place.path(), 1000, number("CAIRN_BENCH_ROUNDS", 5));
    }
}

fn run(store: &Store, n: usize) -> Run {
    Run::new(store, RunOptions::default().id(format!("rank-{n}"))).unwrap()
}

fn draft(store: &Store) -> Draft {
    Draft::new(store, &ArtifactName::parse("x").unwrap(), &DistributedId::parse("d").unwrap())
}

fn finish_it(store: &Path) {
    let store = Store::open(store).unwrap();
    let published = draft(&store).finish(&Artifact::new("x", None).unwrap(), &FinishOptions::default()).unwrap();
    println!("{} {}", published.version, published.version.record().files);
}

/// One small file after the other, by several processes at once.
fn upserts(place: &Path, n: usize) {
    println!(
        "| upserts of one small file | writers | wall | per second | writing and fsyncing {n} files and their \
         directory × | floor: the protocol's system calls |"
    );
    println!("|---|---|---|---|---|---|");
    for writers in [1, 8, RANKS] {
        let root = place.join(format!("upserts-{writers}"));
        Store::init(&root, &Default::default()).unwrap();
        let plain = fsyncs(&place.join(format!("plain-{writers}")), n);
        let floor = contributions(&place.join(format!("floor-{writers}")), n, writers);
        let next = AtomicUsize::new(0);
        let begun = Instant::now();
        std::thread::scope(|s| {
            for writer in 0..writers {
                let (root, next) = (&root, &next);
                s.spawn(move || {
                    let store = Store::open(root).unwrap();
                    let run = run(&store, writer);
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= n {
                            return;
                        }
                        let mut part = Artifact::new("x", None).unwrap();
                        part.add_bytes(format!("f{i}"), format!("content of {i}")).unwrap();
                        run.upsert_artifact(&part, "d").unwrap();
                    }
                });
            }
        });
        let took = begun.elapsed();
        println!(
            "| {n} | {writers} | {:.2} s | {:.0} | {:.1} × | {:.1} × |",
            took.as_secs_f64(),
            n as f64 / took.as_secs_f64(),
            took.as_secs_f64() / plain.as_secs_f64(),
            floor.as_secs_f64() / plain.as_secs_f64()
        );
        let begun = Instant::now();
        let (state, files) = (
            draft(&Store::open(&root).unwrap()).state().unwrap(),
            walkdir::WalkDir::new(&root).into_iter().filter(|e| !e.as_ref().unwrap().file_type().is_dir()).count(),
        );
        assert_eq!(state.contributions.len(), n);
        let read = begun.elapsed();
        let begun = Instant::now();
        finish_it(&root);
        println!(
            "  reading its log {:.0} ms, finishing it {:.0} ms, {:.2} files in the store an upsert",
            ms(read),
            ms(begun.elapsed()),
            files as f64 / n as f64
        );
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The least that a durable small file costs.
fn fsyncs(dir: &Path, n: usize) -> Duration {
    std::fs::create_dir(dir).unwrap();
    let begun = Instant::now();
    for i in 0..n {
        let path = dir.join(format!("f{i}"));
        std::fs::write(&path, format!("content of {i}")).unwrap();
        std::fs::File::open(&path).unwrap().sync_all().unwrap();
        std::fs::File::open(dir).unwrap().sync_all().unwrap();
    }
    begun.elapsed()
}

/// What the same number of contributions takes if only the protocol's system calls are made.
fn contributions(dir: &Path, n: usize, writers: usize) -> Duration {
    let (protocol, next) = (Protocol::at(dir).unwrap(), AtomicUsize::new(0));
    process::sync(dir).unwrap();
    let begun = Instant::now();
    std::thread::scope(|s| {
        for _ in 0..writers {
            s.spawn(|| {
                let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < n);
                std::iter::from_fn(take).for_each(|i| protocol.contribute(i).unwrap());
            });
        }
    });
    begun.elapsed()
}

/// Many large contributions, finished by a process of its own.
fn finish(place: &Path, files: usize) {
    println!("| finish | contributions × files | layout | wall | peak memory |");
    println!("|---|---|---|---|---|");
    for flat in [false, true] {
        let root = place.join(if flat { "finish-flat" } else { "finish-own" });
        let store = Store::init(&root, &Default::default()).unwrap();
        for n in 0..RANKS {
            let mut part = Artifact::new("x", None).unwrap();
            for i in 0..files {
                let path = if flat { format!("f{i:06}-{n}") } else { format!("rank-{n}/f{i:06}") };
                part.add_bytes(path, format!("{n} {i}")).unwrap();
            }
            run(&store, n).upsert_artifact(&part, "d").unwrap();
        }
        let took = process::run(Command::new(std::env::current_exe().unwrap()).arg("finish-it").arg(&root)).unwrap();
        let layout = if flat { "all in one directory" } else { "a directory each" };
        println!(
            "| | {RANKS} × {files} | {layout} | {:.2} s | {:.0} MiB |",
            took.time.as_secs_f64(),
            took.peak_kib as f64 / 1024.0
        );
        let newest = cairn::resolve(&store, &cairn::VersionSpec::parse("x").unwrap()).unwrap();
        assert_eq!(newest.record().files, (RANKS * files) as u64);
    }
}

/// A job's ranks at once, against one writer.
fn ranks(place: &Path, files: usize, rounds: usize) {
    let source = place.join("source");
    let mut noise = Noise(7);
    let mut bytes = vec![0; 1024];
    for n in 0..RANKS {
        std::fs::create_dir_all(source.join(format!("{n}/rank-{n}"))).unwrap();
        std::fs::create_dir_all(source.join("all")).unwrap();
        for i in 0..files {
            noise.fill(&mut bytes);
            std::fs::write(source.join(format!("{n}/rank-{n}/f{i:04}")), &bytes).unwrap();
        }
        // The same files as one tree, for the one writer.
        let link = Command::new("cp")
            .arg("-al")
            .arg(source.join(format!("{n}/rank-{n}")))
            .arg(source.join("all"))
            .status()
            .unwrap();
        assert!(link.success());
    }
    process::sync(place).unwrap();
    let (mut many, mut one) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let root = place.join(format!("many-{round}"));
        Store::init(&root, &Default::default()).unwrap();
        let begun = Instant::now();
        let children: Vec<_> = (0..RANKS)
            .map(|n| {
                cairn(&root, place)
                    .args(["upsert", "x", "--run", &format!("rank-{n}"), "--distributed-id", "d"])
                    .arg(source.join(n.to_string()))
                    .spawn()
                    .unwrap()
            })
            .collect();
        children.into_iter().for_each(|mut c| assert!(c.wait().unwrap().success()));
        assert!(
            cairn(&root, place)
                .args(["finish", "x", "--distributed-id", "d", "--expect", &RANKS.to_string()])
                .status()
                .unwrap()
                .success()
        );
        many.push(begun.elapsed());
        let root = place.join(format!("one-{round}"));
        Store::init(&root, &Default::default()).unwrap();
        let begun = Instant::now();
        assert!(cairn(&root, place).args(["put", "x"]).arg(source.join("all")).status().unwrap().success());
        one.push(begun.elapsed());
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    };
    let (many, one) = (median(&mut many), median(&mut one));
    println!(
        "{RANKS} writers × {files} files and a finish {many:.2} s, one writer putting the same {one:.2} s: {:.2} × \
         (medians of {rounds}, in turn; target 2 ×)",
        many / one
    );
}

/// The command on a store, without its stat cache: every round reads its files.
fn cairn(store: &Path, place: &Path) -> Command {
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_cairn")));
    command
        .env("CAIRN_STORE", store)
        .env("CAIRN_CACHE_DIR", place.join("no-cache"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _ = std::fs::remove_dir_all(place.join("no-cache"));
    command
}
