//! Equal content has an equal digest, whether it was put at once, patched together, or contributed by many runs in any
//! order (L2), in real stores. Also: every node of a patched version is in the packs that its manifest lists, at most
//! 16.

use crate::support::{Dice, TestStore, random_bytes};
use cairn::internals::catalog::manifest_file::MAX_PACKS;
use cairn::internals::manifest::{NodeRef, NodeSource};
use cairn::internals::objects::BlobKind;
use cairn::types::Digest;
use cairn::{Artifact, Store, Version};
use std::collections::{BTreeMap, HashSet};

type Files = BTreeMap<String, Vec<u8>>;

fn put(store: &Store, name: &str, files: &Files) -> Version {
    let mut artifact = Artifact::new(name, None).unwrap();
    for (path, bytes) in files {
        artifact.add_bytes(path, bytes).unwrap();
    }
    artifact.save(store).unwrap().version
}

/// Every node that the version needs is in a pack that it lists (F6).
fn listed_packs_hold_all_nodes(store: &Store, version: &Version) {
    let manifest = version.manifest_file().unwrap();
    assert!(manifest.packs().len() <= MAX_PACKS && manifest.chained() <= manifest.packs().len());
    let listed: HashSet<Digest> = manifest.packs().iter().copied().collect();
    let mut nodes = HashSet::new();
    for pack in store.objects().stored_packs().unwrap().iter().filter(|p| p.name.is_some_and(|n| listed.contains(&n))) {
        let mut damage = Vec::new();
        nodes.extend(
            store
                .objects()
                .list_pack(pack, &mut damage)
                .unwrap()
                .blobs
                .into_iter()
                .filter(|(_, k, _)| *k == BlobKind::Node)
                .map(|(d, _, _)| d),
        );
    }
    let mut todo = vec![NodeRef::from(manifest.root().digest())];
    while let Some(at) = todo.pop() {
        assert!(nodes.contains(&at.digest), "node {} of {version} is in no pack that it lists", at.digest);
        todo.extend(store.objects().load(&at).unwrap().children());
    }
}

/// Directories of several nodes, small ones, one in another.
fn some_files(dice: &mut Dice) -> Files {
    let mut files = Files::new();
    for i in 0..700 + dice.pick(900) {
        files.insert(format!("wide/file-{:06}", i * 7), format!("{}", dice.pick(40)).into_bytes());
    }
    for i in 0..dice.pick(60) {
        files.insert(format!("d{}/e{}/f{i}", dice.pick(5), dice.pick(3)), random_bytes(i as u64, dice.pick(400)));
    }
    files.insert("top".into(), random_bytes(9, 140_000));
    files
}

/// The same files from a draft: runs upsert parts of them in a shuffled order. Some upsert wrong content first, some
/// upsert twice, some are dropped or replaced. The run that finishes adds the last part.
fn contributed(test_store: &TestStore, dice: &mut Dice, files: &Files) -> Version {
    let store = Store::init(test_store.path("contributed"), &Default::default()).unwrap();
    let run = |n: usize| cairn::Run::new(&store, cairn::RunOptions::default().id(format!("rank-{n}"))).unwrap();
    let say = |n: usize, paths: &[&String], right: bool, replace: bool| {
        let mut part = Artifact::new("x", None).unwrap();
        for path in paths {
            part.add_bytes(path, if right { files[*path].as_slice() } else { b"wrong".as_slice() }).unwrap();
        }
        run(n).upsert_artifact_with(&part, "d", &cairn::UpsertOptions::default().replace(replace)).unwrap();
    };
    let mut paths: Vec<&String> = files.keys().collect();
    dice.shuffle(&mut paths);
    let (own, rest) = paths.split_at(paths.len() / 10);
    let runs = 2 + dice.pick(9);
    let parts: Vec<&[&String]> = rest.chunks(rest.len().div_ceil(runs)).collect();
    // Two runs add some of the files, and a dropped run adds something else.
    for (n, part) in parts.iter().enumerate() {
        match dice.pick(4) {
            0 => say(n, part, false, false),
            1 => say(n, own, false, false),
            _ => {}
        }
    }
    say(100, &paths, false, false);
    cairn::Draft::new(
        &store,
        &cairn::types::ArtifactName::parse("x").unwrap(),
        &cairn::types::DistributedId::parse("d").unwrap(),
    )
    .drop_run(run(100).id())
    .unwrap();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    dice.shuffle(&mut order);
    for n in order {
        say(n, parts[n], true, true);
        let (first, second) = parts[n].split_at(parts[n].len() / 2);
        if dice.pick(2) == 0 {
            say(n, second, true, false);
            say((n + 1) % 3 + 50, first, true, false);
        }
    }
    let mut last = Artifact::new("x", None).unwrap();
    for path in own {
        last.add_bytes(path, &files[*path]).unwrap();
    }
    let version = run(0).finish_artifact(&last, "d").unwrap().version;
    listed_packs_hold_all_nodes(&store, &version);
    version
}

