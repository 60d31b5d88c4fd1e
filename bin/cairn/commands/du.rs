//! `cairn du`

use super::shared_args::HeaderArg;
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use crate::progress::human;
use cairn::catalog::usage::{UsageReport, of_artifacts, of_versions};
use cairn::catalog::{VersionSpec, resolve};
use cairn::error::Result;
use clap::Args;
use serde_json::json;

/// `cairn du`
#[derive(Args, Debug)]
pub struct DuArgs {
    /// An artifact, or one version; without it, all artifacts
    #[arg(value_name = "NAME[:V]")]
    pub name: Option<String>,
    /// Whether headings are printed.
    #[command(flatten)]
    pub header: HeaderArg,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Prints for each artifact, or for each version of NAME, its size (SIZE) and the bytes that are stored for it \
         and for no other artifact or version (ALONE). ALONE is what would be free after `cairn rm` and `cairn gc`. \
         The size of an artifact is that of its newest version, but ALONE counts all its versions, so it can be \
         larger. \
         Headings are printed on a terminal, or with --header.",
        "Sizes are those of files as they are read; what the store compressed takes less, and frees less. Files that \
         versions share are stored once: removing one version of two that are equal frees nothing. Large files that \
         differ a little share most of their bytes, too.",
    ],
    examples: &[
        ("cairn du", "which artifacts are large"),
        ("cairn du images", "which versions are"),
        ("cairn du images:v3 --json", ""),
    ],
    exit: &[],
    json: "[{\"artifact\", \"version\", \"bytes\", \"alone_bytes\"}]. version is absent if it is the whole artifact.",
    list: None,
};

/// Prints sizes.
pub fn run(context: &mut Context, args: DuArgs) -> CommandResult {
    args.header.apply(context);
    let store = context.store()?;
    let report = match &args.name {
        None => of_artifacts(&store)?,
        Some(text) => of_one(&store, text)?,
    };
    for e in &report.damaged {
        context.warn(&format!("not counted: {e:#}"));
    }
    let labels = report.usages.iter().map(|usage| match usage.version {
        Some(version) => format!("{}:{version}", usage.artifact),
        None => usage.artifact.to_string(),
    });
    if context.json() {
        let documents: Vec<_> = report
            .usages
            .iter()
            .map(|usage| {
                let mut fields = json!({ "artifact": usage.artifact });
                if let Some(version) = usage.version {
                    fields["version"] = json!(version);
                }
                fields["bytes"] = usage.bytes.into();
                fields["alone_bytes"] = usage.alone.into();
                fields
            })
            .collect();
        context.out.json(&documents)?;
        return Ok(0);
    }
    let rows: Vec<Vec<String>> =
        labels.zip(&report.usages).map(|(label, usage)| vec![label, human(usage.bytes), human(usage.alone)]).collect();
    context.out.table(&["NAME", ">SIZE", ">ALONE"], &rows)?;
    Ok(0)
}

/// The versions of a name; of `NAME:V` that one.
fn of_one(store: &cairn::Store, text: &str) -> Result<UsageReport> {
    let spec = VersionSpec::parse(text)?;
    let one = text.contains(':').then(|| resolve(store, &spec)).transpose()?;
    let mut report = of_versions(store, &spec.artifact)?;
    if let Some(one) = one {
        report.usages.retain(|usage| usage.version == Some(one.number()));
    }
    Ok(report)
}
