//! `cairn info`

use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::{Context, count};
use crate::progress::human;
use cairn::catalog::info::{Files, info};
use cairn::error::{show_list, show_path};
use clap::Args;
use serde_json::{Value, json};

/// `cairn info`
#[derive(Args, Debug)]
pub struct InfoArgs {}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &["Prints where the store is, its id, format and features, and what it has. The files of the store \
         are listed and counted, not read."],
    examples: &[("cairn info", ""), ("cairn info --json | jq .free_bytes", "")],
    exit: &[],
    json: "{\"store\", \"id\", \"format\", \"created_at\", \"shared\", \"cache_bound_seconds\", \"group\", \
         \"features\", \"compression\", \"artifacts\", \"versions\", \"drafts\", \"packs\", \"objects\", \
         \"trash\", \"free_bytes\"}. packs, objects and trash are {\"count\", \"bytes\"}.",
    list: None,
};

/// Describes the store.
pub fn run(context: &mut Context, _: InfoArgs) -> CommandResult {
    let store = context.store()?;
    let info = info(&store)?;
    let features = &info.config.features;
    if context.json() {
        let files = |files: Files| -> Value { json!({ "count": files.count, "bytes": files.bytes }) };
        context.out.json(&json!({
            "store": info.root.to_string_lossy(), "id": info.config.store_id, "format": info.config.format,
            "created_at": info.config.created_at, "shared": info.is_shared,
            "cache_bound_seconds": info.config.cache_bound_seconds, "group": info.config.group,
            "features": features, "compression": info.config.compression().to_string(),
            "artifacts": info.artifacts, "versions": info.versions, "drafts": info.drafts,
            "packs": files(info.packs), "objects": files(info.objects), "trash": files(info.trash),
            "free_bytes": info.free_bytes,
        }))?;
        return Ok(0);
    }
    let all_features = [&features.compatible[..], &features.read_only, &features.incompatible].concat();
    let size = |files: Files| format!("{}, {}", count(files.count, "file"), human(files.bytes));
    let file_system = match info.is_shared {
        true => format!("shared; clients may cache directories for {} s", info.config.cache_bound_seconds),
        false => "local".to_owned(),
    };
    let lines = vec![
        ("store", show_path(&info.root)),
        ("id", info.config.store_id.clone()),
        ("created", info.config.created_at.clone()),
        ("format", info.config.format.to_string()),
        ("features", show_list(&all_features)),
        ("compression", info.config.compression().to_string()),
        ("file system", file_system),
        ("group", info.config.group.clone().unwrap_or_default()),
        ("artifacts", info.artifacts.to_string()),
        ("versions", info.versions.to_string()),
        ("drafts", info.drafts.to_string()),
        ("packs", size(info.packs)),
        ("objects", size(info.objects)),
        ("trash", size(info.trash)),
        ("free space", human(info.free_bytes)),
    ];
    context.out.fields(lines)?;
    Ok(0)
}
