//! `cairn show`

use super::entry::json_name;
use super::table::show_entry;
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::{Context, count};
use crate::progress::human;
use cairn::Draft;
use cairn::catalog::origin::Actor;
use cairn::catalog::retention::expires_at;
use cairn::catalog::{Contribution, RunRecord, SharedRecord, Version};
use cairn::error::Result;
use cairn::internals::clock;
use clap::Args;
use serde_json::{Value, json};

/// `cairn show`
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// An entry of the version, to show what it is
    pub path: Option<String>,
    /// Print times as "3 hours ago"
    #[arg(long)]
    pub relative: bool,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Prints the digest, type, aliases, tags, description, metadata, counts and times, and the first ten \
         runs that made this content. MODE says how the version was made: simple (a put or a copy), patch, or \
         collaborative (a finish, of the contributions of many runs). `cairn lineage` shows which runs used the \
         version, and `cairn log` what happened to it.",
        "With PATH: what the entry at that path is. A table shows its first rows, an image its size.",
    ],
    examples: &[
        ("cairn show images:v3", ""),
        ("cairn show images --json | jq .metadata", ""),
        ("cairn show eval pred.table.json", "one entry"),
    ],
    exit: &[],
    json: "{\"artifact\", \"version\", \"type\", \"digest\", \"aliases\", \"tags\", \"description\", \
         \"metadata\", \"entries\", \"files\", \"bytes\", \"new_bytes\", \"created_at\", \"mode\", \
         \"run\", \"group\", \"job_type\", \"runs\", \"user\", \"host\", \"base\", \"distributed_id\", \"source\", \
         \"shared\", \"ttl_seconds\", \"expires_at\", \"contributions\"}\n\
         user is {\"uid\", \"name\"}. base is the version that a patch changed, source the version that was copied: \
         {\"artifact\", \"version\", \"digest\", \"store_id\"}. shared is what was added from other versions: \
         [{\"uri\", \"source\", \"path\", \"at\", \"content\"}], where content is the digest of a file; if it was \
         more than 100 additions, each source is listed once, without paths. contributions are those of a \
         collaborative version: [{\"run\", \"files\", \"bytes\", \"at\", \"user\", \"host\"}]. runs lists all runs \
         that made the same content. With PATH: the fields of `cairn ls --json`, and object for a table, image, list \
         of classes or HTML page.",
    list: None,
};

/// How many of the runs that made the same content are printed.
const SHOWN_RUNS: usize = 10;

