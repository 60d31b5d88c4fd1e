//! `cairn diff`

use super::entry::{Fields, json_name};
use super::shared_args::{DraftSide, ScanArgs};
use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::{Context, colour};
use crate::progress::human;
use cairn::error::{Error, Result, show_path};
use cairn::internals::commit;
use cairn::internals::manifest::{Renames, diff, renames};
use cairn::manifest::{Change, Diff, Entry, Tree};
use cairn::types::{ArtifactName, RelPath};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `cairn diff`
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// The version to compare from
    #[arg(value_name = "A")]
    pub from: String,
    /// A version, or a directory (./dir, ../dir, /dir)
    #[arg(value_name = "B", required_unless_present = "draft", conflicts_with = "draft")]
    pub to: Option<OsString>,
    /// A draft of A's artifact instead of B.
    #[command(flatten)]
    pub draft: DraftSide,
    /// Print only counts and bytes
    #[arg(long)]
    pub stat: bool,
    /// How a directory is read.
    #[command(flatten)]
    pub scan: ScanArgs,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Prints one line for each path that differs: `A path` (added), `D path` (removed), `M path` \
         (changed), `R old -> new` (renamed).",
        "A file or directory is renamed if the same content was removed at one path and added at another, and only \
         there. If more than 65,536 paths differ, renames are not searched for.",
        "B is a directory if it begins with ./, ../ or /, or if it is . or .. itself. A directory is \
         compared as `cairn put` would store it: --exclude, --follow-symlinks, --skip-special and \
         --rehash apply to it, and .cairnignore files too.",
        "With --draft, B is what `cairn finish` would make of a draft of the same artifact now.",
    ],
    examples: &[
        ("cairn diff images:v3 images", "v3 against the newest version"),
        ("cairn diff images ./photos", "what a put of ./photos would change"),
        ("cairn diff images:v3 images:v4 --stat", ""),
        ("cairn diff eval --draft eval-7", "what the draft would change of the newest version"),
        ("cairn diff images:v3 ./photos --json > changes.json", "`cairn patch --from-diff` takes it"),
    ],
    exit: &[(0, "no differences"), (1, "there are differences")],
    json: "{\"from\", \"to\", \"from_digest\", \"to_digest\", \"changes\": [{\"path\", \"change\": \
         \"added|removed|changed\", \"old\", \"new\"}], \"renames\": [{\"old\", \"new\", \"kind\"}], \
         \"added\", \"removed\", \"changed\", \"renamed\", \"bytes_added\", \"bytes_removed\"}\n\
         old and new of a change are entries as `cairn ls --json` prints them. What is renamed is in changes too, \
         as added and removed. renames is null if they were not searched for.",
    list: None,
};

/// One change in JSON.
#[derive(Serialize)]
struct Line<'a> {
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    change: &'static str,
    old: Option<Fields<'a>>,
    new: Option<Fields<'a>>,
}

/// One rename in JSON.
#[derive(Serialize)]
struct RenameLine<'a> {
    old: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_b64: Option<String>,
    new: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_b64: Option<String>,
    kind: &'static str,
}

/// What changed in all.
#[derive(Default)]
struct Sum {
    added: u64,
    removed: u64,
    changed: u64,
    /// Pairs of removed and added paths; `None`: they were not searched for.
    renamed: Option<u64>,
    bytes_added: u64,
    bytes_removed: u64,
}

/// Up to this many changes are kept in memory to find renames among them.
const KEPT: usize = 1 << 16;

/// Compares; exit status 1 when there are differences.
pub fn run(context: &mut Context, args: DiffArgs) -> CommandResult {
    if is_directory(OsStr::new(&args.from)) {
        return Err(Error::usage(format!("`{}` is a directory: the first argument must be a version", args.from))
            .with_hint("name the directory second; `A` and `D` are then exchanged")
            .into());
    }
    let from = context.version(&args.from).map_err(|e| {
        let hint = || format!("the directory is written ./{}, and comes second", args.from);
        if Path::new(&args.from).is_dir() { e.with_hint(hint()) } else { e }
    })?;
    let (to_name, to) = other_side(context, &args, from.artifact())?;
    let tree = from.tree()?;
    match compare(context, &args, &from.to_string(), &tree, &to_name, &to) {
        // The reader has gone, but whether the two differ is known.
        Err(Failure::PipeClosed) => Ok(u8::from(tree.digest() != to.digest())),
        done => done,
    }
}

