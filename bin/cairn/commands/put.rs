//! `cairn put`

use super::shared_args::{AnnotationArgs, RunArgs, SourceArgs};
use super::stdin::{self, SourceList};
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::{Context, count};
use crate::progress::human;
use crate::signals;
use cairn::catalog::{Recorded, parse_metadata};
use cairn::commit::{Artifact, Published, SaveOptions};
use cairn::error::{Error, Result, show_list, show_path};
use cairn::progress::{Progress, Reading};
use cairn::types::RelPath;
use cairn::{ScanOptions, Store};
use clap::Args;
use indicatif::HumanCount;
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// `cairn put`
#[derive(Args, Debug)]
pub struct PutArgs {
    /// The artifact; allowed characters: A-Z a-z 0-9 _ . -
    pub name: String,
    /// Directories, files, - for stdin, SCHEME://... for a reference
    #[arg(required = true, value_name = "SRC")]
    pub sources: Vec<OsString>,
    /// Where sources go, and how they are read.
    #[command(flatten)]
    pub source_args: SourceArgs,
    /// Type, aliases, tags, description, metadata.
    #[command(flatten)]
    pub annotations: AnnotationArgs,
    /// Make a new version even if nothing has changed
    #[arg(long)]
    pub new_version: bool,
    /// The run that makes the version.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "A directory adds its contents, a file adds itself by its base name, and - adds standard input. \
         SCHEME://... adds a reference: the URI is recorded, the bytes are not copied.",
        "If nothing has changed since the newest version, no version is made and the newest one is \
         printed. If a put is interrupted, run it again: it stores only what is missing.",
        "Files that match a pattern of a .cairnignore file (gitignore syntax) are left out.",
        "A file that looks unchanged is not read again, if the time stamps of its file system are precise \
         enough to prove that. --rehash reads every file. CAIRN_STAT_CACHE=off keeps no cache.",
        "With --stdin-from-command nothing is published if the command fails. A pipe into - can't show \
         whether its writer failed: only an empty standard input is refused.",
    ],
    examples: &[
        ("cairn put images ./photos", "the files in ./photos; prints images:v0"),
        ("cairn put model weights.bin config.json --type model --alias prod", ""),
        ("cairn put images ./photos --exclude '*.tmp' --tag raw --description 'as scanned'", ""),
        ("cairn put results out/ --at 2026/run1 --metadata '{\"loss\": 0.1}'", ""),
        ("cairn put shop-db --stdin-filename shop.sql --stdin-from-command -- mysqldump shop", ""),
        ("tar c ./photos | cairn put photos - --stdin-filename photos.tar", ""),
        ("cairn put corpus s3://bucket/corpus.tar", "a reference"),
    ],
    exit: &[],
    json: "{\"artifact\", \"version\", \"digest\", \"created\", \"files\", \"bytes\", \"new_bytes\"}",
    list: None,
};

/// Makes a version.
pub fn run(context: &mut Context, args: PutArgs) -> CommandResult {
    let store = context.store()?;
    let mut artifact = Artifact::new(&args.name, args.annotations.kind.as_deref())?;
    annotate(&mut artifact, &args.annotations)?;
    let run = args.run.run_if_given(&store)?;
    context.if_interrupted("no version was published; the complete files in the store are kept: run the same put again, and it stores only the rest");
    signals::install_handlers();
    let given = SourceList::split(&args.sources, &args.source_args)?;
    let progress = Arc::<Progress>::default();
    let typed = given.is_typed();
    if typed {
        context.status("reading what you type, up to Ctrl-D");
        add_sources(&mut artifact, &store, &given, &args.source_args, &progress)?; // before there is a bar to write over it
    }
    let bar = context.bar_of("put", progress.clone());
    if !typed {
        add_sources(&mut artifact, &store, &given, &args.source_args, &progress)?;
    }
    signals::cancel_on_interrupt(progress.clone());
    let options = SaveOptions { always_new: args.new_version, progress: progress.clone(), ..SaveOptions::default() };
    let published = match run {
        Some(run) => run.log_artifact_with(&artifact, options)?,
        None => artifact.save_with(&store, &options)?,
    };
    drop(bar);
    warn_of_sources(&progress);
    report(context, &published, "nothing changed since")
}

/// What is said about the version.
pub fn annotate(artifact: &mut Artifact, args: &AnnotationArgs) -> Result<()> {
    for alias in &args.aliases {
        artifact.add_alias(alias)?;
    }
    for tag in &args.tags {
        artifact.add_tag(tag)?;
    }
    if let Some(text) = &args.description {
        artifact.set_description(text);
    }
    if let Some(text) = &args.metadata {
        artifact.set_metadata(metadata(text)?)?;
    }
    Ok(())
}

/// `JSON` or `@FILE`.
fn metadata(text: &str) -> Result<cairn::catalog::Metadata> {
    let Some(file) = text.strip_prefix('@') else { return parse_metadata(text) };
    let read = std::fs::read(file).map_err(|e| unreadable("read", Path::new(file), e))?;
    let read = String::from_utf8(read).map_err(|e| {
        Error::usage(format!("metadata of {file} cannot be used: it is not UTF-8")).with_cause(e.utf8_error())
    })?;
    parse_metadata(read.strip_prefix('\u{feff}').unwrap_or(&read))
        .map_err(|e| e.context(format!("metadata of {file} cannot be used")))
}

