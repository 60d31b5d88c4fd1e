//! `cairn put`

use super::stdin::{self, Given};
use crate::args::{self, AnnotationArgs, Put, Sources};
use crate::errors::CommandResult;
use crate::output::{Context, count};
use crate::progress::human;
use crate::signals;
use cairn::catalog::{Recorded, parse_metadata};
use cairn::commit::{Artifact, Published, Run, RunOptions, SaveOptions};
use cairn::error::{Error, Result, show_list, show_path};
use cairn::progress::{Progress, Reading};
use cairn::types::RelPath;
use cairn::{ScanOptions, Store};
use indicatif::HumanCount;
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Makes a version.
pub fn run(context: &mut Context, args: Put) -> CommandResult {
    let store = context.store()?;
    let mut artifact = Artifact::new(&args.name, args.words.kind.as_deref())?;
    describe(&mut artifact, &args.words)?;
    let run = run_of(&store, &args.run)?;
    context.if_interrupted("no version was published; the complete files in the store are kept: run the same put again, and it stores only the rest");
    signals::install_handlers();
    let given = Given::of(&args.sources, &args.from)?;
    let progress = Arc::<Progress>::default();
    let typed = given.is_typed();
    if typed {
        context.status("reading what you type, up to Ctrl-D");
        add_sources(&mut artifact, &store, &given, &args.from, &progress)?; // before there is a bar to write over it
    }
    let bar = context.bar_of("put", progress.clone());
    if !typed {
        add_sources(&mut artifact, &store, &given, &args.from, &progress)?;
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

/// The run at work, if anything is said of one.
pub fn run_of(store: &Store, said: &args::Run) -> Result<Option<Run>> {
    let any = [&said.run, &said.group, &said.job_type].into_iter().flatten().any(|word| !word.is_empty());
    let options = RunOptions { id: said.run.clone(), group: said.group.clone(), job_type: said.job_type.clone() };
    any.then(|| Run::new(store, options)).transpose()
}

/// What is said about the version.
pub fn describe(artifact: &mut Artifact, args: &AnnotationArgs) -> Result<()> {
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
    given: &Given<'_>,
    args: &Sources,
    progress: &Progress,
) -> Result<()> {
    let prefix = args.at.as_ref().map_or(Ok(RelPath::root()), |at| RelPath::parse_or_root(at.as_bytes()))?;
    let options = ScanOptions {
        exclude: args.exclude.clone(),
        follow_symlinks: args.follow_symlinks,
        skip_special: args.skip_special,
        rehash: args.rehash,
        ..ScanOptions::default()
    };
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
