//! What a garbage collection costs, by whole processes: `cargo bench --bench gc`.
//!
//! objects: a store with `CAIRN_BENCH_GC_OBJECTS` (20,000) objects and 50 versions, the newer half removed, against
//! `find` of the store. Each version replaces one file in 500: neighbours, or with `CAIRN_BENCH_GC_SPREAD` files
//! everywhere, so that most nodes change. The objects are sparse files: a collection does not read them. chain:
//! `CAIRN_BENCH_GC_CHAIN` (300) patches of one file each on a version of 10,000 files: files, bytes and the time of a
//! patch before and after.
//!
//! `-- make-objects DIR`, `make-composed DIR`, `measure-objects DIR`, `make-chain DIR`, `measure-chain DIR` do one
//! part, so that a store that takes long to make is measured on an idle machine. A measurement changes the store.
//! `make-composed` makes `CAIRN_BENCH_GC_COMPOSED` (20,000) composed files, for `measure-objects`.

#[path = "gc_composed.rs"]
mod composed;
#[allow(dead_code)]
mod support;

use cairn::internals::commit::publish_generated;
use cairn::manifest::Entry;
use cairn::types::{ArtifactName, Digest, VersionNumber};
use cairn::{Artifact, Store, Version};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use support::process::{Run, run, sync};
use support::settings::number;

const VERSIONS: usize = 50;
/// Each version replaces one file in this many.
const CHANGED: usize = 500;
/// Files of a directory.
const WIDE: usize = 1000;
const CHAIN_FILES: usize = 10_000;
const OBJECT: u64 = 128 << 10;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make-objects", dir] => make_objects(Path::new(dir)),
        ["make-composed", dir] => composed::make(Path::new(dir), number("CAIRN_BENCH_GC_COMPOSED", 20_000)),
        ["measure-objects", dir] => measure_objects(Path::new(dir)),
        ["make-chain", dir] => make_chain(Path::new(dir)),
        ["measure-chain", dir] => measure_chain(Path::new(dir)),
        _ => {
            let place = tempfile::tempdir().unwrap();
            let (objects, chain) = (place.path().join("objects"), place.path().join("chain"));
            make_objects(&objects);
            measure_objects(&objects);
            make_chain(&chain);
            measure_chain(&chain);
        }
    }
}

/// The version that replaces file `i` of `n`.
fn replaced_by(i: usize, n: usize) -> usize {
    if std::env::var_os("CAIRN_BENCH_GC_SPREAD").is_some() { i % CHANGED } else { i * CHANGED / n }
}

/// The content of file `i` of a version: its first, or that of the version that replaced it.
fn content(i: usize, n: usize, version: usize) -> Digest {
    let replaced = replaced_by(i, n);
    let newest = if replaced <= version { replaced } else { 0 };
    Digest::of(format!("{i} {newest}").as_bytes())
}

fn make_objects(root: &Path) {
    let n = number("CAIRN_BENCH_GC_OBJECTS", 20_000);
    let store = Store::init(root, &Default::default()).unwrap();
    for version in 0..VERSIONS {
        publish_generated(&store, &Artifact::new("x", None).unwrap(), &[], &mut |builder, _| {
            for i in 0..n {
                if i % WIDE == 0 {
                    builder.enter(format!("d{:05}", i / WIDE).as_bytes())?;
                }
                let digest = content(i, n, version);
                let entry = Entry::File { digest, size: OBJECT, exec: false, place: None };
                builder.entry(format!("file-{i:08}.bin").as_bytes(), entry)?;
                if i % WIDE == WIDE - 1 || i == n - 1 {
                    builder.leave()?;
                }
            }
            Ok(())
        })
        .unwrap();
        if version % 12 == 11 {
            gc(root); // a generated version may not lie in more than 16 packs
        }
    }
    let mut made = 0;
    for i in 0..n {
        for version in [0, replaced_by(i, n)] {
            if version >= VERSIONS {
                continue;
            }
            let path = store.layout().object(&content(i, n, version));
            let _ = std::fs::create_dir(path.parent().unwrap());
            if let Ok(file) = std::fs::File::create_new(&path) {
                file.set_len(OBJECT).unwrap();
                file.set_permissions(std::fs::Permissions::from_mode(0o444)).unwrap();
                made += 1;
            }
        }
    }
    for number in VERSIONS / 2..VERSIONS {
        run(cairn(root).args(["rm", &format!("x:v{number}"), "-q"])).unwrap();
    }
    println!("{made} objects, {VERSIONS} versions of {n} files, the newer half removed");
}

fn cairn(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    command.env("CAIRN_STORE", root).env("CAIRN_CACHE_DIR", root.with_extension("cache")).stderr(Stdio::inherit());
    command
}

fn gc(root: &Path) -> Run {
    run(cairn(root).args(["gc", "--min-age", "0", "-q"])).unwrap()
}

fn ms(run: &Run) -> f64 {
    run.time.as_secs_f64() * 1e3
}

