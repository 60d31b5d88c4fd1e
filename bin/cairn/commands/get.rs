//! `cairn get`

use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::{Context, count};
use crate::progress::human;
use crate::signals;
use cairn::types::RelPath;
use cairn::view::{self, CheckoutOptions};
use clap::{Args, ValueEnum};
use indicatif::HumanCount;
use serde_json::json;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// `cairn get`
#[derive(Args, Debug)]
pub struct GetArgs {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// The directory to write to; it is made if it does not exist
    pub dir: PathBuf,
    /// Write only this directory or file of the version
    #[arg(long, value_name = "PREFIX")]
    pub path: Option<OsString>,
    /// How the content of large files gets out of the store
    #[arg(long, value_enum, default_value = "auto")]
    pub link: LinkArg,
    /// What to do with references, whose bytes are not in the store
    #[arg(long, value_enum, default_value = "fetch", value_name = "WHAT")]
    pub references: ReferencesArg,
    /// Replace files that differ
    #[arg(long)]
    pub force: bool,
    /// Remove files that are not in the version
    #[arg(long)]
    pub prune: bool,
}

/// What `get` does with references.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ReferencesArg {
    /// Fetch their bytes, which must be what was recorded
    Fetch,
    /// Leave them out
    Skip,
    /// Make symlinks to the files of file:/// URIs; other references are refused
    Link,
}

/// How `get` writes content.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LinkArg {
    /// Reflink where the file system supports it, else copy
    Auto,
    /// Always copy
    Copy,
    /// Share blocks; fail where the file system does not support it
    Reflink,
    /// Share the file itself. The result is read-only, and an edit would change the store
    Hardlink,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Writes a version to a directory and prints the version. Files that are already right are not \
         touched. A file that differs is refused unless --force is given. If a get is interrupted, run it \
         again: it continues.",
        "--prune does not remove what `cairn put` would leave out by a .cairnignore file, .git, stores and mounts. \
         `cairn diff NAME ./DIR` shows beforehand which files differ.",
    ],
    examples: &[
        ("cairn get images:v3 ./images", ""),
        ("cairn get images ./images --path 2026/raw", "that subtree, as ./images/2026/raw"),
        ("cairn get images ./images --force --prune", "make the directory equal to the version"),
        ("cairn get weights /scratch/w --link hardlink", "no copy; do not edit the files"),
        ("cairn get corpus ./corpus --references skip", "only what is in the store"),
    ],
    exit: &[(3, "refused: a file that differs is in the way")],
    json: "{\"artifact\", \"version\", \"directory\", \"files\", \"bytes\", \"written\", \"kept\", \
         \"removed\", \"protected\", \"skipped\"}",
    list: None,
};

/// Writes a version out.
pub fn run(context: &mut Context, args: GetArgs) -> CommandResult {
    let path = args.path.as_ref().map(|p| RelPath::parse_or_root(p.as_bytes())).transpose()?.filter(|p| !p.is_root());
    let version = context.version(&args.version)?;
    context.if_interrupted("complete files are kept: run the same get again, and it continues");
    let bar = context.bar("get");
    let mut options = CheckoutOptions::default()
        .link(link(args.link))
        .references(match args.references {
            ReferencesArg::Fetch => view::References::Fetch,
            ReferencesArg::Skip => view::References::Skip,
            ReferencesArg::Link => view::References::Link,
        })
        .force(args.force)
        .prune(args.prune)
        .progress(bar.progress());
    options.path = path;
    signals::cancel_on_interrupt(bar.progress());
    let report = view::checkout(&version, &args.dir, &options)?;
    drop(bar);
    if context.json() {
        context.out.json(&json!({
            "artifact": version.artifact(), "version": version.number(), "directory": args.dir.to_string_lossy(),
            "files": report.files, "bytes": report.bytes, "written": report.written, "kept": report.kept,
            "removed": report.removed,
            "protected": report.protected, "skipped": report.skipped,
        }))?;
    } else {
        context.out.line(&version.to_string())?;
        context.out.flush()?;
    }
    let files = format!("{}, {}", count(report.files, "file"), human(report.bytes));
    let mut done = format!("{files}: {} written, {} kept", count(report.written, "entry"), HumanCount(report.kept));
    if report.removed > 0 {
        done += &format!(", {} removed", HumanCount(report.removed));
    }
    if report.protected > 0 {
        done += &format!(
            ", {} not removed (ignored by .cairnignore, .git, a store or a mount)",
            HumanCount(report.protected)
        );
    }
    if report.skipped > 0 {
        done += &format!("; {} skipped", count(report.skipped, "reference"));
    }
    context.status(&done);
    Ok(0)
}

fn link(link: LinkArg) -> view::Link {
    match link {
        LinkArg::Auto => view::Link::Auto,
        LinkArg::Copy => view::Link::Copy,
        LinkArg::Reflink => view::Link::Reflink,
        LinkArg::Hardlink => view::Link::Hardlink,
    }
}
