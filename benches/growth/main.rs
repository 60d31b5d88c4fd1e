//! What must not grow with a store, at three sizes each: `cargo bench --bench growth -- [PART…]`.
//!
//! One version: files (n of them: peak memory), cold (n files are put again by a host without a stat cache), large (one
//! of n MB), small (n of 64 bytes: what the store adds), patches (n of one file in 100,000: what each stores),
//! directories (n are added through the library).
//! What a store collects: aliases, names, runs, dead (killed writers), versions (each with a pack), index (n contents
//! in nine segments), drafts (n contributions), damaged (n versions, one content damaged), commits (n by four
//! processes, the first and the last tenth).
//! Mounts: depth (n nested directories), shown (n versions through a mount of the store), staged (n files).
//!
//! Prints a table, and draws the curves into the file that `CAIRN_BENCH_SVG` names. `CAIRN_BENCH_BEFORE` is another
//! `cairn`, which makes each empty store and is measured on a copy of each full one; `CAIRN_BENCH_AFTER` is measured
//! instead of this build. `CAIRN_BENCH_SCALE=10` makes all sizes ten times as large, `CAIRN_BENCH_SIZES=100,1000`
//! measures these instead. System calls are counted with strace;
//! without it, they are missing. Works in `$TMPDIR`: on a tmpfs the stores are made in minutes. `large` works below
//! `target/`, because the stat cache does not remember files on a tmpfs. The mounts need root.

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
use support::plot::{Curve, svg};
use support::settings::number;

/// Makes a store of that size in a place; measures there.
type Part = (&'static str, [u64; 3], fn(&Place, u64), fn(&Place, u64) -> Values);

/// The files come first: a process begins with the memory that this one has then, and `index` takes much.
const PARTS: [Part; 18] = [
    ("files", [1_000, 10_000, 100_000], files::make, files::memory),
    ("staged", [1_000, 10_000, 100_000], stores::make_one, mounts::stage),
    ("cold", [1_000, 4_000, 16_000], files::make_blocks, files::put_cold),
    ("large", [16, 64, 256], stores::make_one, files::put_large),
    ("small", [1_000, 10_000, 100_000], files::make_small, files::overhead),
    ("patches", [15, 60, 240], files::make_hundred_thousand, files::patch_chain),
    ("directories", [1_000, 10_000, 40_000], stores::make_one, files::add_directories),
    ("depth", [100, 400, 1_000], mounts::make_nested, mounts::find_nested),
    ("aliases", [10, 100, 1_000], stores::make_aliases, stores::with_aliases),
    ("names", [100, 1_000, 10_000], stores::make_names, stores::put_new),
    ("runs", [100, 1_000, 10_000], stores::make_runs, stores::put_by_runs),
    ("drafts", [30, 300, 3_000], stores::make_contributions, stores::wait_for_more),
    ("dead", [300, 3_000, 10_000], stores::make_dead, stores::put_after_dead),
    ("damaged", [10, 100, 1_000], stores::make_damaged, stores::verify_damaged),
    ("versions", [100, 1_000, 10_000], stores::make_versions, stores::put_and_list),
    ("shown", [100, 1_000, 10_000], stores::make_versions, mounts::show_versions),
    ("index", [10_000, 100_000, 1_000_000], stores::make_index, stores::several_puts),
    ("commits", [500, 1_000, 2_000], stores::make_one, stores::commit_by_four),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let scale: f64 = number("CAIRN_BENCH_SCALE", 1.0);
    let given = std::env::var("CAIRN_BENCH_SIZES").ok();
    let given: Option<Vec<u64>> = given.map(|sizes| sizes.split(',').map(|n| n.parse().unwrap()).collect());
    let before = std::env::var_os("CAIRN_BENCH_BEFORE").map(PathBuf::from);
    println!("| | size | | before | after |\n|---|---|---|---|---|");
    let mut curves = Vec::new();
    for (name, sizes, make, measure) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            let sizes = given.clone().unwrap_or_else(|| sizes.map(|n| (n as f64 * scale) as u64).to_vec());
            curves.extend(curves_of(name, &sizes, make, measure, before.as_deref()));
        }
    }
    if let Some(path) = std::env::var_os("CAIRN_BENCH_SVG") {
        fs::write(path, svg(&curves)).unwrap();
    }
}

/// The curves of one part, printed as they are measured.
fn curves_of(
    name: &str,
    sizes: &[u64],
    make: fn(&Place, u64),
    measure: fn(&Place, u64) -> Values,
    before: Option<&Path>,
) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    let has_before = before.is_some();
    for size in sizes {
        let place = Place::new(before);
        make(&place, *size);
        // What the other one cannot do is missing.
        let measured_before = |binary| catch_unwind(AssertUnwindSafe(|| measure(&place.copy(binary), *size))).ok();
        let old = before.and_then(measured_before);
        for (i, (what, unit, after)) in measure(&place, *size).into_iter().enumerate() {
            let before = old.as_ref().map(|old| old[i].2).filter(|before| before.is_finite());
            let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
            println!("| {name} | {size} | {what}, {unit} | {} | {after:.1} |", shown(before));
            if curves.len() <= i {
                let title = format!("{name}: {what}");
                curves.push(Curve { title, unit, sizes: sizes.to_vec(), before: Vec::new(), after: Vec::new() });
            }
            if has_before {
                curves[i].before.push(before.unwrap_or(f64::NAN));
            }
            curves[i].after.push(after);
        }
    }
    curves
}
