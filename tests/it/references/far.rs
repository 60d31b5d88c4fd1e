//! References to web servers and object stores, against a server with faults.

use super::server::{Faults, Server};
use crate::support::*;
use std::process::Command;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// The command, with that server as its S3, and short waits.
pub fn cairn(test: &TestStore, server: &Server, args: &[&str]) -> Command {
    let mut command = test.cairn(args);
    for name in ["AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    command
        .env("AWS_ENDPOINT_URL", server.endpoint())
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "hunter2")
        .env("AWS_CONFIG_FILE", test.path("no config"))
        .env("AWS_SHARED_CREDENTIALS_FILE", test.path("no credentials"))
        .env("CAIRN_REMOTE_TIMEOUT", "3");
    command
}

/// Runs it, and expects that status. No output has the secret in it.
pub fn run(test: &TestStore, server: &Server, args: &[&str], status: i32) -> (Vec<u8>, String) {
    let out = cairn(test, server, args).output().unwrap();
    let stderr = text(&out.stderr);
    assert_eq!(out.status.code(), Some(status), "cairn {args:?}\n{stderr}");
    assert!(!stderr.contains("hunter2"), "{stderr}");
    (out.stdout, stderr)
}

fn ok(test: &TestStore, server: &Server, args: &[&str]) -> String {
    text(&run(test, server, args, 0).0).trim_end().to_owned()
}

