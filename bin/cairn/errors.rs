//! How a command ends when it does not end well: `error:`, its causes, `hint:`; JSON under `--json`; the exit status.

use cairn::error::Error;
use serde_json::json;
use std::io::Write;
use std::process::ExitCode;

/// Why a command stops.
#[derive(Debug)]
pub enum Failure {
    /// It failed.
    Failed(Error),
    /// Nobody reads stdout any more: no error.
    PipeClosed,
}

/// What a command gives: its exit status.
pub type CommandResult = std::result::Result<u8, Failure>;

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Failed(e)
    }
}

impl Failure {
    /// Tells the user, and gives the exit status.
    pub fn report(&self, json: bool) -> ExitCode {
        match self {
            Failure::PipeClosed => ExitCode::SUCCESS,
            Failure::Failed(e) => {
                let exit = e.kind().exit_status();
                print_error(e.message(), e.causes(), e.hint(), exit, json);
                ExitCode::from(exit)
            }
        }
    }
}

/// What the parser of the command line says: help and version go to stdout, the rest is a usage error in our own form.
pub fn of_parser(e: &clap::Error) -> ExitCode {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let json = json_wanted();
    if !e.use_stderr() {
        let _ = e.print(); // a closed pipe is no error
        return ExitCode::SUCCESS;
    }
    if matches!(e.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand) {
        if !json {
            eprintln!("{}", <crate::args::Cli as clap::CommandFactory>::command().render_help());
        }
        print_error(
            "no command is given",
            &[],
            Some("`cairn --help` lists them, `cairn demo` shows them at work"),
            2,
            json,
        );
        return ExitCode::from(2);
    }
    if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) =
        (e.kind(), e.get(ContextKind::InvalidSubcommand))
        && let Some(hint) = crate::synonyms::hint(word)
    {
        print_error(&format!("there is no command `{word}`"), &[], Some(hint), 2, json);
        return ExitCode::from(2);
    }
    let text = e.render().to_string();
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
    let hint = hint.unwrap_or_else(|| format!("`cairn{command} --help` has examples"));
    print_error(&message, &causes, Some(&hint), 2, json);
    ExitCode::from(2)
}

/// Whether the parser's tip leads somewhere: "to pass '-m' as a value, use '-- -m'" would make a file or a version of a
/// mistyped option, and a global option that is spelt alike has nothing to do with what was meant.
fn is_helpful(tip: &str) -> bool {
    !tip.contains("as a value") && !["'--store'", "'--json'", "'--quiet'"].iter().any(|global| tip.contains(global))
}

fn is_command(word: &str) -> bool {
    <crate::args::Cli as clap::CommandFactory>::command().find_subcommand(word).is_some()
}

/// Whether JSON was asked for on a command line that could not be parsed.
fn json_wanted() -> bool {
    std::env::args_os().skip(1).take_while(|a| a != "--").any(|a| a == "--json")
}

/// The one form of an error.
fn print_error(message: &str, causes: &[String], hint: Option<&str>, exit: u8, json: bool) {
    let text = if json {
        format!("{}\n", json!({ "error": message, "causes": causes, "hint": hint, "exit": exit }))
    } else {
        let mut text = format!("error: {message}\n");
        for cause in causes {
            text.push_str(&format!("  {cause}\n"));
        }
        if let Some(hint) = hint {
            text.push_str(&format!("hint: {hint}\n"));
        }
        text
    };
    let _ = std::io::stderr().lock().write_all(text.as_bytes()); // there is nobody else to tell
}
