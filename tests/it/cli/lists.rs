//! `list` with filters and orders, times, colours, times to live, sources of copies, and completions.

use crate::crafted_stores::made_at;
use crate::support::{TestStore, make_tree, path_with_cairn, text};
use serde_json::{Value, json};
use std::process::Command;

fn put(test_store: &TestStore, name: &str, bytes: usize, more: &[&str]) {
    make_tree(&test_store.path("src"), &[("a", "x".repeat(bytes).as_bytes())]);
    test_store.ok(&[&["put", name, "src"], more].concat());
}

/// The first column.
fn names(test_store: &TestStore, args: &[&str]) -> Vec<String> {
    let all = test_store.ok(&[&["list"], args].concat());
    all.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

fn filled() -> TestStore {
    let test_store = TestStore::new();
    put(&test_store, "img-a", 10, &["--tag", "golden", "--alias", "prod"]);
    put(&test_store, "img-a", 500, &[]);
    put(&test_store, "img-b", 90, &["--type", "raw"]);
    put(&test_store, "words", 2000, &["--type", "raw"]);
    for (name, version, day) in [("img-a", "v0", 3), ("img-a", "v1", 5), ("img-b", "v0", 9), ("words", "v0", 1)] {
        made_at(&test_store.store_path(), name, version, &format!("2026-06-0{day}T12:00:00Z"));
    }
    test_store
}

#[test]
fn list_filters_and_orders_artifacts_and_versions() {
    let test_store = filled();
    assert_eq!(names(&test_store, &[]), ["img-a", "img-b", "words"]);
    assert_eq!(names(&test_store, &["img-*"]), ["img-a", "img-b"]);
    assert_eq!(names(&test_store, &["{words,img-?}", "--type", "raw"]), ["img-b", "words"]);
    assert_eq!(names(&test_store, &["--tag", "golden"]), ["img-a"]);
    assert_eq!(names(&test_store, &["--alias", "prod"]), ["img-a"]);
    assert_eq!(names(&test_store, &["--sort", "size"]), ["words", "img-a", "img-b"]);
    assert_eq!(names(&test_store, &["--sort", "created", "--limit", "2"]), ["img-b", "img-a"]);
    assert_eq!(names(&test_store, &["-n", "1"]), ["img-a"]);
    assert_eq!(names(&test_store, &["img-a", "--sort", "size"]), ["v1", "v0"]);
    assert_eq!(names(&test_store, &["img-a", "--tag", "golden"]), ["v0"]);
    assert_eq!(names(&test_store, &["img-a", "--alias", "prod"]), ["v0"]);
    assert_eq!(names(&test_store, &["img-a", "--alias", "none"]), [] as [&str; 0]);
    assert_eq!(names(&test_store, &["img-a", "--type", "raw"]), [] as [&str; 0]);
    assert_eq!(test_store.ok(&["list", "words"]).split_whitespace().nth(1), Some("2026-06-01T12:00:00Z"));
    let table = test_store.ok(&["list", "words", "--header"]);
    assert!(table.starts_with("VERSION  CREATED ") && table.lines().count() == 2, "{table}");
    assert!(test_store.ok(&["list", "--header"]).starts_with("NAME   TYPE     VERSIONS  LATEST "));
    let first = &test_store.json(&["list", "--sort", "size"])[0];
    assert_eq!((&first["bytes"], &first["created_at"]), (&json!(2000), &json!("2026-06-01T12:00:00Z")));
    for sort in [&[][..], &["--sort", "created"]] {
        let ids = test_store.json(&[&["list", "img-*", "--limit", "1"], sort].concat());
        assert_eq!(ids.as_array().unwrap().len(), 1, "{ids}");
    }
    assert_eq!(test_store.json(&["list", "nothing*"]), json!([]));
    test_store.fails(&["list", "a[", "--tag", "x"], 2);
    test_store.fails(&["list", "none"], 6);
}

#[test]
fn a_long_list_is_printed_in_parts_with_all_lines_in_order() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
    let store = cairn::Store::init(dir.path().join("store"), &cairn::InitOptions::default()).unwrap();
    for n in 0..1003 {
        let mut artifact = cairn::Artifact::new("x", None).unwrap();
        artifact.add_bytes("f", n.to_string()).unwrap();
        artifact.save(&store).unwrap();
    }
    let list = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.args(["list", "x"]).args(args).env("CAIRN_STORE", store.root());
        text(&command.output().unwrap().stdout)
    };
    let all = list(&[]);
    let numbers: Vec<_> = all.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert_eq!(numbers, (0..1003).map(|n| format!("v{n}")).collect::<Vec<_>>());
    // The first lines are printed before it is known that v1000 is wider than v999.
    let at_time = |line: &str| line.find("  20").unwrap();
    let lines: Vec<_> = all.lines().collect();
    assert_eq!((at_time(lines[999]), at_time(lines[1000])), (4, 5), "{}\n{}", lines[999], lines[1000]);
    assert_eq!(list(&["--limit", "1001"]).lines().count(), 1001);
    assert_eq!(list(&["--header"]).matches("VERSION").count(), 1);
    assert_eq!(list(&["--sort", "created"]).lines().count(), 1003);
    let json: Value = serde_json::from_str(&list(&["--json"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1003);
}

#[test]
fn times_are_relative_where_asked() {
    let test_store = filled();
    made_at(&test_store.store_path(), "words", "v0", "2001-01-01T00:00:00Z");
    for args in [&["list", "words"][..], &["list", "words*"], &["show", "words"], &["log", "words"]] {
        let shown = test_store.ok(&[args, &["--relative"]].concat());
        assert!(shown.contains(" years ago") && !shown.contains("2001"), "{args:?}: {shown}");
        assert!(test_store.ok(args).contains("2001-01-01T00:00:00Z"), "{args:?}");
    }
}

#[test]
fn colours_follow_the_environment() {
    let test_store = filled();
    make_tree(&test_store.path("src"), &[("a", b"y"), ("new", b"z")]);
    let out = |args: &[&str], env: &[(&str, &str)]| {
        let out = test_store.cairn(args).env_remove("NO_COLOR").envs(env.iter().copied()).output().unwrap();
        (text(&out.stdout), text(&out.stderr))
    };
    let diff = ["diff", "img-b", "./src"];
    assert_eq!(out(&diff, &[]).0, "M a\nA new\n");
    let force = ("CLICOLOR_FORCE", "1");
    assert_eq!(out(&diff, &[force]).0, "\u{1b}[33mM a\u{1b}[0m\n\u{1b}[32mA new\u{1b}[0m\n");
    assert_eq!(out(&diff, &[force, ("NO_COLOR", "1")]).0, "M a\nA new\n");
    assert_eq!(out(&diff, &[("CLICOLOR_FORCE", "0")]).0, "M a\nA new\n");
    assert!(!out(&["diff", "img-b", "./src", "--json"], &[force]).0.contains('\u{1b}'));
    assert!(out(&["show", "no"], &[force]).1.starts_with("\u{1b}[1;31merror:\u{1b}[0m there is no artifact no\n"));
    assert!(out(&["show", "no"], &[]).1.starts_with("error: "));
    assert!(out(&["show", "no", "--json"], &[force]).1.starts_with('{'));
}

#[test]
fn a_version_expires_only_by_rm_expired() {
    let test_store = filled();
    assert_eq!(test_store.json(&["annotate", "img-a:v0", "--ttl", "30d"])["ttl_seconds"], 30 * 86_400);
    test_store.ok(&["annotate", "img-a:v1", "--ttl", "36500d"]);
    let shown = test_store.json(&["show", "img-a:v0"]);
    assert_eq!((&shown["ttl_seconds"], &shown["expires_at"]), (&json!(2_592_000), &json!("2026-07-03T12:00:00Z")));
    assert!(test_store.ok(&["show", "img-a:v0"]).contains("expires:       2026-07-03T12:00:00Z"));
    test_store.ok(&["gc", "--min-age", "0"]);
    let out = test_store.json(&["rm", "img-a", "--expired"]);
    assert_eq!((&out["removed"], &out["kept"][1]["reasons"]), (&json!([]), &json!(["alias prod"])), "{out}");
    assert!(out["kept"][0]["reasons"][0].as_str().unwrap().starts_with("ttl ends in "), "{out}");
    test_store.ok(&["unalias", "img-a", "prod"]);
    test_store.ok(&["annotate", "img-a:v0", "--ttl", "none"]);
    assert_eq!(test_store.json(&["rm", "img-a", "--expired"])["kept"][1]["reasons"], json!(["no ttl"]));
    assert_eq!(test_store.json(&["show", "img-a:v0"])["ttl_seconds"], Value::Null);
    test_store.ok(&["annotate", "img-a:v0", "--ttl", "1h"]);
    let removed = json!([{ "artifact": "img-a", "version": "v0" }]);
    assert_eq!(test_store.json(&["rm", "img-a", "--expired", "--dry-run"])["removed"], removed);
    assert_eq!(test_store.json(&["rm", "img-a", "--expired", "--keep-last", "2"])["removed"], json!([]));
    assert_eq!(test_store.json(&["rm", "img-a", "--expired"])["removed"], removed);
    test_store.ok(&["annotate", "words", "--ttl", "1s"]);
    assert_eq!(
        test_store.json(&["rm", "words", "--expired"])["removed"].as_array().unwrap().len(),
        1,
        "also the last one"
    );
    for ttl in ["0", "3", "x", "-1d"] {
        test_store.fails(&["annotate", "img-a", &format!("--ttl={ttl}")], 2);
    }
    let log = test_store.ok(&["log", "img-a"]);
    assert!(log.contains("img-a:v0 expires 1h after it was made") && log.contains("img-a:v0 never expires"), "{log}");
    test_store.ok(&["verify"]);
}

#[test]
fn a_copy_knows_its_source_and_a_collaborative_version_its_contributions() {
    let test_store = filled();
    test_store.ok(&["copy", "img-a:v0", "release"]);
    let digest = test_store.json(&["show", "img-a:v0"])["digest"].as_str().unwrap().to_owned();
    let source = json!({ "artifact": "img-a", "version": "v0", "digest": digest });
    assert_eq!(test_store.json(&["show", "release"])["source"], source);
    assert!(test_store.ok(&["show", "release"]).contains(&format!("source:        img-a:v0@{digest}\n")));
    assert_eq!(test_store.json(&["show", "img-a:v0"])["source"], Value::Null);
    test_store.ok(&["init", "other", "-q"]);
    test_store.ok(&["copy", "img-a:v0", "release", "--to", "other"]);
    let id = test_store.json(&["info"])["id"].clone();
    assert_eq!(test_store.json(&["--store", "other", "show", "release"])["source"]["store_id"], id);
    for run in ["r1", "r2"] {
        make_tree(&test_store.path(run), &[(run, b"123")]);
        test_store.ok(&["upsert", "parts", run, "--distributed-id", "d", "--run", run]);
    }
    test_store.ok(&["finish", "parts", "--distributed-id", "d"]);
    let contributions = test_store.json(&["show", "parts"])["contributions"].clone();
    let of = |i: usize| (&contributions[i]["run"], &contributions[i]["files"], &contributions[i]["user"]["name"]);
    assert_eq!((of(0), of(1)), ((&json!("r1"), &json!(1), &json!("root")), (&json!("r2"), &json!(1), &json!("root"))));
    assert!(test_store.ok(&["show", "parts"]).contains("contribution:  run r1: 1 file, 3 B by root on "));
    test_store.ok(&["verify"]);
}

#[test]
fn stages_of_a_release_can_be_aliases() {
    let test_store = filled();
    test_store.ok(&["alias", "img-a:v1", "staging", "dev", "prod"]);
    assert_eq!(test_store.json(&["show", "img-a:staging"])["version"], "v1");
}

/// What is completed after these words, the last one unfinished.
fn completed(test_store: &TestStore, words: &[&str]) -> String {
    test_store.ok(&[&["__complete"], words].concat()).replace('\n', " ")
}

#[test]
fn names_are_completed() {
    let test_store = filled();
    test_store.ok(&["upsert", "parts", "src", "--distributed-id", "day-1", "--run", "r"]);
    for (words, expected) in [
        (&["list", ""][..], "img-a img-b parts words"),
        (&["get", "im"], "img-a img-b"),
        (&["get", "img-a:"], "img-a:latest img-a:prod img-a:v1 img-a:v0"),
        (&["get", "img-a:v"], "img-a:v1 img-a:v0"),
        (&["diff", "img-a:v0", "img-a:p"], "img-a:prod"),
        (&["rm", "img-a:v0", "wo"], "words"),
        (&["diff", "-", "img-a", ""], ""),
        (&["alias", "img-a:v0", "p"], "prod"),
        (&["draft", "show", "parts", ""], "day-1"),
        (&["finish", "parts", "--distributed-id", ""], "day-1"),
        (&["-q", "find", "x", "--artifact", "w"], "words"),
        (&["put", "words", ""], ""),
        (&["put", "words", "--run", ""], ""),
        (&["get", "--f"], ""),
        (&["get", "none:"], "none:latest"),
        (&["--store", "nowhere", "get", ""], ""),
        (&[""], ""),
        (&[], ""),
    ] {
        assert_eq!(completed(&test_store, words), expected, "{words:?}");
    }
}

/// [`filled`], with a draft.
fn with_draft() -> TestStore {
    let test_store = filled();
    test_store.ok(&["upsert", "parts", "src", "--distributed-id", "day-1", "--run", "r"]);
    test_store
}

/// A shell in which `cairn` is this build, on the store.
fn shell(test_store: &TestStore, shell: &str, args: &[&str]) -> Command {
    let mut command = Command::new(shell);
    command
        .args(args)
        .current_dir(test_store.dir.path())
        .env("CAIRN_STORE", test_store.store_path())
        .env("PATH", path_with_cairn())
        .env("HOME", test_store.dir.path())
        .env("TERM", "dumb");
    command
}

/// Whether a shell is installed; says so if not.
fn has(shell: &str) -> bool {
    let found = Command::new(shell).arg("--version").output().is_ok();
    if !found {
        println!("skipped: {shell} is not installed");
    }
    found
}

/// zsh in a pseudo-terminal: each line is typed with a Tab and run, and the arguments that `cairn` gets are printed.
#[test]
fn zsh_completes_names_versions_aliases_drafts_options_and_commands() {
    if !has("zsh") {
        return;
    }
    let test_store = with_draft();
    make_tree(&test_store.path("functions"), &[("_cairn", test_store.ok(&["completions", "zsh"]).as_bytes())]);
    let script = r#"
        zmodload zsh/zpty
        zpty shell zsh -f -i
        answer() {
            local all= out=
            while [[ $all != *${~1}* ]]; do zpty -r shell out || break; all+=$out; done
            print -r -- $all
        }
        zpty -w shell "PS1='' RPS1=''; fpath=($PWD/functions \$fpath); autoload -Uz compinit; compinit -u -D"
        zpty -w shell 'cairn() { if [[ $1 == __complete ]]; then command cairn "$@"; else print -r "GOT<""$*>"; fi }'
        zpty -w shell 'print REA""DY'
        answer READY >/dev/null
        for line in "$@"; do zpty -w -n shell "$line"$'\t\n'; answer 'GOT<*>'; done
        zpty -d shell
    "#;
    let lines = [
        "cairn get wo",
        "cairn get img-a:v1",
        "cairn get words:v",
        "cairn alias img-a:v0 p",
        "cairn draft show parts d",
    ];
    let lines = [&lines[..], &["cairn linea", "cairn get --pru"]].concat();
    let mut command = shell(&test_store, "timeout", &["60", "zsh", "-f", "-c", script, "zsh"]);
    let out = command.args(&lines).output().unwrap();
    let printed = text(&out.stdout);
    let got: Vec<&str> = printed.split("GOT<").skip(1).map(|rest| rest.split('>').next().unwrap()).collect();
    let expected = ["get words", "get img-a:v1", "get words:v0", "alias img-a:v0 prod", "draft show parts day-1"];
    assert_eq!(got, [&expected[..], &["lineage", "get --prune"]].concat(), "{printed}\n{}", text(&out.stderr));
}

#[test]
fn fish_completes_names_versions_aliases_drafts_options_and_commands() {
    if !has("fish") {
        return;
    }
    let test_store = with_draft();
    make_tree(&test_store.path(""), &[("c.fish", test_store.ok(&["completions", "fish"]).as_bytes())]);
    for (typed, expected) in [
        ("cairn get im", "img-a img-b"),
        ("cairn get img-a:", "img-a:latest img-a:prod img-a:v0 img-a:v1"),
        ("cairn alias img-a:v0 p", "prod"),
        ("cairn draft show parts ", "day-1"),
        ("cairn linea", "lineage"),
        ("cairn get --pru", "--prune"),
        ("cairn put words sr", "src/"),
    ] {
        let script = format!("source c.fish; complete -C '{typed}'");
        let out = shell(&test_store, "fish", &["--no-config", "-c", &script]).output().unwrap();
        let found: Vec<String> =
            text(&out.stdout).lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect();
        assert_eq!(found.join(" "), expected, "{typed}: {}", text(&out.stderr));
    }
}

#[test]
fn the_bash_script_completes_names_options_and_commands() {
    let test_store = with_draft();
    std::fs::write(test_store.path("cairn.bash"), test_store.run(&["completions", "bash"], 0).stdout).unwrap();
    let script = r#"
        . ./cairn.bash
        try() {
            COMP_LINE=$1 COMP_POINT=${#1}
            read -ra COMP_WORDS <<< "${1//:/ : }"
            [[ $1 == *[[:space:]:] ]] && COMP_WORDS+=("")
            COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )) COMPREPLY=()
            _cairn_with_names cairn "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            echo "${COMPREPLY[*]}"
        }
        try "cairn get img"
        try "cairn get img-a:v"
        try "cairn alias img-a:v0 p"
        try "cairn draft show parts "
        try "cairn linea"
        try "cairn get --pru"
    "#;
    let out = shell(&test_store, "bash", &["--norc", "-c", script]).output().unwrap();
    let expected = "img-a img-b\nv1 v0\nprod\nday-1\nlineage\n--prune\n";
    assert_eq!(text(&out.stdout), expected, "{}", text(&out.stderr));
}