/// All that is known of a version.
pub fn run(context: &mut Context, args: ShowArgs) -> CommandResult {
    let version = context.version(&args.version)?;
    if let Some(path) = &args.path {
        return show_entry(context, &version, path);
    }
    let (record, notes, aliases) = (version.record(), version.annotations()?, version.aliases()?);
    let run = record.run.as_ref();
    let contributions = contributions(&version)?;
    let expires = expires(&record.created_at, notes.ttl_seconds);
    if context.json() {
        context.out.json(&json!({
            "artifact": version.artifact(), "version": version.number(), "type": record.kind,
            "digest": version.digest(),
            "aliases": aliases, "tags": notes.tags, "description": notes.description, "metadata": notes.metadata,
            "entries": record.entries, "files": record.files, "bytes": record.bytes, "new_bytes": record.new_bytes,
            "created_at": record.created_at, "mode": record.mode, "run": run.map(|r| &r.id),
            "user": record.origin.user, "host": record.origin.host, "base": record.base,
            "distributed_id": record.distributed_id, "source": record.source,
            "shared": record.shared.iter().map(shared_document).collect::<Vec<_>>(),
            "ttl_seconds": notes.ttl_seconds, "expires_at": expires,
            "contributions": contributions.iter().map(contribution_document).collect::<Vec<_>>(),
            "group": run.and_then(|r| r.group.as_ref()), "job_type": run.and_then(|r| r.job_type.as_ref()),
            "runs": notes.runs.iter().map(run_document).collect::<Vec<_>>(),
        }))?;
        return Ok(0);
    }
    let times = context.times(args.relative);
    let tags: Vec<_> = notes.tags.iter().map(|t| t.to_string()).collect();
    let mut lines = vec![
        ("version", version.to_string()),
        ("type", record.kind.to_string()),
        ("digest", version.digest().to_string()),
        ("aliases", aliases.join(", ")),
        ("tags", tags.join(", ")),
        ("description", notes.description.unwrap_or_default()),
        (
            "content",
            format!("{} in {}, {}", count(record.files, "file"), count(record.entries, "entry"), bytes(record.bytes)),
        ),
        ("new content", bytes(record.new_bytes)),
        ("created", times.show(&record.created_at)),
        ("expires", expires.map(|at| times.show(&at)).unwrap_or_default()),
        ("mode", record.mode.as_str().to_owned()),
        ("base", record.base.map(|base| base.to_string()).unwrap_or_default()),
        ("source", record.source.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("draft", record.distributed_id.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("user", record.origin.user.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("host", record.origin.host.clone().unwrap_or_default()),
    ];
    for (i, run) in notes.runs.iter().take(SHOWN_RUNS).enumerate() {
        lines.push((if i == 0 { "run" } else { "again by run" }, describe(run)));
    }
    if notes.runs.len() > SHOWN_RUNS {
        lines.push(("again by run", format!("{} more, which --json lists", notes.runs.len() - SHOWN_RUNS)));
    }
    lines.extend(contributions.iter().map(|one| ("contribution", contribution_line(one))));
    lines.extend(record.shared.iter().map(|one| ("shared", shared_line(one))));
    lines.extend(notes.metadata.iter().map(|(key, value)| ("metadata", format!("{key} = {value}"))));
    context.out.fields(lines)?;
    Ok(0)
}

/// What counted of the draft that a collaborative version ended.
fn contributions(version: &Version) -> Result<Vec<Contribution>> {
    match &version.record().distributed_id {
        Some(id) => Ok(Draft::new(version.store(), version.artifact(), id).state()?.contributions),
        None => Ok(Vec::new()),
    }
}

fn run_document(run: &RunRecord) -> Value {
    json!({ "run": run.id, "group": run.group, "job_type": run.job_type })
}

fn contribution_document(one: &Contribution) -> Value {
    let record = &one.record;
    json!({
        "run": record.run.id, "files": record.files, "bytes": record.bytes, "at": record.head.at,
        "user": record.head.origin.user, "host": record.head.origin.host,
    })
}

/// What was added from another version, in JSON.
fn shared_document(one: &SharedRecord) -> Value {
    let mut document = json!({ "uri": one.uri(), "source": one.source, "content": one.content });
    for (field, path) in [("path", &one.path), ("at", &one.at)] {
        let Some(path) = path else { continue };
        let (readable, exact) = json_name(path.as_bytes());
        document[field] = json!(readable);
        if let Some(exact) = exact {
            document[format!("{field}_b64")] = json!(exact);
        }
    }
    document
}

/// `images from cairn://images:v3/train`
fn shared_line(one: &SharedRecord) -> String {
    let at = one.at.as_ref().map_or(String::new(), |at| if at.is_root() { "/ ".to_owned() } else { format!("{at} ") });
    let store = one.source.store_id.as_ref().map_or(String::new(), |id| format!(" in store {id}"));
    format!("{at}from {}{store}", one.uri())
}

fn contribution_line(one: &Contribution) -> String {
    let record = &one.record;
    let by = Actor { origin: record.head.origin.clone(), run: None };
    format!("run {}: {}, {}{by}", record.run.id, count(record.files, "file"), human(record.bytes))
}

/// When a version expires.
fn expires(created_at: &str, ttl_seconds: Option<u64>) -> Option<String> {
    expires_at(created_at, ttl_seconds?).map(clock::show)
}

fn bytes(n: u64) -> String {
    if n < 1024 { human(n) } else { format!("{} ({n} bytes)", human(n)) }
}

fn describe(run: &RunRecord) -> String {
    let mut text = run.id.to_string();
    if let Some(group) = &run.group {
        text += &format!(", group {group}");
    }
    if let Some(job) = &run.job_type {
        text += &format!(", job type {job}");
    }
    text
}
