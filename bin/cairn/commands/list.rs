//! `cairn list`

use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::{Context, dash};
use crate::progress::human;
use cairn::catalog::{Version, alias};
use cairn::error::{Error, Kind, Result};
use cairn::internals::catalog::{artifact, version};
use cairn::types::{ArtifactName, Tag, VersionNumber};
use clap::Args;
use serde_json::{Value, json};

/// `cairn list`
#[derive(Args, Debug)]
pub struct ListArgs {
    /// List the versions of this artifact; without it, list all artifacts
    pub name: Option<String>,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &["Without NAME the columns are NAME, TYPE, VERSIONS and LATEST. With NAME they are VERSION, \
         CREATED, FILES, SIZE, MODE, DIGEST, ALIASES, TAGS and RUN. Headings are printed only on a \
         terminal."],
    examples: &[
        ("cairn list", ""),
        ("cairn list images", ""),
        ("cairn list images | awk '{print $1}'", "only the version numbers"),
        ("cairn list images --json | jq -r '.[] | select(.tags | index(\"raw\")).version'", ""),
    ],
    exit: &[],
    json: "All artifacts: [{\"artifact\", \"type\", \"versions\", \"latest\"}]\n\
         One artifact: [{\"version\", \"digest\", \"aliases\", \"tags\", \"files\", \"bytes\", \
         \"created_at\", \"mode\", \"run\"}]",
    list: None,
};

/// Artifacts, or the versions of one.
pub fn run(context: &mut Context, args: ListArgs) -> CommandResult {
    match args.name {
        None => artifacts(context),
        Some(name) => versions(context, &ArtifactName::parse(&name)?),
    }
}

fn artifacts(context: &mut Context) -> CommandResult {
    let store = context.store()?;
    let mut documents: Vec<Value> = Vec::new();
    let mut rows = Vec::new();
    for name in artifact::all(&store)? {
        let kind = match artifact::kind(&store, &name) {
            Ok(kind) => kind,
            Err(e) if e.kind() == Kind::Damaged => {
                context.warn(&format!("{name} is damaged: {e:#}"));
                None
            }
            Err(e) => return Err(e.into()),
        };
        let live = version::live_numbers(&store, &name)?;
        rows.push(vec![
            name.to_string(),
            kind.as_ref().map_or("damaged".into(), |k| k.to_string()),
            live.len().to_string(),
            live.last().map_or("-".into(), |n| n.to_string()),
        ]);
        documents.push(json!({ "artifact": name, "type": kind, "versions": live.len(), "latest": live.last() }));
    }
    if context.json() {
        context.out.json(&documents)?;
    } else {
        if rows.is_empty() {
            context.status("no artifacts yet: `cairn put NAME DIR` makes one");
        }
        context.out.table(&["NAME", "TYPE", ">VERSIONS", "LATEST"], &rows)?;
    }
    Ok(0)
}

fn versions(context: &mut Context, name: &ArtifactName) -> CommandResult {
    let store = context.store()?;
    let versions = version::each(&store, name)?;
    if versions.is_empty() {
        version::versions(&store, name)?; // the error for an artifact that does not exist
    }
    let (aliases, damaged) = alias::readable(&store, name)?;
    for e in damaged {
        context.warn(&format!("an alias of {name} is damaged: {e:#}"));
    }
    let latest = versions.last().map(|(number, _)| *number);
    let mut documents: Vec<Value> = Vec::new();
    let mut rows = Vec::new();
    for (number, version) in &versions {
        let aliases = version::aliases_of(*number, &aliases, latest);
        let version = match version {
            Ok(version) => version,
            Err(e) => {
                context.warn(&format!("{name}:{number} is damaged: {e:#}; `cairn rm {name}:{number}` removes it"));
                rows.push(damaged_row(*number, &aliases));
                documents.push(damaged_document(*number, &aliases, e));
                continue;
            }
        };
        let record = version.record();
        let tags = tags(context, version)?;
        let run = record.run.as_ref().map(|r| &r.id);
        rows.push(vec![
            version.number().to_string(),
            record.created_at.clone(),
            record.files.to_string(),
            human(record.bytes),
            record.mode.as_str().to_owned(),
            version.digest().hex()[..12].to_owned(),
            dash(&aliases.join(",")),
            dash(&tags.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(",")),
            run.map_or("-".into(), |r| r.to_string()),
        ]);
        documents.push(json!({
            "version": version.number(), "digest": version.digest(), "aliases": aliases, "tags": tags,
            "files": record.files,
            "bytes": record.bytes, "created_at": record.created_at, "mode": record.mode, "run": run,
        }));
    }
    if context.json() {
        context.out.json(&documents)?;
    } else {
        context
            .out
            .table(&["VERSION", "CREATED", ">FILES", ">SIZE", "MODE", "DIGEST", "ALIASES", "TAGS", "RUN"], &rows)?;
    }
    Ok(0)
}

/// The tags of a version as they are now; those recorded at its commit if the later ones are damaged.
fn tags(context: &Context, version: &Version) -> Result<Vec<Tag>> {
    match version.annotations() {
        Err(e) if e.kind() == Kind::Damaged => {
            context.warn(&format!("the annotations of {version} are damaged: {e:#}"));
            Ok(version.record().tags.clone())
        }
        annotations => Ok(annotations?.tags),
    }
}

/// The line of a version whose record cannot be read.
fn damaged_row(number: VersionNumber, aliases: &[String]) -> Vec<String> {
    let none = || "-".to_owned();
    vec![number.to_string(), none(), none(), none(), none(), "damaged".into(), dash(&aliases.join(",")), none(), none()]
}

fn damaged_document(number: VersionNumber, aliases: &[String], e: &Error) -> Value {
    json!({
        "version": number, "digest": null, "aliases": aliases, "tags": null, "files": null, "bytes": null,
        "created_at": null, "mode": null,
        "run": null, "damaged": format!("{e:#}"),
    })
}
