//! Two changes of one manifest, brought together, against maps.

use crate::manifest::{Edit, Entry, MemoryNodes, Rebased, Tree, apply, rebase};
use crate::types::{Digest, RelPath};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

type Files = BTreeMap<String, u8>;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn file(content: u8) -> Entry {
    Entry::File { digest: Digest::of(&[content]), size: 1, exec: false, place: None }
}

fn tree(files: &Files, nodes: &MemoryNodes) -> Tree {
    let mut sink = nodes.clone();
    let empty = crate::manifest::Builder::new(&mut sink).finish().unwrap();
    let edits = files.iter().map(|(p, c)| Edit::put(path(p), file(*c))).collect();
    let root = apply(&Tree::of(&empty, Arc::new(nodes.clone())), edits, &mut nodes.clone()).unwrap();
    Tree::of(&root, Arc::new(nodes.clone()))
}

/// `base` with changes: a content, or none for a removal.
fn changed(base: &Tree, was: &Files, changes: &BTreeMap<String, Option<u8>>, nodes: &MemoryNodes) -> (Tree, Files) {
    let mut now = was.clone();
    let mut edits = Vec::new();
    for (p, to) in changes {
        match to {
            Some(c) => {
                now.insert(p.clone(), *c);
                edits.push(Edit::put(path(p), file(*c)));
            }
            None if now.remove(p).is_some() => edits.push(Edit::remove(path(p))),
            None => {}
        }
    }
    let root = apply(base, edits, &mut nodes.clone()).unwrap();
    (Tree::of(&root, Arc::new(nodes.clone())), now)
}

fn names() -> impl Strategy<Value = String> {
    (0..4u8, 0..40u16).prop_map(|(d, f)| match d {
        0 => format!("f{f}"),
        3 => format!("d3/deeper/f{f:04}-with-a-longer-name"),
        d => format!("d{d}/f{f}"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn changes_of_one_side_survive_and_different_changes_of_both_conflict(
        base in prop::collection::btree_map(names(), 0..3u8, 0..150),
        mine in prop::collection::btree_map(names(), prop::option::of(0..4u8), 0..20),
        theirs in prop::collection::btree_map(names(), prop::option::of(0..4u8), 0..20),
    ) {
        let nodes = MemoryNodes::new();
        let b = tree(&base, &nodes);
        let (m, mine) = changed(&b, &base, &mine, &nodes);
        let (t, theirs) = changed(&b, &base, &theirs, &nodes);
        let all: std::collections::BTreeSet<&String> = base.keys().chain(mine.keys()).chain(theirs.keys()).collect();
        let (mut want, mut conflicts) = (theirs.clone(), Vec::new());
        for p in all {
            let (was, a, b) = (base.get(p), mine.get(p), theirs.get(p));
            if a == was || a == b {
                continue;
            }
            if b != was {
                conflicts.push(p.clone());
            }
            match a {
                Some(c) => want.insert(p.clone(), *c),
                None => want.remove(p),
            };
        }
        match rebase(&b, &m, &t).unwrap() {
            Rebased::Conflicts(found) => {
                let mut found: Vec<String> = found.iter().map(|p| p.to_string()).collect();
                found.sort();
                prop_assert_eq!(found, conflicts);
            }
            Rebased::Edits(edits) => {
                prop_assert!(conflicts.is_empty(), "{:?}", conflicts);
                let root = apply(&t, edits, &mut nodes.clone()).unwrap();
                let files = |v: crate::manifest::Visit| match v.entry {
                    Entry::File { digest, .. } => Some((v.path.to_string(), digest)),
                    _ => None,
                };
                let tree = Tree::of(&root, Arc::new(nodes.clone()));
                let mut got: Vec<(String, Digest)> = tree.walk().filter_map(|v| files(v.unwrap())).collect();
                got.sort();
                let want: Vec<(String, Digest)> = want.iter().map(|(p, c)| (p.clone(), Digest::of(&[*c]))).collect();
                prop_assert_eq!(got, want);
            }
        }
    }
}

#[test]
fn a_removed_directory_conflicts_with_changes_in_it_but_not_with_removals() {
    let nodes = MemoryNodes::new();
    let base: Files = [("d/a", 1), ("d/b", 1), ("e", 1)].into_iter().map(|(p, c)| (p.to_owned(), c)).collect();
    let b = tree(&base, &nodes);
    let edited = |edits: Vec<Edit>| Tree::of(&apply(&b, edits, &mut nodes.clone()).unwrap(), Arc::new(nodes.clone()));
    let gone = edited(vec![Edit::remove(path("d"))]);
    let file_now = edited(vec![Edit::replace(path("d"), file(7))]);
    let added = edited(vec![Edit::put(path("d/c"), file(2))]);
    let fewer = edited(vec![Edit::remove(path("d/a"))]);
    let conflicts = |mine: &Tree, theirs: &Tree| match rebase(&b, mine, theirs).unwrap() {
        Rebased::Conflicts(paths) => paths.iter().map(|p| p.to_string()).collect(),
        Rebased::Edits(_) => Vec::new(),
    };
    assert_eq!(conflicts(&gone, &added), ["d/c"]);
    assert_eq!(conflicts(&added, &gone), ["d/c"]);
    assert_eq!(conflicts(&file_now, &fewer), ["d/a"]);
    assert_eq!(conflicts(&gone, &file_now), ["d"]);
    for (mine, theirs, digest) in [(&gone, &fewer, &gone), (&fewer, &gone, &gone), (&gone, &gone, &gone)] {
        let Rebased::Edits(edits) = rebase(&b, mine, theirs).unwrap() else { panic!("no conflict") };
        assert_eq!(apply(theirs, edits, &mut nodes.clone()).unwrap().digest(), digest.digest());
    }
}
