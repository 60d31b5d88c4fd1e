//! `cairn rm`

use super::finish::count_from_one;
use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::Context;
use crate::progress::human;
use crate::times::{about, parse_duration};
use cairn::Store;
use cairn::catalog::remove::{self, Force};
use cairn::catalog::retention::{self, Judged, KeepRules};
use cairn::catalog::sole_content::{SoleContent, sole_content};
use cairn::catalog::{VersionSpec, alias, resolve_number};
use cairn::error::{Error, Result, show_list, show_path};
use cairn::internals::catalog::{lost, version};
use cairn::internals::commit::remove_all;
use cairn::internals::pins;
use cairn::types::{ArtifactName, Tag, VersionNumber};
use clap::Args;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

/// `cairn rm`
#[derive(Args, Debug)]
pub struct RmArgs {
    /// The versions; with --all, --expired or a --keep rule, artifacts
    #[arg(required = true, value_name = "NAME:V|NAME")]
    pub versions: Vec<String>,
    /// Remove every version of these artifacts
    #[arg(long, conflicts_with_all = ["keep_last", "keep_within", "keep_tags", "expired"])]
    pub all: bool,
    /// Keep the newest N versions of each artifact
    #[arg(long, value_name = "N", value_parser = count_from_one)]
    pub keep_last: Option<u64>,
    /// Keep versions that are at most this much older than the newest one: a number with s, m, h or d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub keep_within: Option<Duration>,
    /// Keep versions with this tag (repeatable)
    #[arg(long = "keep-tag", value_name = "TAG")]
    pub keep_tags: Vec<String>,
    /// Remove versions that have expired (`cairn annotate --ttl`), unless a rule keeps them
    #[arg(long)]
    pub expired: bool,
    /// Also remove a version that an alias names, with that alias, or that a mount uses
    #[arg(long, conflicts_with_all = ["keep_last", "keep_within", "keep_tags", "expired"])]
    pub force: bool,
    /// Print what would be removed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Refused while an alias other than latest names the version, or while a mount uses it; --force removes the \
         version all the same, and its aliases. `cairn restore` brings a removed version back until its content is \
         freed. `cairn gc` frees the space, 24 hours after it moved the content to the trash.",
        "A version's number is never used again. The artifact stays, also without versions: a later put makes its next \
         number. There is no command that removes an artifact's name.",
        "With --keep rules NAME is an artifact, and every version of it that no rule keeps is removed. A version stays \
         if any rule keeps it, while an alias other than latest names it, or while a mount uses it. Each version is \
         printed with what keeps it.",
        "--expired removes versions that have expired: the time that `cairn annotate --ttl` gave them has passed since \
         they were made, by this host's clock. Nothing removes them by itself. Versions that do not expire stay.",
        "The bytes that it prints are those of files that no other version and no draft has, as they are read; what \
         the store compressed takes less, and frees less. If there are millions of files to compare, the number is an \
         estimate, and says so.",
    ],
    examples: &[
        ("cairn rm images:v3 images:v4", ""),
        ("cairn rm images:v3 --dry-run", ""),
        ("cairn rm images --all", "every version of images"),
        ("cairn rm images --keep-last 10 --keep-tag golden --dry-run", "what the rules would remove"),
        ("cairn rm images --expired --keep-last 1", "what has expired, except the newest version"),
        ("cairn rm images labels --keep-within 30d", "older than 30 days before the newest version"),
    ],
    exit: &[(3, "refused: an alias or a mount uses the version, or the rules keep no version at all")],
    json: "{\"removed\": [{\"artifact\", \"version\"}], \"kept\": [{\"artifact\", \"version\", \"reasons\"}], \
         \"dry_run\", \"frees_bytes\", \"estimate\"}",
    list: None,
};

/// Versions of one artifact.
struct Chosen {
    name: ArtifactName,
    numbers: Vec<VersionNumber>,
    /// What the rules say of each version; without rules nothing.
    judged: Vec<Judged>,
}

/// Removes versions. All of them are checked before the first is removed.
pub fn run(context: &mut Context, args: RmArgs) -> CommandResult {
    let store = context.store()?;
    let force = if args.force { Force::Yes } else { Force::No };
    let rules = rules(&args)?;
    let chosen =
        if rules.is_empty() { named(&store, &args)? } else { judged(context, &store, &args.versions, &rules)? };
    for one in &chosen {
        remove::check_all(&store, &one.name, &one.numbers, force)?;
    }
    context.if_interrupted("each version is either removed or unchanged; run the command again to remove the rest");
    let overridden = if args.force { overridden(&store, &chosen)? } else { Vec::new() };
    let mut removed = Vec::new();
    let mut result = Ok(());
    for Chosen { name, numbers, .. } in &chosen {
        let mut done = Vec::new();
        if args.dry_run {
            done.clone_from(numbers);
        } else {
            result = remove_all(&store, name, numbers, force, &mut done);
        }
        removed.extend(done.into_iter().map(|number| (name.clone(), number)));
        if result.is_err() {
            break;
        }
    }
    report(context, &store, &chosen, &removed, args.dry_run)?; // also if one of them failed
    for what in overridden.iter().filter(|_| !context.json()) {
        context.status(what);
    }
    result?;
    Ok(0)
}

