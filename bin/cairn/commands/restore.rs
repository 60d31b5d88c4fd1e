//! `cairn restore`

use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use cairn::catalog::{Selector, VersionSpec};
use cairn::error::{Error, Result};
use cairn::types::VersionNumber;
use clap::Args;
use serde_json::json;

/// `cairn restore`
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The removed version, by its number
    #[arg(value_name = "NAME:vN")]
    pub version: String,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Brings back one version that `cairn rm` removed, with its annotations. That is possible until `cairn gc` has \
         freed content of it: by default 24 hours after the first gc that follows the removal, or later. Content that \
         is in the trash is put back into its place.",
        "If content was freed, nothing is changed, and the command lists the files that are lost. Aliases that \
         `cairn rm --force` removed are not set again. A version that is not removed stays as it is.",
        "Builds of cairn from before release 0.1.0 may not know this command. They show restored versions as removed, \
         and refuse to collect garbage in a store that has one. If such a build runs `cairn gc` on another host, end \
         it before the first restore in a store.",
    ],
    examples: &[("cairn restore images:v3", "after `cairn rm images:v3`")],
    exit: &[
        (3, "refused: the first restore in this store, and a garbage collection is at work"),
        (6, "there is no such version, or content of it was freed"),
    ],
    json: "{\"artifact\", \"version\", \"restored\"}\nrestored is false if the version was not removed.",
    list: None,
};

/// Brings a version back.
pub fn run(context: &mut Context, args: RestoreArgs) -> CommandResult {
    let spec = VersionSpec::parse(&args.version)?;
    let number = number(&spec)?;
    let store = context.store()?;
    context.if_interrupted("the version is either restored or removed; run the command again");
    let (version, restored) = store.restore(spec.artifact.as_str(), number)?;
    if context.json() {
        let document = json!({ "artifact": version.artifact(), "version": number, "restored": restored });
        context.out.json(&document)?;
    } else {
        context.out.line(&version.to_string())?;
        context.out.flush()?;
    }
    context.status(if restored { "restored" } else { "it is not removed; nothing was changed" });
    Ok(0)
}

fn number(spec: &VersionSpec) -> Result<VersionNumber> {
    match &spec.selector {
        Selector::Number(number) => Ok(*number),
        _ => Err(Error::usage(format!("`{spec}` does not name a removed version: they have numbers only"))
            .with_hint(format!("`cairn restore {}:vN`", spec.artifact))),
    }
}
