//! What verify finds although every file is whole by itself: location hints that lead elsewhere, packs that are not
//! listed, modes, records of another artifact or another stage.

use crate::crafted_stores::{self, behind};
use crate::support::{TestStore, make_tree, random_bytes, text};
use cairn::catalog::{Draft, RunRecord};
use cairn::internals::manifest::{Edit, MemoryNodes, Node, NodeSink, RootNode, apply};
use cairn::manifest::{Entry, Tree};
use cairn::staging::{Resume, Stage};
use cairn::types::{ArtifactName, Digest, DistributedId, RelPath, RunId};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What `verify` prints, and its hints. Expects findings with these codes, in this order, and no others.
fn found(test_store: &TestStore, args: &[&str], codes: &[&str]) -> (String, String) {
    let output = test_store.run(args, i32::from(!codes.is_empty()));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let lines = stdout.lines().filter(|line| !line.starts_with("  affects ") && !line.starts_with("note: "));
    let found: Vec<&str> = lines.map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(found, codes, "{stdout}{stderr}");
    codes.iter().for_each(|code| assert!(stderr.contains(&format!("hint: {code}: ")), "{stderr}"));
    (stdout, stderr)
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The manifest of version 0 without its sum.
fn unsigned_manifest(store: &Path, artifact: &str) -> (PathBuf, Vec<u8>) {
    let manifest = behind(&store.join("artifacts").join(artifact).join("versions/v0")).join("manifest");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes.truncate(bytes.len() - 32);
    (manifest, bytes)
}

/// Writes a file that ends with the sum of what is before.
fn write_signed(path: &Path, mut bytes: Vec<u8>) {
    let sum = Digest::of(&bytes);
    bytes.extend_from_slice(&sum.0);
    crafted_stores::write(path, &bytes);
}

/// A store with `x:v0`, a small and a large file, and the paths of the small one's pack and the large one's object.
fn with_pack_and_object() -> (TestStore, PathBuf, PathBuf) {
    let test_store = TestStore::new();
    let large = random_bytes(1, 200_000);
    make_tree(&test_store.path("d"), &[("small", b"small"), ("large", &large)]);
    test_store.ok(&["put", "x", "d"]);
    let store = test_store.store_path();
    let pack = store.join("packs").join(place(&test_store, b"small").0.hex());
    let object = Digest::of(&large).hex();
    let object = store.join("objects").join(&object[..2]).join(&object[2..]);
    (test_store, pack, object)
}

/// The one pack with a small file's content, and where the header of that content is.
fn place(test_store: &TestStore, content: &[u8]) -> (Digest, u32) {
    let digest = Digest::of(content);
    for pack in std::fs::read_dir(test_store.store_path().join("packs")).unwrap().map(|e| e.unwrap()) {
        let bytes = std::fs::read(pack.path()).unwrap();
        let header = [&digest.0[..], &(content.len() as u32).to_le_bytes(), &[1, 0, 0, 0]].concat();
        if let Some(at) = bytes.windows(header.len()).position(|w| w == header) {
            return (pack.file_name().to_str().unwrap().parse().unwrap(), at as u32);
        }
    }
    panic!("no pack has it");
}

/// Gives the root node of `x:v0` these hints: FORMAT.md, "Stored nodes".
fn set_hints(test_store: &TestStore, packs: &[Digest], slots: &[(u16, u32)]) {
    let (manifest, mut bytes) = unsigned_manifest(&test_store.store_path(), "x");
    let listed = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let root = 12 + 32 * listed;
    let node = u32::from_le_bytes(bytes[root..root + 4].try_into().unwrap()) as usize;
    bytes.truncate(root + 4 + node);
    let mut hints = vec![1];
    hints.extend_from_slice(&(packs.len() as u16).to_le_bytes());
    packs.iter().for_each(|pack| hints.extend_from_slice(&pack.0));
    for (pack, offset) in slots {
        hints.extend_from_slice(&pack.to_le_bytes());
        hints.extend_from_slice(&offset.to_le_bytes());
    }
    let sum = Digest::of(&hints);
    bytes.extend_from_slice(&hints);
    bytes.extend_from_slice(&sum.0[..8]);
    write_signed(&manifest, bytes);
}

#[test]
fn hints_that_lead_to_another_blob_or_beyond_the_pack_are_found() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"content a"), ("b", b"content b")]);
    test_store.ok(&["put", "x", "d"]);
    let ((pack, a), (other, b)) = (place(&test_store, b"content a"), place(&test_store, b"content b"));
    assert_eq!(pack, other);
    let gone = Digest::of(b"a pack that a garbage collector rewrote");
    for (packs, slots, why) in [
        (&[pack][..], [(2, a), (2, b)], None),
        (&[pack], [(0, 0), (2, b)], None),
        (&[gone], [(2, a), (2, b)], None),
        (&[pack], [(2, b), (2, b)], Some("content a leads elsewhere, another blob")),
        (&[pack], [(2, a), (2, 1 << 30)], Some("content b leads beyond, no blob begins")),
        (&[pack], [(2, a + 1), (2, a)], Some("content a leads between blobs, no blob begins; 1 more")),
    ] {
        set_hints(&test_store, packs, &slots);
        for args in [&["verify"][..], &["verify", "--quick"]] {
            let codes: &[&str] = if why.is_some() { &["F11-hints"] } else { &[] };
            let (message, _) = found(&test_store, args, codes);
            if let Some(why) = why {
                let content = Digest::of(&why.as_bytes()[..9]).hex();
                let kind = why.split(", ").nth(1).unwrap().split(';').next().unwrap();
                assert!(message.contains(&format!("the hint of content {content} leads to offset ")), "{message}");
                assert!(message.contains(kind) && message.contains("affects x:v0\n"), "{message}");
                assert_eq!(message.contains("; 1 more of its hints are wrong"), why.contains("1 more"), "{message}");
            }
        }
        assert_eq!(
            (test_store.ok(&["cat", "x", "a"]), test_store.ok(&["cat", "x", "b"])),
            ("content a".into(), "content b".into())
        );
    }
}