fn compare(context: &mut Context, args: &DiffArgs, from: &str, tree: &Tree, to_name: &str, to: &Tree) -> CommandResult {
    if context.json() {
        let digests = (tree.digest(), to.digest());
        let head = json!({ "from": from, "to": to_name, "from_digest": digests.0, "to_digest": digests.1 }).to_string();
        context.out.bytes(&head.as_bytes()[..head.len() - 1])?;
        context.out.bytes(if args.stat { b"" } else { b",\"changes\":[" })?;
    }
    let sum = print(context, args.stat, diff(tree, to))?;
    sum.show(context, args.stat)?;
    Ok(u8::from(!sum.is_empty()))
}

/// Prints the changes, or only counts them; if they are few enough, with their renames.
fn print(context: &mut Context, stat: bool, mut changes: Diff) -> std::result::Result<Sum, Failure> {
    let first: Vec<Change> = changes.by_ref().take(KEPT).collect::<Result<_>>()?;
    let next = changes.next().transpose()?;
    let found = if next.is_none() { renames(&first) } else { Renames::default() };
    let mut sum = Sum { renamed: next.is_none().then_some(found.pairs.len() as u64), ..Sum::default() };
    let mut pairs = found.pairs.iter().peekable();
    for (i, change) in first.iter().enumerate() {
        if !stat && (context.json() || !found.is_part.get(i).is_some_and(|part| *part)) {
            show(context, change, sum.is_empty())?;
        }
        if let Some((old, _)) = pairs.next_if(|(_, new)| *new == i && !stat && !context.json()) {
            show_rename(context, &first[*old].path, change)?;
        }
        sum.add(change);
    }
    for change in next.map(Ok).into_iter().chain(changes) {
        let change = change?;
        if !stat {
            show(context, &change, sum.is_empty())?;
        }
        sum.add(&change);
    }
    if !stat && context.json() {
        context.out.bytes(b"],\"renames\":")?;
        let line = |(old, new): &(usize, usize)| rename_line(&first[*old], &first[*new]);
        let renames = sum.renamed.map(|_| found.pairs.iter().map(line).collect::<Vec<_>>());
        context.out.json_part(&renames)?;
    }
    Ok(sum)
}

fn rename_line<'a>(old: &'a Change, new: &'a Change) -> RenameLine<'a> {
    let kind = if new.new.as_ref().is_some_and(Entry::is_directory) { "directory" } else { "file" };
    let ((old, old_b64), (new, new_b64)) = (json_name(old.path.as_bytes()), json_name(new.path.as_bytes()));
    RenameLine { old, old_b64, new, new_b64, kind }
}

fn show_rename(context: &mut Context, old: &RelPath, change: &Change) -> std::result::Result<(), Failure> {
    let slash: &[u8] = if change.new.as_ref().is_some_and(Entry::is_directory) { b"/" } else { b"" };
    context.out.begin_colour(colour::CYAN)?;
    context.out.bytes(b"R ")?;
    context.out.name(old.as_bytes())?;
    context.out.bytes(&[slash, b" -> "].concat())?;
    context.out.name(change.path.as_bytes())?;
    context.out.bytes(slash)?;
    context.out.end_colour()?;
    context.out.bytes(b"\n")
}