/// The time of `find` of the whole store, the best of three.
fn find(root: &Path) -> f64 {
    (0..3).map(|_| ms(&run(Command::new("find").arg(root)).unwrap())).fold(f64::MAX, f64::min)
}

fn measure_objects(root: &Path) {
    let found = find(root);
    let dry = run(cairn(root).args(["gc", "--dry-run", "-q"])).unwrap();
    sync(root).unwrap();
    let first = gc(root);
    sync(root).unwrap();
    let listed = find(root);
    let second = gc(root);
    println!("| | time | of `find` | peak memory |\n|---|---|---|---|");
    println!("| `find` before | {found:.0} ms | | |");
    for (what, run, find) in [
        ("`gc --dry-run`", dry, found),
        ("`gc --min-age 0`", first, found),
        ("a second one, with nothing to do", second, listed),
    ] {
        println!("| {what} | {:.0} ms | {:.2} | {} MiB |", ms(&run), ms(&run) / find, run.peak_kib >> 10);
    }
    println!("| `find` after | {listed:.0} ms | | |");
}

fn make_chain(root: &Path) {
    let length = number("CAIRN_BENCH_GC_CHAIN", 300);
    let store = Store::init(root, &Default::default()).unwrap();
    let contents: Vec<Vec<u8>> = (0..100u8).map(|i| vec![i; 100]).collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    publish_generated(&store, &Artifact::new("x", None).unwrap(), &contents, &mut |builder, files| {
        for i in 0..CHAIN_FILES {
            if i % WIDE == 0 {
                builder.enter(format!("d{:05}", i / WIDE).as_bytes())?;
            }
            builder.entry(format!("file-{i:08}.bin").as_bytes(), files[i % files.len()].clone())?;
            if i % WIDE == WIDE - 1 {
                builder.leave()?;
            }
        }
        Ok(())
    })
    .unwrap();
    let begun = Instant::now();
    for i in 0..length {
        let store = Store::open(root).unwrap();
        let newest = Version::newest(&store, &ArtifactName::parse("x").unwrap()).unwrap().unwrap();
        let mut draft = newest.new_draft();
        let at = i * 7919 % CHAIN_FILES;
        let path = format!("d{:05}/file-{at:08}.bin", at / WIDE);
        draft.add_bytes(&path, format!("patch {i}").as_bytes()).unwrap();
        draft.save(&store).unwrap();
    }
    println!("{length} patches of one file on {CHAIN_FILES} files, {:.1} s", begun.elapsed().as_secs_f64());
}

/// Files and bytes below a directory.
fn size(dir: &Path) -> (u64, u64) {
    let files = walkdir::WalkDir::new(dir).into_iter().flatten().filter(|entry| !entry.file_type().is_dir());
    files.fold((0, 0), |(n, bytes), entry| (n + 1, bytes + entry.metadata().unwrap().len()))
}

/// The median and the longest of 20 patches, in milliseconds.
fn patches(root: &Path, seed: usize) -> (f64, f64) {
    let source = root.with_extension("one");
    std::fs::create_dir_all(&source).unwrap();
    let mut times: Vec<f64> = (0..20)
        .map(|i| {
            let file = source.join(format!("file-{:08}.bin", (i % 10) * WIDE + i));
            std::fs::write(&file, format!("{seed} {i}")).unwrap();
            let args = ["patch", "x", file.to_str().unwrap(), "--at", &format!("d{:05}", i % 10), "-q"];
            ms(&run(cairn(root).args(args)).unwrap())
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() - 1])
}

/// Opening an old version in a process of its own and reading one file, the median of 11.
fn read(root: &Path) -> f64 {
    let store = Store::open(root).unwrap();
    let newest = Version::newest(&store, &ArtifactName::parse("x").unwrap()).unwrap().unwrap().number().0;
    let version = format!("x:{}", VersionNumber(newest / 2));
    let mut times: Vec<f64> =
        (0..11).map(|_| ms(&run(cairn(root).args(["cat", &version, "d00003/file-00003100.bin"])).unwrap())).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn measure_chain(root: &Path) {
    println!(
        "| | files | in `packs/` | in `index/` | bytes | patch, median and longest of 20 | `cat` of an old version |"
    );
    println!("|---|---|---|---|---|---|---|");
    let line = |what: &str, seed: usize| {
        let (files, bytes) = size(root);
        let (packs, index) = (size(&root.join("packs")).0, size(&root.join("index")).0);
        let cat = read(root);
        let (median, longest) = patches(root, seed);
        let mib = bytes as f64 / 1048576.0;
        println!(
            "| {what} | {files} | {packs} | {index} | {mib:.1} MiB | {median:.1}, {longest:.1} ms | {cat:.1} ms |"
        );
    };
    line("before", 1);
    let first = gc(root);
    line("after", 2);
    let second = gc(root);
    println!(
        "\n`gc --min-age 0`: {:.0} ms, {} MiB; after 20 more patches {:.0} ms; `find` of the store {:.0} ms",
        ms(&first),
        first.peak_kib >> 10,
        ms(&second),
        find(root)
    );
}
