//! Help, and errors of the command line's parser, in the form of all of cairn's errors: cairn and cairnfs use both.

use crate::help;
use std::io::{IsTerminal, Write};

/// The parts of an error: message, causes, hint.
pub type Parts = (String, Vec<String>, String);

/// Whether output is coloured: on a terminal, unless `NO_COLOR`, `CLICOLOR=0` or `TERM=dumb` is set; elsewhere if
/// `CLICOLOR_FORCE` is set and not 0. `NO_COLOR` counts first.
pub fn is_coloured(terminal: bool) -> bool {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if variable("NO_COLOR").is_some() {
        return false;
    }
    let is = |name, text: &str| variable(name).is_some_and(|value| value == text);
    if variable("CLICOLOR_FORCE").is_some() && !is("CLICOLOR_FORCE", "0") {
        return true;
    }
    terminal && !is("CLICOLOR", "0") && !is("TERM", "dumb")
}

/// Prints help or the version to stdout.
pub fn print_help(e: &clap::Error) {
    let mut out = std::io::stdout().lock();
    let styled = e.render();
    let coloured = is_coloured(out.is_terminal());
    let text = if coloured { styled.ansi().to_string() } else { styled.to_string() };
    let _ = out.write_all(help::finish(&text).as_bytes()); // a closed pipe is not an error
}

/// An error of the parser about `command`, taken apart: clap prints paragraphs.
pub fn in_our_form(text: &str, command: &str) -> Parts {
    let (mut message, mut causes, mut hint) = (String::new(), Vec::new(), None);
    for paragraph in text.split("\n\n").map(str::trim).filter(|p| !p.is_empty()) {
        if let Some(rest) = paragraph.strip_prefix("error: ") {
            message = rest.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        } else if let Some(usage) = paragraph.strip_prefix("Usage: ") {
            causes.push(format!("usage: {}", usage.replace(" --store <DIR>", ""))); // it may come from CAIRN_STORE
        } else if let Some(tip) = paragraph.strip_prefix("tip: ") {
            hint = tip.lines().next().filter(|tip| is_helpful(tip, &message)).map(str::to_owned);
        } else if paragraph.starts_with('[') {
            causes.push(paragraph.trim_matches(['[', ']']).to_owned());
        }
    }
    let known = || known_mistake(command, &message).map(str::to_owned);
    let hint = hint.or_else(known).unwrap_or_else(|| format!("`{command} --help` has examples"));
    (message, causes, hint)
}

/// What is meant by an option that a command of the same name has in another tool.
fn known_mistake(command: &str, message: &str) -> Option<&'static str> {
    let is_to = ["'--to'", "'--target'", "'-t'"].iter().any(|option| message.contains(option));
    (command == "cairn restore" && is_to).then_some("`cairn get NAME:V DIR` writes a version's files to a directory")
}

/// Whether the parser's tip is useful. "to pass '-m' as a value, use '-- -m'" would turn a mistyped option into a file
/// or a version, and a global option that is spelt alike has nothing to do with what was meant. `--no-x` is the
/// opposite of `--x`.
fn is_helpful(tip: &str, message: &str) -> bool {
    let option = |text: &str| text.split('\'').find(|part| part.starts_with("--")).map(str::to_owned);
    let is_opposite = match (option(tip), option(message)) {
        (Some(tip), Some(given)) => tip.starts_with("--no-") != given.starts_with("--no-"),
        _ => false,
    };
    let is_global = ["'--store'", "'--json'", "'--quiet'"].iter().any(|global| tip.contains(global));
    !tip.contains("as a value") && !is_global && !is_opposite
}

#[cfg(test)]
mod tests {
    use super::is_helpful;

    #[test]
    fn the_opposite_of_an_option_is_not_proposed() {
        let message = "unexpected argument '--seal' found";
        assert!(!is_helpful("a similar argument exists: '--no-seal'", message));
        assert!(is_helpful("a similar argument exists: '--no-seal'", "unexpected argument '--no-sael' found"));
        assert!(is_helpful("a similar argument exists: '--skip-open'", "unexpected argument '--skip-opne' found"));
        assert!(!is_helpful("to pass '-m' as a value, use '-- -m'", "unexpected argument '-m' found"));
    }
}
