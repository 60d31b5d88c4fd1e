//! `cairn upsert`

use super::put::{add_sources, describe};
use crate::args::{self, Upsert};
use crate::errors::Done;
use crate::output::{Context, count};
use crate::progress::human;
use crate::signals;
use cairn::commit::{Artifact, Run, RunOptions, UpsertOptions};
use serde_json::json;

/// A run's contribution.
pub fn run(context: &mut Context, args: Upsert) -> Done {
    let store = context.store()?;
    let mut artifact = Artifact::new(&args.name, args.words.kind.as_deref())?;
    describe(&mut artifact, &args.words)?;
    let run = Run::new(&store, options(&args.run))?;
    let id = args.distributed_id.as_deref();
    run.draft(artifact.name(), id)?; // without an id, nothing is read first
    context.if_interrupted("nothing was acknowledged; what reached the store is kept, and the same upsert again stores only the rest");
    signals::be_gentle();
    let bar = context.bar("upsert");
    add_sources(&mut artifact, &args.sources, &args.from)?;
    signals::stop_gently(bar.progress());
    let done = run.upsert_artifact_with(&artifact, id, &UpsertOptions { replace: args.replace, progress: bar.progress() })?;
    drop(bar);
    let draft = &done.draft;
    if context.json() {
        context.out.json(&json!({ "artifact": draft.artifact(), "distributed_id": draft.id(), "run": done.run, "files": done.files, "bytes": done.bytes }))?;
    } else {
        context.out.line(&format!("{} {} {}", draft.artifact(), draft.id(), done.run))?;
        context.out.flush()?;
    }
    context.talk(&format!("{}, {}; {} new in the store", count(done.files, "file"), human(done.bytes), human(done.new_bytes)));
    Ok(0)
}

/// What is said of the run.
pub fn options(said: &args::Run) -> RunOptions {
    RunOptions { id: said.run.clone(), group: said.group.clone(), job_type: said.job_type.clone() }
}
