//! How a failed command ends: `error:`, its causes and `hint:`, or JSON under `--json`; and the exit status.

use crate::cli::Cli;
use crate::help;
use crate::synonyms;
use cairn::error::{Error, ErrorReport};
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
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(name))) if synonyms::hint(name).is_some() => {
            (format!("there is no command `{name}`"), Vec::new(), synonyms::hint(name).unwrap_or_default().to_owned())
        }
        _ => in_our_form(&e.render().to_string()),
    };
    let e = causes.iter().fold(Error::usage(message), Error::with_cause).with_hint(hint);
    print_error(&e, json);
    ExitCode::from(e.kind().exit_status())
}

fn print_help(e: &clap::Error) {
    let mut out = std::io::stdout().lock();
    let styled = e.render();
    let plain = !out.is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let text = if plain { styled.to_string() } else { styled.ansi().to_string() };
    let _ = out.write_all(help::finish(&text).as_bytes()); // a closed pipe is not an error
}

/// The parts of an error: message, causes, hint.
type Parts = (String, Vec<String>, String);

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

/// An error of the parser, taken apart: clap prints paragraphs.
fn in_our_form(text: &str) -> Parts {
    let (mut message, mut causes, mut hint) = (String::new(), Vec::new(), None);
    for paragraph in text.split("\n\n").map(str::trim).filter(|p| !p.is_empty()) {
        if let Some(rest) = paragraph.strip_prefix("error: ") {
            message = rest.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        } else if let Some(usage) = paragraph.strip_prefix("Usage: ") {
            causes.push(format!("usage: {}", usage.replace(" --store <DIR>", ""))); // it may come from CAIRN_STORE
        } else if let Some(tip) = paragraph.strip_prefix("tip: ") {
            hint = tip.lines().next().filter(|tip| is_helpful(tip)).map(str::to_owned);
        } else if paragraph.starts_with('[') {
            causes.push(paragraph.trim_matches(['[', ']']).to_owned());
        }
    }
    let command = std::env::args().skip(1).find(|a| is_command(a)).map(|c| format!(" {c}")).unwrap_or_default();
    (message, causes, hint.unwrap_or_else(|| format!("`cairn{command} --help` has examples")))
}

/// Whether the parser's tip is useful. "to pass '-m' as a value, use '-- -m'" would turn a mistyped option into a file
/// or a version, and a global option that is spelt alike has nothing to do with what was meant.
fn is_helpful(tip: &str) -> bool {
    !tip.contains("as a value") && !["'--store'", "'--json'", "'--quiet'"].iter().any(|global| tip.contains(global))
}

fn is_command(name: &str) -> bool {
    Cli::command().find_subcommand(name).is_some()
}

/// Whether JSON was asked for on a command line that could not be parsed.
fn json_wanted() -> bool {
    std::env::args_os().skip(1).take_while(|a| a != "--").any(|a| a == "--json")
}

/// Prints an error to stderr: `error:`, its causes, `hint:`, or under `--json` one JSON object.
fn print_error(e: &Error, json: bool) {
    let report = ErrorReport::from(e);
    let text = if json {
        serde_json::to_string(&report).expect("strings and numbers always serialise") + "\n"
    } else {
        report.to_text()
    };
    let _ = std::io::stderr().lock().write_all(text.as_bytes()); // there is no other place to report it
}
