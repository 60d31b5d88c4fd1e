//! The names that shells complete: `cairn __complete WORD…`, which the scripts of `cairn completions` call. It prints
//! what can complete the last argument, and nothing if no store is found or something fails.

use crate::cli::Cli;
use cairn::Store;
use cairn::catalog::{alias, draft};
use cairn::error::Result;
use cairn::internals::catalog::{artifact, version};
use cairn::types::ArtifactName;
use clap::{Arg, Command, CommandFactory};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The words after `__complete`, if this process was called so.
pub fn words() -> Option<Vec<String>> {
    let mut args = std::env::args_os().skip(1);
    let is_completion = args.next()? == "__complete";
    is_completion.then(|| args.map(|word| word.to_string_lossy().into_owned()).collect())
}

/// Prints the candidates for the last argument, each on a line.
pub fn run(words: &[String]) -> ExitCode {
    let mut out = std::io::stdout().lock();
    for candidate in candidates(words).unwrap_or_default() {
        if !candidate.contains(char::is_whitespace) && writeln!(out, "{candidate}").is_err() {
            break; // the shell is gone
        }
    }
    ExitCode::SUCCESS
}

/// What may be completed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Artifacts,
    Versions,
    Aliases,
    Drafts,
}

/// What was typed before the last argument.
struct Typed<'a> {
    command: &'a Command,
    store: Option<PathBuf>,
    positionals: Vec<&'a str>,
    /// The option whose value is typed now.
    option: Option<&'a Arg>,
}

fn candidates(words: &[String]) -> Result<Vec<String>> {
    let cli = Cli::command();
    let Some((last, before)) = words.split_last() else { return Ok(Vec::new()) };
    let typed = Typed::parse(&cli, before);
    let Some(kind) = typed.kind(last) else { return Ok(Vec::new()) };
    let store = Store::open(Store::find(typed.store.as_deref())?)?;
    let named = typed.positionals.first().map(|first| first.split(':').next().unwrap_or_default());
    let all = match (kind, last.split_once(':'), named) {
        (Kind::Versions, Some((name, _)), _) => versions(&store, &ArtifactName::parse(name)?)?,
        (Kind::Artifacts | Kind::Versions, _, _) => {
            artifact::all_with_drafts(&store)?.iter().map(ToString::to_string).collect()
        }
        (Kind::Aliases, _, Some(name)) => {
            alias::readable(&store, &ArtifactName::parse(name)?)?.0.iter().map(|(alias, _)| alias.to_string()).collect()
        }
        (Kind::Drafts, _, Some(name)) => {
            let drafts = draft::all(&store, &ArtifactName::parse(name)?)?;
            drafts.into_iter().filter_map(|draft| Some(draft.ok()?.id().to_string())).collect()
        }
        _ => Vec::new(),
    };
    Ok(all.into_iter().filter(|candidate| candidate.starts_with(last.as_str())).collect())
}

/// `NAME:latest`, `NAME:ALIAS` and `NAME:vN`, the newest version first.
fn versions(store: &Store, name: &ArtifactName) -> Result<Vec<String>> {
    let aliases = alias::readable(store, name)?.0.into_iter().map(|(alias, _)| format!("{name}:{alias}"));
    let numbers = version::live_numbers(store, name)?.into_iter().rev().map(|number| format!("{name}:{number}"));
    Ok(std::iter::once(format!("{name}:latest")).chain(aliases).chain(numbers).collect())
}

impl<'a> Typed<'a> {
    fn parse(cli: &'a Command, words: &'a [String]) -> Typed<'a> {
        let mut typed = Typed { command: cli, store: None, positionals: Vec::new(), option: None };
        for word in words {
            if let Some(option) = typed.option.take() {
                typed.value(option, word);
            } else if let Some(option) = word.strip_prefix("--") {
                let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
                let arg = typed.options(cli).find(|arg| arg.get_long() == Some(name));
                match (arg, value) {
                    (Some(arg), Some(value)) => typed.value(arg, value),
                    (Some(arg), None) if arg.get_action().takes_values() => typed.option = Some(arg),
                    _ => {}
                }
            } else if let Some(letter) = word.strip_prefix('-').and_then(|letters| letters.chars().last()) {
                let arg = typed.options(cli).find(|arg| arg.get_short() == Some(letter));
                typed.option = arg.filter(|arg| arg.get_action().takes_values());
            } else if let Some(sub) = typed.command.find_subcommand(word).filter(|_| typed.positionals.is_empty()) {
                typed.command = sub;
            } else {
                typed.positionals.push(word);
            }
        }
        typed
    }

    fn options(&self, cli: &'a Command) -> impl Iterator<Item = &'a Arg> + use<'a> {
        self.command.get_arguments().chain(cli.get_arguments()).filter(|arg| !arg.is_positional())
    }

    fn value(&mut self, option: &Arg, value: &str) {
        if option.get_long() == Some("store") {
            self.store = Some(PathBuf::from(value));
        }
    }

    /// What the last argument is.
    fn kind(&self, last: &str) -> Option<Kind> {
        if let Some(option) = self.option {
            return match option.get_long()? {
                "artifact" => Some(Kind::Artifacts),
                "alias" => Some(Kind::Aliases),
                "distributed-id" => Some(Kind::Drafts),
                _ => None,
            };
        }
        if last.starts_with('-') {
            return None;
        }
        let all: Vec<&Arg> = self.command.get_positionals().collect();
        let arg = all.get(self.positionals.len()).or_else(|| all.last().filter(|arg| takes_many(arg)))?;
        match arg.get_value_names()?.first()?.as_str() {
            "NAME" | "NAME|PATTERN" => Some(Kind::Artifacts),
            "ALIAS" => Some(Kind::Aliases),
            "ID" => Some(Kind::Drafts),
            "A" => Some(Kind::Versions),
            "B" if !last.starts_with(['.', '/']) => Some(Kind::Versions),
            name if name.starts_with("NAME:") || name.starts_with("NAME[:") => Some(Kind::Versions),
            _ => None,
        }
    }
}

fn takes_many(arg: &Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Append)
}
