//! What must not grow with a store, at three sizes each: `cargo bench --bench growth -- [PART…]`.
//!
//! One version: files (n of them: peak memory), cold (n files are put again by a host without a stat cache), large (one
//! of n MB), small (n of 64 bytes: what the store adds), patches (n of one file in 100,000: what each stores),
//! directories (n are added through the library).
//! What a store collects: aliases, names, runs, dead (killed writers), versions (each with a pack; also through a mount
//! of the store), index (n contents in nine segments), drafts (n contributions), damaged (n versions, one content
//! damaged), commits (n by four processes, the first and the last tenth).
//! Mounts: depth (n nested directories), staged (n files).
//!
//! Prints a table as docs/PERFORMANCE.md has it, and draws the curves into the file that `CAIRN_BENCH_SVG` names. What
//! is measured shows on stderr meanwhile. `CAIRN_BENCH_BEFORE` is another `cairn`, which makes each empty store and is
//! measured on a copy of each full one (not by `commits`, and by `versions` only up to 10,000); `CAIRN_BENCH_AFTER` is
//! measured instead of this build. `CAIRN_BENCH_SCALE=10` makes all sizes ten times as large,
//! `CAIRN_BENCH_SIZES=100,1000` measures these instead. System calls are counted with strace; without it, they are
//! missing. Works in `$TMPDIR`: on a tmpfs the stores are made in minutes. `large` works below `target/`, because the
//! stat cache does not remember files on a tmpfs. The mounts need root.

mod files;
mod mounts;
mod place;
mod stores;
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

use place::{Place, Values};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;
use support::plot::{Curve, svg};
use support::settings::number;

/// What is measured in a store.
type Measure = fn(&Place, u64) -> Values;

/// Stores of three sizes, and what is measured in each.
struct Part {
    name: &'static str,
    /// What a store has that many of.
    what: &'static str,
    sizes: [u64; 3],
    /// Makes a store of that size.
    make: fn(&Place, u64),
    measure: &'static [Measure],
    /// Another `cairn` is measured up to this size.
    compared: u64,
}

const fn part(
    name: &'static str,
    what: &'static str,
    sizes: [u64; 3],
    make: fn(&Place, u64),
    measure: &'static [Measure],
) -> Part {
    Part { name, what, sizes, make, measure, compared: u64::MAX }
}

/// A process begins with the memory that this one has then. So what measures memory comes first, and what takes much
/// in this process comes last.
const PARTS: [Part; 17] = [
    part("files", "files of one version", [1_000, 10_000, 100_000], files::make, &[files::memory]),
    part("staged", "files made in a stage", [1_000, 10_000, 100_000], stores::make_one, &[mounts::stage]),
    Part {
        compared: 10_000,
        ..part(
            "versions",
            "versions of one name, each with a pack",
            [1_000, 10_000, 100_000],
            stores::make_versions,
            &[stores::put_and_list, mounts::show_versions],
        )
    },
    part("cold", "files of 4 KiB, no stat cache", [1_000, 4_000, 16_000], files::make_blocks, &[files::put_cold]),
    part("large", "MB of one file", [16, 64, 256], stores::make_one, &[files::put_large]),
    part("small", "files of 64 bytes", [1_000, 10_000, 100_000], files::make_small, &[files::overhead]),
    part("patches", "patches of 100,000 files", [15, 60, 240], files::make_hundred_thousand, &[files::patch_chain]),
    part("depth", "nested directories", [100, 400, 1_000], mounts::make_nested, &[mounts::find_nested]),
    part("aliases", "aliases of the artifact", [10, 100, 1_000], stores::make_aliases, &[stores::with_aliases]),
    part("names", "artifacts, after a collection", [200, 2_000, 20_000], stores::make_names, &[stores::put_new]),
    part("runs", "runs that made the version", [100, 1_000, 10_000], stores::make_runs, &[stores::put_by_runs]),
    part("drafts", "contributions to a draft", [30, 300, 3_000], stores::make_contributions, &[stores::wait_for_more]),
    part("dead", "killed writers", [300, 3_000, 10_000], stores::make_dead, &[stores::put_after_dead]),
    part("damaged", "versions, one content damaged", [10, 100, 1_000], stores::make_damaged, &[stores::verify_damaged]),
    Part {
        compared: 0,
        ..part(
            "commits",
            "commits by four processes",
            [1_000, 10_000, 100_000],
            stores::make_one,
            &[stores::commit_by_four],
        )
    },
    part(
        "directories",
        "directories added by the library",
        [1_000, 10_000, 40_000],
        stores::make_one,
        &[files::add_directories],
    ),
    part(
        "index",
        "contents in nine index segments",
        [10_000, 100_000, 1_000_000],
        stores::make_index,
        &[stores::several_puts],
    ),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let scale: f64 = number("CAIRN_BENCH_SCALE", 1.0);
    let given = std::env::var("CAIRN_BENCH_SIZES").ok();
    let given: Option<Vec<u64>> = given.map(|sizes| sizes.split(',').map(|n| n.parse().unwrap()).collect());
    let before = std::env::var_os("CAIRN_BENCH_BEFORE").map(PathBuf::from);
    println!("| there are | n | work | before | after |\n|---|---|---|---|---|");
    let mut curves = Vec::new();
    for part in PARTS {
        if wanted.is_empty() || wanted.iter().any(|w| w == part.name) {
            let sizes = given.clone().unwrap_or_else(|| part.sizes.map(|n| (n as f64 * scale) as u64).to_vec());
            let of_part = curves_of(&part, &sizes, before.as_deref());
            print_lines(part.what, &sizes, &of_part);
            curves.extend(of_part);
        }
    }
    if let Some(path) = std::env::var_os("CAIRN_BENCH_SVG") {
        fs::write(path, svg(&curves)).unwrap();
    }
}