fn entries(test: &TestStore, server: &Server, version: &str) -> Vec<serde_json::Value> {
    ok(test, server, &["ls", version, "-R", "--json"]).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn an_object_is_recorded_with_size_and_etag_and_read_from_its_server() {
    let (test, server) = (TestStore::new(), Server::start());
    let bytes = random_bytes(1, 5 * MIB + 17);
    server.put("bucket/dir/a b.bin", &bytes);
    for (name, uri) in [("s3", "s3://bucket/dir/a b.bin".to_owned()), ("http", server.url("bucket/dir/a%20b.bin"))] {
        assert_eq!(ok(&test, &server, &["put", name, &uri]), format!("{name}:v0"));
        let entry = &entries(&test, &server, name)[0];
        assert_eq!((entry["uri"].as_str(), entry["size"].as_u64()), (Some(uri.as_str()), Some(bytes.len() as u64)));
        let path = entry["path"].as_str().unwrap().to_owned();
        assert!(run(&test, &server, &["cat", name, &path], 0).0 == bytes);
        ok(&test, &server, &["get", name, name]);
        assert!(std::fs::read(test.path(name).join(&path)).unwrap() == bytes);
        assert_eq!(ok(&test, &server, &["put", name, &uri]), format!("{name}:v0"), "nothing changed");
    }
    server.counted();
    assert!(run(&test, &server, &["cat", "s3", "a b.bin"], 0).0 == bytes);
    assert_eq!(server.counted(), (0, 0), "all of it is in the cache");
    run(&test, &server, &["put", "x", "s3://bucket/none"], 6);
    run(&test, &server, &["put", "x", &server.url("bucket/none")], 6);
    // Without asking the server: also of what does not exist.
    server.counted();
    ok(&test, &server, &["put", "bare", "s3://bucket/none", &server.url("bucket/dir/a%20b.bin"), "--no-checksum"]);
    assert_eq!(server.counted(), (0, 0));
    assert!(run(&test, &server, &["cat", "bare", "a%20b.bin"], 0).0 == bytes);
    assert!(run(&test, &server, &["cat", "bare", "none"], 5).1.contains("does not exist"));
}

#[test]
fn a_prefix_becomes_one_entry_for_each_object_listed_in_pages_at_the_same_time() {
    let (test, server) = (TestStore::new(), Server::start());
    for n in 0..730 {
        server.put(&format!("bucket/data/d{}/{n:04}", n % 6), format!("{n}").as_bytes());
    }
    for n in 0..150 {
        server.put(&format!("bucket/data/top{n}"), b"t");
    }
    server.put("bucket/data/d1/", b""); // what some tools make for a directory
    server.put("bucket/database/x", b"not below it");
    server.faults(Faults { delay: Duration::from_millis(20), ..Faults::default() });
    ok(&test, &server, &["put", "x", "s3://bucket/data", "--at", "p"]);
    let all = entries(&test, &server, "x");
    let references: Vec<_> = all.iter().filter(|e| e["kind"] == "reference").collect();
    assert_eq!(references.len(), 880, "and no entry for the empty object of a directory");
    assert_eq!(references[0]["path"], "p/d0/0000");
    assert_eq!(references[0]["uri"], "s3://bucket/data/d0/0000");
    assert!(server.most_at_once() > 1, "prefixes are listed at the same time");
    assert_eq!(run(&test, &server, &["cat", "x", "p/d3/0009"], 0).0, b"9");
    let stderr = run(&test, &server, &["put", "y", "s3://bucket/data", "--max-objects", "879"], 2).1;
    assert!(stderr.contains("more than 879 objects"), "{stderr}");
    run(&test, &server, &["list", "y"], 6);
    assert_eq!(ok(&test, &server, &["put", "y", "s3://bucket/data/", "--max-objects", "881"]), "y:v0");
    run(&test, &server, &["put", "z", "s3://bucket/nothing/"], 6);
}

#[test]
fn a_changed_or_missing_object_is_an_error_also_if_the_server_ignores_conditions() {
    let (test, server) = (TestStore::new(), Server::start());
    for ignores_if_match in [false, true] {
        server.faults(Faults { ignores_if_match, ..Faults::default() });
        server.put("bucket/x", &random_bytes(1, 3 * MIB));
        let uris = ["s3://bucket/x".to_owned(), server.url("bucket/x")];
        let names: Vec<String> = (0..2).map(|n| format!("{n}-{ignores_if_match}")).collect();
        for (name, uri) in names.iter().zip(&uris) {
            ok(&test, &server, &["put", name, uri]);
        }
        server.put("bucket/x", &random_bytes(2, 3 * MIB)); // the same size
        for (name, uri) in names.iter().zip(&uris) {
            for args in [&["cat", name, "x"][..], &["get", name, "out"]] {
                let (stdout, stderr) = run(&test, &server, args, 5);
                assert!(
                    stdout.is_empty() && stderr.contains(uri.as_str()) && stderr.contains("it changed"),
                    "{stderr}"
                );
            }
            assert_eq!(ok(&test, &server, &["put", name, uri]), format!("{name}:v1"), "a change makes a version");
        }
        server.remove("bucket/x");
        for (name, uri) in names.iter().zip(&uris) {
            let stderr = run(&test, &server, &["cat", name, "x"], 5).1;
            assert!(stderr.contains(uri.as_str()) && stderr.contains("does not exist any more"), "{stderr}");
        }
    }
}

#[test]
fn passing_faults_are_repeated_and_lasting_ones_end_within_a_bound() {
    let (test, server) = (TestStore::new(), Server::start());
    let bytes = random_bytes(1, 2 * MIB);
    server.put("bucket/x", &bytes);
    for (name, uri) in [("s3", "s3://bucket/x".to_owned()), ("http", server.url("bucket/x"))] {
        server.faults(Faults { errors: 2, ..Faults::default() });
        ok(&test, &server, &["put", name, &uri]);
        server.faults(Faults { cuts: (2, 700_000), ..Faults::default() });
        ok(&test, &server, &["get", name, name]);
        assert!(std::fs::read(test.path(name).join("x")).unwrap() == bytes, "cut answers are not believed");
        for (fault, down) in [
            (Faults { errors: u64::MAX, ..Faults::default() }, false),
            (Faults { silent: true, ..Faults::default() }, false),
            (Faults { cuts: (u64::MAX, 10), ..Faults::default() }, false),
            (Faults::default(), true),
        ] {
            server.faults(fault.clone());
            server.down(down);
            let began = Instant::now();
            let (stdout, stderr) = run(&test, &server, &["cat", name, "x"], 5);
            assert!(began.elapsed() < Duration::from_secs(15), "{fault:?} took {:?}", began.elapsed());
            assert!(stdout.is_empty() && stderr.contains(&uri) && stderr.contains("attempts"), "{fault:?}: {stderr}");
            server.down(false);
        }
        server.faults(Faults::default());
        assert!(run(&test, &server, &["cat", name, "x"], 0).0 == bytes, "the server is back");
    }
}

#[test]
fn an_answer_that_another_attempt_would_get_too_is_an_error_at_once() {
    let (test, server) = (TestStore::new(), Server::start());
    server.put("bucket/x", b"abc");
    let account = format!(
        r#"{{"gcs_base_url":"{}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}"#,
        server.endpoint()
    );
    std::fs::write(test.path("account.json"), account).unwrap();
    let put = |uri: &str, status: u16, errors: u64| {
        server.faults(Faults { errors, status, ..Faults::default() });
        server.counted();
        let mut command = cairn(&test, &server, &["put", "x", uri]);
        let out = command.env("GOOGLE_SERVICE_ACCOUNT", test.path("account.json")).output().unwrap();
        (out.status.code(), text(&out.stderr), server.counted().0)
    };
    // HEAD and GET for an object; for a prefix also the listing.
    for uri in [&server.url("bucket/x"), "s3://bucket/x", "gs://bucket/x", "gs://bucket", "s3://bucket"] {
        for status in [400, 401, 403, 404, 405, 410, 411, 412, 416, 501, 505] {
            let (code, stderr, requests) = put(uri, status, u64::MAX);
            assert!(matches!(code, Some(5 | 6)) && requests <= 2, "{uri} {status}: {code:?} {requests} {stderr}");
        }
        for status in [408, 429, 500, 502, 503, 504] {
            let (code, stderr, _) = put(uri, status, 1);
            assert_eq!(code, Some(0), "{uri} {status}: {stderr}");
        }
    }
}

#[test]
fn a_web_server_that_does_not_say_the_length_is_read_once_to_find_it() {
    let (test, server) = (TestStore::new(), Server::start());
    let bytes = random_bytes(1, 33 * MIB + 5);
    server.put("x", &bytes);
    let uri = server.url("x");
    let chunked = Faults { no_length: true, ignores_ranges: true, ..Faults::default() };
    server.faults(chunked.clone());
    ok(&test, &server, &["put", "x", &uri]);
    assert_eq!(entries(&test, &server, "x")[0]["size"].as_u64(), Some(bytes.len() as u64));
    assert_eq!(ok(&test, &server, &["put", "x", &uri]), "x:v0", "nothing changed");
    server.counted();
    assert!(run(&test, &server, &["cat", "x", "x"], 0).0 == bytes);
    ok(&test, &server, &["get", "x", "out"]);
    assert!(std::fs::read(test.path("out/x")).unwrap() == bytes);
    let (requests, sent) = server.counted();
    assert!(requests <= 4 && sent < 4 * bytes.len() as u64, "each read in one answer: {requests} {sent}");
    ok(&test, &server, &["verify", "x", "--references"]);
    server.put("x", &bytes[1..]);
    assert!(run(&test, &server, &["get", "x", "changed"], 5).1.contains("it changed"));
    run(&test, &server, &["verify", "x", "--references"], 1);
    // With ranges, an answer of one byte says it.
    server.faults(Faults { no_length: true, no_head: true, ..Faults::default() });
    ok(&test, &server, &["put", "ranges", &uri]);
    server.faults(chunked);
    ok(&test, &server, &["put", "bare", &uri, "--no-checksum"]);
    let stderr = run(&test, &server, &["cat", "bare", "x"], 5).1;
    assert!(stderr.contains("does not say how long it is"), "{stderr}");
    server.faults(Faults { no_length: true, ignores_ranges: true, no_etag: true, no_time: true, ..Faults::default() });
    server.counted();
    assert!(run(&test, &server, &["put", "none", &uri], 5).1.contains("neither an ETag nor"));
    assert_eq!(server.counted().1, 0, "it is not read in vain");
}

#[test]
fn a_web_server_without_ranges_etags_or_head_is_read_and_one_that_shows_no_change_is_refused() {
    let (test, server) = (TestStore::new(), Server::start());
    let bytes = random_bytes(1, 2 * MIB + 5);
    server.put("x", &bytes);
    let uri = server.url("x");
    for (name, faults) in [
        ("ranges", Faults { ignores_ranges: true, ..Faults::default() }),
        ("etag", Faults { no_etag: true, ..Faults::default() }),
        ("head", Faults { no_head: true, ..Faults::default() }),
    ] {
        server.faults(faults.clone());
        ok(&test, &server, &["put", name, &uri]);
        assert!(run(&test, &server, &["cat", name, "x"], 0).0 == bytes, "{faults:?}");
    }
    server.put("bucket/y", &bytes);
    server.faults(Faults { says_200: true, ..Faults::default() });
    ok(&test, &server, &["put", "says", "s3://bucket/y"]);
    assert!(run(&test, &server, &["cat", "says", "y"], 0).0 == bytes, "as of rclone's server");
    server.faults(Faults { no_etag: true, ..Faults::default() });
    server.put("x", &random_bytes(2, 2 * MIB + 5));
    assert!(run(&test, &server, &["get", "etag", "out"], 5).1.contains("it changed"), "by the time of change");
    server.faults(Faults { no_etag: true, no_time: true, ..Faults::default() });
    let stderr = run(&test, &server, &["put", "none", &uri], 5).1;
    assert!(stderr.contains("neither an ETag nor") && stderr.contains("--no-checksum"), "{stderr}");
}

#[test]
fn the_credentials_of_a_profile_are_used_and_a_damaged_cache_is_fetched_again() {
    let (test, server) = (TestStore::new(), Server::start());
    let bytes = random_bytes(1, 3 * MIB);
    server.put("bucket/x", &bytes);
    let config = format!("[profile lab]\nregion = eu-1\nendpoint_url = {}\n", server.endpoint());
    std::fs::write(test.path("config"), config).unwrap();
    std::fs::write(test.path("credentials"), "[lab]\naws_access_key_id = a\naws_secret_access_key = hunter2\n")
        .unwrap();
    let cairn = |args: &[&str]| {
        let mut command = test.cairn(args);
        for name in ["AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            command.env_remove(name);
        }
        command.env("AWS_CONFIG_FILE", test.path("config")).env("AWS_PROFILE", "lab");
        let out = command.env("AWS_SHARED_CREDENTIALS_FILE", test.path("credentials")).output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        out.stdout
    };
    cairn(&["put", "x", "s3://bucket/x"]);
    assert!(cairn(&["cat", "x", "x"]) == bytes);
    let mut blocks = 0;
    for entry in walkdir::WalkDir::new(test.path("cache/references")) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() && entry.metadata().unwrap().len() > 1000 {
            let mut found = std::fs::read(entry.path()).unwrap();
            for block in found.chunks_mut(MIB) {
                block[7] ^= 1;
                blocks += 1;
            }
            std::fs::write(entry.path(), found).unwrap();
        }
    }
    assert_eq!(blocks, 3);
    assert!(cairn(&["cat", "x", "x"]) == bytes);
    server.counted();
    assert!(cairn(&["cat", "x", "x"]) == bytes);
    assert_eq!(server.counted(), (0, 0), "it healed");
}

