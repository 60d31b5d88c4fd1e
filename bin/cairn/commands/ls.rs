//! `cairn ls` and `cairn cat`

use super::entry::{Line, long, points_at};
use super::shared_args::DraftSide;
use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::Context;
use cairn::catalog::{Selector, SharedEntries, Version, VersionSpec};
use cairn::error::{Error, shell_path, shell_word};
use cairn::manifest::{Entry, FoundEntry, Tree};
use cairn::types::RelPath;
use clap::Args;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `cairn ls`
#[derive(Args, Debug)]
pub struct LsArgs {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// A directory or a file of the version [default: its root]
    pub path: Option<OsString>,
    /// Print mode, bytes, digest and path
    #[arg(short, long)]
    pub long: bool,
    /// List everything below, not only one level
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// A draft of the artifact.
    #[command(flatten)]
    pub draft: DraftSide,
}

/// The text of `--help`.
pub const LS_HELP: Help = Help {
    description: &[
        "Paths are complete, from the root of the version. A directory ends with /.",
        "With -l, an entry that was added from another version is followed by its source: from cairn://NAME:vN/PATH.",
        "With --draft, lists what `cairn finish` would make of a draft now. What is not sealed is not in it.",
    ],
    examples: &[
        ("cairn ls images", "the top level of the newest version"),
        ("cairn ls images:v3 2026/raw -l", ""),
        ("cairn ls images:prod -R", "everything"),
        ("cairn ls images -R --json | jq -r 'select(.size > 1000000).path'", ""),
        ("cairn ls eval --draft eval-7 -R", "what the runs have contributed so far"),
    ],
    exit: &[],
    json: "One line for each entry: {\"path\", \"kind\", \"size\", \"digest\", \"exec\", \"target\", \
         \"uri\"}. Fields that do not apply are absent. kind is file, directory, symlink or reference. If \
         a name is not UTF-8, path is an approximation and path_b64 has the exact bytes.",
    list: None,
};

/// `cairn cat`
#[derive(Args, Debug)]
pub struct CatArgs {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// A file of the version
    pub path: OsString,
}

/// The text of `--help`.
pub const CAT_HELP: Help = Help {
    description: &[
        "Of a file shorter than 128 KiB, the bytes are compared with its digest before they are written; of a \
                    longer one, only size and time, unless `cairn verify` found it damaged. `cairn verify` compares \
                    all bytes.",
    ],
    examples: &[("cairn cat model:prod config.json", ""), ("cairn cat shop-db shop.sql | mysql shop", "")],
    exit: &[],
    json: "",
    list: None,
};

/// Lists what is at a path.
pub fn ls(context: &mut Context, args: LsArgs) -> CommandResult {
    let path = args.path.as_ref().map_or(Ok(RelPath::root()), |p| RelPath::parse_or_root(p.as_bytes()))?;
    let (of, tree) = listed(context, &args)?;
    let FoundEntry { entry, rank } = found(&of, &tree, &path)?;
    let mut shared = of.version.as_ref().filter(|_| args.long && !context.json()).map(SharedEntries::of);
    let mut show = |path: &RelPath, entry: &Entry| {
        let source = shared.as_mut().map_or(Ok(None), |shared| shared.source(path, entry))?;
        line(context, path, entry, args.long, source)
    };
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

/// What is listed, and its name.
fn listed(context: &Context, args: &LsArgs) -> Result<(Listed, Tree), Error> {
    let spec = VersionSpec::parse(&args.version)?;
    if let Some((name, tree)) = args.draft.tree(context, &spec.artifact)? {
        if spec.selector != Selector::Latest {
            return Err(Error::usage(format!("`{}` names a version, and --draft names a draft", args.version))
                .with_hint(format!("`cairn ls {} --draft ID` lists a draft", spec.artifact)));
        }
        let id = args.draft.draft.as_deref().unwrap_or_default();
        return Ok((
            Listed { name, arguments: format!("{} --draft {}", spec.artifact, shell_word(id)), version: None },
            tree,
        ));
    }
    let version = context.version(&args.version)?;
    Ok((Listed::of(&version), version.tree()?))
}

/// What a path is searched in: what it is called, and the arguments of `cairn ls` for it.
struct Listed {
    name: String,
    arguments: String,
    version: Option<Version>,
}

impl Listed {
    fn of(version: &Version) -> Listed {
        Listed { name: version.to_string(), arguments: version.to_string(), version: Some(version.clone()) }
    }
}

fn found(of: &Listed, tree: &Tree, path: &RelPath) -> Result<FoundEntry, Error> {
    tree.lookup(path)?.ok_or_else(|| {
        let above = path
            .parent()
            .filter(|p| !p.is_root())
            .map_or(String::new(), |p| format!(" {}", shell_path(&p.on_disk(Path::new("")))));
        Error::not_found(format!("there is no {path} in {}", of.name))
            .with_hint(format!("`cairn ls {}{above}` shows what there is", of.arguments))
    })
}

fn line(
    context: &mut Context,
    path: &RelPath,
    entry: &Entry,
    detailed: bool,
    source: Option<String>,
) -> Result<(), Failure> {
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
    if let Some(source) = source {
        context.out.bytes(format!(" from {source}").as_bytes())?;
    }
    context.out.bytes(b"\n")
}

/// Writes a file's bytes to stdout.
pub fn cat(context: &mut Context, args: CatArgs) -> CommandResult {
    let path = RelPath::parse(args.path.as_bytes())?;
    let version = context.version(&args.version)?;
    let FoundEntry { entry, .. } = found(&Listed::of(&version), &version.tree()?, &path)?;
    let mut from = version.open_entry(&path, &entry)?;
    context.out.copy(&mut from, &format!("{version} {path}"))?;
    Ok(0)
}