/// What --force overrides: the aliases that are removed too, and the mounts that show the versions.
fn overridden(store: &Store, chosen: &[Chosen]) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for Chosen { name, numbers, .. } in chosen {
        let aliases = alias::readable(store, name)?.0;
        let mut users = pins::users_of_each(store, name, numbers)?;
        for number in numbers {
            let of_it = aliases.iter().filter(|(_, version)| version == number);
            let names: Vec<String> = of_it.map(|(alias, _)| alias.to_string()).collect();
            if !names.is_empty() {
                out.push(format!("the aliases of {name}:{number} are removed with it: {}", show_list(&names)));
            }
            for user in users.remove(number).unwrap_or_default() {
                let at = user.mountpoint.as_ref().map(|at| format!(" at {}", show_path(Path::new(at))));
                out.push(format!(
                    "{name}:{number} is in use by a {} of {} on {} (process {}){}: what is open there stays readable",
                    user.purpose,
                    user.user,
                    user.host,
                    user.pid,
                    at.unwrap_or_default()
                ));
            }
        }
    }
    Ok(out)
}

fn rules(args: &RmArgs) -> Result<KeepRules> {
    let mut rules = KeepRules::default().tags(args.keep_tags.iter().map(|t| Tag::parse(t)).collect::<Result<_>>()?);
    rules.expired = args.expired;
    rules.last = args.keep_last;
    rules.within = args.keep_within;
    Ok(rules)
}

/// What the rules do not keep.
fn judged(context: &Context, store: &Store, names: &[String], rules: &KeepRules) -> Result<Vec<Chosen>> {
    let mut out = Vec::new();
    for name in names {
        if name.contains(':') {
            return Err(Error::usage(format!("--expired and --keep rules take a name, not the version {name}"))
                .with_hint("omit the rules, or omit the part after the colon"));
        }
        let name = ArtifactName::parse(name)?;
        let judged = retention::judge(store, &name, rules)?;
        if !rules.expired {
            retention::refuse_if_nothing_is_kept(&name, &judged)?;
        }
        check_tags(context, &name, rules, &judged)?;
        let numbers = judged.iter().filter(|j| j.kept_by.is_empty()).map(|j| j.version).collect();
        out.push(Chosen { name, numbers, judged });
    }
    Ok(out)
}

/// A tag that no version has is probably misspelt: the rules would remove what it should keep.
fn check_tags(context: &Context, name: &ArtifactName, rules: &KeepRules, judged: &[Judged]) -> Result<()> {
    let is_found = |tag: &Tag| judged.iter().any(|one| one.kept_by.contains(&format!("tag {tag}")));
    for tag in rules.tags.iter().filter(|tag| !judged.is_empty() && !is_found(tag)) {
        let why = format!("--keep-tag {tag}: no version of {name} has this tag");
        if rules.last.is_none() && rules.within.is_none() && !rules.expired && rules.tags.len() == 1 {
            let hint = format!("`cairn list {name}` shows the tags; nothing was removed");
            return Err(Error::usage(why).with_hint(hint));
        }
        context.warn(&why);
    }
    Ok(())
}

/// The named versions, each once, by artifact. They need not be readable: a damaged version can be removed too.
fn named(store: &Store, args: &RmArgs) -> Result<Vec<Chosen>> {
    let mut out: Vec<Chosen> = Vec::new();
    let mut seen = HashSet::new();
    for argument in &args.versions {
        for (name, number) in those_named(store, argument, args.all)? {
            if !seen.insert((name.clone(), number)) {
                continue;
            }
            match out.iter_mut().find(|one| one.name == name) {
                Some(one) => one.numbers.push(number),
                None => out.push(Chosen { name, numbers: vec![number], judged: Vec::new() }),
            }
        }
    }
    Ok(out)
}

fn those_named(store: &Store, argument: &str, all: bool) -> Result<Vec<(ArtifactName, VersionNumber)>> {
    if all {
        if argument.contains(':') {
            return Err(Error::usage(format!("--all takes a name, not the version {argument}"))
                .with_hint("omit --all, or omit the part after the colon"));
        }
        let name = ArtifactName::parse(argument)?;
        let mut numbers = version::live_numbers(store, &name)?;
        numbers.extend(lost::lost_numbers(store, &name)?.keys());
        if numbers.is_empty() {
            version::versions(store, &name)?; // fails if the artifact does not exist
        }
        return Ok(numbers.into_iter().map(|number| (name.clone(), number)).collect());
    }
    if argument.contains(':') {
        let spec = VersionSpec::parse(argument)?;
        let number = resolve_number(store, &spec)?;
        return Ok(vec![(spec.artifact, number)]);
    }
    ArtifactName::parse(argument)?;
    Err(Error::usage(format!("`{argument}` does not name a version to remove")).with_hint(format!(
        "`cairn rm {argument}:vN` removes one, `cairn rm {argument} --all` every one, \
         `cairn rm {argument} --keep-last N` all but the newest N"
    )))
}

