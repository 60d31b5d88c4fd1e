//! More of what verify finds: records that are right by themselves and disagree with what they describe.

use crate::crafted_stores::{self, behind};
use crate::support::{TestStore, make_tree, random_bytes, text};
use cairn::internals::manifest::{Builder, MemoryNodes, Node, NodeSink, RootNode};
use cairn::manifest::{Entry, Tree};
use cairn::types::Digest;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

#[test]
fn a_version_record_of_another_artifact_or_token_or_with_wrong_counts_is_found() {
    let cases: [(&str, Value, &str); 5] = [
        ("artifact", json!("other"), "other"),
        ("token", json!("11111111111111111111111111111111"), "11111111111111111111111111111111"),
        ("entries", json!(3), "3 entries"),
        ("files", json!(3), "3 files"),
        ("bytes", json!(8), "8 bytes"),
    ];
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"one"), ("b", b"four")]);
    test_store.ok(&["put", "x", "d"]);
    let record = behind(&test_store.store_path().join("artifacts/x/versions/v0")).join("version.json");
    let right = std::fs::read(&record).unwrap();
    for (field, value, expected) in cases {
        crafted_stores::resign(&record, |r| drop(r.insert(field.into(), value)));
        let output = test_store.run(&["verify"], 1);
        let (found, hint) = (text(&output.stdout), text(&output.stderr));
        assert!(found.contains("F5-version  x:v0: ") && found.contains(expected), "{field}: {found}");
        assert!(found.contains("affects x:v0") && hint.contains("hint: F5-version: "), "{field}: {found} {hint}");
        crafted_stores::write(&record, &right);
        test_store.run(&["verify"], 0);
    }
}

/// A leaf with these files, as FORMAT.md describes it.
fn leaf(names: &[String], content: &[u8]) -> Node {
    let (mut ends, mut all, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        all.extend_from_slice(name.as_bytes());
        ends.extend_from_slice(&(all.len() as u16).to_le_bytes());
        files.extend_from_slice(&Digest::of(content).0);
        files.extend_from_slice(&(content.len() as u64).to_le_bytes());
    }
    let columns = [(1, ends), (2, all), (3, vec![0; names.len()]), (4, files)];
    let mut out = vec![0, columns.len() as u8];
    out.extend_from_slice(&(names.len() as u16).to_le_bytes());
    for (tag, column) in &columns {
        out.push(*tag);
        out.extend_from_slice(&(column.len() as u16).to_le_bytes());
    }
    columns.iter().for_each(|(_, column)| out.extend_from_slice(column));
    Node::decode(out, Vec::new()).unwrap()
}

#[test]
fn a_directory_that_is_not_cut_by_the_rule_is_found() {
    let test_store = TestStore::new();
    let content = b"content";
    let entry = || Entry::File { digest: Digest::of(content), size: 7, exec: false, place: None };
    // Names that the rule cuts into several nodes.
    let (names, right) = (0..50)
        .find_map(|salt| {
            let names: Vec<String> = (0..600).map(|i| format!("{i:03}{salt}")).collect();
            let mut nodes = MemoryNodes::new();
            let mut builder = Builder::new(&mut nodes);
            names.iter().for_each(|name| builder.entry(name.as_bytes(), entry()).unwrap());
            let root = builder.finish().unwrap();
            (!root.node.is_leaf()).then(|| (names, root.digest()))
        })
        .unwrap();
    let mut nodes = MemoryNodes::new();
    let wrong = Arc::new(leaf(&names, content));
    nodes.store(&wrong).unwrap();
    let tree = Tree::of(&RootNode { node: wrong.clone(), place: None }, Arc::new(nodes.clone()));
    crafted_stores::publish(&test_store.store_path(), "x", 0, &tree, &nodes, &[content]);
    assert_eq!(test_store.ok(&["cat", "x", &names[17]]), "content");
    for args in [&["verify"][..], &["verify", "x"], &["verify", "x:v0"]] {
        let output = test_store.run(args, 1);
        let (found, hint) = (text(&output.stdout), text(&output.stderr));
        let expected = format!("M10-cut  manifest node {}: it is not cut by the rule", wrong.digest());
        assert!(found.starts_with(&expected) && found.contains(&right.hex()), "{args:?}: {found}");
        assert!(found.contains("affects x:v0\n") && hint.contains("hint: M10-cut: "), "{args:?}: {found} {hint}");
        assert_eq!(found.lines().count(), 2, "{found}");
    }
    test_store.run(&["verify", "--quick"], 0);
    // The advice is right: the same files, put again, are a version that is cut by the rule.
    test_store.ok(&["get", "x:v0", "out"]);
    test_store.ok(&["put", "x", "out"]);
    test_store.run(&["verify", "x:v1"], 0);
    test_store.ok(&["rm", "x:v0"]);
    test_store.run(&["verify"], 0);
}

#[test]
fn a_check_of_one_version_names_damaged_content_as_briefly_as_a_check_of_the_whole_store() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("f", &random_bytes(1, 20_000))]);
    test_store.ok(&["put", "x", "src"]);
    let packs = std::fs::read_dir(test_store.store_path().join("packs")).unwrap().map(|pack| pack.unwrap().path());
    let pack = packs.max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[5000] ^= 1;
    std::fs::set_permissions(&pack, PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    let finding = |args: &[&str]| {
        let report: Value = serde_json::from_slice(&test_store.run(args, 1).stdout).unwrap();
        let all = report["findings"].as_array().unwrap().clone();
        all.into_iter().find(|finding| finding["code"] == "F1-blob").unwrap()
    };
    let (whole, one) = (finding(&["verify", "--json"]), finding(&["verify", "x", "--json"]));
    assert_eq!(whole["affects"], one["affects"]);
    let (whole, one) = (whole["why"].as_str().unwrap(), one["why"].as_str().unwrap());
    let found = whole.rsplit(' ').next().unwrap();
    assert!(
        one.starts_with("packs/")
            && one.ends_with(&format!("the bytes have digest {found}"))
            && one.len() < whole.len() + 20,
        "{one}\n{whole}"
    );
}
