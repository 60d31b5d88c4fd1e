//! The shape of the trees: what the format document promises, at sizes and depths that hurt.

use super::model::*;
use super::*;
use crate::manifest::cut;
use crate::types::{Digest, Location, PackRef, RelPath};
use std::collections::HashSet;
use std::sync::Arc;

/// Every node below the root, once.
fn reachable(root: &Arc<Node>, nodes: &MemoryNodes) -> Vec<Arc<Node>> {
    let mut seen = HashSet::new();
    let mut open = vec![root.clone()];
    let mut out = Vec::new();
    while let Some(node) = open.pop() {
        if seen.insert(node.digest()) {
            open.extend(node.children().iter().map(|at| nodes.get(&at.digest).unwrap()));
            out.push(node);
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_worked_example_of_the_format_document_holds() {
    let hello = Digest::of(b"hello");
    let m = model([
        (path("a"), Entry::File { digest: hello, size: 5, exec: true, place: None }),
        (path("d/x"), Entry::File { digest: hello, size: 5, exec: false, place: None }),
        (path("l"), Entry::Symlink { target: b"a".to_vec() }),
    ]);
    let root = build(&m, &MemoryNodes::new());
    let document = include_str!("../../../FORMAT.md");
    let bytes = hex(root.node.bytes());
    let quoted: String =
        document.split("```hex\n").nth(1).unwrap().split("```").next().unwrap().split_whitespace().collect();
    assert_eq!(quoted, bytes);
    assert!(document.contains(&root.digest().hex()), "{}", root.digest());
    assert!(document.contains(&Node::empty().digest().hex()), "{}", Node::empty().digest());
    let by_hand = [b"cairn-node-1\n".as_slice(), root.node.bytes()].concat();
    assert_eq!(Digest::of(&by_hand), root.digest());
    for name in ["", "a", "file-000001.bin"] {
        let line = format!("| 0 | `{name}` | `{:016x}` |", cut::key_hash(0, name.as_bytes()));
        assert!(document.contains(&line), "{line}");
    }
    let line = format!("| 1 | `a` | `{:016x}` |", cut::key_hash(1, b"a"));
    assert!(document.contains(&line), "{line}");
}

/// The cut exactly as FORMAT.md defines it, without optimizations.
fn cut_as_documented(names: &[Vec<u8>], weights: &[usize], level: u8) -> Vec<usize> {
    let w = if level == 0 { 150 } else { 40 };
    let hash: Vec<u64> = names.iter().map(|n| cut::key_hash(level, n)).collect();
    let n = names.len();
    let begins =
        |i: usize| i == 0 || i >= w && i + w < n && (1..=w).all(|d| hash[i] < hash[i - d] && hash[i] < hash[i + d]);
    let mut runs: Vec<usize> = (0..n).filter(|i| begins(*i)).collect();
    runs.push(n);
    let bit = |name: &[u8], at: usize| name.get(at / 8).is_some_and(|b| b >> (7 - at % 8) & 1 == 1);
    fn split(
        low: usize,
        high: usize,
        from: usize,
        names: &[Vec<u8>],
        weights: &[usize],
        bit: &dyn Fn(&[u8], usize) -> bool,
        out: &mut Vec<usize>,
    ) {
        if weights[low..high].iter().sum::<usize>() <= 32 * 1024 - 40 {
            return out.push(low);
        }
        let at = (from..).find(|at| bit(&names[low], *at) != bit(&names[high - 1], *at)).unwrap();
        let middle = (low..high).find(|i| bit(&names[*i], at)).unwrap();
        split(low, middle, at + 1, names, weights, bit, out);
        split(middle, high, at + 1, names, weights, bit, out);
    }
    let mut out = Vec::new();
    for run in runs.windows(2) {
        split(run[0], run[1], 0, names, weights, &bit, &mut out);
    }
    out
}

#[test]
fn nodes_are_cut_where_the_document_says() {
    let mut dice = Dice(3);
    let mut plain: Vec<Vec<u8>> =
        (0..4000).map(|i| format!("{i:05}{}", "y".repeat((i * i % 90) as usize)).into_bytes()).collect();
    plain.sort();
    for (what, names) in [("plain", plain), ("monotone", monotone_names(3000)), ("dense", dense_names(2000))] {
        let nodes = MemoryNodes::new();
        let m = model(names.iter().map(|n| (path(n), dice.entry())));
        let root = build(&m, &nodes).node;
        let mut level = vec![root];
        while !level[0].is_leaf() {
            let parts = |of: &[Arc<Node>]| -> Vec<(Vec<u8>, usize)> {
                of.iter().flat_map(|n| (0..n.len()).map(|i| (n.name(i).to_vec(), n.weight(i)))).collect()
            };
            let mut below: Vec<Arc<Node>> = Vec::new();
            for node in &level {
                below.extend(node.children().iter().map(|at| nodes.get(&at.digest).unwrap()));
            }
            let (names, weights): (Vec<_>, Vec<_>) = parts(&below).into_iter().unzip();
            let want = cut_as_documented(&names, &weights, below[0].level());
            let mut got = vec![0];
            got.extend(below.iter().scan(0, |sum, n| {
                *sum += n.len();
                Some(*sum)
            }));
            got.pop();
            assert_eq!(got, want, "{what}");
            assert!(below.iter().all(|n| n.bytes().len() <= MAX_NODE));
            level = below;
        }
    }
}

#[test]
fn a_large_flat_directory_takes_one_insert_in_less_than_128_kib() {
    let nodes = MemoryNodes::new();
    let mut sink = nodes.clone();
    let mut b = Builder::new(&mut sink);
    let name = |i: u64| format!("sample-{i:09}.bin").into_bytes();
    let n = 300_000;
    for i in 0..n {
        b.entry(&name(2 * i), file(i)).unwrap();
    }
    let root = b.finish().unwrap();
    assert_eq!(root.node.level(), 2);
    let base = tree(&root, &nodes);
    let mut dice = Dice(1);
    for round in 0..60 {
        nodes.reset();
        let i = dice.roll(n);
        let edit = match round % 3 {
            0 => Edit::put(path(name(2 * i + 1)), file(i)),
            1 => Edit::remove(path(name(2 * i))),
            _ => Edit::put(path(name(2 * i)), file(i + 1)),
        };
        let edited = tree(&apply(&base, vec![edit], &mut nodes.clone()).unwrap(), &nodes);
        let counts = nodes.counts();
        assert!(counts.stored_bytes < 128 * 1024 && counts.loads < 24, "{counts:?}");
        nodes.reset();
        assert_eq!(diff(&base, &edited).count(), 1);
        assert!(nodes.counts().loads < 24, "{:?}", nodes.counts());
    }
    // Many at once, all over: as if built.
    let edits: Vec<Edit> = (0..2000).map(|k| Edit::put(path(name(2 * (k * 149 % n) + 1)), file(k))).collect();
    let edited = apply(&base, edits, &mut nodes.clone()).unwrap();
    let mut sink = MemoryNodes::new();
    let mut b = Builder::new(&mut sink);
    let mut odd: Vec<(u64, u64)> = (0..2000).map(|k| (2 * (k * 149 % n) + 1, k)).collect();
    odd.sort_unstable();
    let mut odd = odd.into_iter().peekable();
    for i in 0..n {
        b.entry(&name(2 * i), file(i)).unwrap();
        if let Some((at, k)) = odd.next_if(|(at, _)| *at == 2 * i + 1) {
            b.entry(&name(at), file(k)).unwrap();
        }
    }
    assert_eq!(edited.digest(), b.finish().unwrap().digest());
}

#[test]
fn a_path_of_2048_names_works() {
    let nodes = MemoryNodes::new();
    let deep = path(["a"; 2048].join("/"));
    let m = model([(deep.clone(), file(1)), (path("b"), file(2))]);
    let t = build_tree(&m, &nodes);
    assert_eq!(t.totals().longest, 4095);
    assert_eq!(t.lookup(&deep).unwrap().unwrap().rank, 2048);
    assert_eq!(t.by_rank(2048).unwrap().unwrap().path, deep);
    assert_eq!(t.walk().count(), 2049);
    let changed = apply(&t, vec![Edit::put(deep.clone(), file(3))], &mut nodes.clone()).unwrap();
    let changed = tree(&changed, &nodes);
    let changes: Vec<Change> = diff(&t, &changed).map(Result::unwrap).collect();
    assert!(changes.len() == 1 && changes[0].path == deep);
    let merged = merge(
        &[Part { tree: t, author: 0 }, Part { tree: changed.clone(), author: 1 }],
        &mut |_| Choice::Later,
        &mut nodes.clone(),
    )
    .unwrap()
    .unwrap();
    assert_eq!(merged.digest(), changed.digest());
    // Moved one down it would be too long, and is refused before anything is stored.
    let a = changed.lookup(&path("a")).unwrap().unwrap().entry;
    assert!(apply(&changed, vec![Edit::put(path("long-enough"), a)], &mut nodes.clone()).is_err());
    let mut b = MemoryNodes::new();
    let mut b = Builder::new(&mut b);
    for _ in 0..2048 {
        b.enter(b"a").unwrap();
    }
    assert!(b.enter(b"a").is_err());
}

#[test]
fn many_small_directories_are_inlined() {
    let nodes = MemoryNodes::new();
    let m = model((0..10_000u64).map(|i| (path(format!("{i:05}/x")), file(i))));
    let root = build(&m, &nodes);
    let all = reachable(&root.node, &nodes);
    assert!(all.len() < 60, "{}", all.len());
    assert_eq!(all.iter().map(|n| n.blobs().len()).sum::<usize>(), 10_000);
    // A thousand that nearly fill what may be inlined: no node grows over the bound.
    let m = model((0..1000u64).flat_map(|d| (0..40u64).map(move |i| (path(format!("{d:04}/{i:02}")), file(i + d)))));
    let root = build(&m, &nodes);
    let all = reachable(&root.node, &nodes);
    assert!(all.iter().all(|n| n.bytes().len() <= MAX_NODE));
    assert!(all.iter().filter(|n| n.is_leaf()).all(|n| n.children().is_empty()), "all are inlined");
    assert_eq!(root.totals(), Totals { own: 1000, entries: 41_000, files: 40_000, directories: 1000, ..root.totals() });
    nodes.reset();
    let t = tree(&root, &nodes);
    apply(&t, vec![Edit::put(path("0500/07x"), file(9))], &mut nodes.clone()).unwrap();
    assert!(nodes.counts().stored_bytes < 128 * 1024, "{:?}", nodes.counts());
}

#[test]
fn names_in_the_wrong_order_are_a_usage_error() {
    let mut nodes = MemoryNodes::new();
    for (first, second) in [("b", "a"), ("a", "a")] {
        let mut b = Builder::new(&mut nodes);
        b.entry(first.as_bytes(), file(1)).unwrap();
        assert!(b.entry(second.as_bytes(), file(1)).is_err());
        assert!(b.enter(second.as_bytes()).is_err());
    }
    let mut b = Builder::new(&mut nodes);
    assert!(b.leave().is_err());
    assert!(b.entry(b"..", file(1)).is_err());
    b.add(&path("a/b"), file(1)).unwrap();
    b.add(&path("a-b"), file(1)).unwrap();
    assert!(b.add(&path("a/c"), file(1)).is_err());
}

/// Says for each node where it "lies".
struct Placing(MemoryNodes, u32);

impl NodeSink for Placing {
    fn store(&mut self, node: &Node) -> crate::error::Result<Option<Location>> {
        self.1 += 1;
        self.0.insert(node.digest(), node.clone());
        Ok(Some(Location { pack: PackRef(1), offset: self.1 }))
    }
}

#[test]
fn locations_are_kept_and_never_hashed() {
    let placed = |i: u64, on: bool| {
        let place = on.then_some(Location { pack: PackRef(9), offset: i as u32 });
        Entry::File { digest: Digest::of(&i.to_le_bytes()), size: i, exec: false, place }
    };
    let with = |on: bool| model((0..3000u64).map(|i| (path(format!("{}/{}/{i:05}", i % 3, i % 700)), placed(i, on))));
    let nodes = MemoryNodes::new();
    let mut sink = Placing(nodes.clone(), 0);
    let mut b = Builder::new(&mut sink);
    for (Key(p), e) in with(true).iter().filter(|(_, e)| !e.is_directory()) {
        b.add(p, e.clone()).unwrap();
    }
    let root = b.finish().unwrap();
    let plain = build_tree(&with(false), &MemoryNodes::new());
    assert_eq!(root.digest(), plain.digest());
    let whole = |t: &Tree| {
        t.walk().map(Result::unwrap).all(|v| match v.entry {
            Entry::File { size, place, .. } => place == Some(Location { pack: PackRef(9), offset: size as u32 }),
            Entry::Directory(dir) => dir.node_ref().is_none_or(|at| at.place.is_some()),
            _ => false,
        })
    };
    let t = tree(&root, &nodes);
    assert!(whole(&t));
    assert!(t.root().children().iter().all(|at| at.place.is_some()));
    let edits = vec![Edit::remove(path("1/0")), Edit::put(path("2/1/00001"), placed(1, true))];
    let edited = tree(&apply(&t, edits, &mut sink).unwrap(), &nodes);
    assert!(whole(&edited) && edited.totals().entries < t.totals().entries);
    assert_eq!(diff(&t, &plain).count(), 0);
    // Slots survive a round through bytes, and a wrong number of them does no harm.
    let leaf = reachable(edited.root(), &nodes).into_iter().find(|n| n.is_leaf() && !n.blobs().is_empty()).unwrap();
    let places: Vec<_> = leaf.places().collect();
    let again = Node::decode(leaf.bytes(), places.clone()).unwrap();
    assert_eq!(again.blobs(), leaf.blobs());
    assert_eq!(Node::decode(leaf.bytes(), places[..1].to_vec()).unwrap().places().count(), places.len());
    let _ = RelPath::root();
}