/// Makes a store of each size, and measures in it.
fn curves_of(part: &Part, sizes: &[u64], before: Option<&Path>) -> Vec<Curve> {
    let begun = Instant::now();
    let before = before.filter(|_| part.compared > 0);
    let mut curves: Vec<Curve> = Vec::new();
    for size in sizes {
        let place = Place::new(before);
        (part.make)(&place, *size);
        eprintln!("{} {size}: made after {:.1} s", part.name, begun.elapsed().as_secs_f64());
        // What the other one cannot do is missing.
        let old = before.filter(|_| *size <= part.compared).map(|binary| {
            let place = place.copy(binary);
            let of = |measure: &Measure| catch_unwind(AssertUnwindSafe(|| measure(&place, *size))).unwrap_or_default();
            part.measure.iter().map(of).collect::<Vec<_>>()
        });
        let new: Vec<Values> = part.measure.iter().map(|measure| measure(&place, *size)).collect();
        let lines = new.iter().enumerate().flat_map(|(i, values)| (0..values.len()).map(move |j| (i, j)));
        for (line, (i, j)) in lines.enumerate() {
            let (what, unit, after) = new[i][j];
            if curves.len() <= line {
                let title = format!("{}: {what}", part.name);
                curves.push(Curve { title, unit, sizes: sizes.to_vec(), before: Vec::new(), after: Vec::new() });
            }
            let old = old.as_ref().and_then(|old| Some(old[i].get(j)?.2)).unwrap_or(f64::NAN);
            curves[line].before.extend(before.map(|_| old));
            curves[line].after.push(after);
            eprintln!("  {what}, {unit}: {} / {}", shown(old), shown(after));
        }
    }
    eprintln!("{}: {:.1} s", part.name, begun.elapsed().as_secs_f64());
    curves
}

/// The lines of a part, as the table has them: each with all sizes.
fn print_lines(what: &str, sizes: &[u64], curves: &[Curve]) {
    let mut first = [what.to_owned(), joined(sizes.iter().map(|size| with_commas(*size)))];
    for curve in curves {
        let [what, sizes] = std::mem::take(&mut first);
        let work = curve.title.split_once(": ").map_or("", |(_, work)| work);
        let unit = if curve.unit.is_empty() { String::new() } else { format!(", {}", curve.unit) };
        let (before, after) = (curve.before.iter().copied(), curve.after.iter().copied());
        let (before, after) = (joined(before.map(shown)), joined(after.map(shown)));
        println!("| {what} | {sizes} | {work}{unit} | {before} | {after} |");
    }
}

fn joined(values: impl Iterator<Item = String>) -> String {
    values.collect::<Vec<_>>().join(" / ")
}

/// A value with about three digits.
fn shown(value: f64) -> String {
    match value {
        value if !value.is_finite() => "-".to_owned(),
        value if value < 20.0 => format!("{value:.1}"),
        value => with_commas(value.round() as u64),
    }
}

fn with_commas(n: u64) -> String {
    let digits = n.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}
