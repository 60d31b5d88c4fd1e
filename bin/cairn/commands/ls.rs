//! `cairn ls` and `cairn cat`

use super::entry::{Line, long, points_at};
use crate::args::{Cat, Ls};
use crate::errors::{CommandResult, Failure};
use crate::output::Context;
use cairn::catalog::Version;
use cairn::error::Error;
use cairn::manifest::{Entry, Found, Tree};
use cairn::types::RelPath;
use std::os::unix::ffi::OsStrExt;

/// Lists what is at a path.
pub fn ls(context: &mut Context, args: Ls) -> CommandResult {
    let path = args.path.as_ref().map_or(Ok(RelPath::root()), |p| RelPath::parse_or_root(p.as_bytes()))?;
    let version = context.version(&args.version)?;
    let tree = version.tree()?;
    let Found { entry, rank } = found(&version, &tree, &path)?;
    let mut show = |path: &RelPath, entry: &Entry| line(context, path, entry, args.long);
    match &entry {
        Entry::Directory(_) if args.recursive => {
            for visit in tree.walk_below(&path)? {
                let visit = visit?;
                show(&visit.path, &visit.entry)?;
            }
        }
        Entry::Directory(dir) => {
            for listed in tree.list(dir, rank)? {
                let listed = listed?;
                show(&path.join(&listed.name)?, &listed.entry)?;
            }
        }
        _ => show(&path, &entry)?,
    }
    Ok(0)
}

fn found(version: &Version, tree: &Tree, path: &RelPath) -> Result<Found, Error> {
    tree.lookup(path)?.ok_or_else(|| {
        let above = path.parent().filter(|p| !p.is_root()).map_or(String::new(), |p| format!(" {p}"));
        Error::not_found(format!("there is no {path} in {version}"))
            .with_hint(format!("`cairn ls {version}{above}` shows what there is"))
    })
}

fn line(context: &mut Context, path: &RelPath, entry: &Entry, detailed: bool) -> Result<(), Failure> {
    if context.json() {
        return context.out.json(&Line::of(path.as_bytes(), entry));
    }
    if detailed {
        context.out.bytes(long(entry).as_bytes())?;
    }
    context.out.name(path.as_bytes())?;
    if entry.is_directory() {
        context.out.bytes(b"/")?;
    }
    if let Some(target) = points_at(entry).filter(|_| detailed) {
        context.out.bytes(b" -> ")?;
        context.out.name(target)?;
    }
    context.out.bytes(b"\n")
}

/// Writes a file's bytes to stdout.
pub fn cat(context: &mut Context, args: Cat) -> CommandResult {
    let path = RelPath::parse(args.path.as_bytes())?;
    let version = context.version(&args.version)?;
    found(&version, &version.tree()?, &path)?;
    let mut from = version.open(path.as_bytes())?;
    context.out.copy(&mut from, &format!("{version} {path}"))?;
    Ok(0)
}
