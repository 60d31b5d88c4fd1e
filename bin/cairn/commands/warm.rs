//! `cairn warm`

use super::shared_args::whole;
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::{Context, count};
use crate::progress::human;
use crate::signals;
use cairn::fuse::MAX_THREADS;
use cairn::types::RelPath;
use cairn::view::{CacheOptions, WarmOptions};
use clap::Args;
use serde_json::json;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Instant;

/// `cairn warm`
#[derive(Args, Debug)]
pub struct WarmArgs {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// Read only this directory or file of the version
    #[arg(long, value_name = "PATH")]
    pub path: Option<OsString>,
    /// Read with N threads, 1 to 256
    #[arg(long, value_name = "N", default_value = "8", value_parser = whole::<u16>(1..=MAX_THREADS as u64))]
    pub threads: u16,
    /// Read through the cache in DIR, as `cairn mount --cache DIR` does
    #[arg(long, value_name = "DIR", env = "CAIRN_NODE_CACHE", hide_env_values = true)]
    pub cache: Option<PathBuf>,
    /// The bytes that the cache may have, for all that use it, such as 500M or 100G [default: as it was; 10G at first]
    #[arg(long, value_name = "N", requires = "cache", value_parser = super::cache::size)]
    pub cache_size: Option<u64>,
    /// Read references too; what servers send is kept in the cache
    #[arg(long)]
    pub references: bool,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Reads the content of a version with several threads, so that programs that read it later do not wait for the \
         disk. Without --cache the content is in this host's page cache, as long as there is memory. With --cache it \
         is also in a directory on a disk of this node, where mounts with the same --cache find it.",
        "Content that is in the cache is checked, and read again from the store if it is damaged. If the version is \
         larger than the cache, a warning says so.",
    ],
    examples: &[
        ("cairn warm weights:prod", ""),
        ("cairn warm images:v3 --path train --threads 32", "many threads, for a shared disk"),
        ("cairn warm weights:prod --cache /scratch/cairn --cache-size 200G", "before the jobs of a node start"),
    ],
    exit: &[],
    json: "{\"artifact\", \"version\", \"files\", \"bytes\", \"skipped\", \"seconds\"}. Files with equal content count \
         once; skipped counts references.",
    list: None,
};

/// Reads a version.
pub fn run(context: &mut Context, args: WarmArgs) -> CommandResult {
    let version = context.version(&args.version)?;
    context.if_interrupted("what was read stays in the cache");
    let bar = context.bar("warm");
    let mut options =
        WarmOptions::default().threads(args.threads.into()).references(args.references).progress(bar.progress());
    options.path =
        args.path.as_ref().map(|p| RelPath::parse_or_root(p.as_bytes())).transpose()?.filter(|p| !p.is_root());
    options.cache = args.cache.as_ref().map(|dir| {
        let cache = CacheOptions::new(dir);
        if let Some(size) = args.cache_size { cache.size(size) } else { cache }
    });
    signals::cancel_on_interrupt(bar.progress());
    let began = Instant::now();
    let warmed = version.warm(&options)?;
    drop(bar);
    let seconds = began.elapsed().as_secs_f64();
    if let Some(limit) = warmed.limit.filter(|limit| *limit < warmed.bytes) {
        context.warn(&format!(
            "the content has {}, the cache takes {}: only a part of it stays there (--cache-size)",
            human(warmed.bytes),
            human(limit)
        ));
    }
    if context.json() {
        context.out.json(&json!({
            "artifact": version.artifact(), "version": version.number(), "files": warmed.files,
            "bytes": warmed.bytes, "skipped": warmed.skipped, "seconds": (seconds * 1000.0).round() / 1000.0,
        }))?;
    } else {
        context.out.line(&version.to_string())?;
        context.out.flush()?;
    }
    let mut done = format!("{}, {} in {seconds:.1} s", count(warmed.files, "file"), human(warmed.bytes));
    if warmed.skipped > 0 {
        done += &format!("; {} skipped", count(warmed.skipped, "reference"));
    }
    context.status(&done);
    Ok(0)
}
