//! More of what verify finds: records that are right by themselves and disagree with what they describe.

use crate::crafted_stores;
use crate::support::{TestStore, make_tree, text};
use serde_json::{Value, json};

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
    let versions = test_store.store_path().join("artifacts/x/versions");
    let record = versions.join(std::fs::read_link(versions.join("v0")).unwrap()).join("version.json");
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
