//! What a patch costs, by whole processes: `cargo bench --bench patch -- [sizes] [huge] [chain]`; without names, sizes
//! and chain.
//!
//! sizes: 1, 100 and 10,000 files on versions of 10^4, 10^5, 10^6 (`CAIRN_BENCH_SIZES`) in directories of 1,000, and on
//! 10^6 in one directory. huge: the same once on 10^7. chain: `CAIRN_BENCH_CHAIN` (10,000) patches of one file each on
//! a version of 10^5. Versions are generated: their files share contents. Prints tables; works in `$TMPDIR`.

#![allow(clippy::too_many_lines)] // a bench is read from its first measurement to its last

use cairn::internals::manifest::{Builder, diff};
use cairn::manifest::Entry;
use cairn::types::{ArtifactName, VersionNumber};
use cairn::{Artifact, Result, Store, Version};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if let [part, store, n, wide, rest @ ..] = args.as_slice() {
        // Done by a child, so that this process stays small: a child's peak memory begins with its parent's.
        let (store, n, wide) = (PathBuf::from(store), n.parse().unwrap(), wide.parse().unwrap());
        return if part == "generate" {
            generate(&store, n, wide)
        } else {
            count(&store, n, wide, rest[0].parse().unwrap())
        };
    }
    let wanted = |name: &str| if args.is_empty() { name != "huge" } else { args.iter().any(|arg| arg == name) };
    let mut place = tempfile::tempdir().unwrap();
    place.disable_cleanup(std::env::var_os("CAIRN_BENCH_KEEP").is_some());
    if wanted("sizes") || wanted("huge") {
        println!(
            "| version | layout | files patched | wall, median (least–most) of runs | manifest nodes read | written | \
             syncs | all written to the store | peak memory |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
    }
    if wanted("sizes") {
        let sizes = std::env::var("CAIRN_BENCH_SIZES").unwrap_or_else(|_| "10000,100000,1000000".into());
        for n in sizes.split(',').map(|n| n.parse().unwrap()) {
            measure(place.path(), n, 1000);
        }
        measure(place.path(), 1_000_000, usize::MAX);
    }
    if wanted("huge") {
        measure(place.path(), 10_000_000, 1000);
    }
    if wanted("chain") {
        chain(place.path(), std::env::var("CAIRN_BENCH_CHAIN").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000));
    }
}

/// File `i` of a version with `wide` files to a directory.
fn path(i: usize, wide: usize) -> String {
    if wide == usize::MAX { format!("file-{i:08}.bin") } else { format!("d{:05}/file-{:08}.bin", i / wide, i) }
}

/// Runs this program for a part of the work; what it prints.
fn part(name: &str, store: &Path, numbers: &[usize]) -> String {
    let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
    let out = Command::new(std::env::current_exe().unwrap())
        .arg(name)
        .arg(store)
        .args(numbers)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// Makes the version, and prints how many bytes of nodes it has.
fn generate(root: &Path, n: usize, wide: usize) {
    let store = &Store::init(root, &Default::default()).unwrap();

    let mut fill = |builder: &mut Builder<'_>, files: &[Entry]| -> Result<()> {
        for i in 0..n {
            if wide != usize::MAX && i % wide == 0 {
                builder.enter(format!("d{:05}", i / wide).as_bytes())?;
            }
            let path = path(i, wide);
            builder.entry(path.rsplit('/').next().unwrap().as_bytes(), files[i % files.len()].clone())?;
            if wide != usize::MAX && (i % wide == wide - 1 || i == n - 1) {
                builder.leave()?;
            }
        }
        Ok(())
    };
    let contents: Vec<Vec<u8>> = (0..100u8).map(|i| vec![i; 100]).collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    cairn::internals::commit::publish_generated(store, &Artifact::new("x", None).unwrap(), &contents, &mut fill)
        .unwrap();
    println!("{}", store.objects().node_counts().written_bytes);
}

fn random(seed: u64, below: usize) -> usize {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) % below as u64) as usize
}

