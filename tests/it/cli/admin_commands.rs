//! `alias`, `unalias`, `rm`, `locks`, `verify`: keeping house.

use crate::support::{TestStore, make_tree, text};
use std::process::Stdio;
use std::time::Duration;

/// `x` with v0, v1, v2.
fn test_store() -> TestStore {
    let test_store = TestStore::new();
    for i in 0..3 {
        make_tree(&test_store.path("src"), &[("n", i.to_string().as_bytes()), ("shared", b"shared")]);
        test_store.ok(&["put", "x", "src"]);
    }
    test_store
}

#[test]
fn aliases_move_and_go_and_only_from_where_they_are_expected() {
    let test_store = test_store();
    assert_eq!(test_store.ok(&["alias", "x:v0", "prod", "best one"]), "x:prod -> v0\nx:best one -> v0");
    assert_eq!(test_store.ok(&["alias", "x", "prod", "--expect", "v0"]), "x:prod -> v2");
    assert!(test_store.fails(&["alias", "x:v1", "prod", "--expect", "v0"], 3).contains("points at v2, expected v0"));
    test_store.fails(&["alias", "x:v1", "prod", "--expect", "none"], 3);
    test_store.fails(&["alias", "x:v1", "prod", "--expect", "2"], 2);
    assert_eq!(
        test_store.json(&["alias", "x:v1", "new", "--expect", "none"]),
        serde_json::json!({ "artifact": "x", "version": "v1", "aliases": ["new"], "from": [null] })
    );
    assert_eq!(test_store.ok(&["cat", "x:best one", "n"]), "0");
    assert_eq!(test_store.ok(&["unalias", "x", "new", "best one"]), "x:new\nx:best one");
    assert!(test_store.fails(&["unalias", "x", "prod", "new"], 6).contains("nothing was changed"));
    assert_eq!(test_store.json(&["unalias", "x", "prod"]), serde_json::json!({ "artifact": "x", "aliases": ["prod"] }));
    test_store.fails(&["show", "x:prod"], 6);
    test_store.fails(&["unalias", "y", "prod"], 6);
    test_store.fails(&["alias", "x:v9", "prod"], 6);
}

#[test]
fn latest_and_reserved_names_cannot_be_set_as_aliases() {
    let test_store = test_store();
    for name in ["latest", ".staging", "v7", "a/b", "a:b", ".a", ""] {
        test_store.fails(&["alias", "x:v0", name], 2);
        test_store.fails(&["unalias", "x", name], 2);
    }
}

#[test]
fn a_removed_version_is_gone_and_its_number_is_never_given_again() {
    let test_store = test_store();
    assert_eq!(test_store.ok(&["rm", "x:v2", "x:v0", "x:v2"]), "x:v2\nx:v0");
    assert_eq!(test_store.json(&["show", "x"])["version"], "v1", "latest goes to the highest that remains");
    test_store.fails(&["cat", "x:v2", "n"], 6);
    test_store.fails(&["rm", "x:v2"], 6);
    assert_eq!(test_store.ok(&["cat", "x", "shared"]), "shared", "what others share stays");
    assert_eq!(test_store.ok(&["put", "x", "src"]), "x:v3");
    assert_eq!(
        test_store.json(&["rm", "x", "--all"]),
        serde_json::json!({
            "removed": [{ "artifact": "x", "version": "v1" }, { "artifact": "x", "version": "v3" }],
            "kept": [], "dry_run": false, "frees_bytes": 8, "estimate": false
        })
    );
    assert_eq!(test_store.ok(&["list"]), "x  dataset  0  -  -  -", "the name stays");
    assert!(test_store.fails(&["show", "x"], 6).contains("has no version"));
    test_store.fails(&["put", "x", "src", "--type", "model"], 3);
    assert_eq!(test_store.ok(&["put", "x", "src"]), "x:v4");
}

#[test]
fn removal_is_refused_while_an_alias_names_the_version_unless_forced() {
    let test_store = test_store();
    test_store.ok(&["alias", "x:v1", "prod"]);
    assert!(test_store.fails(&["rm", "x:v0", "x:v1"], 3).contains("prod"));
    assert_eq!(test_store.json(&["list", "x"]).as_array().unwrap().len(), 3, "all or none");
    test_store.fails(&["rm", "x", "--all"], 3);
    test_store.fails(&["rm", "x:prod", "--dry-run"], 3);
    assert_eq!(test_store.ok(&["rm", "x:prod", "--dry-run", "--force"]), "x:v1");
    assert_eq!(test_store.json(&["list", "x"]).as_array().unwrap().len(), 3);
    test_store.ok(&["rm", "x:prod", "--force"]);
    test_store.fails(&["show", "x:prod"], 6);
    assert_eq!(test_store.ok(&["rm", "x:latest"]), "x:v2");
}

#[test]
fn rm_requires_a_version() {
    let test_store = test_store();
    assert!(test_store.fails(&["rm", "x"], 2).contains("--all"));
    test_store.fails(&["rm", "x:v0", "--all"], 2);
    test_store.fails(&["rm", "y:v0"], 6);
    test_store.fails(&["rm", "y", "--all"], 6);
    test_store.fails(&["rm", "x:v0", "x:v9"], 6);
    assert_eq!(test_store.json(&["list", "x"]).as_array().unwrap().len(), 3);
}

