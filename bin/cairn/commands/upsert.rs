//! `cairn upsert`

use super::put::{add_sources, describe, warn_of_sources};
use super::stdin::Given;
use crate::args::{self, Upsert};
use crate::errors::CommandResult;
use crate::output::{Context, count};
use crate::progress::human;
use crate::signals;
use cairn::commit::{Artifact, Run, RunOptions, UpsertOptions, Upserted};
use cairn::error::Error;
use cairn::staging::SealOptions;
use serde_json::json;

/// A run's contribution.
pub fn run(context: &mut Context, args: Upsert) -> CommandResult {
    let store = context.store()?;
    let mut artifact = Artifact::new(&args.name, args.words.kind.as_deref())?;
    describe(&mut artifact, &args.words)?;
    let run = Run::new(&store, options(&args.run))?;
    let id = args.distributed_id.as_deref();
    let draft = run.draft(artifact.name(), id)?; // without an id, nothing is read first
    if args.sources.is_empty() {
        if let Some(option) = args.from.said() {
            return Err(Error::usage(format!("{option} says what is done with SRC, and there is none"))
                .with_hint("say SRC too; without, what the run has in its staging directory is sealed as it is")
                .into());
        }
        return super::stage::seal_of_run(
            context,
            &draft,
            run.id(),
            &SealOptions { words: Some(&artifact), replace: args.replace, ..SealOptions::default() },
        );
    }
    context.if_interrupted("no contribution was recorded; the complete files in the store are kept: run the same upsert again, and it stores only the rest");
    signals::install_handlers();
    let bar = context.bar("upsert");
    let given = Given::of(&args.sources, &args.from)?;
    // A stream may take hours: meanwhile `finish` and a second process of this run must see that the run is at work.
    let begun = given.has_stream().then(|| run.begin_upsert(&artifact, id)).transpose()?;
    add_sources(&mut artifact, &store, &given, &args.from, &bar.progress())?;
    signals::cancel_on_interrupt(bar.progress());
    let options = UpsertOptions { replace: args.replace, progress: bar.progress(), ..UpsertOptions::default() };
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
        context.out.json(&json!({ "artifact": artifact, "distributed_id": distributed_id, "run": run, "files": files, "bytes": bytes }))?;
    } else {
        context.out.line(&format!("{artifact} {distributed_id} {run}"))?;
        context.out.flush()?;
    }
    context.status(&format!("{}, {}; {} new in the store", count(*files, "file"), human(*bytes), human(*new)));
    Ok(0)
}

/// What is said of the run.
pub fn options(said: &args::Run) -> RunOptions {
    RunOptions { id: said.run.clone(), group: said.group.clone(), job_type: said.job_type.clone() }
}
