//! Changing: edits, differences and unions come to what building from scratch comes to, and cost what they should.

use super::model::*;
use super::*;
use crate::error::Kind;
use crate::types::RelPath;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Random edits to a model, as edits and as the model they should lead to. No two edits touch one another's paths.
fn edits(dice: &mut Dice, m: &Model, count: u64, wide: u64) -> (Vec<Edit>, Model) {
    let mut after = m.clone();
    let mut out: Vec<Edit> = Vec::new();
    let mut touched: BTreeSet<Vec<u8>> = BTreeSet::new();
    let apart = |touched: &BTreeSet<Vec<u8>>, p: &RelPath| {
        let p = [p.as_bytes(), b"/"].concat();
        !touched.iter().any(|q| q.starts_with(&p) || p.starts_with(q))
    };
    for _ in 0..count {
        let known = (!after.is_empty() && dice.roll(2) == 0).then(|| {
            let i = dice.roll(after.len() as u64) as usize;
            after.keys().nth(i).unwrap().0.clone()
        });
        let p = known.unwrap_or_else(|| dice.path(wide));
        if !apart(&touched, &p) {
            continue;
        }
        let mut trial = after.clone();
        let edit = if dice.roll(3) == 0 {
            if !remove(&mut trial, &p) {
                continue;
            }
            Edit::remove(p.clone())
        } else {
            let entry = if dice.roll(9) == 0 { Entry::Directory(Subtree::empty()) } else { dice.entry() };
            if !put(&mut trial, &p, entry.clone()) {
                continue;
            }
            Edit::replace(p.clone(), entry)
        };
        after = trial;
        touched.insert([p.as_bytes(), b"/"].concat());
        out.push(edit);
    }
    (out, after)
}

fn random(dice: &mut Dice, count: u64, wide: u64) -> Model {
    let mut m = Model::new();
    for _ in 0..count {
        let (p, e) = (dice.path(wide), dice.entry());
        if !m.contains_key(&Key(p.clone())) {
            put(&mut m, &p, e);
        }
    }
    m
}