fn report(
    context: &mut Context,
    store: &Store,
    chosen: &[Chosen],
    removed: &[(ArtifactName, VersionNumber)],
    dry_run: bool,
) -> std::result::Result<(), Failure> {
    if context.json() {
        let freed = freed(store, removed);
        context.out.json(&document(chosen, removed, freed, dry_run))?;
    } else if chosen.iter().all(|one| one.judged.is_empty()) {
        for (name, number) in removed {
            context.out.line(&format!("{name}:{number}"))?;
        }
    } else {
        context.out.table(&["VERSION", "", "KEPT BY"], &rows(chosen, removed, dry_run))?;
    }
    context.out.flush()?;
    if !removed.is_empty() && !context.json() && !context.global.quiet {
        context.status(&summary(freed(store, removed), dry_run));
    } else if removed.is_empty() {
        context.status(if dry_run { "nothing would be removed" } else { "nothing was removed" });
    } else if dry_run {
        context.status("would be removed; nothing was changed");
    }
    Ok(())
}

/// What only the removed versions hold; `None` if that cannot be found out.
fn freed(store: &Store, removed: &[(ArtifactName, VersionNumber)]) -> Option<SoleContent> {
    sole_content(store, removed).ok()
}

fn summary(freed: Option<SoleContent>, dry_run: bool) -> String {
    let removed = if dry_run { "would be removed, nothing was changed" } else { "removed" };
    let Some(freed) = freed else { return format!("{removed}; `cairn gc` frees the space") };
    if freed.bytes == 0 {
        return format!(
            "{removed}; this frees nothing, because other versions have the same content; `cairn restore` \
             undoes it"
        );
    }
    let about = if freed.is_estimate { "about " } else { "" };
    let (moves, frees) = if dry_run { ("would move", "free") } else { ("moves", "frees") };
    format!("{removed}; `cairn gc` {moves} {about}{} to the trash, and {frees} it 24 hours later", human(freed.bytes))
}

/// A line for each version that was judged, the newest first.
fn rows(chosen: &[Chosen], removed: &[(ArtifactName, VersionNumber)], dry_run: bool) -> Vec<Vec<String>> {
    let removed: HashSet<_> = removed.iter().collect();
    let mut rows = Vec::new();
    for Chosen { name, judged, .. } in chosen {
        for Judged { version, kept_by, .. } in judged {
            let what = match (removed.contains(&(name.clone(), *version)), kept_by.is_empty()) {
                (true, _) if dry_run => "would be removed",
                (true, _) => "removed",
                (false, true) => "not removed",
                (false, false) => "kept",
            };
            let kept_by: Vec<String> = kept_by.iter().map(|why| in_words(why)).collect();
            rows.push(vec![format!("{name}:{version}"), what.to_owned(), kept_by.join(", ")]);
        }
    }
    rows
}

/// Why a version is kept, in the terms of the options.
fn in_words(why: &str) -> String {
    match why {
        "last" | "within" => format!("--keep-{why}"),
        "no ttl" => "it does not expire".to_owned(),
        _ => match why.strip_prefix("ttl ends in ").and_then(|rest| rest.strip_suffix(" s")?.parse::<u64>().ok()) {
            // What was given as 30 days is not "29 days" a second later.
            Some(seconds) => format!("expires in {}", about(seconds.next_multiple_of(60))),
            None => why.to_owned(),
        },
    }
}

fn document(
    chosen: &[Chosen],
    removed: &[(ArtifactName, VersionNumber)],
    freed: Option<SoleContent>,
    dry_run: bool,
) -> Value {
    let kept = chosen.iter().flat_map(|one| one.judged.iter().map(move |judged| (&one.name, judged)));
    let kept: Vec<Value> = kept
        .filter(|(_, judged)| !judged.kept_by.is_empty())
        .map(|(name, judged)| json!({ "artifact": name, "version": judged.version, "reasons": judged.kept_by }))
        .collect();
    let removed: Vec<Value> =
        removed.iter().map(|(name, number)| json!({ "artifact": name, "version": number })).collect();
    json!({
        "removed": removed, "kept": kept, "dry_run": dry_run,
        "frees_bytes": freed.map(|f| f.bytes), "estimate": freed.is_some_and(|f| f.is_estimate),
    })
}
