//! `cairn patch`

use super::put::{annotate, publish, report, say_what_is_kept};
use super::shared_args::{AnnotationArgs, ContentArgs};
use super::sources::{add_all_sources, unreadable, warn_of_sources};
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use crate::signals;
use cairn::Store;
use cairn::catalog::{Selector, Version, VersionSpec, resolve};
use cairn::error::{Error, Kind, Result};
use cairn::internals::catalog::artifact;
use cairn::internals::commit::{Artifact, Changes, Published, SaveOptions, parse_changes};
use cairn::manifest::Entry;
use cairn::types::VersionNumber;
use clap::Args;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// `cairn patch`
#[derive(Args, Debug)]
pub struct PatchArgs {
    /// The version that the changes were made on [default: the newest]
    #[arg(value_name = "NAME[:BASE]")]
    pub base: String,
    /// Files to add or replace: directories, files, - for stdin, SCHEME://... for a reference
    #[arg(value_name = "SRC")]
    pub sources: Vec<OsString>,
    /// Remove one file or directory; repeat the option for more
    #[arg(long = "remove", value_name = "PATH")]
    pub removals: Vec<OsString>,
    /// Rename one file or directory; repeat the option for more
    #[arg(long = "rename", num_args = 2, value_names = ["OLD", "NEW"])]
    pub renames: Vec<OsString>,
    /// Apply the output of `cairn diff --json`; - reads it from stdin
    #[arg(long, value_name = "FILE")]
    pub from_diff: Option<PathBuf>,
    /// Publish this version plus the changes, even if newer versions exist
    #[arg(long, value_name = "vN")]
    pub onto: Option<String>,
    /// Start from an empty version if the artifact does not exist yet
    #[arg(long)]
    pub create: bool,
    /// Where the files go, what is recorded about them, and the run.
    #[command(flatten)]
    pub content: ContentArgs,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "The cost depends on the changes, not on the size of the version. Removals and renames are \
         applied first, then --from-diff, then the sources. A directory's files are added to those that \
         are there.",
        "If a version newer than BASE exists, the changes are rebased: they are made on the newest version, and stderr \
         says so. If both changed the same path, the patch is refused.",
        "--from-diff needs the content that it names in this store; `cairn copy --to` brings it from \
         another store.",
    ],
    examples: &[
        ("cairn patch crawl today.json --at 2026/11/25", "add or replace a file; prints crawl:v8"),
        ("cairn patch crawl today.json --create", "the first day too"),
        ("cairn patch images --remove raw/tmp --rename a.png b.png", ""),
        ("cairn patch images:v3 fixed/ --at labels", "the changes were made on v3"),
        ("cairn patch images:v3 fixed/ --onto v3", "v3 plus the changes"),
        ("cairn diff images:v3 images:v5 --json | cairn patch images:v6 --from-diff -", ""),
    ],
    exit: &[(3, "refused: a newer version changed the same path; nothing was published")],
    json: "{\"artifact\", \"version\", \"digest\", \"created\", \"files\", \"bytes\", \"new_bytes\"}",
    list: None,
};

/// Makes a version from changes of one.
pub fn run(context: &mut Context, args: PatchArgs) -> CommandResult {
    let spec = VersionSpec::parse(&args.base)?;
    refuse_no_change(&args)?;
    let store = context.store()?;
    let (base, mut artifact) = draft(&store, &spec, &args)?;
    annotate(&mut artifact, &args.content.annotations)?;
    let run = args.content.run.run_if_given(&store)?;
    say_what_is_kept(context, "patch");
    signals::install_handlers();
    let bar = context.bar("patch");
    for path in &args.removals {
        artifact.remove(path.as_bytes())?;
    }
    for pair in args.renames.chunks_exact(2) {
        artifact.rename(pair[0].as_bytes(), pair[1].as_bytes())?;
    }
    if let Some(file) = &args.from_diff {
        artifact.apply_changes(read(&store, file)?)?;
    }
    add_all_sources(&mut artifact, &store, &args.sources, &args.content.source, &bar)?;
    let options = SaveOptions::default().progress(bar.progress());
    let published = publish(&store, &artifact, run, options)?;
    let progress = bar.progress();
    drop(bar);
    warn_of_sources(&progress);
    if let Some(number) = published.rebased {
        context.status(&format!(
            "rebased: {} was put on {number}, which is newer than what it was made on",
            published.version
        ));
    }
    args.content.annotations.note_latest(context);
    report(context, &published, "nothing changed since")?;
    say_what_changed(context, &published, base.as_ref())?;
    Ok(0)
}