#[test]
fn a_version_that_does_not_list_a_pack_with_its_nodes_is_found_also_if_another_version_lists_it() {
    let test_store = TestStore::new();
    let (empty, nodes) = (RootNode { node: Arc::new(Node::empty()), place: None }, MemoryNodes::new());
    let edits = (0..2000).map(|i| {
        let path = RelPath::parse(format!("f{i:05}").as_bytes()).unwrap();
        Edit::put(path, Entry::File { digest: Digest::of(b"content"), size: 7, exec: false, place: None })
    });
    let root = apply(&Tree::of(&empty, Arc::new(nodes.clone())), edits.collect(), &mut nodes.clone()).unwrap();
    assert!(!root.node.is_leaf());
    let tree = Tree::of(&root, Arc::new(nodes.clone()));
    let store = test_store.store_path();
    crafted_stores::publish(&store, "x", 0, &tree, &nodes, &[b"content"]);
    crafted_stores::publish(&store, "y", 0, &tree, &nodes, &[b"content"]);
    make_tree(&test_store.path("d"), &[("other", b"other")]);
    test_store.ok(&["put", "z", "d"]);
    let (own, _) = place(&test_store, b"content");
    let (other, _) = place(&test_store, b"other");
    found(&test_store, &["verify"], &[]);
    let (manifest, mut bytes) = unsigned_manifest(&store, "y");
    assert_eq!(bytes[12..44], own.0);
    bytes[12..44].copy_from_slice(&other.0);
    write_signed(&manifest, bytes);
    for args in [&["verify"][..], &["verify", "--quick"]] {
        let (message, _) = found(&test_store, args, &["F16-pack"]);
        assert!(
            message.starts_with(&format!("F16-pack  y:v0: nodes of its manifest are in packs/{own},")),
            "{message}"
        );
        assert!(message.contains("affects y:v0\n"), "{message}");
    }
    assert_eq!(test_store.ok(&["cat", "y", "f01999"]), "content");
}

