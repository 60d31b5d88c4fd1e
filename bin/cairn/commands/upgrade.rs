//! `cairn upgrade`

use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use cairn::Compression;
use clap::Args;
use serde_json::json;

/// `cairn upgrade`
#[derive(Args, Debug)]
pub struct UpgradeArgs {
    /// Which files are compressed from now on (see `cairn init`)
    #[arg(long, value_enum)]
    pub compression: Option<UpgradedCompression>,
}

/// The values of `--compression`. A store cannot be made one without compression.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub enum UpgradedCompression {
    /// Files shorter than 128 KiB, and what is new in a changed large file
    Auto,
    /// Files of any size
    All,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Turns on what `cairn init` turns on in a new store and this store lacks, and prints the names of what was \
         added; nothing, if the store lacks nothing. What is stored already does not change.",
        "compressed-content: the content of small files is compressed where that saves space.",
        "--compression sets which files are compressed that commands store from now on; `cairn info` shows it. `all` \
         adds features too: composed-files, compressed-parts and compressed-files. They stay when `auto` is set again.",
        "Releases of cairn that do not know what was added can no longer open the store. Processes of such releases \
         that have it open cannot read what is stored from now on; their mounts give EIO for it. End them first, and \
         mount again with this release. `cairn locks` lists them.",
        "The same holds for composed-files and compressed-parts, which `put` adds with the first large file that needs \
         them.",
    ],
    examples: &[
        ("cairn upgrade", "compress what is put from now on"),
        ("cairn upgrade --compression all", "compress large files, too"),
    ],
    exit: &[],
    json: "{\"added\"}",
    list: None,
};

/// Adds the features of new stores.
pub fn run(context: &mut Context, args: UpgradeArgs) -> CommandResult {
    let store = context.store()?;
    let added = match args.compression {
        None => store.upgrade()?,
        Some(UpgradedCompression::Auto) => store.set_compression(Compression::Auto)?,
        Some(UpgradedCompression::All) => store.set_compression(Compression::All)?,
    };
    if context.json() {
        context.out.json(&json!({ "added": added }))?;
    } else {
        for feature in added {
            context.out.line(&feature)?;
        }
    }
    Ok(0)
}
