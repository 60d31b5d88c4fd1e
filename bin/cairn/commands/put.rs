//! `cairn put`

use super::shared_args::{AnnotationArgs, ContentArgs};
use super::sources::{add_sources, add_table, unreadable, warn_of_sources};
use super::stdin::SourceList;
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::{Context, count, plural};
use crate::progress::human;
use crate::signals;
use cairn::Store;
use cairn::catalog::{Recorded, parse_metadata};
use cairn::error::{Error, Result, show_list};
use cairn::internals::commit::{Artifact, Published, Run, SaveOptions};
use cairn::progress::Progress;
use clap::Args;
use indicatif::HumanCount;
use serde_json::json;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `cairn put`
#[derive(Args, Debug)]
pub struct PutArgs {
    /// The artifact; allowed characters: A-Z a-z 0-9 _ . -
    pub name: String,
    /// Directories, files, - for stdin, SCHEME://... for a reference
    #[arg(value_name = "SRC")]
    pub sources: Vec<OsString>,
    /// Add a CSV, TSV or JSON lines file as a table, NAME.table.json (repeatable)
    #[arg(long = "table", value_name = "FILE")]
    pub tables: Vec<PathBuf>,
    /// Make a new version even if nothing has changed
    #[arg(long)]
    pub new_version: bool,
    /// Where the files go, what is recorded about them, and the run.
    #[command(flatten)]
    pub content: ContentArgs,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "A directory adds its contents, a file adds itself by its base name, and - adds standard input. \
         SCHEME://... adds a reference: the content stays where it is and is read from there.",
        "file:// directories and s3://, gs:// and az:// prefixes become an entry for each object. Size and ETag (of \
         local files, SHA-256) are recorded, so a change at the source makes a version; --no-checksum records the \
         URI alone. cairn://NAME:V/PATH adds content of another version of the store, without copying it, and records \
         where it came from.",
        "If nothing has changed since the newest version, no version is made and the newest one is \
         printed; `cairn diff NAME ./DIR` shows beforehand what a put would change. If a put is interrupted, run it \
         again: it stores only what is missing.",
        "Files that match a pattern of a .cairnignore file (gitignore syntax) are left out, and so is this store.",
        "A file that looks unchanged is not read again, if the time stamps of its file system are precise \
         enough to prove that. --rehash reads every file. CAIRN_STAT_CACHE=off keeps no cache.",
        "With --stdin-from-command nothing is published if the command fails. With a pipe (`dump | cairn put NAME -`) \
         cairn cannot see whether `dump` failed; it only refuses an empty standard input.",
    ],
    examples: &[
        ("cairn put images ./photos", "the files in ./photos; prints images:v0"),
        ("cairn put model weights.bin config.json --type model --alias prod", ""),
        ("cairn put images ./photos --exclude '*.tmp' --tag raw --description scanned", ""),
        ("cairn put results out/ --at 2026/run1 --metadata '{\"loss\": 0.1}'", ""),
        ("cairn put shop --stdin-filename shop.sql --stdin-from-command -- pg_dump shop", ""),
        ("tar c ./photos | cairn put photos - --stdin-filename photos.tar", ""),
        ("cairn put eval --table pred.csv", "a table, pred.table.json; `cairn table eval pred` prints it"),
        ("cairn put corpus s3://bucket/corpus", "references to an object, or to all below a prefix"),
        ("cairn put mixed cairn://images:v3/train new/", "files of another version, and new ones"),
    ],
    exit: &[(3, "refused: the artifact has another type, standard input is empty, or a lock is in the way")],
    json: "{\"artifact\", \"version\", \"digest\", \"created\", \"files\", \"bytes\", \"new_bytes\"}",
    list: None,
};