/// After edits, after the edits of a difference, and built: the same root.
fn check(m: &Model, edits: Vec<Edit>, after: &Model) -> std::result::Result<(), TestCaseError> {
    let nodes = MemoryNodes::new();
    let base = build_tree(m, &nodes);
    let mut sink = nodes.clone();
    let edited = apply(&base, edits, &mut sink).unwrap();
    let built = build(after, &MemoryNodes::new());
    prop_assert!(same(&unbuild(&tree(&edited, &nodes)), after));
    prop_assert_eq!(edited.digest(), built.digest());
    prop_assert_eq!(edited.totals(), built.totals());
    let (edited, mut sink) = (tree(&edited, &nodes), nodes.clone());
    let patched = apply_sorted(&base, diff(&base, &edited).edits(), &mut sink).unwrap();
    prop_assert_eq!(patched.digest(), built.digest());
    // The difference, read as changes of a model.
    let mut walked = m.clone();
    for change in diff(&base, &edited) {
        let change = change.unwrap();
        let key = Key(change.path);
        let stood = walked.remove(&key);
        prop_assert_eq!(stood.is_some(), change.old.is_some());
        if let Some(new) = change.new {
            walked.insert(key, if new.is_directory() { Entry::Directory(Subtree::empty()) } else { new });
        }
    }
    prop_assert!(same(&walked, after));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edits_and_differences_lead_to_what_is_built_from_scratch(
        seed: u64, size in 0u64..600, changes in 1u64..40, wide in 1u64..2000
    ) {
        let mut dice = Dice(seed);
        let m = random(&mut dice, size, wide);
        let (edits, after) = edits(&mut dice, &m, changes, wide);
        check(&m, edits, &after)?;
    }

    #[test]
    fn unions_are_the_same_whatever_the_order_of_disjoint_parts(seed: u64, parts in 1usize..6, size in 0u64..400) {
        let mut dice = Dice(seed);
        let nodes = MemoryNodes::new();
        let all = random(&mut dice, size, 500);
        let mut split: Vec<Model> = vec![Model::new(); parts];
        for (Key(p), e) in &all {
            // Directories come with what is in them, or alone.
            let part = dice.roll(parts as u64) as usize;
            if !e.is_directory() || !all.keys().any(|k| k.0.parent().as_ref() == Some(p)) {
                put(&mut split[part], p, e.clone());
            }
        }
        let mut trees: Vec<Tree> = split.iter().map(|m| build_tree(m, &nodes)).collect();
        let want = build(&all, &nodes).digest();
        for _ in 0..parts {
            let mut sink = nodes.clone();
            let merged = merge(&by_many(&trees), &mut |c| panic!("{c:?}"), &mut sink).unwrap().unwrap();
            prop_assert_eq!(merged.digest(), want);
            trees.rotate_left(1);
        }
    }

    #[test]
    fn later_trees_win_as_if_they_replaced_paths_one_by_one(seed: u64, parts in 1usize..5, size in 0u64..60) {
        let mut dice = Dice(seed);
        let nodes = MemoryNodes::new();
        let models: Vec<Model> = (0..parts).map(|_| random(&mut dice, size, 10)).collect();
        let mut want = Model::new();
        for m in &models {
            for (Key(p), e) in m {
                if e.is_directory() && want.get(&Key(p.clone())).is_some_and(Entry::is_directory) {
                    continue;
                }
                prop_assert!(put(&mut want, p, e.clone()));
            }
        }
        let trees: Vec<Tree> = models.iter().map(|m| build_tree(m, &nodes)).collect();
        let mut sink = nodes.clone();
        let mut conflicts = 0;
        let merged = merge(&by_many(&trees), &mut |_| { conflicts += 1; Choice::Later }, &mut sink).unwrap().unwrap();
        prop_assert!(same(&unbuild(&tree(&merged, &nodes)), &want));
        prop_assert_eq!(merged.digest(), build(&want, &nodes).digest());
        let refused = merge(&by_many(&trees), &mut |_| Choice::Refuse, &mut sink).unwrap();
        prop_assert_eq!(refused.is_none(), conflicts > 0);
    }

    #[test]
    fn an_authors_later_entry_counts_without_a_conflict(
        seed: u64, count in 1usize..7, authors in 1u64..4, size in 0u64..40
    ) {
        let mut dice = Dice(seed);
        let nodes = MemoryNodes::new();
        // Few contents, so that authors often have the same.
        let mut model = || -> Model {
            let random = random(&mut dice, size, 10).into_iter();
            random.map(|(k, e)| (k, if e.is_directory() { e } else { file(dice.roll(2)) })).collect()
        };
        let models: Vec<Model> = (0..count).map(|_| model()).collect();
        let by: Vec<usize> = (0..count).map(|_| dice.roll(authors) as usize).collect();
        // Applies models one after the other. Returns the result, and which models gave each entry of it.
        let overlay = |list: &mut dyn Iterator<Item = (usize, &Model)>| {
            let (mut out, mut from) = (Model::new(), std::collections::BTreeMap::<Key, Vec<usize>>::new());
            for (i, m) in list {
                for (Key(p), e) in m {
                    if e.is_directory() && out.get(&Key(p.clone())).is_some_and(Entry::is_directory) {
                        from.get_mut(&Key(p.clone())).unwrap().push(i);
                    } else {
                        assert!(put(&mut out, p, e.clone()));
                        from.insert(Key(p.clone()), vec![i]);
                        from.retain(|k, _| out.contains_key(k));
                    }
                }
            }
            (out, from)
        };
        let of_author = |a: usize| overlay(&mut models.iter().enumerate().filter(|(i, _)| by[*i] == a));
        let (whole, origins): (Vec<_>, Vec<_>) = (0..authors as usize).map(of_author).unzip();
        let agree = |x: &Entry, y: &Entry| x.same(y) || x.is_directory() && y.is_directory();
        let contradict = |a: &Model, b: &Model| a.iter().any(|(k, x)| b.get(k).is_some_and(|y| !agree(x, y)));
        let conflict = whole.iter().enumerate().any(|(i, a)| whole[i + 1..].iter().any(|b| contradict(a, b)));
        let part = |(m, author): (&Model, &usize)| Part { tree: build_tree(m, &nodes), author: *author };
        let parts: Vec<Part> = models.iter().zip(&by).map(part).collect();
        let refused = merge(&parts, &mut |_| Choice::Refuse, &mut nodes.clone()).unwrap();
        prop_assert_eq!(refused.is_none(), conflict);
        // Entries that their author replaced later do not count; the rest is applied in order.
        let counts = |i: usize, k: &Key| origins[by[i]].get(k).is_some_and(|o| o.contains(&i));
        let counted = |(i, m): (usize, &Model)| m.clone().into_iter().filter(|(k, _)| counts(i, k)).collect();
        let last: Vec<Model> = models.iter().enumerate().map(counted).collect();
        let (want, _) = overlay(&mut last.iter().enumerate());
        let merged = merge(&parts, &mut |_| Choice::Later, &mut nodes.clone()).unwrap().unwrap();
        prop_assert_eq!(merged.digest(), build(&want, &nodes).digest());
        if let Some(refused) = refused {
            prop_assert_eq!(refused.digest(), merged.digest());
        }
    }
}

