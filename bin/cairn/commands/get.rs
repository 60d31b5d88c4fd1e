//! `cairn get`

use crate::args::{Get, Link, References};
use crate::errors::CommandResult;
use crate::output::{Context, count};
use crate::progress::human;
use crate::signals;
use cairn::types::RelPath;
use cairn::view::{self, CheckoutOptions};
use indicatif::HumanCount;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;

/// Writes a version out.
pub fn run(context: &mut Context, args: Get) -> CommandResult {
    let path = args.path.as_ref().map(|p| RelPath::parse_or_root(p.as_bytes())).transpose()?.filter(|p| !p.is_root());
    let version = context.version(&args.version)?;
    context.if_interrupted("complete files are kept: run the same get again, and it continues");
    let bar = context.bar("get");
    let options = CheckoutOptions {
        path,
        link: link(args.link),
        references: match args.references {
            References::Fetch => view::References::Fetch,
            References::Skip => view::References::Skip,
            References::Link => view::References::Link,
        },
        force: args.force,
        prune: args.prune,
        progress: bar.progress(),
    };
    signals::cancel_on_interrupt(bar.progress());
    let report = view::checkout(&version, &args.dir, &options)?;
    drop(bar);
    if context.json() {
        context.out.json(&json!({
            "artifact": version.artifact(), "version": version.number(), "directory": args.dir.to_string_lossy(),
            "files": report.files, "bytes": report.bytes, "written": report.written, "kept": report.kept, "removed": report.removed,
            "protected": report.protected, "skipped": report.skipped,
        }))?;
    } else {
        context.out.line(&version.to_string())?;
        context.out.flush()?;
    }
    let files = format!("{}, {}", count(report.files, "file"), human(report.bytes));
    let mut done = format!("{files}: {} entries written, {} kept", HumanCount(report.written), HumanCount(report.kept));
    if report.removed > 0 {
        done += &format!(", {} removed", HumanCount(report.removed));
    }
    if report.protected > 0 {
        done += &format!(
            ", {} not removed (ignored by .cairnignore, .git, a store or a mount)",
            HumanCount(report.protected)
        );
    }
    if report.skipped > 0 {
        done += &format!("; {} skipped", count(report.skipped, "reference"));
    }
    context.status(&done);
    Ok(0)
}

fn link(link: Link) -> view::Link {
    match link {
        Link::Auto => view::Link::Auto,
        Link::Copy => view::Link::Copy,
        Link::Reflink => view::Link::Reflink,
        Link::Hardlink => view::Link::Hardlink,
    }
}
