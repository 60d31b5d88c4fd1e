//! Help, and errors of the command line's parser, in the form of all of cairn's errors: cairn and cairnfs use both.

use crate::help;
use std::io::{IsTerminal, Write};

/// The parts of an error: message, causes, hint.
pub type Parts = (String, Vec<String>, String);

/// Prints help or the version to stdout.
pub fn print_help(e: &clap::Error) {
    let mut out = std::io::stdout().lock();
    let styled = e.render();
    let plain = !out.is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let text = if plain { styled.to_string() } else { styled.ansi().to_string() };
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
            hint = tip.lines().next().filter(|tip| is_helpful(tip)).map(str::to_owned);
        } else if paragraph.starts_with('[') {
            causes.push(paragraph.trim_matches(['[', ']']).to_owned());
        }
    }
    (message, causes, hint.unwrap_or_else(|| format!("`{command} --help` has examples")))
}

/// Whether the parser's tip is useful. "to pass '-m' as a value, use '-- -m'" would turn a mistyped option into a file
/// or a version, and a global option that is spelt alike has nothing to do with what was meant.
fn is_helpful(tip: &str) -> bool {
    !tip.contains("as a value") && !["'--store'", "'--json'", "'--quiet'"].iter().any(|global| tip.contains(global))
}
