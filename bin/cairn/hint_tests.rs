//! Messages and hints name commands and options that exist.

use crate::cli::Cli;
use clap::{Command, CommandFactory};
use std::path::Path;

/// The source text of the library and of this program, without comments and tests, and with string
/// literals joined.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["src", "bin/cairn"].iter().flat_map(|dir| walkdir::WalkDir::new(root.join(dir)));
    let files = files.map(Result::unwrap).filter(|file| file.path().extension().is_some_and(|e| e == "rs"));
    let files = files.filter(|file| file.file_name() != "hint_tests.rs");
    files
        .map(|file| (file.path().display().to_string(), joined(&std::fs::read_to_string(file.path()).unwrap())))
        .collect()
}

fn joined(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with("//")).collect();
    code.join("\n").replace("\\\n", "")
}

/// What is wrong with `cairn ARGUMENTS`.
fn fault(cli: &Command, arguments: &str) -> Option<String> {
    let mut words = arguments.split_whitespace();
    let name = words.next()?;
    if name.starts_with(['-', '{']) || name == "COMMAND" || name == "help" {
        return None;
    }
    let Some(mut command) = cli.find_subcommand(name) else { return Some(format!("there is no command {name}")) };
    for word in words {
        let Some(option) = word.strip_prefix("--").filter(|option| !option.is_empty()) else {
            command = command.find_subcommand(word).unwrap_or(command);
            continue;
        };
        let option = option.split(['=', '{']).next().unwrap_or_default().trim_end_matches([',', '.', ')']);
        let known = [command, cli].iter().any(|c| c.get_arguments().any(|a| a.get_long() == Some(option)));
        if !known && option != "help" {
            return Some(format!("{name} has no option --{option}"));
        }
    }
    None
}

#[test]
fn commands_named_in_messages_exist_with_their_options() {
    let cli = Cli::command();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (file, text) in sources() {
        for rest in text.split("`cairn ").skip(1) {
            let Some((arguments, _)) = rest.split_once('`') else { continue };
            count += 1;
            wrong.extend(fault(&cli, arguments).map(|why| format!("{file}: `cairn {arguments}`: {why}")));
        }
    }
    assert!(count > 50, "{count} mentions were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    let cli = Cli::command();
    assert!(fault(&cli, "prune --dry-run").is_some());
    assert!(fault(&cli, "put NAME --no-such").is_some());
    assert_eq!(fault(&cli, "draft drop NAME ID --run R --json"), None);
}
