//! Reading: by path, by rank, from a position.

use super::model::*;
use super::*;
use crate::types::RelPath;

fn flat(n: u64) -> Model {
    model((0..n).map(|i| (path(format!("f{i:07}")), file(i))))
}

#[test]
fn a_tree_reads_back_what_was_built() {
    let nodes = MemoryNodes::new();
    for n in [0, 1, 2, 150, 301, 302, 1000, 20_000] {
        let m = flat(n);
        let t = build_tree(&m, &nodes);
        assert_eq!(t.totals().own, n);
        assert!(same(&unbuild(&t), &m), "{n}");
    }
}

#[test]
fn rank_and_path_identify_the_same_entry() {
    let nodes = MemoryNodes::new();
    let mut entries = Vec::new();
    for i in 0..40u64 {
        for j in 0..(i * i) {
            entries.push((path(format!("d{i}/e{}/f{j}", j % 5)), file(j)));
        }
        entries.push((path(format!("d{i}-x")), Entry::Symlink { target: b"t".to_vec() }));
    }
    let m = model(entries);
    let t = build_tree(&m, &nodes);
    assert_eq!(t.totals().entries, m.len() as u64);
    assert!(t.by_rank(0).unwrap().unwrap().path.is_root());
    for (i, (Key(p), _)) in m.iter().enumerate() {
        let rank = i as u64 + 1;
        let found = t.lookup(p).unwrap().unwrap();
        assert_eq!(found.rank, rank, "{p}");
        let at = t.by_rank(rank).unwrap().unwrap();
        assert_eq!(&at.path, p);
        assert!(at.entry.same(&found.entry));
        assert_eq!(t.lookup(&p.parent().unwrap()).unwrap().unwrap().rank, at.parent);
    }
    assert!(t.by_rank(m.len() as u64 + 1).unwrap().is_none());
    assert!(t.lookup(&path("nothing")).unwrap().is_none());
    assert!(t.lookup(&path("d3-x/below")).unwrap().is_none());
}

/// A chain of 60 directories with twelve files in each.
fn chain() -> Model {
    // Long names, so that no directory is inlined in its parent's leaf.
    let name = "n".repeat(60);
    let dirs = (1..=60).map(|depth| path(vec![name.as_str(); depth].join("/")));
    let long = |i: u64, first: char| format!("{first}{i:02}{}", "f".repeat(100));
    model(dirs.flat_map(|dir| {
        // Before and after the next directory.
        ['a', 'z'].into_iter().flat_map(move |first| {
            let dir = dir.clone();
            (0..12).map(move |i| (dir.join(long(i, first).as_bytes()).unwrap(), file(i)))
        })
    }))
}

#[test]
fn lookups_by_rank_begin_at_directories_that_were_passed() {
    let nodes = MemoryNodes::new();
    let m = chain();
    let t = build_tree(&m, &nodes);
    let passed = PassedDirectories::default();
    for offset in [0, 1 << 40] {
        nodes.reset();
        let found: Vec<_> =
            (0..=m.len() as u64).map(|rank| t.by_rank_from(&passed, offset, rank).unwrap().unwrap()).collect();
        let loads = nodes.counts().loads;
        assert!(loads <= 3 * m.len() as u64, "{loads} nodes were loaded for {} entries", m.len());
        assert!(t.by_rank_from(&passed, offset, m.len() as u64 + 1).unwrap().is_none());
        assert!(found[0].entry.is_directory() && found[0].parent == 0);
        for ((Key(p), _), got) in m.iter().zip(&found[1..]) {
            let want = t.lookup(p).unwrap().unwrap();
            assert!(want.entry.same(&got.entry), "{p}");
            assert_eq!(t.lookup(&p.parent().unwrap()).unwrap().unwrap().rank, got.parent, "{p}");
        }
    }
    // In any order.
    for rank in (0..=m.len() as u64).map(|i| i * 7919 % (m.len() as u64 + 1)) {
        let (got, want) = (t.by_rank_from(&passed, 0, rank).unwrap().unwrap(), t.by_rank(rank).unwrap().unwrap());
        assert!(got.entry.same(&want.entry) && got.parent == want.parent, "{rank}");
    }
}