#[test]
fn a_version_that_an_s3_server_keeps_is_recorded_and_read_after_the_object_was_replaced() {
    let (test, server) = (TestStore::new(), Server::start());
    server.faults(Faults { versions: true, ..Faults::default() });
    let old = random_bytes(1, 2 * MIB);
    server.put("bucket/x", &old);
    run(&test, &server, &["put", "x", "s3://bucket/x"], 0);
    let uri = entries(&test, &server, "x")[0]["uri"].as_str().unwrap().to_owned();
    assert!(uri.starts_with("s3://bucket/x?versionId=v"), "{uri}");
    assert_eq!(entries(&test, &server, "x")[0]["path"], "x");
    server.put("bucket/x", &random_bytes(2, MIB));
    assert!(run(&test, &server, &["cat", "x", "x"], 0).0 == old);
    run(&test, &server, &["verify", "x", "--references"], 0);
}

#[test]
fn google_objects_are_listed_read_by_range_and_compared_with_what_was_recorded() {
    let (test, server) = (TestStore::new(), Server::start());
    let bytes = random_bytes(1, 5 * MIB);
    server.put("bucket/data/a", &bytes);
    server.put("bucket/data/d/b", b"small");
    let account = format!(
        r#"{{"gcs_base_url":"{}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}"#,
        server.endpoint()
    );
    std::fs::write(test.path("account.json"), account).unwrap();
    let google = |args: &[&str], status: i32| {
        let out =
            cairn(&test, &server, args).env("GOOGLE_SERVICE_ACCOUNT", test.path("account.json")).output().unwrap();
        assert_eq!(out.status.code(), Some(status), "cairn {args:?}\n{}", text(&out.stderr));
        (out.stdout, text(&out.stderr))
    };
    google(&["put", "x", "gs://bucket/data"], 0);
    let all = entries(&test, &server, "x");
    let of = |path: &str| all.iter().find(|e| e["path"] == path).unwrap();
    assert_eq!((of("a")["uri"].as_str(), of("a")["size"].as_u64()), (Some("gs://bucket/data/a"), Some(5 * MIB as u64)));
    assert!(of("a")["etag"].as_str().is_some_and(|tag| tag.len() > 2));
    google(&["put", "x", "gs://bucket/data", "--max-objects", "1"], 2);
    assert_eq!(google(&["cat", "x", "d/b"], 0).0, b"small");
    std::fs::create_dir(test.path("mnt")).unwrap();
    google(&["mount", "mnt", "x", "--log", test.path("log").to_str().unwrap()], 0);
    let _mounted = super::mount::Mounted(&test);
    server.counted();
    let file = std::fs::File::open(test.path("mnt/a")).unwrap();
    let mut part = [0; 4096];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut part, 3 * MIB as u64).unwrap();
    let fetched = server.counted().1;
    assert!(part[..] == bytes[3 * MIB..3 * MIB + 4096] && fetched <= 2 * MIB as u64, "{fetched} bytes");
    for ignores_if_match in [false, true] {
        server.faults(Faults { ignores_if_match, ..Faults::default() });
        server.put("bucket/data/a", &random_bytes(2, 5 * MIB));
        let read = std::os::unix::fs::FileExt::read_at(&file, &mut part, 0);
        assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::EIO));
        let stderr = google(&["cat", "x", "a"], 5).1;
        assert!(stderr.contains("gs://bucket/data/a") && stderr.contains("it changed"), "{stderr}");
    }
    drop(file);
}
