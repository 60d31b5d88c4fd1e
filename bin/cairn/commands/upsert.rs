//! `cairn upsert`

use super::put::annotated;
use super::shared_args::ContentArgs;
use super::sources::{add_sources, warn_of_sources};
use super::stdin::SourceList;
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::{Context, count};
use crate::progress::human;
use crate::signals;
use cairn::error::Error;
use cairn::internals::commit::{Run, UpsertOptions, Upserted};
use cairn::staging::SealOptions;
use clap::Args;
use serde_json::json;
use std::ffi::OsString;

/// `cairn upsert`
#[derive(Args, Debug)]
pub struct UpsertArgs {
    /// The artifact
    pub name: String,
    /// Directories, files, - for stdin, SCHEME://... for a reference; without SRC, seal the run's staging directory
    #[arg(value_name = "SRC")]
    pub sources: Vec<OsString>,
    /// The draft's id, the same for all its runs [default: the value of --group]
    #[arg(long, value_name = "ID")]
    pub distributed_id: Option<String>,
    /// Replace all that this run contributed before
    #[arg(long)]
    pub replace: bool,
    /// Where the files go, what is recorded about them, and the run.
    #[command(flatten)]
    pub content: ContentArgs,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "A draft is a version that many runs make together. Any number of runs, on any number of hosts, contribute \
         files to it at the same time, all with the same --distributed-id. `cairn finish` makes the version of all \
         contributions.",
        "A later upsert of the same run adds to its earlier ones: a file replaces the one that the run contributed at \
         the same path. With --replace it replaces all of them. Without --run, each \
         upsert is a run of its own, and counts again if it is repeated. Each run may have one writing process at a \
         time. Without SRC, the files in the run's staging directory become its contribution.",
    ],
    examples: &[
        ("cairn upsert eval image1.png --distributed-id eval-7 --run rank-1", "prints eval eval-7 rank-1"),
        ("cairn upsert eval out/ --at rank-3 --run rank-3 --group job-99", "the id is the group: job-99"),
        ("cairn upsert eval fixed/ --run rank-3 --distributed-id eval-7", "replaces rank-3's files at these paths"),
        ("cairn finish eval --distributed-id eval-7", "makes the version"),
    ],
    exit: &[(3, "refused: the draft is finished, or another process of the run is writing")],
    json: "{\"artifact\", \"distributed_id\", \"run\", \"files\", \"bytes\"}",
    list: None,
};

/// Says which id a run got that was given none.
pub(super) fn say_if_unnamed(context: &Context, run: &Run) {
    if !run.is_named() {
        let id = run.id();
        context.status(&format!("no --run is given: this is run {id}; the same command again counts as another run"));
    }
}

/// A run's contribution.
pub fn run(context: &mut Context, args: UpsertArgs) -> CommandResult {
    let store = context.store()?;
    let mut artifact = annotated(&args.name, &args.content.annotations)?;
    let run = Run::new(&store, args.content.run.options())?;
    say_if_unnamed(context, &run);
    let id = args.distributed_id.as_deref();
    let draft = run.draft(artifact.name(), id)?; // without an id, nothing is read first
    if args.sources.is_empty() {
        if let Some(option) = args.content.source.first_given() {
            return Err(Error::usage(format!("{option} applies to SRC, but no SRC is given"))
                .with_hint(
                    "name the files to contribute; without SRC, the staging directory of the run is sealed as it is",
                )
                .into());
        }
        let options = SealOptions::default().annotations(&artifact).replace(args.replace);
        return super::stage::seal_of_run(context, &draft, run.id(), options);
    }
    context.if_interrupted(
        "no contribution was recorded; the complete files in the store are kept: run the same \
     upsert again, and it stores only the rest",
    );
    signals::install_handlers();
    let bar = context.bar("upsert");
    let given = SourceList::split(&args.sources, &args.content.source)?;
    // A stream may take hours: meanwhile `finish` and a second process of this run must see that the run is at work.
    let begun = given.has_stream().then(|| run.begin_upsert(&artifact, id)).transpose()?;
    add_sources(&mut artifact, &store, &given, &args.content.source, &bar.progress())?;
    signals::cancel_on_interrupt(bar.progress());
    let options = UpsertOptions::default().replace(args.replace).progress(bar.progress());
    let done = match begun {
        Some(begun) => begun.save(&artifact, &options)?,
        None => run.upsert_artifact_with(&artifact, id, &options)?,
    };
    let progress = bar.progress();
    drop(bar);
    warn_of_sources(&progress);
    report(context, &Contributed::of(&done))
}

/// What was contributed, by this process or a mount's daemon.
pub struct Contributed {
    /// The artifact.
    pub artifact: String,
    /// The draft's id.
    pub distributed_id: String,
    /// The run.
    pub run: String,
    /// Files, bytes, and bytes that were not in the store before.
    pub counts: (u64, u64, u64),
}

impl Contributed {
    /// From the library's answer.
    pub fn of(done: &Upserted) -> Contributed {
        let counts = (done.files, done.bytes, done.new_bytes);
        Contributed {
            artifact: done.draft.artifact().to_string(),
            distributed_id: done.draft.id().to_string(),
            run: done.run.to_string(),
            counts,
        }
    }
}

/// Prints it.
pub fn report(context: &mut Context, done: &Contributed) -> CommandResult {
    let Contributed { artifact, distributed_id, run, counts: (files, bytes, new) } = done;
    if context.json() {
        context
            .out
            .json(&json!({ "artifact": artifact, "distributed_id": distributed_id, "run": run, "files": files,
        "bytes": bytes }))?;
    } else {
        context.out.line(&format!("{artifact} {distributed_id} {run}"))?;
        context.out.flush()?;
    }
    context.status(&format!("{}, {}; {} new in the store", count(*files, "file"), human(*bytes), human(*new)));
    Ok(0)
}