#[test]
fn a_file_is_found_by_its_number() {
    let nodes = MemoryNodes::new();
    let mut entries = vec![(path("empty"), Entry::Directory(Subtree::empty()))];
    for i in 0..40u64 {
        for j in 0..(i * i) {
            entries.push((path(format!("d{i}/e{}/f{j}", j % 5)), file(j)));
        }
        entries.push((path(format!("d{i}-x")), Entry::Symlink { target: b"t".to_vec() }));
    }
    let m = model(entries);
    let t = build_tree(&m, &nodes);
    let files: Vec<Visit> = t.walk().map(Result::unwrap).filter(|v| matches!(v.entry, Entry::File { .. })).collect();
    assert_eq!(t.totals().files, files.len() as u64);
    for (n, visit) in files.iter().enumerate() {
        let at = t.file_at(n as u64).unwrap().unwrap();
        assert_eq!((&at.path, at.rank), (&visit.path, visit.rank), "{n}");
        assert!(at.entry.same(&visit.entry));
    }
    assert!(t.file_at(files.len() as u64).unwrap().is_none());
    assert!(t.file_at(u64::MAX).unwrap().is_none());
    for (Key(at), entry) in &m {
        let inside = |v: &&Visit| v.path == *at || v.path.as_bytes().starts_with(&[at.as_bytes(), b"/"].concat());
        let first = files.iter().position(|v| inside(&v));
        let numbers = t.file_numbers(at).unwrap().unwrap();
        assert_eq!(numbers.end - numbers.start, files.iter().filter(inside).count() as u64, "{at}");
        assert!(first.is_none_or(|first| first as u64 == numbers.start), "{at} {entry:?}");
    }
    assert_eq!(t.file_numbers(&RelPath::root()).unwrap(), Some(0..files.len() as u64));
    assert_eq!(t.file_numbers(&path("d7/none")).unwrap(), None);
}

#[test]
fn a_listing_continues_at_any_index_and_name() {
    let nodes = MemoryNodes::new();
    let m = model((0..5000u64).flat_map(|i| {
        let inside = (i % 10 == 0).then(|| (path(format!("n{i:05}/x")), file(i)));
        inside.or(Some((path(format!("n{i:05}")), file(i))))
    }));
    let t = build_tree(&m, &nodes);
    let all: Vec<ListedEntry> = t.list_root().map(Result::unwrap).collect();
    assert_eq!(all.len(), 5000);
    for start in [0usize, 1, 9, 10, 11, 299, 300, 2500, 4999, 5000, 6000] {
        let mut listing = t.list_root();
        listing.seek_index(start as u64).unwrap();
        let rest: Vec<ListedEntry> = listing.map(Result::unwrap).collect();
        assert_eq!(rest.len(), 5000usize.saturating_sub(start));
        for (a, b) in rest.iter().zip(&all[start.min(5000)..]) {
            assert_eq!((&a.name, a.rank, a.index), (&b.name, b.rank, b.index));
            assert_eq!(t.lookup(&path(&a.name)).unwrap().unwrap().rank, a.rank);
        }
        let mut listing = t.list_root();
        listing.seek_name(format!("n{start:05}").as_bytes()).unwrap();
        let next = listing.next().transpose().unwrap();
        assert_eq!(next.map(|l| (l.name, l.rank, l.index)), all.get(start).map(|l| (l.name.clone(), l.rank, l.index)));
    }
}

#[test]
fn a_walk_continues_from_any_path() {
    let nodes = MemoryNodes::new();
    let m = model((0..900u64).map(|i| (path(format!("a{}/b{}/c{i}", i % 7, i % 31)), file(i))));
    let t = build_tree(&m, &nodes);
    let paths: Vec<&RelPath> = m.keys().map(|k| &k.0).collect();
    let places = [
        path("a"),
        path("a3"),
        path("a3/b1"),
        path("a3/b1x/q"),
        path("a3/b20/c300"),
        path("a3/b3/c3/below"),
        path("zz"),
    ];
    for from in places.iter().chain(paths.iter().step_by(37).copied()) {
        let want: Vec<&RelPath> = paths.iter().copied().filter(|p| path_order(p, from).is_ge()).collect();
        let got: Vec<Visit> = t.walk_from(from).unwrap().map(Result::unwrap).collect();
        assert_eq!(got.iter().map(|v| &v.path).collect::<Vec<_>>(), want, "{from}");
        assert!(got.iter().all(|v| t.by_rank(v.rank).unwrap().unwrap().path == v.path));
    }
    let below = t.walk_below(&path("a3")).unwrap().count();
    assert_eq!(below, paths.iter().filter(|p| p.as_bytes().starts_with(b"a3/")).count());
    assert_eq!(t.walk_below(&path("nothing")).unwrap().count(), 0);
}
