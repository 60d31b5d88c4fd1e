//! `cairnfs STORE MNT [-o options]`: mounts a store, a version or a run's staging directory, from the command line,
//! mount(8) or fstab.

#[allow(dead_code)] // cairn uses the rest
#[path = "../cairn/help.rs"]
mod help;
mod options;
mod texts;
#[path = "../cairn/usage_errors.rs"]
mod usage_errors;

use cairn::Store;
use cairn::catalog::resolve;
use cairn::catalog::{Draft, RunRecord};
use cairn::error::{Error, ErrorReport, Result};
use cairn::fuse::staging::{StagingOptions, mount_staging};
use cairn::fuse::{Guard, Io, MountOptions, VersionView, mount_store, mount_version};
use cairn::internals::manifest::NodeRef;
use cairn::manifest::Tree;
use cairn::staging::{Resume, Stage};
use cairn::types::Digest;
use clap::{CommandFactory, FromArgMatches, Parser};
use options::What;
use std::path::PathBuf;
use std::process::ExitCode;

/// Mount a cairn store or one version of it, read-only, or the staging directory of a run, writable
#[derive(Parser)]
#[command(name = "cairnfs", version)]
struct Arguments {
    /// The directory of the store
    store: PathBuf,
    /// The mount point, an empty directory
    mnt: PathBuf,
    /// Mount options, separated by commas, as in /etc/fstab, such as version=NAME:V,allow_other; `--help` lists them.
    /// Repeatable
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,
}

fn main() -> ExitCode {
    cairn::internals::disk::umask_is_ours();
    let done = match parse() {
        Err(e) if !e.use_stderr() => {
            usage_errors::print_help(&e);
            Ok(())
        }
        Err(e) => Err(usage_error(&e)),
        Ok(arguments) => run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprint!("{}", ErrorReport::from(&e).to_text());
            ExitCode::from(e.kind().exit_status())
        }
    }
}

fn parse() -> std::result::Result<Arguments, clap::Error> {
    let width = help::width();
    let mut command = texts::HELP.dress(Arguments::command().term_width(width), "cairnfs", width);
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Arguments::from_arg_matches(&matches).map_err(|e| e.format(&mut command))
}

fn usage_error(e: &clap::Error) -> Error {
    let (message, causes, hint) = usage_errors::in_our_form(&e.render().to_string(), "cairnfs");
    causes.iter().fold(Error::usage(message), Error::with_cause).with_hint(hint)
}

fn run(arguments: &Arguments) -> Result<()> {
    let (what, options) = options::parse(&arguments.options)?;
    // The daemon opens the store by itself, because locks and files of this process end with it.
    let root = Store::open(&arguments.store)?.root().to_path_buf();
    match what {
        What::Store => mount_store(&root, &arguments.mnt, &options),
        What::Version(spec) => mount_version(
            |at| VersionView::of(&resolve(&Store::open(&root)?, &spec)?, at),
            &root,
            &arguments.mnt,
            &options,
        ),
        What::Stage(name, id, run) => {
            let open = || {
                let record = RunRecord { id: run, group: None, job_type: None };
                Stage::open(&Draft::new(&Store::open(&root)?, &name, &id), &record, None, Resume::Continue)
            };
            mount_staging(open, &root, &arguments.mnt, &staging(&options))
        }
        What::Tree(digest, time) => {
            mount_version(|_| open_tree(&Store::open(&root)?, digest, time), &root, &arguments.mnt, &options)
        }
    }
}

/// The options that also apply to a staging directory.
fn staging(options: &MountOptions) -> StagingOptions {
    let mut staging = StagingOptions::default()
        .run_mode(options.run_mode)
        .passthrough(options.io != Io::NoOpen)
        .allow_other(options.allow_other)
        .execution(options.execution)
        .threads(options.threads);
    staging.log = options.log.clone();
    staging
}

/// Opens a tree by the digest of its root, without a version record: a version whose record is damaged can be read this
/// way.
fn open_tree(store: &Store, digest: Digest, time: i64) -> Result<(VersionView, Guard)> {
    let objects = store.objects().clone();
    let tree = Tree::open(NodeRef::from(digest), objects.clone())?;
    Ok((VersionView { tree, objects, commit_time: time, label: format!("tree {}", &digest.hex()[..12]) }, Box::new(())))
}