/// What the version holds.
pub fn add_sources(
    artifact: &mut Artifact,
    store: &Store,
    given: &SourceList<'_>,
    args: &SourceArgs,
    progress: &Progress,
) -> Result<()> {
    let prefix = args.at.as_ref().map_or(Ok(RelPath::root()), |at| RelPath::parse_or_root(at.as_bytes()))?;
    let options = args.scan.options();
    given.check()?;
    for source in given.sources {
        let path = Path::new(source);
        if source == "-" {
            stdin::add(artifact, store, args, &prefix, &[])?;
        } else if let Some(name) = uri_name(source) {
            let uri =
                source.to_str().ok_or_else(|| Error::usage(format!("{} is not UTF-8: no URI", show_path(path))))?;
            artifact.add_reference(RelPath::parse(name?.as_bytes())?.below(&prefix)?.as_bytes(), uri)?;
        } else {
            add_path(artifact, path, &prefix, &options, progress)?;
        }
    }
    if !given.command.is_empty() {
        stdin::add(artifact, store, args, &prefix, given.command)?;
    }
    Ok(())
}

/// A directory's contents, or a file by its base name.
fn add_path(
    artifact: &mut Artifact,
    path: &Path,
    prefix: &RelPath,
    options: &ScanOptions,
    progress: &Progress,
) -> Result<()> {
    let kind = std::fs::metadata(path).map_err(|e| unreadable("add", path, e))?.file_type();
    if kind.is_dir() {
        artifact.add_dir(path, prefix.as_bytes(), options)?;
    } else if kind.is_file() {
        artifact.add_file(path, prefix.join(base_name(path)?.as_bytes())?.as_bytes())?;
    } else if options.skip_special {
        progress.skipped_special(1);
    } else {
        let why = format!("{} is a device node, socket or FIFO: it cannot be added", show_path(path));
        return Err(
            Error::usage(why).with_hint("leave it out with --skip-special; what a pipe gives is added by -, stdin")
        );
    }
    Ok(())
}

fn base_name(path: &Path) -> Result<&OsStr> {
    path.file_name().ok_or_else(|| Error::usage(format!("{} has no base name", show_path(path))))
}

/// What a URI is called in the version: its last part. `None` when `source` is no URI.
fn uri_name(source: &OsString) -> Option<Result<String>> {
    let text = String::from_utf8_lossy(source.as_bytes());
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !is_scheme {
        return None;
    }
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    Some(if name.is_empty() {
        Err(Error::usage(format!("{text} names nothing")).with_hint("SCHEME://HOST/PATH or file:///PATH"))
    } else {
        Ok(name.to_owned())
    })
}

/// A source that is missing is "not found"; anything else is the system's failure.
pub fn unreadable(action: &str, path: &Path, e: std::io::Error) -> Error {
    if e.kind() == ErrorKind::NotFound {
        let why = if path.is_symlink() { "it is a symlink to nothing" } else { "it does not exist" };
        return Error::not_found(format!("cannot {action} {}: {why}", show_path(path))).with_hint("nothing was made");
    }
    Error::io(action, path, e)
}

/// Warns of what was stored of the sources, but not as their owner may expect.
pub fn warn_of_sources(progress: &Progress) {
    let Reading { outside_symlinks: links, skipped_special: special, .. } = progress.read();
    if links > 0 {
        let lead = if links == 1 { "leads" } else { "lead" };
        eprintln!(
            "warning: {} {lead} out of what was added and will not resolve in a version; --follow-symlinks stores the targets",
            count(links, "symlink")
        );
    }
    if special > 0 {
        eprintln!("warning: {} left out: device nodes, sockets or FIFOs", count(special, "special file"));
    }
}

/// How much smaller the version is than the one before, in files.
fn shrinkage(published: &Published) -> String {
    let before = published.previous.as_ref().map_or(0, |v| v.record().files);
    match (&published.previous, before.saturating_sub(published.version.record().files)) {
        (Some(previous), fewer @ 1..) => {
            let files = if fewer == 1 { "file" } else { "files" };
            format!("; {} fewer {files} than {previous}, which has {before}", HumanCount(fewer))
        }
        _ => String::new(),
    }
}

/// What was recorded of a version that existed before: `; recorded: tag raw, description`.
fn recorded(published: &Published) -> String {
    let Recorded { aliases, tags, description, metadata, dropped_keys } = &published.recorded;
    let mut parts: Vec<String> = aliases.iter().map(|a| format!("alias {a}")).collect();
    parts.extend(tags.iter().map(|t| format!("tag {t}")));
    if *description {
        parts.push("description".into());
    }
    if *metadata && dropped_keys.is_empty() {
        parts.push("metadata".into());
    } else if *metadata {
        parts.push(format!("metadata (replaced; dropped {})", show_list(dropped_keys)));
    }
    if parts.is_empty() { String::new() } else { format!("; recorded: {}", parts.join(", ")) }
}

/// Prints the result; `unchanged` introduces a version that existed before.
pub fn report(context: &mut Context, published: &Published, unchanged: &str) -> CommandResult {
    let version = &published.version;
    let record = version.record();
    if context.json() {
        context.out.json(&json!({
            "artifact": version.artifact(), "version": version.number(), "digest": version.digest(), "created": published.created,
            "files": record.files, "bytes": record.bytes, "new_bytes": published.new_bytes,
        }))?;
    } else {
        context.out.line(&version.to_string())?;
        context.out.flush()?;
    }
    let what = format!("{}, {}", count(record.files, "file"), human(record.bytes));
    if published.created {
        context.status(&format!("{what}; {} new in the store{}", human(published.new_bytes), shrinkage(published)));
    } else {
        context.status(&format!("{what}; {unchanged} {version}{}", recorded(published)));
    }
    Ok(0)
}
