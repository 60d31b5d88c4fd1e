//! `cairn completions`, `cairn manpages` and `cairn version`

use crate::cli::Cli;
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use cairn::error::Error;
use clap::Args;
use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// `cairn completions`
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// The text of `--help`.
pub const COMPLETIONS_HELP: Help = Help {
    description: &[
        "Prints a script that completes cairn's commands and options. For bash, zsh and fish it also completes the \
         names of artifacts, versions, aliases and drafts of the store that the command line uses.",
    ],
    examples: &[
        ("cairn completions bash > /etc/bash_completion.d/cairn", ""),
        ("cairn completions zsh > ~/.zfunc/_cairn", ""),
        ("cairn completions fish > ~/.config/fish/completions/cairn.fish", ""),
    ],
    exit: &[],
    json: "",
    list: None,
};

/// `cairn manpages`
#[derive(Args, Debug)]
pub struct ManpagesArgs {
    /// The directory to write to; it is made if it does not exist
    pub dir: PathBuf,
}

/// The text of `--help`.
pub const MANPAGES_HELP: Help = Help {
    description: &["Writes cairn.1, a page for each command, and cairnfs.8. Prints the files."],
    examples: &[("cairn manpages ./man", "`man -l man/cairn-put.1` shows one")],
    exit: &[],
    json: "{\"files\"}",
    list: None,
};

/// The text of `--help`.
pub const VERSION_HELP: Help = Help {
    description: &["`cairn --version` prints the same."],
    examples: &[("cairn version", "")],
    exit: &[],
    json: "{\"version\"}",
    list: None,
};

/// Prints a shell's completions.
pub fn completions(context: &mut Context, args: CompletionsArgs) -> CommandResult {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cairn", &mut text);
    context.out.bytes(with_names(args.shell, &String::from_utf8_lossy(&text)).as_bytes())?;
    Ok(0)
}

/// A script of clap's, which knows commands and options, with what completes names.
fn with_names(shell: Shell, script: &str) -> String {
    const ZSH: &str = include_str!("completions.zsh");
    match shell {
        Shell::Bash => format!("{script}{}", include_str!("completions.bash")),
        Shell::Fish => format!("{script}{}", include_str!("completions.fish")),
        Shell::Zsh => script.replacen("\n_cairn() {", "\n_cairn_words() {", 1).replacen(
            "\nif [ \"$funcstack[1]\"",
            &format!("{ZSH}if [ \"$funcstack[1]\""),
            1,
        ),
        _ => script.to_owned(),
    }
}

/// Prints the version of this program.
pub fn version(context: &mut Context) -> CommandResult {
    let version = env!("CARGO_PKG_VERSION");
    if context.json() {
        context.out.json(&json!({ "version": version }))?
    } else {
        context.out.line(&format!("cairn {version}"))?
    }
    Ok(0)
}

/// Writes the manual pages: `cairn.1`, one for each command, and `cairnfs.8`.
pub fn manpages(context: &mut Context, args: ManpagesArgs) -> CommandResult {
    std::fs::create_dir_all(&args.dir).map_err(|e| Error::io("create directory", &args.dir, e))?;
    let files = crate::manpages::write(&args.dir).map_err(|e| Error::io("write manual pages to", &args.dir, e))?;
    if context.json() {
        context.out.json(&json!({ "files": files.iter().map(|f| f.to_string_lossy()).collect::<Vec<_>>() }))?;
    } else {
        for file in &files {
            context.out.bytes(file.as_os_str().as_bytes())?;
            context.out.bytes(b"\n")?;
        }
    }
    Ok(0)
}