#[test]
fn put_at_once_patched_together_or_contributed_by_many_in_any_order_gives_one_digest() {
    for seed in 1..=8 {
        let mut dice = Dice(seed);
        let test_store = TestStore::in_memory();
        let files = some_files(&mut dice);
        let want = put(&test_store.store(), "put", &files).digest();
        // The same by patches, in a shuffled order. Some put something wrong first, or under another name.
        let store = Store::init(test_store.path("patched"), &Default::default()).unwrap();
        let mut paths: Vec<&String> = files.keys().collect();
        dice.shuffle(&mut paths);
        let mut wrong: Vec<(&String, String)> = Vec::new();
        let mut newest: Option<Version> = None;
        let mut left = paths.as_slice();
        while !left.is_empty() {
            let (now, rest) = left.split_at((1 + dice.pick(60)).min(left.len()));
            left = rest;
            let mut draft =
                newest.as_ref().map_or_else(|| Artifact::patch_from_empty("x", None).unwrap(), Version::new_draft);
            for path in now {
                match dice.pick(12) {
                    0 => {
                        let other = format!("tmp{}/{path}", dice.pick(3));
                        draft.add_bytes(&other, &files[*path]).unwrap();
                        wrong.push((path, other));
                    }
                    1 => {
                        draft.add_bytes(path, "wrong").unwrap();
                        wrong.push((path, String::new()));
                    }
                    _ => drop(draft.add_bytes(path, &files[*path]).unwrap()),
                }
            }
            let version = draft.save(&store).unwrap().version;
            listed_packs_hold_all_nodes(&store, &version);
            newest = Some(version);
        }
        dice.shuffle(&mut wrong);
        for some in wrong.chunks(7) {
            let mut draft = newest.as_ref().unwrap().new_draft();
            for (path, other) in some {
                match other.as_str() {
                    "" => drop(draft.add_bytes(path, &files[*path]).unwrap()),
                    other => drop(draft.rename(other, path.as_str()).unwrap()),
                }
            }
            let version = draft.save(&store).unwrap().version;
            listed_packs_hold_all_nodes(&store, &version);
            newest = Some(version);
        }
        let mut last = newest.as_ref().unwrap().new_draft();
        let left_over: Vec<_> = newest
            .as_ref()
            .unwrap()
            .tree()
            .unwrap()
            .list_root()
            .map(|l| String::from_utf8(l.unwrap().name).unwrap())
            .filter(|n| n.starts_with("tmp"))
            .collect();
        for name in &left_over {
            last.remove(name).unwrap();
        }
        let made = last.save(&store).unwrap().version;
        assert_eq!(made.digest(), want, "seed {seed}, {} versions", made.number().0 + 1);
        assert_eq!(contributed(&test_store, &mut dice, &files).digest(), want, "seed {seed}, by many runs");
        // diff(A, B) on A is B: through another name.
        assert_eq!(put(&store, "put", &files).digest(), want);
    }
}

#[test]
fn a_chain_of_patches_lists_few_packs_that_hold_all_its_nodes_also_in_one_process_and_after_removals() {
    let test_store = TestStore::in_memory();
    let store = test_store.store();
    let mut dice = Dice(77);
    let mut files = some_files(&mut dice);
    let mut newest = put(&store, "x", &files);
    let paths: Vec<String> = files.keys().cloned().collect();
    for round in 0..120 {
        let mut draft = newest.new_draft();
        let path = &paths[dice.pick(paths.len())];
        if dice.pick(5) == 0 && files.contains_key(path) {
            draft.remove(path).unwrap();
            files.remove(path);
        } else {
            let bytes = format!("round {round}").into_bytes();
            draft.add_bytes(path, &bytes).unwrap();
            files.insert(path.clone(), bytes);
        }
        // Now and then with a handle that has cached nothing.
        let fresh = Store::open(store.root()).unwrap();
        newest = draft.save(&store).unwrap().version;
        listed_packs_hold_all_nodes(&fresh, &newest);
    }
    let mut seen = Files::new();
    for visit in newest.entries().unwrap() {
        let visit = visit.unwrap();
        if !visit.entry.is_directory() {
            let path = visit.path.to_string();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut newest.open(&path).unwrap(), &mut bytes).unwrap();
            seen.insert(path, bytes);
        }
    }
    assert_eq!(seen, files);
    assert!(test_store.ok(&["verify"]).is_empty());
}