#[test]
fn packs_and_objects_that_can_be_written_to_are_found_and_made_read_only_by_a_repair() {
    let (test_store, pack, object) = with_pack_and_object();
    for file in [&pack, &object] {
        mode(file, 0o644);
        let (message, _) = found(&test_store, &["verify"], &["F1-touched"]);
        assert!(message.contains(file.file_name().unwrap().to_str().unwrap()), "{message}");
        let repaired = text(&test_store.run(&["verify", "--repair"], 0).stderr);
        assert!(repaired.contains(", 1 mode;"), "{repaired}");
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o444);
        found(&test_store, &["verify"], &[]);
    }
    // A file whose bytes are wrong does not become one that seems right.
    let mut bytes = std::fs::read(&object).unwrap();
    bytes[5] ^= 1;
    crafted_stores::write(&object, &bytes);
    found(&test_store, &["verify", "--repair"], &["F1-object"]);
    assert_eq!(std::fs::metadata(&object).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn files_that_are_closed_to_the_users_of_the_store_are_a_note_and_can_be_opened_again() {
    let (test_store, pack, object) = with_pack_and_object();
    let store = test_store.store_path();
    let record = behind(&store.join("artifacts/x/versions/v0")).join("version.json");
    for (path, closed) in
        [(&record, 0o600), (&record, 0o666), (&object, 0o400), (&pack, 0o400), (&store.join("packs"), 0o700)]
    {
        mode(path, closed);
        let (message, hints) = found(&test_store, &["verify"], &[]);
        let name = path.strip_prefix(&store).unwrap().to_str().unwrap();
        assert!(message.starts_with("note: F18-access  ") && message.contains(": 1 of "), "{message}");
        assert!(message.contains(&format!("the first is {name}\n")), "{message}");
        assert!(hints.contains("hint: F18-access: `cairn access --check`"), "{hints}");
        test_store.ok(&["access", "--fix"]);
        let (message, _) = found(&test_store, &["verify"], &[]);
        assert_eq!(message, "");
    }
}

#[test]
fn the_record_of_another_artifact_is_found_and_repaired() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"a")]);
    test_store.ok(&["put", "x", "d"]);
    test_store.ok(&["put", "y", "d"]);
    let [x, y] =
        ["x", "y"].map(|name| behind(&test_store.store_path().join(format!("artifacts/{name}/artifact.json"))));
    crafted_stores::write(&y, &std::fs::read(x).unwrap());
    let (message, _) = found(&test_store, &["verify"], &["F9-artifact"]);
    assert!(
        message.starts_with("F9-artifact  artifacts/y/artifact.json: ") && message.contains("names x"),
        "{message}"
    );
    found(&test_store, &["verify", "--repair"], &[]);
    test_store.ok(&["put", "y", "d"]);
}

/// A stage of a run of draft `j` of `x`, that no process holds. Returns its path.
fn stage(test_store: &TestStore, run: &str) -> PathBuf {
    let draft =
        Draft::new(&test_store.store(), &ArtifactName::parse("x").unwrap(), &DistributedId::parse("j").unwrap());
    let run = RunRecord { id: RunId::parse(run).unwrap(), group: None, job_type: None };
    let stage = Stage::open(&draft, &run, None, Resume::Continue).unwrap();
    make_tree(&stage.directory(), &[(run.id.as_str(), b"staged")]);
    stage.directory()
}

#[test]
fn records_and_markers_of_staging_directories_that_belong_elsewhere_are_found() {
    let test_store = TestStore::new();
    let (one, two) = (stage(&test_store, "one"), stage(&test_store, "two"));
    make_tree(&test_store.path("d"), &[("a", b"a")]);
    test_store.ok(&["upsert", "x", "d", "--distributed-id", "j", "--run", "other"]);
    found(&test_store, &["verify"], &[]);
    let of = |stage: &Path, suffix: &str| {
        stage.with_file_name(format!("{}{suffix}", stage.file_name().unwrap().to_str().unwrap()))
    };

    let nothing = one.with_file_name("11111111111111111111111111111111.sealing");
    std::fs::write(&nothing, "").unwrap();
    let (message, hints) = found(&test_store, &["verify"], &[]);
    assert!(message.starts_with("note: F17-stage  staging/11111111111111111111111111111111.sealing: "), "{message}");
    assert!(hints.contains("hint: F17-stage: "), "{hints}");
    std::fs::remove_file(&nothing).unwrap();

    let record = std::fs::read(of(&one, ".json")).unwrap();
    std::fs::write(of(&one, ".json"), std::fs::read(of(&two, ".json")).unwrap()).unwrap();
    let (message, _) = found(&test_store, &["verify"], &["F17-stage"]);
    assert!(message.contains("it is the record of staging directory "), "{message}");
    std::fs::write(of(&one, ".json"), &record[..record.len() - 3]).unwrap();
    found(&test_store, &["verify"], &["F17-stage"]);
    std::fs::write(of(&one, ".json"), &record).unwrap();

    std::fs::write(of(&one, ".sealing"), "not a token\n").unwrap();
    found(&test_store, &["verify"], &["F17-stage"]);
    let log = test_store.store_path().join("artifacts/x/drafts/j/log");
    let token = std::fs::read_link(log.join("000001")).unwrap();
    let token = token.to_str().unwrap().trim_start_matches('.');
    std::fs::write(of(&one, ".sealing"), format!("{token}\n")).unwrap();
    let (message, _) = found(&test_store, &["verify"], &["F17-stage"]);
    assert!(message.contains("the contribution of run other; the stage is of run one"), "{message}");
    test_store.ok(&["upsert", "x", "d", "--distributed-id", "k", "--run", "one"]);
    let token = std::fs::read_link(test_store.store_path().join("artifacts/x/drafts/k/log/000001")).unwrap();
    let token = token.to_str().unwrap().trim_start_matches('.');
    std::fs::write(of(&one, ".sealing"), format!("{token}\n")).unwrap();
    let (message, _) = found(&test_store, &["verify"], &["F17-stage"]);
    assert!(message.contains("which is a record of draft k of x; the stage is of run one"), "{message}");
    test_store.ok(&["draft", "discard", "x", "k"]);
    // A process that seals it does not take the other contribution for its own.
    test_store.ok(&["upsert", "x", "--distributed-id", "j", "--run", "one"]);
    found(&test_store, &["verify"], &[]);
    test_store.ok(&["upsert", "x", "--distributed-id", "j", "--run", "two"]);
    test_store.ok(&["finish", "x", "--distributed-id", "j"]);
    assert_eq!(test_store.ok(&["ls", "x"]), "a\none\ntwo");
    assert!(!one.exists() && !two.exists());
}