/// A patch that is asked to change nothing is a mistake, such as an empty variable.
fn refuse_no_change(args: &PatchArgs) -> Result<()> {
    let AnnotationArgs { kind: _, aliases, tags, description, metadata } = &args.content.annotations;
    let is_annotated = !aliases.is_empty() || !tags.is_empty() || description.is_some() || metadata.is_some();
    let changes = !args.sources.is_empty() || !args.removals.is_empty() || !args.renames.is_empty();
    if changes || args.from_diff.is_some() || args.content.source.stdin_from_command || is_annotated {
        return Ok(());
    }
    if args.onto.is_some() || args.create {
        return Ok(()); // the version itself again, or an empty one
    }
    Err(Error::usage("no change is given: SRC, --remove, --rename or --from-diff"))
}

/// What the patch changed in the version that it was made on; without a new version, why there is none.
fn say_what_changed(context: &mut Context, published: &Published, base: Option<&Version>) -> Result<()> {
    let version = &published.version;
    if context.global.quiet {
        return Ok(());
    }
    if !published.created {
        if let Some(base) = base.filter(|base| base.number() != version.number()) {
            context.status(&format!(
                "the changes were made on {base}; they change nothing on {version}, which is newer: no version was made"
            ));
        }
        return Ok(());
    }
    let Some(number) = version.record().base else { return Ok(()) };
    let on = match base.filter(|base| base.number() == number) {
        Some(base) => Ok(base.clone()),
        None => {
            let (artifact, selector) = (version.artifact().clone(), Selector::Number(number));
            resolve(version.store(), &VersionSpec { artifact, selector })
        }
    };
    let Ok(on) = on else { return Ok(()) }; // removed meanwhile
    let (mut added, mut removed, mut changed) = (0, 0, 0);
    let is_file = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| !entry.is_directory());
    for change in on.diff(version)? {
        let change = change?;
        match (is_file(&change.old), is_file(&change.new)) {
            (false, true) => added += 1,
            (true, false) => removed += 1,
            (true, true) => changed += 1,
            (false, false) => {}
        }
    }
    context.status(&format!("changes of {on}: {added} added, {changed} changed, {removed} removed"));
    Ok(())
}

/// The version that the patch was made on, and the patch.
fn draft(store: &Store, spec: &VersionSpec, args: &PatchArgs) -> Result<(Option<Version>, Artifact)> {
    let onto = args.onto.as_deref().map(|number_text| onto(store, spec, number_text)).transpose()?;
    let base = match (resolve(store, spec), &onto) {
        (_, Some(onto)) if spec.selector == Selector::Latest => onto.clone(),
        (Ok(base), _) => base,
        (Err(e), _) if e.kind() == Kind::NotFound && spec.selector == Selector::Latest => {
            if !args.create {
                return Err(e.with_hint("to start from an empty version, add --create"));
            }
            if let Some(kind) = &args.content.annotations.kind {
                artifact::check_type(store, &spec.artifact, Some(&cairn::types::ArtifactType::parse(kind)?))?;
            }
            let kind = args.content.annotations.kind.as_deref();
            return Ok((None, Artifact::patch_from_empty(spec.artifact.as_str(), kind)?));
        }
        (Err(e), _) => return Err(e),
    };
    if let Some(kind) = &args.content.annotations.kind {
        artifact::check_type(store, &spec.artifact, Some(&cairn::types::ArtifactType::parse(kind)?))?;
    }
    let mut artifact = base.new_draft();
    if let Some(onto) = &onto {
        if onto.number() != base.number() {
            return Err(Error::usage(format!("{spec} and --onto {} are different versions", onto.number()))
                .with_hint("with --onto, the changes are made on that version: omit the other one"));
        }
        artifact.onto(onto)?;
    }
    Ok((Some(base), artifact))
}

fn onto(store: &Store, spec: &VersionSpec, number_text: &str) -> Result<Version> {
    let number = VersionNumber::parse(number_text)
        .map_err(|_| Error::usage(format!("--onto {number_text}: expected a version number such as v3")))?;
    resolve(store, &VersionSpec { artifact: spec.artifact.clone(), selector: Selector::Number(number) })
}

/// A difference from a file, or from stdin.
fn read(store: &Store, file: &Path) -> Result<Changes> {
    let dir = store.layout().work();
    if file == Path::new("-") {
        return parse_changes(std::io::stdin().lock(), &dir);
    }
    parse_changes(File::open(file).map_err(|e| unreadable("read", file, e))?, &dir)
}
