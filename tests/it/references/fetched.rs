//! `cairn fetch` makes objects of references, and `cairn verify --references` asks their sources.

use super::far::run;
use super::server::Server;
use crate::support::*;

const MIB: usize = 1 << 20;

#[test]
fn fetch_makes_a_version_with_files_in_place_of_references_at_or_below_a_path() {
    let (test, server) = (TestStore::new(), Server::start());
    let (large, small) = (random_bytes(1, 3 * MIB), random_bytes(2, 1000));
    server.put("bucket/d/large", &large);
    server.put("bucket/d/small", &small);
    std::fs::write(test.path("local"), "local").unwrap();
    let local = format!("file://{}", test.path("local").display());
    run(&test, &server, &["put", "x", "s3://bucket/d", "--at", "s3"], 0);
    run(&test, &server, &["patch", "x", &local], 0);
    let fetch = |args: &[&str]| text(&run(&test, &server, args, 0).0).trim_end().to_owned();
    assert_eq!(fetch(&["fetch", "x", "--path", "s3/small"]), "x:v2");
    assert_eq!(fetch(&["fetch", "x"]), "x:v3");
    assert_eq!(fetch(&["fetch", "x"]), "x:v3", "there is nothing left to fetch");
    run(&test, &server, &["fetch", "x", "--path", "none"], 6);
    let kinds = |version: &str| {
        let lines = test.ok(&["ls", version, "-R", "--json"]);
        let all: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        all.iter()
            .filter(|e| e["kind"] == "reference")
            .map(|e| e["path"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds("x:v1"), ["local", "s3/large", "s3/small"]);
    assert_eq!(kinds("x:v2"), ["local", "s3/large"]);
    assert_eq!(kinds("x:v3"), [] as [&str; 0]);
    server.down(true);
    std::fs::remove_file(test.path("local")).unwrap();
    assert!(test.run(&["cat", "x", "s3/large"], 0).stdout == large);
    assert!(test.run(&["cat", "x", "s3/small"], 0).stdout == small);
    assert_eq!(test.ok(&["cat", "x", "local"]), "local");
    test.ok(&["verify"]);
}

#[test]
fn a_changed_source_is_not_fetched_and_is_a_finding_of_verify() {
    let (test, server) = (TestStore::new(), Server::start());
    for name in ["a", "b", "c"] {
        server.put(&format!("bucket/d/{name}"), &random_bytes(1, 200_000));
    }
    std::fs::write(test.path("local"), "local").unwrap();
    let local = format!("file://{}", test.path("local").display());
    run(&test, &server, &["put", "x", "s3://bucket/d", &local, "odd://thing/z"], 0);
    run(&test, &server, &["put", "y", "s3://bucket/d/a"], 0);
    let report = |args: &[&str], status| -> serde_json::Value {
        serde_json::from_slice(&run(&test, &server, args, status).0).unwrap()
    };
    assert_eq!(report(&["verify", "--references", "--json"], 0)["references"], 4, "equal ones are asked once");
    server.put("bucket/d/a", &random_bytes(2, 200_000));
    server.remove("bucket/d/b");
    std::fs::write(test.path("local"), "other").unwrap();
    assert_eq!(report(&["verify", "--json"], 0)["references"], 0, "sources are asked only on request");
    let found = report(&["verify", "x:v0", "--references", "--json"], 1);
    let whats: Vec<&str> = found["findings"].as_array().unwrap().iter().map(|f| f["what"].as_str().unwrap()).collect();
    assert_eq!(whats, [local.as_str(), "s3://bucket/d/a", "s3://bucket/d/b"], "{found}");
    assert!(found["findings"].as_array().unwrap().iter().all(|f| f["code"] == "F19-reference"));
    assert_eq!(found["findings"][1]["affects"][0], "x:v0 a");
    run(&test, &server, &["fetch", "x", "--path", "a"], 5);
    assert_eq!(test.ok(&["list", "x"]).lines().filter(|l| l.contains("v1")).count(), 0, "nothing was published");
}
