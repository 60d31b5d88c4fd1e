//! `cairn cache`

use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::{Context, count};
use crate::progress::human;
use crate::times::about;
use cairn::error::{Error, Result, show_path};
use cairn::internals::cache::{Cache, Usage, parse_size, references_directory};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::SystemTime;

/// `cairn cache`
#[derive(Args, Debug)]
pub struct CacheArgs {
    /// What to do with the cache.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// The subcommands of `cairn cache`.
#[derive(Subcommand, Debug)]
pub enum CacheCommand {
    /// Show what is in a cache
    Show {
        /// The directory that was given to --cache [default: your cache of references]
        #[arg(value_name = "DIR", env = "CAIRN_NODE_CACHE", hide_env_values = true)]
        dir: Option<PathBuf>,
    },
    /// Remove from a cache what was used least recently
    Trim {
        /// The directory that was given to --cache [default: your cache of references]
        #[arg(value_name = "DIR", env = "CAIRN_NODE_CACHE", hide_env_values = true)]
        dir: Option<PathBuf>,
        /// Leave at most N bytes, such as 500M or 100G [default: the limit of the cache]
        #[arg(long, value_name = "N", value_parser = size)]
        size: Option<u64>,
    },
}

/// The text of `--help`.
pub const CACHE_HELP: Help = Help {
    description: &[
        "A node-local cache is a directory on a disk of this node with content that was read from slow places. It \
         has blocks of packs and of large files from stores that were mounted with `cairn mount --cache DIR`, and \
         blocks of references. All processes that are given the same directory share it. Blocks have checksums: a \
         damaged one is read again from the store.",
        "A cache may be removed at any time: no content is lost. When it is full, what was used least recently is \
         removed.",
    ],
    examples: &[
        ("cairn cache show /scratch/cairn", "its bytes, its entries, its limit"),
        ("cairn cache trim /scratch/cairn --size 50G", ""),
    ],
    exit: &[],
    json: "",
    list: None,
};

/// The text of `--help`.
pub const CACHE_SHOW_HELP: Help = Help {
    description: &["Prints how many bytes on the disk a cache has, how many entries, its limit, and when the entry \
         was used that was used least recently. An entry is what is cached of one pack, one large file or one \
         reference."],
    examples: &[("cairn cache show /scratch/cairn", ""), ("cairn cache show --json", "your cache of references")],
    exit: &[(2, "the directory has other things in it"), (6, "nothing was cached there yet")],
    json: "{\"directory\", \"bytes\", \"entries\", \"limit\", \"oldest_use\"}",
    list: None,
};

/// The text of `--help`.
pub const CACHE_TRIM_HELP: Help = Help {
    description: &[
        "Removes entries until the cache has at most the given size. It begins with those that were used least \
         recently. It also removes what killed processes left. Processes that use the cache continue: they read from \
         the store what they miss.",
        "The limit of the cache stays as it is: `cairn mount --cache-size` sets it.",
    ],
    examples: &[
        ("cairn cache trim /scratch/cairn", "down to its limit"),
        ("cairn cache trim /scratch/cairn --size 0", "remove all entries"),
    ],
    exit: &[(2, "the directory has other things in it"), (6, "nothing was cached there yet")],
    json: "{\"directory\", \"removed_bytes\", \"removed_entries\", \"bytes\", \"entries\"}",
    list: None,
};

/// Parses a size for the command line.
pub fn size(text: &str) -> std::result::Result<u64, String> {
    parse_size(text).map_err(|_| "expected a size such as 500M, 100G or 2T".to_owned())
}

/// Shows or trims a cache.
pub fn run(context: &mut Context, args: CacheArgs) -> CommandResult {
    match args.command {
        CacheCommand::Show { dir } => show(context, dir),
        CacheCommand::Trim { dir, size } => trim(context, dir, size),
    }
}

fn open(dir: Option<PathBuf>) -> Result<Cache> {
    let none = || Error::not_found("there is no cache: neither HOME nor CAIRN_CACHE_DIR is set");
    Cache::existing(&dir.or_else(references_directory).ok_or_else(none)?)
}

fn show(context: &mut Context, dir: Option<PathBuf>) -> CommandResult {
    let cache = open(dir)?;
    let (usage, limit) = (cache.usage()?, cache.limit());
    if context.json() {
        context.out.json(&json!({
            "directory": cache.path().to_string_lossy(), "bytes": usage.bytes, "entries": usage.entries,
            "limit": limit, "oldest_use": time(&usage),
        }))?;
        return Ok(0);
    }
    let oldest = usage.oldest_use.and_then(|at| at.elapsed().ok()).map(|age| age.as_secs());
    context.out.fields(vec![
        ("directory", show_path(cache.path())),
        ("size", human(usage.bytes)),
        ("limit", human(limit)),
        ("entries", usage.entries.to_string()),
        ("oldest use", oldest.map(|seconds| format!("{} ago", about(seconds))).unwrap_or_default()),
    ])?;
    Ok(0)
}

fn time(usage: &Usage) -> Value {
    let seconds = usage.oldest_use.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    seconds.map_or(Value::Null, |at| json!(cairn::internals::clock::show(at.as_secs() as i64)))
}

fn trim(context: &mut Context, dir: Option<PathBuf>, size: Option<u64>) -> CommandResult {
    let cache = open(dir)?;
    let trimmed = cache.trim(size.unwrap_or_else(|| cache.limit()))?;
    let (removed, left) = (trimmed.removed, trimmed.left);
    if context.json() {
        context.out.json(&json!({
            "directory": cache.path().to_string_lossy(), "removed_bytes": removed.bytes,
            "removed_entries": removed.entries, "bytes": left.bytes, "entries": left.entries,
        }))?;
    }
    let entries = count(removed.entries, "entry");
    context.status(&format!("{entries} removed, {}; {} left", human(removed.bytes), human(left.bytes)));
    Ok(0)
}
