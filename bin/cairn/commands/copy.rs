//! `cairn copy`

use super::put::{describe, report, run_of};
use crate::args::Copy;
use crate::errors::CommandResult;
use crate::output::Context;
use crate::signals;
use cairn::Store;
use cairn::commit::{self, Artifact, SaveOptions};

/// Makes a version of a version's content.
pub fn run(context: &mut Context, args: Copy) -> CommandResult {
    let source = context.version(&args.version)?;
    let mut artifact = Artifact::new(&args.name, args.words.kind.as_deref())?;
    describe(&mut artifact, &args.words)?;
    let store = args.to.as_deref().map_or_else(|| Ok(source.store().clone()), Store::open)?;
    let run = run_of(&store, &args.run)?;
    context.if_interrupted("no version was published; the complete files in the store are kept: run the same copy again, and it copies only the rest");
    let bar = context.bar("copy");
    signals::cancel_on_interrupt(bar.progress());
    let options = SaveOptions {
        run: run.as_ref().map(|r| r.record().clone()),
        note_run: args.run.run.is_some(),
        progress: bar.progress(),
        ..SaveOptions::default()
    };
    let published = commit::copy(&store, &source, &artifact, &options)?;
    drop(bar);
    report(context, &published, "nothing changed since")
}