#[test]
fn an_inner_node_that_counts_wrongly_what_is_below_it_is_found() {
    let test_store = TestStore::new();
    let (empty, nodes) = (RootNode { node: Arc::new(Node::empty()), place: None }, MemoryNodes::new());
    let edits = (0..2000).map(|i| {
        let path = RelPath::parse(format!("f{i:05}").as_bytes()).unwrap();
        Edit::put(path, Entry::File { digest: Digest::of(b"content"), size: 7, exec: false, place: None })
    });
    let root = apply(&Tree::of(&empty, Arc::new(nodes.clone())), edits.collect(), &mut nodes.clone()).unwrap().node;
    let children = |node: &Node| node.children().iter().map(|child| child.digest).collect::<Vec<_>>();
    let wrong = (0..root.bytes().len()).find_map(|at| {
        let mut bytes = root.bytes().to_vec();
        bytes[at] ^= 1;
        let node = Node::decode(bytes, root.places().collect()).ok()?;
        (children(&node) == children(&root) && node.totals() != root.totals()).then(|| Arc::new(node))
    });
    let wrong = wrong.expect("a count is in the node");
    NodeSink::store(&mut nodes.clone(), &wrong).unwrap();
    let tree = Tree::of(&RootNode { node: wrong, place: None }, Arc::new(nodes.clone()));
    crafted_stores::publish(&test_store.store_path(), "x", 0, &tree, &nodes, &[b"content"]);
    let (message, _) = found(&test_store, &["verify"], &["F6-node"]);
    assert!(message.contains("its sums are ") && message.contains("affects x:v0\n"), "{message}");
}

#[test]
fn a_version_that_counts_packs_of_a_put_among_those_of_patches_is_found() {
    let test_store = TestStore::new();
    let files: Vec<String> = (0..3000).map(|i| format!("d{}/f{i:05}", i % 3)).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|path| (path.as_str(), &b"content"[..])).collect();
    make_tree(&test_store.path("d"), &files);
    test_store.ok(&["put", "y", "d"]);
    std::fs::write(test_store.path("d/d1/more"), "more").unwrap();
    test_store.ok(&["put", "x", "d"]);
    std::fs::write(test_store.path("patch"), "patch").unwrap();
    test_store.ok(&["patch", "x", "patch"]);
    found(&test_store, &["verify"], &[]);
    // The patch's manifest, as the one of x:v0.
    let versions = test_store.store_path().join("artifacts/x/versions");
    let manifest = behind(&versions.join("v1")).join("manifest");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes.truncate(bytes.len() - 32);
    assert_eq!(bytes[8..12], [3, 0, 1, 0]);
    let pack = |bytes: &[u8], i: usize| bytes[12 + 32 * i..][..32].to_vec();
    let (first, second) = (pack(&bytes, 0), pack(&bytes, 1));
    let mut wrong = 0;
    // One of the put's packs names nodes of the other one.
    for order in [[&first, &second], [&second, &first]] {
        bytes[12..44].copy_from_slice(order[0]);
        bytes[44..76].copy_from_slice(order[1]);
        bytes[10] = 1;
        write_signed(&manifest, bytes.clone());
        found(&test_store, &["verify"], &[]);
        bytes[10] = 3;
        write_signed(&manifest, bytes.clone());
        let output = test_store.cairn(&["verify"]).output().unwrap();
        if output.status.success() {
            continue;
        }
        wrong += 1;
        let (message, _) = found(&test_store, &["verify"], &["F16-pack"]);
        assert!(message.starts_with("F16-pack  x:v1: it says that patches added the last 3 of its packs"), "{message}");
        assert!(message.contains("affects x:v1\n"), "{message}");
    }
    assert_eq!(wrong, 1);
    bytes[10] = 4;
    write_signed(&manifest, bytes);
    let (message, _) = found(&test_store, &["verify"], &["F5-version"]);
    assert!(message.contains("its table of packs does not fit"), "{message}");
}
