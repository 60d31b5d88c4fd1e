//! `cairn`: the command line. It parses, calls the library, prints; the library has the logic of every command.

mod cairnfs_page;
#[path = "../cairnfs/texts.rs"]
mod cairnfs_texts;
mod cli;
mod commands;
mod complete;
mod errors;
mod help;
#[cfg(test)]
mod hint_tests;
mod manpages;
mod output;
mod progress;
mod signals;
mod synonyms;
mod times;
mod usage_errors;

use std::process::ExitCode;

/// A directory is held open at each level of a tree that is removed. No more than this: each level needs room on the
/// stack, too.
const OPEN_FILES: u64 = 4096;

fn main() -> ExitCode {
    if std::env::var_os("CAIRN_STORE").is_some_and(|dir| dir.is_empty()) {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::remove_var("CAIRN_STORE") }; // a script's unset variable is no choice of a store
    }
    cairn::internals::disk::umask_is_ours();
    cairn::internals::disk::raise_open_files_limit(OPEN_FILES);
    if let Some(words) = complete::words() {
        return complete::run(&words);
    }
    signals::watch();
    let cli = match cli::Cli::from_command_line() {
        Ok(cli) => cli,
        Err(e) => return errors::report_parser(&e),
    };
    let json = cli.global.json;
    let mut context = output::Context::new(cli.global);
    let result = commands::run(&mut context, cli.command).and_then(|status| match context.out.flush() {
        Ok(()) | Err(errors::Failure::PipeClosed) => Ok(status),
        Err(stop) => Err(stop),
    });
    match result {
        Ok(status) => ExitCode::from(status),
        Err(stop) => match (signals::received(), &stop) {
            (Some(status), errors::Failure::Failed(_)) => {
                signals::print_message();
                ExitCode::from(status)
            }
            _ => stop.report(json),
        },
    }
}
