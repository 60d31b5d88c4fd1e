//! The commands as a user meets them: the real binary, its stdout, its stderr, its exit status.

mod admin_commands;
mod cli_conventions;
mod demo;
mod diff;
mod folding;
mod get;
mod hint_commands;
mod history;
mod inspection;
mod lineage;
mod lists;
mod mount;
mod patch;
mod put;
mod read;
mod removal;
mod reports;
mod sources;
mod stdin;
mod wrong_use;

use crate::support::{TestStore, text};
use serde_json::Value;

impl TestStore {
    /// Runs with `--json` and success; the document on each line.
    fn json_lines(&self, args: &[&str]) -> Vec<Value> {
        let out = self.run(&[args, &["--json"]].concat(), 0).stdout;
        text(&out).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    /// Expects failure with that status, nothing on stdout, and an error in its form; gives stderr.
    fn fails(&self, args: &[&str], status: i32) -> String {
        let out = self.run(args, status);
        let stderr = text(&out.stderr);
        assert!(stderr.starts_with("error: "), "cairn {args:?}: {stderr}");
        assert!(out.stdout.is_empty(), "cairn {args:?}: {}", text(&out.stdout));
        stderr
    }

    /// The name, type, number of versions and latest version of each artifact.
    fn artifacts(&self) -> Vec<String> {
        let listed = self.ok(&["list"]);
        listed.lines().map(|line| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ")).collect()
    }

    /// Expects that nothing is visible in the store.
    fn expect_nothing(&self) {
        assert_eq!(self.ok(&["list"]), "", "something is visible after bad input");
    }

    fn str(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}
