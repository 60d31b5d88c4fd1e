//! The command line as a whole: the global options, and the parser with its help.

use crate::commands::{self, Command};
use crate::help::{self, Help};
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;
use std::path::PathBuf;

/// Versions of directories: immutable, content-addressed, mountable, on plain disk.
#[derive(Parser, Debug)]
#[command(name = "cairn", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &["A version is written NAME:vN, NAME:ALIAS, NAME:DIGEST (its first six digits or more), or NAME \
                    alone for the newest (NAME:latest). `cairn COMMAND --help` describes a command and shows \
                    examples."],
    examples: &[
        ("cairn init", "make a store in ./.cairn"),
        ("cairn put images ./photos", "make a version; prints images:v0"),
        ("cairn list images", "list the versions"),
        ("cairn mount /mnt/images images", "read the newest version as a directory"),
        ("cairn demo", "or watch all of it in a temporary store"),
    ],
    exit: &[(
        1,
        "the answer is no: diff found differences, verify damage, find nothing, access --check a wrong mode or owner",
    )],
    json: "",
    list: Some(("Terms", TERMS)),
};

/// What the summaries of the commands take for granted.
const TERMS: &[(&str, &str)] = &[
    ("store", "A directory on a local or shared disk with all that cairn keeps; there is no server"),
    ("artifact", "A name (a data set, a model) with a type and a series of versions: v0, v1, ..."),
    ("version", "An immutable tree of files and directories. Versions share equal content"),
    ("alias, tag", "An alias is a name for one version, and can be moved. A tag only describes a version"),
    ("run", "A process or job that makes or uses versions, by an id that you choose (--run, CAIRN_RUN)"),
    ("draft", "A version that several runs make together and that is not finished yet"),
    ("contribution", "The files that one run adds to a draft"),
    ("distributed id", "The id of a draft. All runs that contribute to it give the same one"),
    ("staging directory", "A writable directory for one run. Sealing it makes its files the run's contribution"),
];

/// Options that may be given before or after the command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// The store [default: the nearest .cairn, searched upwards from here]
    #[arg(long, global = true, env = "CAIRN_STORE", hide_env_values = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Print JSON; errors too, on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// No status messages: stdout has the results, stderr only warnings and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

impl Cli {
    /// Parses the command line of this process.
    ///
    /// # Errors
    /// What clap found wrong, or a request for help or for the version.
    pub fn from_command_line() -> Result<Cli, clap::Error> {
        let mut args: Vec<OsString> = std::env::args_os().collect();
        if args.len() == 3 && args[1] == "help" && ["-h", "--help", "help"].iter().any(|help| args[2] == *help) {
            args.pop(); // the help of `help` is the list of commands
        }
        // Help is slow to lay out: parse without it, and again with it if that fails.
        let matches = Cli::command().try_get_matches_from(&args).ok();
        matches.and_then(|matches| Cli::from_arg_matches(&matches).ok()).map_or_else(|| Cli::parse_with_help(&args), Ok)
    }

    fn parse_with_help(args: &[OsString]) -> Result<Cli, clap::Error> {
        let mut command = Cli::with_help();
        let matches = command.try_get_matches_from_mut(args)?;
        Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut command))
    }

    /// The parser, with the help of each command.
    pub fn with_help() -> clap::Command {
        help::dress(Cli::command(), &HELP, &commands::GROUPS, commands::help_of)
    }
}