/// Each tree by an author of its own.
fn by_many(trees: &[Tree]) -> Vec<Part> {
    trees.iter().enumerate().map(|(author, tree)| Part { tree: tree.clone(), author }).collect()
}

#[test]
fn shared_nodes_are_read_once_and_keep_all_their_authors() {
    let nodes = MemoryNodes::new();
    let flat = |change: &[(u64, u64)]| {
        let mut m = model((0..20_000u64).map(|i| (path(format!("f{i:06}")), file(i))));
        change.iter().for_each(|(at, to)| drop(m.insert(Key(path(format!("f{at:06}"))), file(*to))));
        build_tree(&m, &nodes)
    };
    // The second author says of f015000 what the first one says, in a node that both have; then the same author says
    // something else.
    let same = [flat(&[]), flat(&[(3, 1)]), flat(&[(3, 1), (15_000, 2)])];
    let by = |authors: [usize; 3]| {
        same.iter().zip(authors).map(|(tree, author)| Part { tree: tree.clone(), author }).collect::<Vec<_>>()
    };
    let paths = |authors| {
        let mut at = std::collections::BTreeSet::new();
        let merged = merge(
            &by(authors),
            &mut |c| {
                at.insert(c.path.to_string());
                Choice::Refuse
            },
            &mut nodes.clone(),
        )
        .unwrap();
        assert_eq!(merged.is_none(), !at.is_empty());
        at.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(paths([0, 1, 1]), ["f000003", "f015000"]);
    assert_eq!(paths([0, 0, 0]), [""; 0]);
    // The author of the first part is that of the last, whose f000003 equals the second's.
    assert_eq!(paths([1, 0, 1]), ["f015000"]);
    nodes.reset();
    merge(&by([0, 0, 0]), &mut |_| Choice::Later, &mut nodes.clone()).unwrap();
    let all = flat(&[]).root().len() as u64;
    assert!(nodes.counts().loads <= all + 4, "{:?}, {all} leaves", nodes.counts());
}

/// Edits to one flat directory of these names, many times, each compared with a build.
fn flat_edits(names: &[Vec<u8>], seed: u64, rounds: u64, make: fn(&mut Dice) -> Entry) -> (u64, u64) {
    let mut dice = Dice(seed);
    let nodes = MemoryNodes::new();
    let mut m = model(names.iter().enumerate().filter(|(i, _)| i % 8 != 3).map(|(_, n)| (path(n), make(&mut dice))));
    let mut base = build_tree(&m, &nodes);
    let (mut most_bytes, mut most_loads) = (0, 0);
    for round in 0..rounds {
        let count = if round % 2 == 1 { 1 + dice.roll(8) } else { 1 };
        let mut list = std::collections::BTreeMap::new();
        // Close together, about as far apart as edits reach, or anywhere.
        let mut at = dice.roll(names.len() as u64);
        for _ in 0..count {
            at = (at
                + [1 + dice.roll(20), 100 + dice.roll(400), dice.roll(names.len() as u64)][(round / 2 % 3) as usize])
                % names.len() as u64;
            let p = path(&names[at as usize]);
            let there = m.contains_key(&Key(p.clone()));
            if there && dice.roll(2) == 0 {
                list.insert(Key(p.clone()), Edit::remove(p));
            } else {
                list.insert(Key(p.clone()), Edit::put(p, make(&mut dice)));
            }
        }
        for edit in list.values() {
            match &edit.action {
                Action::Remove => drop(m.remove(&Key(edit.path.clone()))),
                Action::Put(e) | Action::Replace(e) => drop(m.insert(Key(edit.path.clone()), e.clone())),
            }
        }
        nodes.reset();
        let mut sink = nodes.clone();
        let root = apply(&base, list.into_values().collect(), &mut sink).unwrap();
        if count == 1 {
            most_bytes = most_bytes.max(nodes.counts().stored_bytes);
            most_loads = most_loads.max(nodes.counts().loads);
        }
        let fresh = MemoryNodes::new();
        assert_eq!(root.digest(), build(&m, &fresh).digest(), "round {round} of seed {seed}");
        base = tree(&root, &nodes);
    }
    (most_bytes, most_loads)
}

#[test]
fn flat_directories_stay_canonical_and_cheap_under_edits() {
    let plain: Vec<Vec<u8>> = (0..6000).map(|i| format!("file-{i:06}.bin").into_bytes()).collect();
    let combs: Vec<Vec<u8>> =
        (0..2500u32).map(|i| format!("{}{:02}", "z".repeat((i / 11) as usize), i % 11).into_bytes()).collect();
    let sorted = |mut names: Vec<Vec<u8>>| {
        names.sort();
        names.dedup();
        names
    };
    for (what, names) in [
        ("plain", plain),
        ("monotone", monotone_names(3000)),
        ("dense", sorted(dense_names(3000))),
        ("combs", sorted(combs)),
    ] {
        let (bytes, loads) = flat_edits(&names, 7, 40, Dice::entry);
        println!("{what}: at most {bytes} bytes written, {loads} nodes loaded");
        assert!(bytes < 128 * 1024, "{what} {bytes}");
        // Combs make nodes of a few entries: more of them lie within w keys and 32 KiB.
        assert!(loads < if what == "combs" { 80 } else { 24 }, "{what} {loads}");
    }
}

#[test]
fn regression_a_new_first_name_of_a_tall_directory_is_taken_in() {
    let nodes = MemoryNodes::new();
    let mut m = model((0..2000u64).map(|i| (path(format!("n{i:05}")), file(i))));
    let base = build_tree(&m, &nodes);
    let edited = apply(&base, vec![Edit::put(path("a"), file(1))], &mut nodes.clone()).unwrap();
    put(&mut m, &path("a"), file(1));
    assert_eq!(edited.digest(), build(&m, &nodes).digest());
}

#[test]
fn heavy_entries_that_make_many_nodes_within_reach_stay_canonical() {
    // Nodes of about twenty entries: the w neighbours of a key lie in many nodes, and weights move cuts all the time.
    let plain: Vec<Vec<u8>> = (0..1300).map(|i| format!("{i:05}").into_bytes()).collect();
    for (names, seed) in [(plain.clone(), 1), (plain.clone(), 2), (plain, 3), (monotone_names(900), 4)] {
        flat_edits(&names, seed, 120, |dice| Entry::Symlink {
            target: vec![b'x'; 1 + (dice.roll(64) * dice.roll(64)) as usize],
        });
    }
}

#[test]
fn long_runs_of_light_entries_stay_canonical_when_cuts_come_and_go() {
    // One run, cut by bits alone: a removal makes two nodes one whose cut lies more than w keys before it.
    let names = monotone_names(2400);
    let nodes = MemoryNodes::new();
    let mut m = model(names.iter().map(|n| (path(n), file(1))));
    let mut base = build_tree(&m, &nodes);
    let mut dice = Dice(11);
    let mut step = |m: &mut Model, at: &[usize], put: bool| {
        let mut edits = Vec::new();
        for name in at.iter().map(|i| path(&names[*i])) {
            if put {
                m.insert(Key(name.clone()), file(1));
                edits.push(Edit::put(name, file(1)));
            } else if m.remove(&Key(name.clone())).is_some() {
                edits.push(Edit::remove(name));
            }
        }
        let root = apply(&base, edits, &mut nodes.clone()).unwrap();
        assert_eq!(root.digest(), build(m, &MemoryNodes::new()).digest(), "{at:?}");
        base = tree(&root, &nodes);
    };
    // Away from the right, back from the left, ten at a time so that many weights are met.
    for right in (600..1800).rev().step_by(7) {
        step(&mut m, &(right - 6..=right).collect::<Vec<_>>(), false);
    }
    for left in (594..1800).step_by(7) {
        step(&mut m, &(left..left + 7).collect::<Vec<_>>(), true);
    }
    // A few at once, about as far apart as edits reach.
    for round in 0..120 {
        let mut at: Vec<usize> = Vec::new();
        let mut next = dice.roll(900) as usize;
        while next < names.len() && at.len() < 5 {
            at.push(next);
            next += 250 + dice.roll(700) as usize;
        }
        step(&mut m, &at, round % 2 == 1 && dice.roll(4) > 0);
    }
}

#[test]
fn a_directory_emptied_by_removals_stays_and_a_removed_one_does_not() {
    let nodes = MemoryNodes::new();
    let m = model((0..3000u64).map(|i| (path(format!("d/f{i}")), file(i))));
    let base = build_tree(&m, &nodes);
    let mut sink = nodes.clone();
    let all = m.keys().filter(|k| k.0 != path("d")).map(|k| Edit::remove(k.0.clone())).collect();
    let root = apply(&base, all, &mut sink).unwrap();
    let want = build(&model([(path("d"), Entry::Directory(Subtree::empty()))]), &nodes);
    assert_eq!(root.digest(), want.digest());
    let root = apply(&base, vec![Edit::remove(path("d"))], &mut sink).unwrap();
    assert_eq!(root.digest(), Node::empty().digest());
    // And down to what lies in the parent's leaf.
    for left in [1, 2, 20, 40, 300] {
        let some = m.keys().filter(|k| k.0 != path("d")).skip(left).map(|k| Edit::remove(k.0.clone())).collect();
        let root = apply(&base, some, &mut sink).unwrap();
        let kept = model(m.iter().filter(|(k, _)| k.0 != path("d")).take(left).map(|(k, e)| (k.0.clone(), e.clone())));
        assert_eq!(root.digest(), build(&kept, &nodes).digest(), "{left}");
    }
}

#[test]
fn impossible_edits_are_refused_and_the_error_names_the_path() {
    let nodes = MemoryNodes::new();
    let base = build_tree(&model([(path("d/x"), file(1)), (path("f"), file(2))]), &nodes);
    let refuse = |edits: Vec<Edit>, kind: Kind, name: &str| {
        let e = apply(&base, edits, &mut nodes.clone()).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(name), "{e}");
    };
    refuse(vec![Edit::put(path("d"), file(3))], Kind::Conflict, "`d`");
    refuse(vec![Edit::put(path("f/y"), file(3))], Kind::Conflict, "`f/y`");
    refuse(vec![Edit::put(path("f"), Entry::Directory(Subtree::empty()))], Kind::Conflict, "`f`");
    refuse(vec![Edit::remove(path("d/z"))], Kind::NotFound, "`d/z`");
    refuse(vec![Edit::remove(path("q/z"))], Kind::NotFound, "`q/z`");
    refuse(vec![Edit::put(path("a"), file(1)), Edit::remove(path("a"))], Kind::Usage, "`a`");
    refuse(vec![Edit::put(path("s"), Entry::Symlink { target: Vec::new() })], Kind::Usage, "`s`");
    refuse(vec![Edit::put(path("a"), file(1)), Edit::put(path("a/b"), file(1))], Kind::Conflict, "`a/b`");
    let same = apply(
        &base,
        vec![Edit::put(path("d/x"), file(1)), Edit::put(path("d"), Entry::Directory(Subtree::empty()))],
        &mut nodes.clone(),
    );
    assert_eq!(same.unwrap().digest(), base.digest());
}

