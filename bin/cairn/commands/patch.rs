//! `cairn patch`

use super::put::{add_sources, describe, report, run_of, unreadable, warn_of_sources};
use super::stdin::Given;
use crate::args::Patch;
use crate::errors::CommandResult;
use crate::output::Context;
use crate::signals;
use cairn::Store;
use cairn::catalog::{Selector, Version, VersionSpec, artifact, resolve};
use cairn::commit::{Artifact, SaveOptions, parse_changes};
use cairn::error::{Error, Kind, Result};
use cairn::types::VersionNumber;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes a version from changes of one.
pub fn run(context: &mut Context, args: Patch) -> CommandResult {
    let spec = VersionSpec::parse(&args.base)?;
    let store = context.store()?;
    let mut artifact = draft(&store, &spec, &args)?;
    describe(&mut artifact, &args.words)?;
    let run = run_of(&store, &args.run)?;
    context.if_interrupted("no version was published; the complete files in the store are kept: run the same patch again, and it stores only the rest");
    signals::install_handlers();
    let bar = context.bar("patch");
    for path in &args.removals {
        artifact.remove(path.as_bytes())?;
    }
    for pair in args.renames.chunks_exact(2) {
        artifact.rename(pair[0].as_bytes(), pair[1].as_bytes())?;
    }
    if let Some(file) = &args.from_diff {
        artifact.apply_changes(parse_changes(&read(file)?)?)?;
    }
    add_sources(&mut artifact, &store, &Given::of(&args.sources, &args.from)?, &args.from, &bar.progress())?;
    signals::cancel_on_interrupt(bar.progress());
    let options = SaveOptions { progress: bar.progress(), ..SaveOptions::default() };
    let published = match run {
        Some(run) => run.log_artifact_with(&artifact, options)?,
        None => artifact.save_with(&store, &options)?,
    };
    let progress = bar.progress();
    drop(bar);
    warn_of_sources(&progress);
    if let Some(number) = published.rebased {
        context.status(&format!(
            "rebased: {} was put on {number}, which is newer than what it was made on",
            published.version
        ));
    }
    report(context, &published, "nothing changed since")
}

/// The patch, on what it was made on.
fn draft(store: &Store, spec: &VersionSpec, args: &Patch) -> Result<Artifact> {
    let onto = args.onto.as_deref().map(|word| onto(store, spec, word)).transpose()?;
    let base = match (resolve(store, spec), &onto) {
        (_, Some(onto)) if spec.selector == Selector::Latest => onto.clone(),
        (Ok(base), _) => base,
        (Err(e), _) if e.kind() == Kind::NotFound && spec.selector == Selector::Latest => {
            if !args.create {
                return Err(e.with_hint("--create begins with nothing"));
            }
            if let Some(kind) = &args.words.kind {
                artifact::check_type(store, &spec.artifact, Some(&cairn::types::ArtifactType::parse(kind)?))?;
            }
            return Artifact::patch_from_empty(spec.artifact.as_str(), args.words.kind.as_deref());
        }
        (Err(e), _) => return Err(e),
    };
    if let Some(kind) = &args.words.kind {
        artifact::check_type(store, &spec.artifact, Some(&cairn::types::ArtifactType::parse(kind)?))?;
    }
    let mut artifact = base.new_draft();
    if let Some(onto) = &onto {
        artifact.onto(onto)?;
    }
    Ok(artifact)
}

fn onto(store: &Store, spec: &VersionSpec, word: &str) -> Result<Version> {
    let number = VersionNumber::from_text(word)
        .ok_or_else(|| Error::usage(format!("--onto {word}: expected a version's number, as v3")))?;
    resolve(store, &VersionSpec { artifact: spec.artifact.clone(), selector: Selector::Number(number) })
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io("read", Path::new("standard input"), e))?;
        return Ok(bytes);
    }
    std::fs::read(file).map_err(|e| unreadable("read", file, e))
}
