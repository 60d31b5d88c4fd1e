//! What versions of many files cost.

use super::place::{Place, Values, median, millis};
use super::support::data::Noise;
use super::support::process::Transferred;
use cairn::Artifact;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Files of a version, a thousand in a directory; `content` gives each its bytes.
fn make_each(place: &Place, files: u64, content: impl Fn(u64) -> Vec<u8>) {
    for n in 0..files {
        let dir = place.at(&format!("d/{:04}", n / 1000));
        if n % 1000 == 0 {
            fs::create_dir_all(&dir).unwrap();
        }
        fs::write(dir.join(format!("{n:07}")), content(n)).unwrap();
    }
}

pub fn make(place: &Place, files: u64) {
    make_each(place, files, |n| n.to_string().into_bytes());
}

/// Peak memory of commands on a version of many files.
pub fn memory(place: &Place, _: u64) -> Values {
    place.another("other");
    let peak = |arguments: &[&str]| place.run(arguments).peak_kib as f64 / 1024.0;
    let mut values = vec![
        ("put, peak memory", "MiB", peak(&["put", "x", "d"])),
        ("put again, peak memory", "MiB", peak(&["put", "x", "d"])),
        ("verify, peak memory", "MiB", peak(&["verify"])),
        ("get, peak memory", "MiB", peak(&["get", "x", "out"])),
        ("get again, peak memory", "MiB", peak(&["get", "x", "out"])),
        ("copy, peak memory", "MiB", peak(&["copy", "x", "x", "--to", "other"])),
    ];
    fs::create_dir(place.at("one")).unwrap();
    fs::write(place.at("one/f"), "1").unwrap();
    place.run(&["put", "x", "one"]);
    let difference = File::create(place.at("difference")).unwrap();
    let mut command = place.command(&["diff", "x:v1", "x:v0", "--json"]);
    assert!(command.stdout(difference).status().unwrap().code().is_some_and(|code| code < 2));
    values.push(("patch --from-diff, peak memory", "MiB", peak(&["patch", "x:v1", "--from-diff", "difference"])));
    values
}

fn random(n: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Noise(n + 1).fill(&mut bytes);
    bytes
}

pub fn make_blocks(place: &Place, files: u64) {
    make_each(place, files, |n| random(n, 4096));
    place.save_directory();
}

/// What an unchanged put reads that is not in the source, if no stat cache knows the files.
pub fn put_cold(place: &Place, files: u64) -> Values {
    let (run, Transferred { read, .. }) = place.counted(&mut place.command(&["put", "x", "d"]));
    let more = read as f64 - (files * 4096) as f64;
    vec![
        ("unchanged put, read from the store", "bytes a file", more / files as f64),
        ("unchanged put", "µs of processor a file", millis(run) * 1e3 / files as f64),
    ]
}

/// A file of n MB is written and put at once, then put again. Then another artifact gets the same content.
pub fn put_large(place: &Place, megabytes: u64) -> Values {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = dir.path().join("large");
    let with_cache = |name: &str| {
        let mut command = place.command(&["put", name]);
        command.arg(&file).env("CAIRN_CACHE_DIR", dir.path().join("cache"));
        command
    };
    let mut large = File::create(&file).unwrap();
    (0..megabytes).for_each(|n| large.write_all(&random(megabytes << 20 | n, 1 << 20)).unwrap());
    drop(large);
    place.counted(&mut with_cache("large"));
    let (again, _) = place.counted(&mut with_cache("large"));
    let mut other = place.command(&["put", "other"]);
    let (_, Transferred { written, .. }) = place.counted(other.arg(&file));
    vec![
        ("second put of a fresh file", "ms of processor", millis(again)),
        ("put of content that exists, written", "MB", written as f64 / 1e6),
    ]
}

pub fn make_small(place: &Place, files: u64) {
    make_each(place, files, |n| random(n, 64));
}

fn bytes_below(dir: &Path) -> u64 {
    let of = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() { bytes_below(&entry.path()) } else { entry.metadata().unwrap().len() }
    };
    fs::read_dir(dir).unwrap().map(of).sum()
}

/// What the store has for each file besides its content.
pub fn overhead(place: &Place, files: u64) -> Values {
    place.run(&["put", "x", "d"]);
    let all = ["packs", "index", "objects"].iter().map(|part| bytes_below(&place.at("store").join(part))).sum::<u64>();
    let index = bytes_below(&place.at("store/index"));
    vec![
        ("stored besides 64 bytes", "bytes a file", all as f64 / files as f64 - 64.0),
        ("of these in index/", "bytes a file", index as f64 / files as f64),
    ]
}

pub fn make_hundred_thousand(place: &Place, _: u64) {
    make(place, 100_000);
    place.save_directory();
}

/// Patches of one file each, in directories that follow no order.
pub fn patch_chain(place: &Place, patches: u64) -> Values {
    let packs = place.at("store/packs");
    let before = bytes_below(&packs);
    let mut times = Vec::new();
    for n in 0..patches {
        let at = (n * 7919 * 13) % 100_000;
        let file = format!("{at:07}");
        fs::write(place.at(&file), format!("patch {n}")).unwrap();
        times.push(millis(place.run(&["patch", "x", &file, "--at", &format!("{:04}", at / 1000)])));
    }
    vec![
        ("patch of one file, stored in packs", "KB", (bytes_below(&packs) - before) as f64 / 1e3 / patches as f64),
        ("patch of one file, median", "ms of processor", median(times.into_iter())),
    ]
}

/// Files added one by one through the library, each in a directory of its own.
pub fn add_directories(place: &Place, directories: u64) -> Values {
    if place.is_other {
        return vec![("add_bytes in this process", "µs a directory", f64::NAN)];
    }
    let begun = Instant::now();
    let mut artifact = Artifact::new("many", None).unwrap();
    for n in 0..directories {
        artifact.add_bytes(format!("d{n}/f"), n.to_string()).unwrap();
    }
    artifact.save(&place.store()).unwrap();
    let each = begun.elapsed().as_secs_f64() * 1e6 / directories as f64;
    vec![("add_bytes in this process", "µs a directory", each)]
}