#[test]
fn a_writer_at_work_shows_in_locks_and_any_lock_can_be_broken() {
    let test_store = test_store();
    assert_eq!((test_store.ok(&["locks"]), test_store.json(&["locks"])), (String::new(), serde_json::json!([])));
    make_tree(&test_store.path("big"), &[]);
    std::fs::File::create(test_store.path("big/hole")).unwrap().set_len(40 << 30).unwrap(); // long to hash
    let mut child = test_store
        .cairn(&["put", "y", "big", "--run", "slow run"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lock = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        test_store.json(&["locks"]).as_array().unwrap().first().cloned()
    });
    let line = test_store.ok(&["locks"]);
    let killed = |child: &mut std::process::Child| {
        child.kill().unwrap();
        child.wait().unwrap();
    };
    let Some(lock) = lock else {
        killed(&mut child);
        panic!("the writer was not seen");
    };
    let fields: Vec<&str> = lock.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        ["id", "life", "purpose", "artifact", "version", "draft", "run", "mountpoint", "host", "pid", "user", "since"]
    );
    assert_eq!(
        (&lock["life"], &lock["purpose"], &lock["artifact"], &lock["run"], &lock["pid"]),
        (&"live".into(), &"put".into(), &"y".into(), &"slow run".into(), &child.id().into())
    );
    let id = lock["id"].as_str().unwrap();
    assert!(line.starts_with(&format!("{id}  live  put  y  ")), "{line}");
    // The beginning of an id is enough.
    assert_eq!(test_store.ok(&["locks", "--break", &id[..8]]), id);
    killed(&mut child);
    test_store.fails(&["locks", "--break", id], 6);
    test_store.fails(&["locks", "--break", "nonsense"], 2);
    test_store.fails(&["locks", "--break", ""], 2);
    // What a killed process of this host left goes when somebody looks.
    let mut child = test_store.cairn(&["put", "y", "big"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let seen = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        !test_store.ok(&["locks"]).is_empty()
    });
    killed(&mut child);
    assert!(seen);
    let output = test_store.run(&["locks"], 0);
    assert_eq!(
        (text(&output.stdout).as_str(), text(&output.stderr).contains("removed 1 lock")),
        ("", true),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(test_store.json(&["locks"]), serde_json::json!([]));
    assert_eq!(std::fs::read_dir(test_store.store_path().join("locks")).unwrap().count(), 0);
    assert_eq!(test_store.json(&["list"]).as_array().unwrap().len(), 1, "the killed put made nothing");
}

#[test]
fn a_sound_store_verifies_and_unknown_names_are_not_found() {
    let test_store = test_store();
    for args in [
        vec!["verify"],
        vec!["verify", "x"],
        vec!["verify", "x:v1"],
        vec!["verify", "--quick"],
        vec!["verify", "x:latest", "--quick"],
    ] {
        assert_eq!(test_store.ok(&args), "", "{args:?}");
        assert_eq!(test_store.json(&args)["findings"], serde_json::json!([]));
    }
    test_store.fails(&["verify", "y"], 6);
    test_store.fails(&["verify", "x:v7"], 6);
    test_store.fails(&["verify", "x:a/b"], 2);
}

#[test]
fn a_damaged_file_is_never_given_out() {
    let test_store = test_store();
    // Its content is not among the names in a manifest, which are in packs too.
    let content = b"the content to damage";
    make_tree(&test_store.path("more"), &[("f", content), ("n", b"right")]);
    test_store.ok(&["put", "y", "more"]);
    let place = |bytes: &[u8]| bytes.windows(content.len()).position(|w| w == content);
    let packs = crate::support::files(&test_store.path("store/packs"));
    let pack = packs.iter().find(|path| place(&std::fs::read(path).unwrap()).is_some()).unwrap();
    let mut bytes = std::fs::read(pack).unwrap();
    let at = place(&bytes).unwrap();
    bytes[at] ^= 1;
    std::fs::set_permissions(pack, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(pack, bytes).unwrap();
    assert!(test_store.fails(&["cat", "y", "f"], 4).contains("cairn verify"));
    test_store.fails(&["get", "y", "out"], 4);
    assert!(!test_store.path("out").exists(), "no half directory under the final name");
    assert_eq!(test_store.ok(&["cat", "y", "n"]), "right", "the rest can be read");
    assert!(text(&test_store.run(&["verify"], 1).stdout).contains("y:v0"));
}

#[test]
fn damage_is_found_named_with_a_code_and_what_it_affects_and_is_status_1() {
    let test_store = test_store();
    make_tree(&test_store.path("big"), &[("blob", &crate::support::random_bytes(4, 300_000))]);
    test_store.ok(&["put", "y", "big"]);
    let object = &crate::support::files(&test_store.path("store/objects"))[0];
    let mut bytes = std::fs::read(object).unwrap();
    let times = std::fs::metadata(object).unwrap();
    bytes[1000] ^= 1;
    std::fs::set_permissions(object, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(object, bytes).unwrap();
    std::fs::File::options()
        .write(true)
        .open(object)
        .unwrap()
        .set_times(std::fs::FileTimes::new().set_modified(times.modified().unwrap()))
        .unwrap();
    let out = test_store.run(&["verify"], 1);
    let stdout = text(&out.stdout);
    let code = stdout.split_whitespace().next().unwrap().to_owned();
    assert!(stdout.contains("y:v0"), "{stdout}");
    let findings = test_store.json_with(&["verify"], 1)["findings"].clone();
    assert_eq!(findings[0]["code"], code.as_str());
    assert!(findings[0]["what"].is_string() && !findings[0]["affects"].as_array().unwrap().is_empty(), "{findings}");
    test_store.run(&["verify", "y"], 1);
    test_store.run(&["verify", "x"], 0);
}
