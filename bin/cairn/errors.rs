//! How a failed command ends: `error:`, its causes and `hint:`, or JSON under `--json`; and the exit status.

use crate::cli::Cli;
use crate::help;
use crate::output::colour;
use crate::synonyms;
use crate::usage_errors::{Parts, in_our_form, is_coloured, print_help};
use cairn::error::{Error, ErrorReport, shell_word};
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Why a command stops.
#[derive(Debug)]
pub enum Failure {
    /// It failed.
    Failed(Error),
    /// The reader of stdout has closed it. This is not an error.
    PipeClosed,
}

/// The exit status of a command.
pub type CommandResult = std::result::Result<u8, Failure>;

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Failed(e)
    }
}

impl Failure {
    /// Prints the error and returns the exit status.
    pub fn report(&self, json: bool) -> ExitCode {
        match self {
            Failure::PipeClosed => ExitCode::SUCCESS,
            Failure::Failed(e) => {
                print_error(e, json);
                ExitCode::from(e.kind().exit_status())
            }
        }
    }
}

/// Ends a command line that could not be parsed: help and version go to stdout, the rest is a usage error.
pub fn report_parser(e: &clap::Error) -> ExitCode {
    if !e.use_stderr() {
        print_help(e);
        return ExitCode::SUCCESS;
    }
    let json = json_wanted();
    let (message, causes, hint) = match (e.kind(), e.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand, _) => no_command(json),
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(name))) => unknown_command(name),
        _ => in_our_form(&e.render().to_string(), &command()),
    };
    let e = causes.iter().fold(Error::usage(message), Error::with_cause).with_hint(hint);
    print_error(&e, json);
    ExitCode::from(e.kind().exit_status())
}

/// A name after `cairn`, or after a command that has subcommands, that is not one.
fn unknown_command(name: &str) -> Parts {
    let cli = Cli::command();
    let before = std::env::args().skip(1).take_while(|arg| arg != name);
    let parent = before.filter(|arg| cli.find_subcommand(arg).is_some()).last();
    let command = parent.as_ref().map_or_else(|| "cairn".to_owned(), |parent| format!("cairn {parent}"));
    let message = match &parent {
        Some(_) => format!("`{command}` has no subcommand `{name}`"),
        None => format!("there is no command `{name}`"),
    };
    let advice = synonyms::advice(&cli, parent.as_deref(), name).or_else(|| {
        let id = std::env::args().skip_while(|arg| arg != name).nth(1).filter(|id| !id.starts_with('-'))?;
        (parent.as_deref() == Some("draft"))
            .then(|| format!("`cairn draft show {} {}` shows a draft", shell_word(name), shell_word(id)))
    });
    (message, Vec::new(), advice.unwrap_or_else(|| format!("`{command} --help` lists the commands")))
}

/// Nothing after `cairn`, or nothing after a command that has subcommands.
fn no_command(json: bool) -> Parts {
    let cli = Cli::command();
    let Some(parent) = std::env::args().skip(1).find_map(|a| cli.find_subcommand(a)) else {
        if !json {
            eprintln!("{}", help::finish(&Cli::with_help().render_help().to_string()));
        }
        let hint = "`cairn --help` lists the commands, `cairn demo` shows them at work";
        return ("no command is given".into(), Vec::new(), hint.into());
    };
    let subcommands: Vec<&str> = parent.get_subcommands().map(clap::Command::get_name).collect();
    let name = parent.get_name();
    let message = format!("`cairn {name}` needs a subcommand: {}", subcommands.join(", "));
    (message, Vec::new(), format!("`cairn {name} --help` describes them; `cairn drafts` lists the drafts"))
}

/// The command of this process's command line, as users call it.
fn command() -> String {
    let name = std::env::args().skip(1).find(|a| is_command(a));
    name.map_or_else(|| "cairn".into(), |name| format!("cairn {name}"))
}

fn is_command(name: &str) -> bool {
    Cli::command().find_subcommand(name).is_some()
}

/// Whether JSON was asked for on a command line that could not be parsed.
fn json_wanted() -> bool {
    std::env::args_os().skip(1).take_while(|a| a != "--").any(|a| a == "--json")
}

/// An error's text, with its first words in colour if stderr has colours.
fn coloured(text: String) -> String {
    if !is_coloured(std::io::stderr().is_terminal()) {
        return text;
    }
    let mark = |line: &str, word: &str, colour: u8| {
        line.strip_prefix(word).map(|rest| format!("\x1b[1;{colour}m{word}\x1b[0m{rest}\n"))
    };
    let line = |line: &str| {
        mark(line, "error:", colour::RED)
            .or_else(|| mark(line, "hint:", colour::CYAN))
            .unwrap_or_else(|| format!("{line}\n"))
    };
    text.lines().map(line).collect()
}

/// Prints an error to stderr: `error:`, its causes, `hint:`, or under `--json` one JSON object.
fn print_error(e: &Error, json: bool) {
    let report = ErrorReport::from(e);
    let text = if json {
        serde_json::to_string(&report).expect("strings and numbers always serialise") + "\n"
    } else {
        coloured(report.to_text())
    };
    let _ = std::io::stderr().lock().write_all(text.as_bytes()); // there is no other place to report it
}
