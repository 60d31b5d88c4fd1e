//! `cairn list`

use crate::args::List;
use crate::errors::Done;
use crate::output::{Context, dash, size_cell};
use cairn::catalog::{alias, artifact, version};
use cairn::words::ArtifactName;
use serde_json::{Value, json};

/// Artifacts, or the versions of one.
pub fn run(context: &mut Context, args: List) -> Done {
    match args.name {
        None => artifacts(context),
        Some(name) => versions(context, &ArtifactName::parse(&name)?),
    }
}

fn artifacts(context: &mut Context) -> Done {
    let store = context.store()?;
    let mut documents: Vec<Value> = Vec::new();
    let mut rows = Vec::new();
    for name in artifact::all(&store)? {
        let Some(record) = artifact::find(&store, &name)? else { continue };
        let live = version::live_numbers(&store, &name)?;
        rows.push(vec![name.to_string(), record.kind.to_string(), live.len().to_string(), live.last().map_or("-".into(), |n| n.to_string())]);
        documents.push(json!({ "artifact": name, "type": record.kind, "versions": live.len(), "latest": live.last() }));
    }
    if context.json() {
        context.out.json(&documents)?;
    } else {
        if rows.is_empty() {
            context.talk("no artifacts yet: `cairn put NAME DIR` makes one");
        }
        context.out.table(&["NAME", "TYPE", ">VERSIONS", "LATEST"], &rows)?;
    }
    Ok(0)
}

fn versions(context: &mut Context, name: &ArtifactName) -> Done {
    let store = context.store()?;
    let versions = version::versions(&store, name)?;
    let aliases = alias::all(&store, name)?;
    let latest = versions.last().map(|v| v.number());
    let mut documents: Vec<Value> = Vec::new();
    let mut rows = Vec::new();
    for version in &versions {
        let record = version.record();
        let aliases = version::aliases_of(version.number(), &aliases, latest);
        let tags = version.annotations()?.tags;
        let run = record.run.as_ref().map(|r| &r.id);
        rows.push(vec![
            version.number().to_string(),
            record.created_at.clone(),
            record.files.to_string(),
            size_cell(record.bytes),
            record.mode.as_str().to_owned(),
            version.digest().hex()[..12].to_owned(),
            dash(&aliases.join(",")),
            dash(&tags.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(",")),
            run.map_or("-".into(), |r| r.to_string()),
        ]);
        documents.push(json!({
            "version": version.number(), "digest": version.digest(), "aliases": aliases, "tags": tags, "files": record.files,
            "bytes": record.bytes, "created_at": record.created_at, "mode": record.mode, "run": run,
        }));
    }
    if context.json() {
        context.out.json(&documents)?;
    } else {
        context.out.table(&["VERSION", "CREATED", ">FILES", ">SIZE", "MODE", "DIGEST", "ALIASES", "TAGS", "RUN"], &rows)?;
    }
    Ok(0)
}
