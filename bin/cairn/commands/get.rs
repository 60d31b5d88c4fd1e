//! `cairn get`

use crate::args::{Get, Link};
use crate::errors::Done;
use crate::output::{Context, count};
use crate::progress::human;
use cairn::view::{self, CheckoutOptions};
use cairn::words::RelPath;
use indicatif::HumanCount;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;

/// Writes a version out.
pub fn run(context: &mut Context, args: Get) -> Done {
    let path = args.path.as_ref().map(|p| RelPath::parse_or_root(p.as_bytes())).transpose()?.filter(|p| !p.is_root());
    let version = context.version(&args.version)?;
    context.if_interrupted("files that are whole are kept; the same get again continues");
    let bar = context.bar("get");
    let options = CheckoutOptions { path, link: link(args.link), force: args.force, prune: args.prune, progress: bar.progress() };
    let report = view::checkout(&version, &args.dir, &options)?;
    drop(bar);
    if context.json() {
        context.out.json(&json!({
            "artifact": version.artifact(), "version": version.number(), "directory": args.dir.to_string_lossy(), "files": report.files,
            "bytes": report.bytes, "written": report.written, "kept": report.kept, "removed": report.removed,
        }))?;
    } else {
        context.out.line(&version.to_string())?;
        context.out.flush()?;
    }
    let removed = if report.removed > 0 { format!(", {} removed", HumanCount(report.removed)) } else { String::new() };
    context.talk(&format!("{}, {}: {} entries written, {} kept{removed}", count(report.files, "file"), human(report.bytes), HumanCount(report.written), HumanCount(report.kept)));
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
