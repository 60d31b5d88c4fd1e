//! A host that remembers that names do not exist, as an NFS client does for half a minute, although another host has
//! made them since. The names can be of directories too. `stalenames.c` plays such a host.

use crate::support::{TestStore, make_tree, shim, text};
use std::path::PathBuf;
use std::process::Output;

/// A store, and the other host.
struct Hosts {
    test_store: TestStore,
    shim: PathBuf,
}

impl Hosts {
    /// `None` where there is no C compiler.
    fn new() -> Option<Hosts> {
        let test_store = TestStore::new();
        let shim = shim(&test_store, "stalenames.c")?;
        for (file, content) in [("a", "a"), ("leaked", "l"), ("c", "c")] {
            std::fs::write(test_store.path(file), content).unwrap();
        }
        Some(Hosts { test_store, shim })
    }

    /// What the command does on a host that remembers that these names of the store are not there.
    fn without(&self, names: &[&str], args: &[&str]) -> Output {
        let names: Vec<_> = names
            .iter()
            .map(|n| self.test_store.store_path().join(n).display().to_string().trim_end_matches('/').to_owned())
            .collect();
        self.test_store.cairn(args).env("LD_PRELOAD", &self.shim).env("STALENAMES", names.join(":")).output().unwrap()
    }

    fn expect(&self, names: &[&str], args: &[&str], status: i32) -> String {
        let output = self.without(names, args);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{args:?} without {names:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout).trim_end().to_owned()
    }
}

#[test]
fn a_version_that_another_host_gave_an_alias_is_not_removed() {
    let Some(hosts) = Hosts::new() else { return };
    for (name, stale) in [("x", "artifacts/x/aliases"), ("y", "artifacts/y/aliases/keep"), ("z", "artifacts/z")] {
        hosts.test_store.ok(&["put", name, "a"]);
        hosts.test_store.ok(&["put", name, "c"]);
        hosts.test_store.ok(&["alias", &format!("{name}:v0"), "keep"]);
        hosts.expect(&[stale], &["rm", &format!("{name}:v0")], 3);
        assert_eq!(hosts.test_store.ok(&["cat", &format!("{name}:v0"), "a"]), "a");
    }
}

#[test]
fn a_version_that_another_host_removed_is_neither_patched_nor_read_nor_named() {
    let Some(hosts) = Hosts::new() else { return };
    hosts.test_store.ok(&["put", "x", "a"]);
    hosts.test_store.ok(&["patch", "x", "leaked"]);
    hosts.test_store.ok(&["rm", "x:v1"]);
    let stale = ["artifacts/x/removed"];
    for args in [
        &["cat", "x:v1", "leaked"][..],
        &["get", "x:v1", "out"],
        &["alias", "x:v1", "prod"],
        &["copy", "x:v1", "y"],
        &["rm", "x:v1"],
    ] {
        hosts.expect(&stale, args, 6);
    }
    assert!(hosts.expect(&stale, &["list", "x"], 0).lines().all(|l| !l.starts_with("v1")));
    assert_eq!(hosts.expect(&stale, &["patch", "x", "c"], 0), "x:v2");
    assert_eq!(hosts.test_store.ok(&["ls", "x:v2"]), "a\nc");
}

#[test]
fn a_contribution_of_another_host_is_finished() {
    let Some(hosts) = Hosts::new() else { return };
    for (name, stale) in [
        ("x", "artifacts/x"),
        ("y", "artifacts/y/drafts"),
        ("z", "artifacts/z/drafts/job"),
        ("w", "artifacts/w/drafts/job/log"),
    ] {
        hosts.test_store.ok(&["upsert", name, "a", "--distributed-id", "job", "--run", "r"]);
        assert_eq!(hosts.expect(&[stale], &["finish", name, "--distributed-id", "job"], 0), format!("{name}:v0"));
    }
}

#[test]
fn whatever_a_host_remembers_not_to_be_there_every_command_says_what_is_there() {
    let Some(hosts) = Hosts::new() else { return };
    make_tree(&hosts.test_store.path("d"), &[("f", b"f"), ("sub/g", b"g")]);
    hosts.test_store.ok(&["put", "x", "d"]);
    hosts.test_store.ok(&["put", "x", "d", "--tag", "later", "--description", "said later"]);
    hosts.test_store.ok(&["patch", "x", "a"]);
    hosts.test_store.ok(&["patch", "x", "c"]);
    hosts.test_store.ok(&["alias", "x:v0", "keep"]);
    hosts.test_store.ok(&["rm", "x:v1"]);
    hosts.test_store.ok(&["upsert", "x", "a", "--distributed-id", "job", "--run", "r"]);
    let names = [
        "",
        "cairn.json",
        "artifacts",
        "artifacts/x",
        "artifacts/x/artifact.json",
        "artifacts/x/versions",
        "artifacts/x/versions/v2",
        "artifacts/x/removed",
        "artifacts/x/removed/v1",
        "artifacts/x/aliases",
        "artifacts/x/aliases/keep",
        "artifacts/x/aliases/keep/000001",
        "artifacts/x/notes",
        "artifacts/x/notes/v0",
        "artifacts/x/notes/v0/000001",
        "artifacts/x/drafts",
        "artifacts/x/drafts/job",
        "artifacts/x/drafts/job/log",
        "artifacts/x/drafts/job/log/000001",
    ];
    let commands: [&[&str]; 8] = [
        &["list"],
        &["list", "x"],
        &["show", "x:keep"],
        &["show", "x"],
        &["cat", "x:v0", "f"],
        &["cat", "x:v1", "f"],
        &["drafts"],
        &["draft", "show", "x", "job"],
    ];
    for args in commands {
        let expected = hosts.test_store.cairn(args).output().unwrap();
        for name in names {
            let found = hosts.without(&[name], args);
            assert_eq!(
                (found.status, text(&found.stdout)),
                (expected.status, text(&expected.stdout)),
                "{args:?} without {name}: {}",
                text(&found.stderr)
            );
        }
    }
}

#[test]
fn a_version_that_is_listed_is_found_though_the_host_remembers_longer_that_it_was_not_there() {
    let Some(hosts) = Hosts::new() else { return };
    hosts.test_store.ok(&["put", "x", "a"]);
    hosts.test_store.ok(&["put", "x", "c"]);
    let store = hosts.test_store.store_path();
    let read = |name: &str, args: &[&str]| {
        let stale = store.join(name);
        let mut command = hosts.test_store.cairn(args);
        command.env("LD_PRELOAD", &hosts.shim).env("STALENAMES", stale).env("STALEOPENS", "5");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(read("artifacts/x/versions/v1", &["cat", "x:v1", "c"]), "c");
    read("artifacts/x/versions/v1", &["rm", "x:v1"]);
}

#[test]
fn a_file_system_on_which_names_do_not_differ_by_case_is_refused() {
    let Some(hosts) = Hosts::new() else { return };
    let output =
        hosts.test_store.cairn(&["init", "other"]).env("LD_PRELOAD", &hosts.shim).env("NOCASE", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("it lacks names that differ by case alone"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_dir(hosts.test_store.path("other")).unwrap().count(), 0, "what was tried is gone");
    hosts.test_store.ok(&["init", "other"]);
}
