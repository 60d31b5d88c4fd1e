//! `cairn fetch`

use super::put::{annotate, publish, report, say_what_is_kept};
use super::shared_args::{AnnotationArgs, RunArgs};
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::{Context, count};
use crate::signals;
use cairn::internals::commit::SaveOptions;
use clap::Args;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// `cairn fetch`
#[derive(Args, Debug)]
pub struct FetchArgs {
    /// The version whose references are fetched
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// Only the reference at this path, or those below it
    #[arg(long, value_name = "PATH")]
    pub path: Option<OsString>,
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
        "Reads references from their sources and stores their content. The next version has files in their place. \
         Each must be what was recorded; if one changed or is missing, nothing is published.",
        "It is a patch of the version: if a newer one exists, it is rebased on that. If there are no references, no \
         version is made.",
    ],
    examples: &[
        ("cairn fetch corpus", "all references of the newest version; prints corpus:v1"),
        ("cairn fetch corpus:v0 --path train", "only those below train"),
    ],
    exit: &[(5, "a source changed, is missing or does not answer; nothing was published")],
    json: "{\"artifact\", \"version\", \"digest\", \"created\", \"files\", \"bytes\", \"new_bytes\"}",
    list: None,
};

/// Makes a version with content in place of references.
pub fn run(context: &mut Context, args: FetchArgs) -> CommandResult {
    let version = context.version(&args.version)?;
    let store = version.store().clone();
    let mut patch = version.new_draft();
    annotate(&mut patch, &args.annotations)?;
    let run = args.run.run_if_given(&store)?;
    let path = args.path.as_ref().map_or(&b""[..], |path| path.as_bytes());
    let found = patch.fetch_references(&version, path)?;
    say_what_is_kept(context, "fetch");
    let bar = context.bar("fetch");
    signals::cancel_on_interrupt(bar.progress());
    let options = SaveOptions::default().progress(bar.progress());
    let published = publish(&store, &patch, run, options)?;
    drop(bar);
    context.status(&format!("{} fetched", count(found, "reference")));
    report(context, &published, "nothing to fetch in")
}
