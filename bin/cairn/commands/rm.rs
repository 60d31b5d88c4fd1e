//! `cairn rm`

use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::Context;
use cairn::Store;
use cairn::catalog::remove::{self, Force};
use cairn::catalog::{VersionSpec, resolve_number, version};
use cairn::error::{Error, Result};
use cairn::types::{ArtifactName, VersionNumber};
use clap::Args;
use serde_json::{Value, json};

/// `cairn rm`
#[derive(Args, Debug)]
pub struct RmArgs {
    /// The versions; with --all, artifacts
    #[arg(required = true, value_name = "NAME:V")]
    pub versions: Vec<String>,
    /// Remove every version of these artifacts
    #[arg(long)]
    pub all: bool,
    /// Also remove a version that an alias names, and that alias
    #[arg(long)]
    pub force: bool,
    /// Print what would be removed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &["Refused while an alias other than latest names the version; --force removes the alias too. The \
         name of the artifact and its version numbers are never used again for other content. `cairn gc` \
         frees the space."],
    examples: &[
        ("cairn rm images:v3 images:v4", ""),
        ("cairn rm images:v3 --dry-run", ""),
        ("cairn rm images --all", "every version of images"),
    ],
    exit: &[(3, "refused: an alias or a mount uses the version")],
    json: "{\"removed\": [{\"artifact\", \"version\"}], \"dry_run\"}",
    list: None,
};

/// A version by its artifact and number.
type Named = (ArtifactName, VersionNumber);

/// Removes versions. All of them are checked before the first is removed.
pub fn run(context: &mut Context, args: RmArgs) -> CommandResult {
    let store = context.store()?;
    let force = if args.force { Force::Yes } else { Force::No };
    let versions = wanted(&store, &args)?;
    for (name, number) in &versions {
        remove::check(&store, name, *number, force)?;
    }
    context.if_interrupted("each version is either removed or unchanged; run the command again to remove the rest");
    let mut removed = Vec::new();
    let mut result = Ok(());
    for version in versions {
        if !args.dry_run {
            result = remove::remove(&store, &version.0, version.1, force);
            if result.is_err() {
                break;
            }
        }
        removed.push(version);
    }
    report(context, &removed, args.dry_run)?; // also if one of them failed
    result?;
    Ok(0)
}

/// The named versions, each once, in the given order. They need not be readable: a damaged version can be removed too.
fn wanted(store: &Store, args: &RmArgs) -> Result<Vec<Named>> {
    let mut out: Vec<Named> = Vec::new();
    for argument in &args.versions {
        let found = if args.all {
            if argument.contains(':') {
                return Err(Error::usage(format!("--all takes a name, not the version {argument}"))
                    .with_hint("omit --all, or omit the part after the colon"));
            }
            let name = ArtifactName::parse(argument)?;
            let numbers = version::live_numbers(store, &name)?;
            if numbers.is_empty() {
                version::versions(store, &name)?; // fails if the artifact does not exist
            }
            numbers.into_iter().map(|number| (name.clone(), number)).collect()
        } else if argument.contains(':') {
            let spec = VersionSpec::parse(argument)?;
            let number = resolve_number(store, &spec)?;
            vec![(spec.artifact, number)]
        } else {
            ArtifactName::parse(argument)?;
            return Err(Error::usage(format!("`{argument}` does not name a version to remove"))
                .with_hint(format!("`cairn rm {argument}:vN` removes one, `cairn rm {argument} --all` every one")));
        };
        for version in found {
            if !out.contains(&version) {
                out.push(version);
            }
        }
    }
    Ok(out)
}

fn report(context: &mut Context, removed: &[Named], dry_run: bool) -> std::result::Result<(), Failure> {
    if context.json() {
        let removed: Vec<Value> =
            removed.iter().map(|(name, number)| json!({ "artifact": name, "version": number })).collect();
        context.out.json(&json!({ "removed": removed, "dry_run": dry_run }))?;
    } else {
        for (name, number) in removed {
            context.out.line(&format!("{name}:{number}"))?;
        }
        context.out.flush()?;
    }
    if dry_run {
        context.status("would be removed; nothing was changed");
    }
    Ok(())
}