#[test]
fn a_subtree_moves_without_being_read() {
    let nodes = MemoryNodes::new();
    let m = model((0..5000u64).map(|i| (path(format!("from/a{}/f{i}", i % 3)), file(i))));
    let base = build_tree(&m, &nodes);
    let found = base.lookup(&path("from")).unwrap().unwrap();
    nodes.reset();
    let edits = vec![Edit::remove(path("from")), Edit::put(path("to/here"), found.entry)];
    let root = apply(&base, edits, &mut nodes.clone()).unwrap();
    assert_eq!(nodes.counts().loads, 0);
    let moved = |p: &RelPath| RelPath::parse(&[b"to/here".as_slice(), &p.as_bytes()[4..]].concat()).unwrap();
    let want = model(m.iter().filter(|(_, e)| !e.is_directory()).map(|(k, e)| (moved(&k.0), e.clone())));
    assert_eq!(root.digest(), build(&want, &nodes).digest());
}

#[test]
fn equal_subtrees_are_not_loaded() {
    let nodes = MemoryNodes::new();
    let m = model(
        (0..20_000u64)
            .map(|i| (path(format!("flat/f{i:06}")), file(i)))
            .chain((0..200u64).flat_map(|d| (0..60u64).map(move |i| (path(format!("deep/d{d}/f{i}")), file(i))))),
    );
    let base = build_tree(&m, &nodes);
    let edits = vec![Edit::put(path("flat/f010000x"), file(1)), Edit::put(path("deep/d77/f30"), file(77))];
    let new = tree(&apply(&base, edits, &mut nodes.clone()).unwrap(), &nodes);
    nodes.reset();
    assert_eq!(diff(&base, &new).count(), 2);
    assert!(nodes.counts().loads < 24, "{:?}", nodes.counts());
    nodes.reset();
    assert_eq!(diff(&base, &base).count(), 0);
    assert_eq!(nodes.counts().loads, 0);
    let empty = tree(&build(&Model::new(), &nodes), &nodes);
    nodes.reset();
    assert_eq!(diff(&base, &empty).whole_directories().count(), 2);
    assert!(nodes.counts().loads < 4, "{:?}", nodes.counts());
    nodes.reset();
    merge(&by_many(&[base.clone(), base.clone(), empty]), &mut |_| Choice::Refuse, &mut nodes.clone())
        .unwrap()
        .unwrap();
    assert!(nodes.counts().loads < 4, "{:?}", nodes.counts());
}
