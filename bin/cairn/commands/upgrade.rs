//! `cairn upgrade`

use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use clap::Args;
use serde_json::json;

/// `cairn upgrade`
#[derive(Args, Debug)]
pub struct UpgradeArgs {}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Turns on what `cairn init` turns on in a new store and this store lacks, and prints the names of what was \
         added; nothing, if the store lacks nothing. What is stored already does not change.",
        "compressed-content: the content of small files is compressed where that saves space.",
        "Releases of cairn that do not know what was added can no longer open the store. Processes of such releases \
         that have it open cannot read what is stored from now on; their mounts give EIO for it. End them first, and \
         mount again with this release. `cairn locks` lists them.",
        "The same holds for composed-files and compressed-parts, which `put` adds with the first large file that needs \
         them.",
    ],
    examples: &[("cairn upgrade", "compress what is put from now on")],
    exit: &[],
    json: "{\"added\"}",
    list: None,
};

/// Adds the features of new stores.
pub fn run(context: &mut Context, _: UpgradeArgs) -> CommandResult {
    let added = context.store()?.upgrade()?;
    if context.json() {
        context.out.json(&json!({ "added": added }))?;
    } else {
        for feature in added {
            context.out.line(&feature)?;
        }
    }
    Ok(0)
}