/// Makes a version.
pub fn run(context: &mut Context, args: PutArgs) -> CommandResult {
    if args.sources.is_empty() && args.tables.is_empty() {
        let hint = "give a directory or a file, - for standard input, --table FILE, or --stdin-from-command -- COMMAND";
        return Err(Error::usage(format!("nothing to put: {} gets no SRC", args.name)).with_hint(hint).into());
    }
    let store = context.store()?;
    let mut artifact = annotated(&args.name, &args.content.annotations)?;
    let run = args.content.run.run_if_given(&store)?;
    say_what_is_kept(context, "put");
    signals::install_handlers();
    let given = SourceList::split(&args.sources, &args.content.source)?;
    let progress = Arc::<Progress>::default();
    let typed = given.is_typed();
    if typed {
        context.status("reading standard input; Ctrl-D ends it");
        // before there is a bar to write over it
        add_sources(&mut artifact, &store, &given, &args.content.source, &progress)?;
    }
    let bar = context.bar_of("put", progress.clone());
    if !typed {
        add_sources(&mut artifact, &store, &given, &args.content.source, &progress)?;
    }
    for table in &args.tables {
        add_table(&mut artifact, table, &args.content.source)?;
    }
    signals::cancel_on_interrupt(progress.clone());
    let options = SaveOptions::default().always_new(args.new_version).progress(progress.clone());
    let published = publish(&store, &artifact, run, options)?;
    drop(bar);
    warn_of_sources(&progress);
    args.content.annotations.note_latest(context);
    report(context, &published, "nothing changed since")
}

/// What an interruption leaves, for a command that makes a version.
pub fn say_what_is_kept(context: &mut Context, command: &str) {
    context.if_interrupted(&format!(
        "no version was published; the complete files in the store are kept: run the same {command} again, and it \
         stores only the rest"
    ));
}

/// Makes the version; the run, if there is one, is recorded.
pub fn publish(store: &Store, artifact: &Artifact, run: Option<Run>, options: SaveOptions) -> Result<Published> {
    match run {
        Some(run) => run.log_artifact_with(artifact, options),
        None => artifact.save_with(store, &options),
    }
}

/// An artifact with the type, aliases, tags, description and metadata that were given.
pub fn annotated(name: &str, args: &AnnotationArgs) -> Result<Artifact> {
    let mut artifact = Artifact::new(name, args.kind.as_deref())?;
    annotate(&mut artifact, args)?;
    Ok(artifact)
}

/// Records aliases, tags, description and metadata.
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
pub fn metadata(text: &str) -> Result<cairn::catalog::Metadata> {
    let Some(file) = text.strip_prefix('@') else { return parse_metadata(text) };
    let read = std::fs::read(file).map_err(|e| unreadable("read", Path::new(file), e))?;
    let read = String::from_utf8(read).map_err(|e| {
        Error::usage(format!("metadata of {file} cannot be used: it is not UTF-8")).with_cause(e.utf8_error())
    })?;
    parse_metadata(read.strip_prefix('\u{feff}').unwrap_or(&read))
        .map_err(|e| e.context(format!("metadata of {file} cannot be used")))
}

/// How many files fewer the version has than the one before.
fn shrinkage(published: &Published) -> String {
    let before = published.previous.as_ref().map_or(0, |v| v.record().files);
    match (&published.previous, before.saturating_sub(published.version.record().files)) {
        (Some(previous), fewer @ 1..) => {
            let files = plural(fewer, "file");
            format!("; {} fewer {files} than {previous}, which has {before}", HumanCount(fewer))
        }
        _ => String::new(),
    }
}

/// What was recorded about a version that existed before: `tag raw`, `description`.
pub fn parts(recorded: &Recorded) -> Vec<String> {
    let Recorded { aliases, tags, description, metadata, ttl, dropped_keys, .. } = recorded;
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
    parts.extend(ttl.then(|| "ttl".into()));
    parts
}

/// Prints the result; `unchanged` introduces a version that existed before.
pub fn report(context: &mut Context, published: &Published, unchanged: &str) -> CommandResult {
    let version = &published.version;
    let record = version.record();
    if context.json() {
        context.out.json(&json!({
            "artifact": version.artifact(), "version": version.number(), "digest": version.digest(),
            "created": published.created,
            "files": record.files, "bytes": record.bytes, "new_bytes": published.new_bytes,
        }))?;
    } else {
        context.out.line(&version.to_string())?;
        context.out.flush()?;
    }
    let what = format!("{}, {}", count(record.files, "file"), human(record.bytes));
    if record.entries == 0 {
        context.warn(&format!("{version} is empty: nothing was found in its sources"));
    }
    if published.created {
        context.status(&format!("{what}; {} new in the store{}", human(published.new_bytes), shrinkage(published)));
    } else {
        let parts = parts(&published.recorded);
        let recorded = if parts.is_empty() { String::new() } else { format!("; recorded: {}", parts.join(", ")) };
        let stored = match published.new_bytes {
            0 => String::new(),
            bytes => format!("; {} stored: the store had no intact copy", human(bytes)),
        };
        context.status(&format!("{what}; {unchanged} {version}{stored}{recorded}"));
    }
    Ok(0)
}
