//! `cairn log`

use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use crate::times::{Times, duration};
use cairn::catalog::history::{self, DraftChange, Event, Happening};
use cairn::catalog::{Selector, VersionSpec};
use cairn::error::{Error, Kind, Result, show_list};
use cairn::types::{AliasName, ArtifactName, VersionNumber};
use clap::Args;
use serde_json::{Value, json};

/// `cairn log`
#[derive(Args, Debug)]
pub struct LogArgs {
    /// An artifact, or one of its aliases; without it, all artifacts
    #[arg(value_name = "NAME[:ALIAS]")]
    pub name: Option<String>,
    /// Print at most this many events
    #[arg(long, short = 'n', value_name = "N", value_parser = super::shared_args::whole::<usize>(0..=u64::MAX))]
    pub limit: Option<usize>,
    /// Print times as "3 hours ago"
    #[arg(long)]
    pub relative: bool,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Prints who published, removed and restored versions, moved aliases, annotated versions, and contributed to, \
         discarded and finished drafts, and when. The newest event comes first. Uses by runs are shown by `cairn \
         lineage`.",
        "Times are those of the hosts that did it: local on a terminal, UTC elsewhere. Records of older releases do \
         not have users and hosts.",
        "Times are in whole seconds. Events of the same second may be listed in another order, except versions, the \
         moves of one alias, the annotations of one version and the records of one draft; and a version comes before \
         anything that concerns it. Events of hosts whose clocks differ may also be listed in another order.",
    ],
    examples: &[
        ("cairn log images", ""),
        ("cairn log model:prod", "where the alias prod pointed, and since when"),
        ("cairn log --limit 20", "the newest events of all artifacts"),
        ("cairn log images --json | jq -r 'select(.event == \"removed\").version'", ""),
    ],
    exit: &[],
    json: "One line for each event: {\"at\", \"event\", \"artifact\", \"version\", \"alias\", \"from\", \
         \"distributed_id\", \"mode\", \"tags\", \"removed_tags\", \"description\", \"metadata\", \"ttl_seconds\", \
         \"user\", \"host\", \"run\"}. Fields that do not apply are absent. event is published, removed, \
         restored, alias, unalias, annotated, contributed, dropped, discarded or finished.",
    list: None,
};

/// Prints events.
pub fn run(context: &mut Context, args: LogArgs) -> CommandResult {
    let wanted = args.name.as_deref().map(parse).transpose()?;
    let store = context.store()?;
    match &wanted {
        Some((name, alias)) => {
            let mut events = history::of(&store, name, alias.as_ref())?.peekable();
            if let Some(alias) = alias.as_ref().filter(|_| events.peek().is_none()) {
                return Err(Error::not_found(format!("{name} never had an alias {alias}"))
                    .with_hint(format!("`cairn list {name}` shows its aliases"))
                    .into());
            }
            print(context, events, &args)
        }
        None => print(context, history::all(&store)?, &args),
    }
}

fn print(context: &mut Context, events: impl Iterator<Item = Result<Event>>, args: &LogArgs) -> CommandResult {
    let times = context.times(args.relative);
    for event in events.take(args.limit.unwrap_or(usize::MAX)) {
        let event = match event {
            Err(e) if e.kind() == Kind::Damaged => {
                context.warn(&format!("a record is damaged: {e:#}"));
                continue;
            }
            event => event?,
        };
        if context.json() {
            context.out.json(&document(&event))?;
        } else {
            context.out.line(&line(&event, &times))?;
        }
    }
    Ok(0)
}

fn parse(text: &str) -> Result<(ArtifactName, Option<AliasName>)> {
    if !text.contains(':') {
        return Ok((ArtifactName::parse(text)?, None));
    }
    let spec = VersionSpec::parse(text)?;
    match &spec.selector {
        Selector::AliasOrDigest(alias) => Ok((spec.artifact, Some(AliasName::parse(alias)?))),
        _ => Err(Error::usage(format!("`{text}` is a version; the log is of an artifact or of an alias"))
            .with_hint(format!("`cairn log {}` lists what happened to all its versions", spec.artifact))),
    }
}

/// The name of an event.
fn name(what: &Happening) -> &'static str {
    match what {
        Happening::Published { .. } => "published",
        Happening::Removed(_) => "removed",
        Happening::Restored(_) => "restored",
        Happening::Alias { to: None, .. } => "unalias",
        Happening::Alias { .. } => "alias",
        Happening::Annotated { .. } => "annotated",
        Happening::Draft { change: DraftChange::Contributed, .. } => "contributed",
        Happening::Draft { change: DraftChange::Dropped, .. } => "dropped",
        Happening::Draft { change: DraftChange::Discarded, .. } => "discarded",
        Happening::Draft { change: DraftChange::Finished, .. } => "finished",
        _ => "other",
    }
}

fn show(version: Option<VersionNumber>) -> String {
    version.map_or("nothing".to_owned(), |version| version.to_string())
}

fn line(event: &Event, times: &Times) -> String {
    let artifact = &event.artifact;
    let what = match &event.what {
        Happening::Published { version, mode } => format!("{artifact}:{version} ({})", mode.as_str()),
        Happening::Removed(version) | Happening::Restored(version) => format!("{artifact}:{version}"),
        Happening::Alias { alias, from: None, to: Some(to) } => format!("{artifact}:{alias} set to {to}"),
        Happening::Alias { alias, from, to } => format!("{artifact}:{alias} {} -> {}", show(*from), show(*to)),
        Happening::Annotated { version, tags, removed_tags, description, metadata, ttl_seconds } => {
            let mut parts = Vec::new();
            parts.extend((!tags.is_empty()).then(|| format!("tagged {}", show_list(tags))));
            parts.extend((!removed_tags.is_empty()).then(|| format!("untagged {}", show_list(removed_tags))));
            parts.extend(description.then(|| "description".to_owned()));
            parts.extend(metadata.then(|| "metadata".to_owned()));
            parts.extend(ttl_seconds.map(|ttl| match ttl {
                0 => "never expires".to_owned(),
                ttl => format!("expires {} after it was made", duration(ttl)),
            }));
            if parts.is_empty() {
                parts.push("made again".to_owned());
            }
            format!("{artifact}:{version} {}", parts.join("; "))
        }
        Happening::Draft { id, .. } => format!("{artifact} draft {id}"),
        _ => artifact.to_string(),
    };
    format!("{}  {:<11} {what}{}", times.show(&event.at), name(&event.what), event.by)
}

fn document(event: &Event) -> Value {
    let mut out = json!({ "at": event.at, "event": name(&event.what), "artifact": event.artifact });
    let more = match &event.what {
        Happening::Published { version, mode } => json!({ "version": version, "mode": mode }),
        Happening::Removed(version) | Happening::Restored(version) => json!({ "version": version }),
        Happening::Alias { alias, from, to } => json!({ "alias": alias, "from": from, "version": to }),
        Happening::Annotated { version, tags, removed_tags, description, metadata, ttl_seconds } => json!({
            "version": version, "tags": tags, "removed_tags": removed_tags, "description": description,
            "metadata": metadata, "ttl_seconds": ttl_seconds,
        }),
        Happening::Draft { id, .. } => json!({ "distributed_id": id }),
        _ => json!({}),
    };
    let by = json!({ "user": event.by.origin.user, "host": event.by.origin.host, "run": event.by.run });
    if let Value::Object(out) = &mut out {
        for (key, value) in [more, by].into_iter().filter_map(|part| part.as_object().cloned()).flatten() {
            if !value.is_null() || key == "from" || key == "version" {
                out.insert(key, value);
            }
        }
    }
    out
}
