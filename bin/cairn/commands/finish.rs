//! `cairn finish`

use super::put::{annotated, report};
use super::shared_args::ContentArgs;
use super::sources::{add_all_sources, warn_of_sources};
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use crate::signals;
use cairn::catalog::OnConflict;
use cairn::error::Result;
use cairn::internals::commit::{FinishOptions, Run};
use cairn::types::RunId;
use clap::{Args, ValueEnum};
use std::ffi::OsString;

/// `cairn finish`
#[derive(Args, Debug)]
pub struct FinishArgs {
    /// The artifact
    pub name: String,
    /// Files to add; they replace contributed files at the same paths
    #[arg(value_name = "SRC")]
    pub sources: Vec<OsString>,
    /// The draft's id, the same for all its runs [default: the value of --group]
    #[arg(long, value_name = "ID")]
    pub distributed_id: Option<String>,
    /// Require at least N contributing runs
    #[arg(long, value_name = "N", value_parser = count_from_one)]
    pub expect: Option<u64>,
    /// Require a contribution of this run (repeatable)
    #[arg(long = "expect-run", value_name = "RUN")]
    pub expect_runs: Vec<String>,
    /// Wait up to SECONDS for runs that are writing or expected; without it, check once
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<std::time::Duration>,
    /// What to do if two runs have different content at a path
    #[arg(long, value_enum, default_value_t = OnConflictArg::Refuse, value_name = "WHAT")]
    pub on_conflict: OnConflictArg,
    /// Finish without the files that runs are still writing or left open
    #[arg(long)]
    pub skip_open: bool,
    /// Where the files go, what is recorded about them, and the run.
    #[command(flatten)]
    pub content: ContentArgs,
}

/// What to do if two runs have different content at a path.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnConflictArg {
    /// List the paths and publish nothing
    Refuse,
    /// Take the content that was contributed last
    Latest,
}

/// A number of at least 1.
pub fn count_from_one(text: &str) -> std::result::Result<u64, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a number from 1".to_owned())
}

/// A number of seconds; fractions are allowed.
fn seconds(text: &str) -> std::result::Result<std::time::Duration, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    std::time::Duration::try_from_secs_f64(number).map_err(|e| e.to_string())
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Merges all contributions, and SRC, into one version and closes the draft: later contributions \
         with this id are refused. If the draft is finished already, the same version is printed again.",
        "If runs have different content at a path, or are still writing, finish lists them and publishes \
         nothing. --wait waits for runs that are writing and for those of --expect and --expect-run.",
    ],
    examples: &[
        ("cairn finish eval --distributed-id eval-7", "prints eval:v0"),
        ("cairn finish eval summary.json --distributed-id eval-7", "with a file of its own"),
        ("cairn finish eval --distributed-id job-99 --expect 64 --wait 600", ""),
        ("cairn finish eval --distributed-id eval-7 --on-conflict latest", ""),
    ],
    exit: &[(3, "refused: runs conflict, are still writing or are missing; nothing was published")],
    json: "{\"artifact\", \"version\", \"digest\", \"created\", \"files\", \"bytes\", \"new_bytes\"}",
    list: None,
};

/// All contributions become one version.
pub fn run(context: &mut Context, args: FinishArgs) -> CommandResult {
    let store = context.store()?;
    let mut artifact = annotated(&args.name, &args.content.annotations)?;
    let run = Run::new(&store, args.content.run.options())?;
    let draft = run.draft(artifact.name(), args.distributed_id.as_deref())?;
    context.if_interrupted("the finish was not acknowledged; run it again");
    signals::install_handlers();
    let bar = context.bar_with_waits("finish");
    add_all_sources(&mut artifact, &store, &args.sources, &args.content.source, &bar)?;
    let on_conflict = match args.on_conflict {
        OnConflictArg::Refuse => OnConflict::Refuse,
        OnConflictArg::Latest => OnConflict::Latest,
    };
    let expect_runs = args.expect_runs.iter().map(|run| RunId::parse(run)).collect::<Result<Vec<_>>>()?;
    let mut options = FinishOptions::default()
        .expect_runs(expect_runs)
        .skip_open(args.skip_open)
        .on_conflict(on_conflict)
        .progress(bar.progress());
    (options.expect, options.wait) = (args.expect, args.wait);
    // A group names the draft; a run without a name is not recorded as the finisher.
    let published = if run.is_named() {
        run.finish_artifact_with(&artifact, args.distributed_id.as_deref(), &options)?
    } else {
        draft.finish(&artifact, &options)?
    };
    let progress = bar.progress();
    drop(bar);
    warn_of_sources(&progress);
    if args.skip_open && published.created {
        for open in draft.open_runs()? {
            eprintln!("warning: not in {}: {open}; `cairn drafts --all` shows what it left", published.version);
        }
    }
    args.content.annotations.note_latest(context);
    report(context, &published, "already published as")
}