/// A directory with `k` files that replace files of the version.
fn changes(at: &Path, n: usize, wide: usize, k: usize, seed: u64) -> PathBuf {
    let dir = at.join(format!("changes-{seed}"));
    for j in 0..k {
        let file = dir.join(path(random(seed << 20 | j as u64, n), wide));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("{seed} {j}")).unwrap();
    }
    dir
}

/// Runs the command. Returns its duration in seconds and its peak memory in KiB.
#[allow(clippy::zombie_processes)] // wait4 waits for the child, and has its memory too
fn run(store: &Path, args: &[&str]) -> (f64, i64) {
    let begun = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_cairn"))
        .args(args)
        .env("CAIRN_STORE", store)
        .env("CAIRN_CACHE_DIR", store.with_extension("cache"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut status = 0;
    // SAFETY: zeroed is a valid rusage, and both pointers live through the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert!(libc::wait4(child.id() as i32, &mut status, 0, &mut usage) > 0);
        usage
    };
    let took = begun.elapsed().as_secs_f64();
    let mut message = String::new();
    std::io::Read::read_to_string(&mut child.stderr.unwrap(), &mut message).unwrap();
    assert!(matches!(ExitStatus::from_raw(status).code(), Some(0 | 1)), "{args:?}: {message}");
    (took, usage.ru_maxrss)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Files and bytes below a directory.
fn size(dir: &Path) -> (u64, u64) {
    walkdir::WalkDir::new(dir)
        .into_iter()
        .flatten()
        .filter(|e| !e.file_type().is_dir())
        .fold((0, 0), |(n, b), e| (n + 1, b + e.metadata().unwrap().len()))
}

fn kib(bytes: u64) -> String {
    if bytes >= 10 << 20 {
        format!("{:.1} MiB", bytes as f64 / 1048576.0)
    } else {
        format!("{:.1} KiB", bytes as f64 / 1024.0)
    }
}

/// Patches once with a handle that has cached nothing, and prints what was counted.
fn count(root: &Path, n: usize, wide: usize, k: usize) {
    let store = Store::open(root).unwrap();
    let dir = changes(&root.with_extension("src"), n, wide, k, 9_999_999 + k as u64);
    let before = size(root);
    let mut draft = Version::newest(&store, &ArtifactName::parse("x").unwrap()).unwrap().unwrap().new_draft();
    draft.add_dir(&dir).unwrap();
    draft.save(&store).unwrap();
    let counts = store.objects().node_counts();
    let written = size(root).1 - before.1;
    println!(
        "{} in {} | {} in {} | {} | {}",
        kib(counts.read_bytes),
        counts.read,
        kib(counts.written_bytes),
        counts.written,
        store.syncs(),
        kib(written)
    );
    std::fs::remove_dir_all(dir).unwrap();
}

fn measure(place: &Path, n: usize, wide: usize) {
    let root = place.join(format!("store-{n}-{wide}"));
    part("generate", &root, &[n, wide]);
    let layout = if wide == usize::MAX { "flat" } else { "1,000 to a directory" };
    for (k, runs) in [(1, 15), (100, 7), (10_000, 3)] {
        let counted = part("count", &root, &[n, wide, k]);
        let (mut times, mut memory) = (Vec::new(), 0);
        for round in 0..runs {
            let dir = changes(&root.with_extension("src"), n, wide, k, (round + k * 100) as u64);
            let (took, peak) = run(&root, &["patch", "x", dir.to_str().unwrap()]);
            times.push(took * 1e3);
            memory = memory.max(peak);
            std::fs::remove_dir_all(dir).unwrap();
        }
        let mid = median(&mut times);
        println!(
            "| {n} | {layout} | {k} | {mid:.1} ms ({:.1}–{:.1}) of {runs} | {counted} | {:.1} MiB |",
            times[0],
            times[times.len() - 1],
            memory as f64 / 1024.0
        );
    }
    std::fs::remove_dir_all(&root).unwrap();
}

fn chain(place: &Path, length: usize) {
    const N: usize = 100_000;
    let root = place.join("chain");
    let put: u64 = part("generate", &root, &[N, 1000]).parse().unwrap();
    let begun = size(&root);
    let name = ArtifactName::parse("x").unwrap();
    println!("\nchain: {length} patches of one file each on {N} files; one put's nodes: {}", kib(put));
    println!(
        "| patch | wall, median of the 50 before | mean, most | packs listed | their size | packs/ | mount | diff to \
         the one before |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let source = place.join("one");
    std::fs::create_dir_all(&source).unwrap();
    let marks = [10, 50, length / 4, length / 2, length * 3 / 4, length];
    let (mut all, mut own) = (Vec::new(), Vec::new());
    let store = Store::open(&root).unwrap();
    for i in 1..=length {
        let at = path(random(i as u64, N), 1000);
        let (dir, file) = at.split_once('/').unwrap();
        std::fs::write(source.join(file), format!("patch {i}")).unwrap();
        let (took, _) = run(&root, &["patch", "x", source.join(file).to_str().unwrap(), "--at", dir]);
        std::fs::remove_file(source.join(file)).unwrap();
        all.push(took * 1e3);
        let made = Version::read(&store, &name, VersionNumber(i as u64)).unwrap().unwrap().manifest_file().unwrap();
        own.push(std::fs::metadata(store.layout().pack(made.packs().last().unwrap())).unwrap().len());
        if marks.contains(&i) {
            let mut last: Vec<f64> = all[i.saturating_sub(50)..].to_vec();
            let (mean, most) = (last.iter().sum::<f64>() / last.len() as f64, last.iter().copied().fold(0.0, f64::max));
            let newest = Version::newest(&store, &name).unwrap().unwrap();
            let packs = newest.manifest_file().unwrap().packs().to_vec();
            let listed: u64 = packs.iter().map(|p| std::fs::metadata(store.layout().pack(p)).unwrap().len()).sum();
            let before = Version::read(&store, &name, VersionNumber(newest.number().0 - 1)).unwrap().unwrap();
            let timed = Instant::now();
            let changed = diff(&before.tree().unwrap(), &newest.tree().unwrap()).count();
            let diffed = timed.elapsed().as_secs_f64() * 1e3;
            assert_eq!(changed, 1);
            println!(
                "| {i} | {:.1} ms | {mean:.1}, {most:.1} ms | {} | {} | {} | {} | {diffed:.1} ms |",
                median(&mut last),
                packs.len(),
                kib(listed),
                size(&root.join("packs")).0,
                mount(&root, place)
            );
        }
    }
    let spikes = all.iter().filter(|t| **t > 100.0).count();
    println!(
        "slowest patch {:.1} ms; {spikes} over 100 ms; {:.1} s in all",
        all.iter().copied().fold(0.0, f64::max),
        all.iter().sum::<f64>() / 1e3
    );
    let over = own.iter().filter(|n| **n >= 128 << 10).count();
    println!(
        "a patch's own pack: mean {}, most {}; {over} of {length} have 128 KiB or more",
        kib(own.iter().sum::<u64>() / length as u64),
        kib(own.iter().copied().max().unwrap_or(0))
    );
    let end = size(&root);
    println!(
        "the chain brought {} files, {} before gc ({} files and {} a patch)",
        end.0 - begun.0,
        kib(end.1 - begun.1),
        (end.0 - begun.0) / length as u64,
        kib((end.1 - begun.1) / length as u64)
    );
    for part in ["packs", "index", "artifacts"] {
        let (files, bytes) = size(&root.join(part));
        println!("  {part}: {files} files, {}", kib(bytes));
    }
}

/// Milliseconds to mount the newest version and look at its root.
fn mount(root: &Path, place: &Path) -> String {
    let mnt = place.join("mnt");
    std::fs::create_dir_all(&mnt).unwrap();
    let begun = Instant::now();
    let mounted = Command::new(env!("CARGO_BIN_EXE_cairn"))
        .args(["mount", mnt.to_str().unwrap(), "x", "-q"])
        .env("CAIRN_STORE", root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !mounted.is_ok_and(|s| s.success()) {
        return "not here".into();
    }
    std::fs::metadata(mnt.join("d00000")).unwrap();
    let took = begun.elapsed().as_secs_f64() * 1e3;
    run(root, &["umount", mnt.to_str().unwrap()]);
    format!("{took:.1} ms")
}
