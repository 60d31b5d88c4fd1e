//! The manual pages: made of the same texts as `--help`, and one for cairnfs(8).

use crate::cairnfs_page;
use crate::cli::{self, Cli};
use crate::commands::help_of;
use crate::help::Help;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io::{Result, Write};
use std::path::{Path, PathBuf};

/// Writes all pages into `dir`, and returns their paths in order.
///
/// # Errors
/// A file cannot be written.
pub fn write(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let mut files = vec![write_page(dir, &cli, &cli::HELP)?];
    for command in cli.get_subcommands() {
        write_below(dir, command, command.get_name(), &mut files)?;
    }
    let page = dir.join("cairnfs.8");
    std::fs::write(&page, cairnfs_page::render()?)?;
    files.push(page);
    files.sort();
    Ok(files)
}

fn write_below(dir: &Path, command: &Command, path: &str, files: &mut Vec<PathBuf>) -> Result<()> {
    if let Some(help) = help_of(path) {
        files.push(write_page(dir, command, help)?);
    }
    for below in command.get_subcommands() {
        write_below(dir, below, &format!("{path} {}", below.get_name()), files)?;
    }
    Ok(())
}

fn write_page(dir: &Path, command: &Command, help: &Help) -> Result<PathBuf> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let file = dir.join(format!("{name}.1"));
    let mut page = Vec::new();
    let man = Man::new(command.clone().subcommand_help_heading("COMMANDS"));
    title(&name, 1, &mut page)?;
    man.render_name_section(&mut page)?;
    paragraphs("SYNOPSIS", &[usage(command).as_str()]).to_writer(&mut page)?;
    paragraphs("DESCRIPTION", help.description).to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    sections(help).to_writer(&mut page)?;
    see_also(&name, &mut page)?;
    std::fs::write(&file, page)?;
    Ok(file)
}

/// The first line of a page. It has no date: the same sources give the same page.
pub fn title(name: &str, section: u8, page: &mut Vec<u8>) -> Result<()> {
    writeln!(page, ".TH {name} {section} \"\" \"cairn {}\" \"cairn manual\"", env!("CARGO_PKG_VERSION"))
}

/// `cairn put [OPTIONS] <NAME> <SRC>...`
fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage:").trim().to_owned()
}

/// A section of paragraphs.
pub fn paragraphs(title: &str, texts: &[&str]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (i, text) in texts.iter().enumerate() {
        if i > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(*text)]);
    }
    roff
}

/// A section of terms and their meanings.
pub fn terms<'a>(title: &str, terms: impl IntoIterator<Item = (String, &'a str)>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (term, meaning) in terms {
        roff.control("TP", []);
        roff.text([bold(term)]);
        roff.text([roman(meaning)]);
    }
    roff
}

/// Examples: comments are paragraphs, commands are not filled.
pub fn examples(all: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for (command, does) in all {
        roff.control("PP", []);
        if !does.is_empty() {
            roff.text([roman(capitalized(does))]);
        }
        for (name, arguments) in [("RS", &["4"][..]), ("nf", &[])] {
            roff.control(name, arguments.iter().copied());
        }
        roff.text([roman(*command)]);
        roff.control("fi", []);
        roff.control("RE", []);
    }
    roff
}

/// A comment as a sentence before its example.
fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}:", chars.as_str())
}

/// The sections after the options.
pub fn sections(help: &Help) -> Roff {
    let mut roff = Roff::new();
    if let Some((title, list)) = help.list {
        roff.extend([terms(&title.to_uppercase(), list.iter().map(|(term, meaning)| ((*term).to_owned(), *meaning)))]);
    }
    roff.extend([examples(help.examples)]);
    roff.extend([terms(
        "EXIT STATUS",
        help.exit_statuses().into_iter().map(|(code, meaning)| (code.to_string(), meaning)),
    )]);
    if !help.json.is_empty() {
        roff.extend([paragraphs("JSON", &help.json.lines().collect::<Vec<_>>())]);
    }
    roff
}

fn see_also(name: &str, page: &mut Vec<u8>) -> Result<()> {
    page.write_all(b".SH \"SEE ALSO\"\n")?;
    let others = if name == "cairn" { "cairnfs(8)" } else { "cairn(1), cairnfs(8)" };
    writeln!(page, "{others}")
}
