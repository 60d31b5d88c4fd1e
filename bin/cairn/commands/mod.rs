//! The commands, a file for one or for a few of a kind. Each parses its words, calls the library and prints.

mod alias;
mod copy;
mod demo;
mod diff;
mod draft;
mod entry;
mod finish;
mod get;
mod init;
mod list;
mod locks;
mod ls;
mod mount;
mod mounts;
mod patch;
mod put;
mod rm;
mod shell;
mod show;
mod stage;
mod stdin;
mod upsert;
mod verify;

use crate::args::Command;
use crate::errors::CommandResult;
use crate::output::Context;

/// Runs one command; its exit status.
pub fn run(context: &mut Context, command: Command) -> CommandResult {
    match command {
        Command::Init(args) => init::run(context, args),
        Command::Put(args) => put::run(context, *args),
        Command::Upsert(args) => upsert::run(context, *args),
        Command::Finish(args) => finish::run(context, *args),
        Command::Drafts(args) => draft::list(context, args),
        Command::Draft(args) => draft::run(context, args),
        Command::Patch(args) => patch::run(context, *args),
        Command::Copy(args) => copy::run(context, *args),
        Command::List(args) => list::run(context, args),
        Command::Ls(args) => ls::ls(context, args),
        Command::Cat(args) => ls::cat(context, args),
        Command::Show(args) => show::run(context, args),
        Command::Get(args) => get::run(context, args),
        Command::Diff(args) => diff::run(context, args),
        Command::Verify(args) => verify::run(context, args),
        Command::Locks(args) => locks::run(context, args),
        Command::Rm(args) => rm::run(context, args),
        Command::Alias(args) => alias::alias(context, args),
        Command::Unalias(args) => alias::unalias(context, args),
        Command::Mount(args) => mount::mount(context, *args),
        Command::Mounts => mounts::run(context),
        Command::Seal(args) => stage::seal(context, args),
        Command::Umount(args) => mount::umount(context, args),
        Command::Demo(args) => demo::run(context, args),
        Command::Completions(args) => shell::completions(context, args),
        Command::Manpages(args) => shell::manpages(context, args),
        Command::Version => shell::version(context),
    }
}