/// B: a version, a draft, or a directory hashed without being stored.
fn other_side(context: &Context, args: &DiffArgs, artifact: &ArtifactName) -> Result<(String, Tree)> {
    if let Some(draft) = args.draft.tree(context, artifact)? {
        return Ok(draft);
    }
    let to = args.to.as_deref().unwrap_or_default();
    if !is_directory(to) {
        let name = to
            .to_str()
            .ok_or_else(|| Error::usage(format!("{} is not the name of a version", show_path(Path::new(to)))))?;
        let version = context.version(name).map_err(|e| {
            if Path::new(name).is_dir() { e.with_hint(format!("the directory is written ./{name}")) } else { e }
        })?;
        return Ok((version.to_string(), version.tree()?));
    }
    let options = args.scan.options();
    let dir = Path::new(to);
    if !dir.exists() {
        return Err(Error::not_found(format!("{} does not exist", show_path(dir))));
    }
    let bar = context.bar("diff");
    let tree = commit::scan_dir(dir, &options, Some(&context.store()?), &bar.progress())?;
    Ok((to.to_string_lossy().into_owned(), tree))
}

fn is_directory(side: &OsStr) -> bool {
    let bytes = side.as_bytes();
    bytes == b"." || bytes == b".." || [&b"./"[..], b"../", b"/"].iter().any(|p| bytes.starts_with(p))
}

fn kind(change: &Change) -> (u8, &'static str) {
    match (&change.old, &change.new) {
        (None, _) => (b'A', "added"),
        (_, None) => (b'D', "removed"),
        _ => (b'M', "changed"),
    }
}

fn show(context: &mut Context, change: &Change, first: bool) -> std::result::Result<(), Failure> {
    let (letter, change_name) = kind(change);
    if context.json() {
        if !first {
            context.out.bytes(b",")?;
        }
        let (path, path_b64) = json_name(change.path.as_bytes());
        let line = Line {
            path,
            path_b64,
            change: change_name,
            old: change.old.as_ref().map(Fields::of),
            new: change.new.as_ref().map(Fields::of),
        };
        return context.out.json_part(&line);
    }
    context.out.begin_colour(match letter {
        b'A' => colour::GREEN,
        b'D' => colour::RED,
        _ => colour::YELLOW,
    })?;
    context.out.bytes(&[letter, b' '])?;
    context.out.name(change.path.as_bytes())?;
    let is_directory = change.new.as_ref().or(change.old.as_ref()).is_some_and(Entry::is_directory);
    context.out.bytes(if is_directory { b"/" } else { b"" })?;
    context.out.end_colour()?;
    context.out.bytes(b"\n")
}

impl Sum {
    fn is_empty(&self) -> bool {
        self.added + self.removed + self.changed == 0
    }

    fn add(&mut self, change: &Change) {
        match kind(change).1 {
            "added" => self.added += 1,
            "removed" => self.removed += 1,
            _ => self.changed += 1,
        }
        self.bytes_removed += change.old.as_ref().map_or(0, bytes);
        self.bytes_added += change.new.as_ref().map_or(0, bytes);
    }

    fn show(&self, context: &mut Context, alone: bool) -> std::result::Result<(), Failure> {
        if context.json() {
            let tail = json!({ "added": self.added, "removed": self.removed, "changed": self.changed,
            "renamed": self.renamed, "bytes_added": self.bytes_added, "bytes_removed": self.bytes_removed });
            context.out.bytes(b",")?;
            return context.out.line(&tail.to_string()[1..]);
        }
        if !alone {
            return Ok(());
        }
        let Sum { added, removed, changed, renamed, bytes_added, bytes_removed } = self;
        let renamed = match renamed {
            Some(renamed) if *renamed > 0 => format!(" ({renamed} of them renamed)"),
            _ => String::new(),
        };
        context.out.line(&format!(
            "{added} added, {removed} removed{renamed}, {changed} changed; their size: {} now, {} before",
            human(*bytes_added),
            human(*bytes_removed)
        ))
    }
}

fn bytes(entry: &Entry) -> u64 {
    match entry {
        Entry::File { size, .. } => *size,
        Entry::Reference(r) => r.size.unwrap_or(0),
        _ => 0,
    }
}
