//! The commands in hints and messages can be copied into a shell: names, ids and paths in them are quoted.

use crate::support::{TestStore, make_tree, text};
use std::process::Command;

/// The text that the command prints to stderr.
fn said(test_store: &TestStore, args: &[&str], status: i32) -> String {
    text(&test_store.run(args, status).stderr)
}

/// Runs the command that `said` has in backquotes and that begins so, in a shell, with `replace` in it replaced.
fn run_command_of(test_store: &TestStore, said: &str, begin: &str, replace: &[(&str, &str)]) {
    let quoted = said.split('`').skip(1).step_by(2).find(|command| command.starts_with(begin));
    let mut line = quoted.unwrap_or_else(|| panic!("no `{begin}…` in {said}")).to_owned();
    for (from, to) in replace {
        assert!(line.contains(from), "{line}");
        line = line.replace(from, to);
    }
    let cairn = test_store.cairn(&[]);
    let mut shell = Command::new("bash");
    shell.current_dir(test_store.dir.path());
    shell.args(["-c", &format!("cairn() {{ '{}' \"$@\"; }}; {line}", cairn.get_program().to_str().unwrap())]);
    for (name, value) in cairn.get_envs() {
        match value {
            Some(value) => drop(shell.env(name, value)),
            None => drop(shell.env_remove(name)),
        }
    }
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
}

#[test]
fn a_command_in_a_hint_runs_as_it_is_printed_also_with_names_that_a_shell_splits() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a dir/it's", b"1"), ("b", b"2")]);
    test_store.ok(&["put", "im", "d"]);
    test_store.ok(&["alias", "im:v0", "x y", "it's $HOME"]);
    let refused = said(&test_store, &["rm", "im:v0"], 3);
    run_command_of(&test_store, &refused, "cairn unalias", &[]);
    assert_eq!(test_store.json(&["show", "im:v0"])["aliases"], serde_json::json!(["latest"]));

    test_store.ok(&["alias", "im:v0", "a b"]);
    make_tree(&test_store.path("d"), &[("c", b"3")]);
    test_store.ok(&["put", "im", "d"]);
    test_store.ok(&["rm", "im:v0", "--force"]);
    let restored = said(&test_store, &["restore", "im:v0"], 0);
    run_command_of(&test_store, &restored, "cairn alias", &[]);
    assert_eq!(test_store.ok(&["ls", "im:a b", "b"]), "b");

    let directory = said(&test_store, &["cat", "im", "a dir"], 2);
    run_command_of(&test_store, &directory, "cairn ls", &[]);
    let missing = said(&test_store, &["ls", "im", "a dir/none"], 6);
    run_command_of(&test_store, &missing, "cairn ls", &[]);

    let none = said(&test_store, &["finish", "im", "--distributed-id", "id 1"], 6);
    run_command_of(&test_store, &none, "cairn upsert", &[("SRC", "d")]);
    test_store.ok(&["draft", "discard", "im", "id 1"]);
    let empty = said(&test_store, &["finish", "im", "--distributed-id", "id 1"], 6);
    run_command_of(&test_store, &empty, "cairn upsert", &[("SRC", "d")]);
    assert_eq!(test_store.ok(&["finish", "im", "--distributed-id", "id 1"]), "im:v1");
}
