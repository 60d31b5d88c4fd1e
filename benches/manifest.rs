//! What manifests cost: building, one edit, reading. Prints a table; `cargo bench --bench manifest`.
//!
//! `cargo bench --bench manifest -- 100000` takes fewer entries than a million.

#![allow(clippy::too_many_lines)] // a bench is read from its first measurement to its last

use cairn::error::Result;
use cairn::internals::manifest::*;
use cairn::manifest::*;
use cairn::types::{Digest, RelPath};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % below
    }
}

fn file(n: u64) -> Entry {
    let mut digest = [0u8; 32];
    digest[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    Entry::File { digest: Digest(digest), size: 4096, exec: false, place: None }
}

fn plain(i: u64) -> Vec<u8> {
    format!("sample-{i:08}.bin").into_bytes()
}

/// A copy of the leaf level's key hash, which an attacker knows.
fn key_hash(name: &[u8]) -> u64 {
    let mut h = (0xcbf2_9ce4_8422_2325u64).wrapping_mul(0x0000_0100_0000_01b3);
    for b in name {
        h = (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    h = (h ^ h >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ h >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 33
}

/// Names whose hashes rise 2,000 times in a row: runs of 2,000 entries, several times what a node holds.
fn ground(i: u64) -> Vec<u8> {
    let step = u64::MAX / 2000;
    let low = i % 2000 * step;
    (0u64..)
        .map(|n| format!("{i:08}{n:x}").into_bytes())
        .find(|name| (low..low + step).contains(&key_hash(name)))
        .expect("endless")
}

fn row(what: &str, value: impl std::fmt::Display) {
    println!("{what:<58} {value:>28}");
}

fn each(took: Duration, n: u64) -> String {
    let nanos = took.as_nanos() as f64 / n as f64;
    if nanos < 10_000.0 { format!("{nanos:.0} ns") } else { format!("{:.1} µs", nanos / 1000.0) }
}

fn built(what: &str, nodes: &MemoryNodes, build: impl FnOnce(&mut Builder<'_>) -> Result<()>) -> Result<Tree> {
    let mut sink = nodes.clone();
    let begun = Instant::now();
    let mut builder = Builder::new(&mut sink);
    build(&mut builder)?;
    let root = builder.finish()?;
    let took = begun.elapsed();
    let (entries, counts) = (root.totals().entries, nodes.counts());
    row(&format!("build {what}: {entries} entries"), format!("{:.2} s", took.as_secs_f64()));
    row(
        "  nodes, bytes an entry, levels",
        format!("{}, {}, {}", counts.stored, counts.stored_bytes / entries, root.node.level() + 1),
    );
    Ok(Tree::of(&root, Arc::new(nodes.clone())))
}

fn edits(what: &str, base: &Tree, nodes: &MemoryNodes, rounds: u64, edit: impl Fn(u64) -> Edit, n: u64) -> Result<()> {
    let mut dice = Dice(n);
    let (mut bytes, mut most, mut loads, mut most_loads, mut written) = (0, 0, 0, 0, 0);
    let mut took = Duration::ZERO;
    for _ in 0..rounds {
        let edit = edit(dice.roll(n));
        nodes.reset();
        let begun = Instant::now();
        apply(base, vec![edit], &mut nodes.clone())?;
        took += begun.elapsed();
        let c = nodes.counts();
        (bytes, loads, written) = (bytes + c.stored_bytes, loads + c.loads, written + c.stored);
        (most, most_loads) = (most.max(c.stored_bytes), most_loads.max(c.loads));
    }
    let mean = |n: u64| n as f64 / rounds as f64;
    row(
        what,
        format!(
            "{:.1} KiB (≤ {:.1}) {:.1} nodes; loads {:.1} (≤ {most_loads}); {}",
            mean(bytes) / 1024.0,
            most as f64 / 1024.0,
            mean(written),
            mean(loads),
            each(took, rounds)
        ),
    );
    Ok(())
}

fn edit_table(what: &str, base: &Tree, nodes: &MemoryNodes, name: fn(u64) -> Vec<u8>, n: u64) -> Result<()> {
    let path = |i: u64| RelPath::parse(&name(i)).expect("a name");
    // Every other name is in the tree.
    edits(&format!("one insert, {what}"), base, nodes, 300, |i| Edit::put(path(2 * i + 1), file(i)), n)?;
    edits(&format!("one delete, {what}"), base, nodes, 300, |i| Edit::remove(path(2 * i)), n)?;
    edits(&format!("one change, {what}"), base, nodes, 300, |i| Edit::put(path(2 * i), file(i + 1)), n)
}

fn main() -> Result<()> {
    let n: u64 = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(1_000_000);
    let nodes = MemoryNodes::new();
    let flat = built("flat", &nodes, |b| (0..n).try_for_each(|i| b.entry(&plain(2 * i), file(i))))?;
    let side = n.isqrt();
    let squares = MemoryNodes::new();
    let square = built(&format!("{side} x {side}"), &squares, |b| {
        (0..side).try_for_each(|d| {
            b.enter(format!("dir-{d:05}").as_bytes())?;
            (0..side).try_for_each(|i| b.entry(&plain(i), file(d * side + i)))?;
            b.leave()
        })
    })?;
    let few = n / 5;
    let names: Vec<Vec<u8>> = (0..few).map(|i| ground(2 * i)).collect();
    let grounds = MemoryNodes::new();
    let hard =
        built("flat, ground names", &grounds, |b| (0..few).try_for_each(|i| b.entry(&names[i as usize], file(i))))?;
    println!();
    edit_table("flat", &flat, &nodes, plain, n)?;
    edit_table("flat, ground names", &hard, &grounds, ground, few)?;
    let inside = |i: u64| {
        RelPath::parse(&[format!("dir-{:05}/", i % side).into_bytes(), plain(i / side)].concat()).expect("a path")
    };
    edits(
        &format!("one change, {side} x {side}"),
        &square,
        &squares,
        300,
        |i| Edit::put(inside(i), file(i + n)),
        side * side,
    )?;
    println!();

    let mut leaves = Vec::new();
    let mut open = vec![flat.root().clone()];
    while let Some(node) = open.pop() {
        if node.is_leaf() {
            leaves.push(node)
        } else {
            open.extend(node.children().iter().filter_map(|at| nodes.get(&at.digest)))
        }
    }
    let bytes: usize = leaves.iter().map(|l| l.bytes().len()).sum();
    let most = leaves.iter().map(|l| l.bytes().len()).max().unwrap_or(0);
    row(
        "leaves: mean bytes, largest, entries",
        format!("{}, {most}, {}", bytes / leaves.len(), n / leaves.len() as u64),
    );
    let memory: usize = leaves.iter().map(|l| l.memory()).sum();
    row("  bytes in memory for a byte stored", format!("{:.2}", memory as f64 / bytes as f64));
    let raw: Vec<Arc<[u8]>> = leaves.iter().map(|l| l.bytes().into()).collect();
    let begun = Instant::now();
    for bytes in &raw {
        std::hint::black_box(Node::decode(bytes.clone(), Vec::new())?);
    }
    row("  decode and check one", each(begun.elapsed(), raw.len() as u64));
    let begun = Instant::now();
    for bytes in &raw {
        std::hint::black_box(Node::decode(bytes.clone(), Vec::new())?.digest());
    }
    row("  decode, check and hash one", each(begun.elapsed(), raw.len() as u64));

    let mut dice = Dice(5);
    let paths: Vec<RelPath> = (0..100_000).map(|_| RelPath::parse(&plain(2 * dice.roll(n))).expect("a name")).collect();
    let begun = Instant::now();
    for path in &paths {
        std::hint::black_box(flat.lookup(path)?.expect("it is there"));
    }
    row("look-up by path, flat (nodes in memory)", each(begun.elapsed(), 100_000));
    let begun = Instant::now();
    for _ in 0..100_000 {
        std::hint::black_box(flat.by_rank(1 + dice.roll(n))?.expect("it is there"));
    }
    row("look-up by rank, flat", each(begun.elapsed(), 100_000));
    let begun = Instant::now();
    for _ in 0..100_000 {
        std::hint::black_box(square.lookup(&inside(dice.roll(side * side)))?.expect("it is there"));
    }
    row("look-up by path, square", each(begun.elapsed(), 100_000));
    let begun = Instant::now();
    let seen = square.walk().count() as u64;
    row("walk, square: an entry", each(begun.elapsed(), seen));
    let begun = Instant::now();
    let half = built("half of it", &MemoryNodes::new(), |b| {
        (0..n).step_by(2).try_for_each(|i| b.entry(&plain(2 * i), file(i)))
    })?;
    let merged = merge(
        &[Part { tree: flat.clone(), author: 0 }, Part { tree: half, author: 1 }],
        &mut |_| Choice::Refuse,
        &mut nodes.clone(),
    )?
    .expect("no conflict");
    row("merge flat with every other entry of it", format!("{:.2} s", begun.elapsed().as_secs_f64()));
    assert_eq!(merged.digest(), flat.digest());
    Ok(())
}
