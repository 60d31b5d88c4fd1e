//! `cairn tag`, `cairn untag` and `cairn annotate`

use super::put::{metadata, parts};
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use crate::times::parse_duration;
use cairn::catalog::{Note, Version, note};
use cairn::error::{Error, Result};
use cairn::types::Tag;
use clap::Args;
use serde_json::json;

/// `cairn tag` and `cairn untag`
#[derive(Args, Debug)]
pub struct TagArgs {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// The tags
    #[arg(required = true, value_name = "TAG")]
    pub tags: Vec<String>,
}

/// The text of `cairn tag --help`.
pub const TAG_HELP: Help = Help {
    description: &[
        "Adds tags to a version. Its content does not change. A tag describes a version and does not name it: any \
         number of versions can have the same one, and `cairn list NAME --tag TAG` lists them. To name a version, use \
         `cairn alias`.",
        "A tag consists of words of letters, digits, _ and -. Words are separated by spaces: 'for review' in \
         quotes is one tag.",
    ],
    examples: &[("cairn tag images:v3 golden reviewed", "two tags"), ("cairn list images --tag golden", "")],
    exit: &[],
    json: "{\"artifact\", \"version\", \"tags\"}\ntags are all tags of the version now.",
    list: None,
};

/// The text of `cairn untag --help`.
pub const UNTAG_HELP: Help = Help {
    description: &["Removes tags from a version. If it does not have one of them, nothing is changed."],
    examples: &[("cairn untag images:v3 golden", "")],
    exit: &[],
    json: "{\"artifact\", \"version\", \"tags\"}\ntags are all tags of the version now.",
    list: None,
};

/// `cairn annotate`
#[derive(Args, Debug)]
pub struct AnnotateArgs {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// The new description
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// The new metadata: a JSON object, or @FILE to read it from a file
    #[arg(long, value_name = "JSON|@FILE")]
    pub metadata: Option<String>,
    /// Keep the metadata keys that the new object does not have
    #[arg(long)]
    pub merge: bool,
    /// The version expires this long after it was made: a number with s, m, h or d; none: never
    #[arg(long, value_name = "DURATION|none", value_parser = ttl, allow_hyphen_values = true)]
    pub ttl: Option<u64>,
}

/// Just above 100 years, in seconds.
const MAX_TTL: u64 = 36_525 * 24 * 60 * 60 + 1;

fn ttl(text: &str) -> std::result::Result<u64, String> {
    match text {
        "none" => Ok(0),
        _ => match parse_duration(text)?.as_secs() {
            0 => Err("expected more than 0, or none".to_owned()),
            MAX_TTL.. => Err("that is more than 100 years: none means that it does not expire".to_owned()),
            seconds => Ok(seconds),
        },
    }
}

/// The text of `cairn annotate --help`.
pub const ANNOTATE_HELP: Help = Help {
    description: &[
        "Sets the description, the metadata and the time to live of a version. Its content does not change. Without \
         --merge the new metadata replaces the old. `cairn log` shows who changed what.",
        "The time to live only marks the version: `cairn rm NAME --expired` removes it when its time has ended, and \
         nothing else does.",
    ],
    examples: &[
        ("cairn annotate model:v3 --description 'trained on the clean set'", ""),
        ("cairn annotate crawl:v3 --ttl 30d", "`cairn rm crawl --expired` may remove it after 30 days"),
        ("cairn annotate model:v3 --metadata '{\"accuracy\": 0.97}' --merge", "other keys stay"),
    ],
    exit: &[],
    json: "{\"artifact\", \"version\", \"description\", \"metadata\", \"ttl_seconds\"}\nAll are as recorded now.",
    list: None,
};

/// Adds tags.
pub fn tag(context: &mut Context, args: TagArgs) -> CommandResult {
    let tags = parse(&args.tags)?;
    let version = context.version(&args.version)?;
    note::add(&version, Note { add_tags: tags, ..Note::default() })?;
    print_tags(context, &version)
}

/// Removes tags.
pub fn untag(context: &mut Context, args: TagArgs) -> CommandResult {
    let tags = parse(&args.tags)?;
    let version = context.version(&args.version)?;
    note::edit(&version, |before| match tags.iter().find(|tag| !before.tags.contains(tag)) {
        Some(missing) => Err(Error::not_found(format!("{version} does not have the tag {missing}"))
            .with_hint(format!("`cairn show {version}` shows its tags; nothing was changed"))),
        None => Ok(Note { remove_tags: tags.clone(), ..Note::default() }),
    })?;
    print_tags(context, &version)
}

fn parse(tags: &[String]) -> Result<Vec<Tag>> {
    tags.iter().map(|tag| Tag::parse(tag)).collect()
}

fn print_tags(context: &mut Context, version: &Version) -> CommandResult {
    let tags = version.annotations()?.tags;
    if context.json() {
        let document = json!({ "artifact": version.artifact(), "version": version.number(), "tags": tags });
        context.out.json(&document)?;
    } else {
        let tags: Vec<String> = tags.iter().map(|tag| tag.to_string()).collect();
        context.out.line(&format!("{version}  {}", crate::output::dash(&tags.join(","))))?;
    }
    Ok(0)
}

/// Sets description, metadata and time to live.
pub fn annotate(context: &mut Context, args: AnnotateArgs) -> CommandResult {
    if args.merge && args.metadata.is_none() {
        return Err(
            Error::usage("--merge needs --metadata: it keeps the keys that the new metadata does not have").into()
        );
    }
    if args.description.is_none() && args.metadata.is_none() && args.ttl.is_none() {
        return Err(Error::usage("nothing to annotate: give --description, --metadata or --ttl").into());
    }
    let given = args.metadata.as_deref().map(metadata).transpose()?;
    let version = context.version(&args.version)?;
    let recorded = note::edit(&version, |before| {
        let metadata = match &given {
            Some(given) if args.merge => {
                let mut merged = before.metadata.clone();
                merged.extend(given.clone());
                note::check_metadata(&merged)?;
                Some(merged)
            }
            given => given.clone(),
        };
        Ok(Note { description: args.description.clone(), metadata, ttl_seconds: args.ttl, ..Note::default() })
    })?;
    if context.json() {
        let now = version.annotations()?;
        context.out.json(&json!({
            "artifact": version.artifact(), "version": version.number(), "description": now.description,
            "metadata": now.metadata, "ttl_seconds": now.ttl_seconds,
        }))?;
    } else {
        context.out.line(&version.to_string())?;
        context.out.flush()?;
    }
    let parts = parts(&recorded);
    let said = if parts.is_empty() { "nothing changed".to_owned() } else { format!("recorded: {}", parts.join(", ")) };
    context.status(&said);
    Ok(0)
}
