//! `cairn rm`

use crate::args::Rm;
use crate::errors::{Done, Stop};
use crate::output::Context;
use cairn::Store;
use cairn::catalog::removal::{self, Force};
use cairn::catalog::{Version, VersionSpec, resolve, version};
use cairn::error::{Error, Result};
use cairn::words::ArtifactName;
use serde_json::{Value, json};

/// Removes versions. All of them are looked at before the first is removed.
pub fn run(context: &mut Context, args: Rm) -> Done {
    let store = context.store()?;
    let force = if args.force { Force::Yes } else { Force::No };
    let versions = wanted(&store, &args)?;
    for version in &versions {
        removal::check(&store, version.artifact(), version.number(), force)?;
    }
    context.if_interrupted("each version is removed or not touched; the same rm again removes the rest");
    let mut removed = Vec::new();
    let mut result = Ok(());
    for version in versions {
        if !args.dry_run {
            result = removal::remove(&store, version.artifact(), version.number(), force);
            if result.is_err() {
                break;
            }
        }
        removed.push(version);
    }
    report(context, &removed, args.dry_run)?; // also when one in the middle failed
    result?;
    Ok(0)
}

/// The versions named, each once, in the order given.
fn wanted(store: &Store, args: &Rm) -> Result<Vec<Version>> {
    let mut out: Vec<Version> = Vec::new();
    for word in &args.versions {
        let found = if args.all {
            if word.contains(':') {
                return Err(Error::usage(format!("--all takes a name, not the version {word}")).hint("leave out --all, or what follows the colon"));
            }
            version::versions(store, &ArtifactName::parse(word)?)?
        } else if word.contains(':') {
            vec![resolve(store, &VersionSpec::parse(word)?)?]
        } else {
            ArtifactName::parse(word)?;
            return Err(Error::usage(format!("`{word}` does not say which version to remove")).hint(format!("`cairn rm {word}:vN` removes one, `cairn rm {word} --all` every one")));
        };
        for version in found {
            if !out.iter().any(|v| v.artifact() == version.artifact() && v.number() == version.number()) {
                out.push(version);
            }
        }
    }
    Ok(out)
}

fn report(context: &mut Context, removed: &[Version], dry_run: bool) -> std::result::Result<(), Stop> {
    if context.json() {
        let removed: Vec<Value> = removed.iter().map(|v| json!({ "artifact": v.artifact(), "version": v.number() })).collect();
        context.out.json(&json!({ "removed": removed, "dry_run": dry_run }))?;
    } else {
        for version in removed {
            context.out.line(&version.to_string())?;
        }
        context.out.flush()?;
    }
    if dry_run {
        context.talk("would be removed; nothing was changed");
    }
    Ok(())
}
