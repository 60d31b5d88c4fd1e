//! `cairn finish`

use super::put::{add_sources, describe, report, warn_of_sources};
use super::stdin::Given;
use super::upsert::options;
use crate::args::{self, Finish};
use crate::errors::CommandResult;
use crate::output::Context;
use crate::signals;
use cairn::catalog::OnConflict;
use cairn::commit::{Artifact, FinishOptions, Run};
use cairn::error::Result;
use cairn::types::RunId;

/// All contributions become one version.
pub fn run(context: &mut Context, args: Finish) -> CommandResult {
    let store = context.store()?;
    let mut artifact = Artifact::new(&args.name, args.words.kind.as_deref())?;
    describe(&mut artifact, &args.words)?;
    let run = Run::new(&store, options(&args.run))?;
    let draft = run.draft(artifact.name(), args.distributed_id.as_deref())?;
    context.if_interrupted("the finish was not acknowledged; run it again");
    signals::install_handlers();
    let bar = context.bar("finish");
    add_sources(&mut artifact, &store, &Given::of(&args.sources, &args.from)?, &args.from, &bar.progress())?;
    signals::cancel_on_interrupt(bar.progress());
    let options = FinishOptions {
        expect: args.expect,
        expect_runs: args.expect_runs.iter().map(|run| RunId::parse(run)).collect::<Result<_>>()?,
        wait: args.wait,
        skip_open: args.skip_open,
        on_conflict: match args.on_conflict {
            args::OnConflict::Refuse => OnConflict::Refuse,
            args::OnConflict::Latest => OnConflict::Latest,
        },
        progress: bar.progress(),
    };
    // A group says which draft; a run that nobody named finished nothing.
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
    report(context, &published, "no new version, this is")
}
