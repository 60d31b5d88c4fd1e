//! `cairn copy`

use super::put::{annotated, report, say_what_is_kept};
use super::shared_args::{AnnotationArgs, RunArgs};
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use crate::signals;
use cairn::Store;
use cairn::internals::commit::{self, SaveOptions};
use clap::Args;
use std::path::PathBuf;

/// `cairn copy`
#[derive(Args, Debug)]
pub struct CopyArgs {
    /// The version to copy
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// The artifact that gets the copy
    #[arg(value_name = "NEWNAME")]
    pub name: String,
    /// The store that gets the copy [default: the same store]
    #[arg(long, value_name = "STORE")]
    pub to: Option<PathBuf>,
    /// Type, aliases, tags, description, metadata.
    #[command(flatten)]
    pub annotations: AnnotationArgs,
    /// The run that makes it.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Copies one version, its content and its type. The copy's aliases, tags, description and metadata are \
         those given here. Within a store only a record is written; to another store, the content that is not there \
         yet is copied.",
        "To copy a whole store, with all names and annotations, use contrib/backup.sh of cairn's source tree, or \
         `cp -a` while nothing writes to it.",
    ],
    examples: &[
        ("cairn copy model:v7 model-released", "promote or rename"),
        ("cairn copy model:v3 model", "roll back: v3's content becomes the newest version"),
        ("cairn copy images:prod images --to /backup/store", "copy only what is missing there"),
    ],
    exit: &[],
    json: "{\"artifact\", \"version\", \"digest\", \"created\", \"files\", \"bytes\", \"new_bytes\"}",
    list: None,
};

/// Makes a version of a version's content.
pub fn run(context: &mut Context, args: CopyArgs) -> CommandResult {
    let source = context.version(&args.version)?;
    let artifact = annotated(&args.name, &args.annotations)?;
    let store = args.to.as_deref().map_or_else(|| Ok(source.store().clone()), Store::open)?;
    let run = args.run.run_if_given(&store)?;
    say_what_is_kept(context, "copy");
    let bar = context.bar("copy");
    signals::cancel_on_interrupt(bar.progress());
    let mut options = SaveOptions::default().note_run(args.run.run.is_some()).progress(bar.progress());
    options.run = run.as_ref().map(|r| r.record().clone());
    let published = commit::copy(&store, &source, &artifact, &options)?;
    drop(bar);
    report(context, &published, "nothing changed since")
}
