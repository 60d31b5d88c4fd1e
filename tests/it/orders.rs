//! The same content has the same digest, put at once or patched together in any order (L2, cases 34 and 35); in real stores.
//! And along the way: every node of a patched version lies in the packs that its manifest lists, at most 16.

use crate::support::{Lab, noise};
use cairn::catalog::manifest_file::MAX_PACKS;
use cairn::manifest::{NodeRef, NodeSource};
use cairn::objects::Kind;
use cairn::words::Digest;
use cairn::{Artifact, Store, Version};
use std::collections::{BTreeMap, HashSet};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = u64::from_le_bytes(noise(self.0, 8).try_into().unwrap());
        (self.0 >> 20) as usize % below
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.roll(i + 1));
        }
    }
}

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
        nodes.extend(store.objects().list_pack(pack, &mut damage).unwrap().blobs.into_iter().filter(|(_, k, _)| *k == Kind::Node).map(|(d, _, _)| d));
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
    for i in 0..700 + dice.roll(900) {
        files.insert(format!("wide/file-{:06}", i * 7), format!("{}", dice.roll(40)).into_bytes());
    }
    for i in 0..dice.roll(60) {
        files.insert(format!("d{}/e{}/f{i}", dice.roll(5), dice.roll(3)), noise(i as u64, dice.roll(400)));
    }
    files.insert("top".into(), noise(9, 140_000));
    files
}

#[test]
fn put_at_once_or_patched_together_in_any_order_gives_one_digest() {
    for seed in 1..=8 {
        let mut dice = Dice(seed);
        let lab = Lab::new();
        let files = some_files(&mut dice);
        let want = put(&lab.store(), "put", &files).digest();
        // The same by patches, in a shuffled order, of which some put something wrong first, or under another name.
        let store = Store::init(&lab.path("patched"), &Default::default()).unwrap();
        let mut paths: Vec<&String> = files.keys().collect();
        dice.shuffle(&mut paths);
        let mut wrong: Vec<(&String, String)> = Vec::new();
        let mut newest: Option<Version> = None;
        let mut left = paths.as_slice();
        while !left.is_empty() {
            let (now, rest) = left.split_at((1 + dice.roll(60)).min(left.len()));
            left = rest;
            let mut draft = newest.as_ref().map_or_else(|| Artifact::on_nothing("x", None).unwrap(), Version::new_draft);
            for path in now {
                match dice.roll(12) {
                    0 => {
                        let other = format!("tmp{}/{path}", dice.roll(3));
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
        let left_over: Vec<_> = newest.as_ref().unwrap().tree().unwrap().list_root().map(|l| String::from_utf8(l.unwrap().name).unwrap()).filter(|n| n.starts_with("tmp")).collect();
        for name in &left_over {
            last.remove(name).unwrap();
        }
        let made = last.save(&store).unwrap().version;
        assert_eq!(made.digest(), want, "seed {seed}, {} versions", made.number().0 + 1);
        // diff(A, B) on A is B: through another name.
        assert_eq!(put(&store, "put", &files).digest(), want);
    }
}

#[test]
fn a_chain_of_patches_lists_few_packs_that_hold_all_its_nodes_also_in_one_process_and_after_removals() {
    let lab = Lab::new();
    let store = lab.store();
    let mut dice = Dice(77);
    let mut files = some_files(&mut dice);
    let mut newest = put(&store, "x", &files);
    let paths: Vec<String> = files.keys().cloned().collect();
    for round in 0..120 {
        let mut draft = newest.new_draft();
        let path = &paths[dice.roll(paths.len())];
        if dice.roll(5) == 0 && files.contains_key(path) {
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
    assert!(lab.ok(&["verify"]).is_empty());
}
