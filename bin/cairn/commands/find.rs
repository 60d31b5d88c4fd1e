//! `cairn find`

use super::entry::Line;
use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::Context;
use cairn::catalog::Version;
use cairn::catalog::search::{Wanted, search};
use cairn::error::Error;
use cairn::manifest::Entry;
use cairn::types::{ArtifactName, RelPath};
use clap::Args;
use serde_json::json;

/// `cairn find`
#[derive(Args, Debug)]
pub struct FindArgs {
    /// A file's SHA-256 (all 64 digits), or a pattern of paths
    #[arg(value_name = "DIGEST|PATTERN")]
    pub wanted: String,
    /// Search only this artifact
    #[arg(long, value_name = "NAME")]
    pub artifact: Option<String>,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Prints a line for each version and path: NAME:vN PATH. Removed versions are not searched.",
        "In a pattern, * and ? match within a name, [ab] matches a or b, {x,y} the text x or y, and ** any number of \
         directories. Upper and lower case differ. A pattern without a slash matches names in every directory. It \
         matches entries, so `labels` finds a directory of that name, and 'labels/**' finds what is below it.",
    ],
    examples: &[
        ("cairn find '*.parquet'", "in every version"),
        ("cairn find '2026/**/*.csv' --artifact crawl", ""),
        ("cairn find $(sha256sum < model.bin | cut -c1-64)", "which versions have this file"),
    ],
    exit: &[(1, "nothing was found")],
    json: "One line for each version and path: {\"artifact\", \"version\"} and the fields of `cairn ls --json`.",
    list: None,
};

/// Searches versions.
pub fn run(context: &mut Context, args: FindArgs) -> CommandResult {
    let wanted = Wanted::parse(&args.wanted)?;
    let artifact = args.artifact.as_deref().map(ArtifactName::parse).transpose()?;
    let store = context.store()?;
    let mut found = 0_u64;
    let mut stopped = None;
    let damaged = search(&store, artifact.as_ref(), &wanted, &mut |version, path, entry| {
        found += 1;
        line(context, version, path, entry).map_err(|failure| {
            stopped = Some(failure);
            Error::usage("the output is closed")
        })
    });
    if let Some(failure) = stopped {
        return Err(failure);
    }
    for e in damaged? {
        context.warn(&format!("not searched: {e:#}"));
    }
    if found == 0 {
        context.status("nothing was found");
        let is_short = (6..64).contains(&args.wanted.len());
        if is_short && args.wanted.bytes().all(|b| b.is_ascii_hexdigit()) {
            context.status("hint: a digest has 64 digits here; `cairn ls -lR --json` prints them");
        }
    }
    Ok(u8::from(found == 0))
}

fn line(context: &mut Context, version: &Version, path: &RelPath, entry: &Entry) -> Result<(), Failure> {
    if !context.json() {
        context.out.bytes(format!("{version} ").as_bytes())?;
        context.out.name(path.as_bytes())?;
        return context.out.bytes(if entry.is_directory() { b"/\n" } else { b"\n" });
    }
    let mut fields = json!({ "artifact": version.artifact(), "version": version.number() });
    if let (Some(fields), serde_json::Value::Object(of_entry)) =
        (fields.as_object_mut(), json!(Line::of(path.as_bytes(), entry)))
    {
        fields.extend(of_entry);
    }
    context.out.json(&fields)
}
