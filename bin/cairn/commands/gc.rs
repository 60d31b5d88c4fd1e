//! `cairn gc`

use super::draft::{left_document, removal};
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::Context;
use crate::times::{about, duration, parse_duration};
use cairn::gc::{Amount, GcOptions, GcReport, IdleDraft, LockRecord, TokenOfOther, collect};
use cairn::internals::clock;
use cairn::staging::Leftover;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// At most this many of a kind are printed.
const SHOWN: usize = 10;

/// `cairn gc`
#[derive(Args, Debug)]
pub struct GcArgs {
    /// Print how much would be moved to the trash, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Free only what has been in the trash for this long: a number with s, m, h or d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub min_age: Duration,
    /// Wait for writers that are at work, so that everything old enough is freed now
    #[arg(long)]
    pub wait: bool,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Frees space in two steps, so that a mistake can be undone. First, content that no version, unfinished draft \
         or mount needs is moved to the store's trash. Then what an earlier gc moved there is freed, if it has been \
         there for --min-age by the clock of the store's disk. So after `cairn rm`, run gc once, and again 24 \
         hours later.",
        "Writers and readers can keep working. Before anything is freed, every writer that was at work has ended or is \
         known to be dead, and what is needed is determined again. If a writer is alive, it is printed, and the next \
         gc frees the rest. If another user's process was killed, only that user or root can clean up after it: gc \
         prints the name; ask that user to run gc.",
        "Drafts to which no process writes, and staging directories that no draft needs, are printed with their age \
         and the command that discards them. They are never freed by themselves.",
        "A pack of small files is rewritten if less than half of it is needed, and many small packs are merged: \
         what is needed is copied into new packs. This needs space until the old packs are freed; without that \
         space, they stay as they are.",
        "If a record or manifest is damaged, a read of it fails, or the store lists less than last time, the command \
         ends before anything is freed. Damaged content of files does not end it; `cairn verify` finds that.",
    ],
    examples: &[
        ("cairn gc --dry-run", "how much is not needed"),
        ("cairn gc", "free what an earlier gc moved 24 hours ago or more"),
        ("cairn gc --min-age 0 --wait", "free everything now"),
    ],
    exit: &[
        (3, "refused: the store shows less than last time, or has an unknown feature"),
        (4, "something is damaged"),
    ],
    json: "{\"dry_run\", \"moved\", \"rewritten\", \"written\", \"not_rewritten\", \"removed\", \"staging\", \
           \"open_drafts\", \"idle_drafts\", \
           \"freed\", \"put_back\", \"in_trash\", \"unused_in_packs\", \"kept_for_parts\", \"dead_writers\", \
           \"waits_for\", \"tokens_of_others\", \"other_collections\", \
           \"taken_over\", \"damaged\", \"unknown\"}",
    list: None,
};

/// Frees what nothing needs.
pub fn run(context: &mut Context, args: GcArgs) -> CommandResult {
    let store = context.store()?;
    let bar = context.bar("gc");
    let options =
        GcOptions::default().dry_run(args.dry_run).min_age(args.min_age).wait(args.wait).progress(bar.progress());
    context.if_interrupted("nothing that is needed was freed; the next gc continues with what is in the trash");
    let report = collect(&store, &options)?;
    drop(bar);
    if context.json() {
        context.out.json(&as_json(&report, args.dry_run))?;
    } else {
        for line in lines(&report, &args) {
            context.out.line(&line)?;
        }
        context.out.flush()?;
    }
    for why in &report.damaged {
        context.warn(&format!("{why}: it stays; `cairn verify` says what it affects"));
    }
    for path in report.unknown.iter().take(SHOWN) {
        context.warn(&format!("{} is not a file of cairn's: it stays", cairn::error::show_path(path)));
    }
    what_waits_for_people(context, &report);
    for holder in &report.other_collections {
        context.status(&format!("another gc is at work, and frees what it moved: {}", holder_text(holder)));
    }
    if report.taken_over > 0 {
        context.status(&format!("another gc took over {} files that this one moved", report.taken_over));
    }
    for holder in &report.waits_for {
        context.status(&format!("waits for {}", holder_text(holder)));
    }
    for token in &report.tokens_of_others {
        context.warn(&token_text(token));
    }
    Ok(0)
}

/// Drafts and staging directories that stay until a user decides about them.
fn what_waits_for_people(context: &mut Context, report: &GcReport) {
    for draft in report.idle_drafts.iter().take(SHOWN) {
        let IdleDraft { artifact, distributed_id, since, .. } = draft;
        context.status(&format!(
            "draft {distributed_id} of {artifact}: no process writes to it, last change {since}{}; it stays; \
             `cairn finish {artifact} --distributed-id {id}` publishes it, `{}` discards it",
            age(since),
            discarded_by(draft),
            id = cairn::error::shell_word(distributed_id),
        ));
    }
    if report.idle_drafts.len() > SHOWN {
        context.status(&format!("and {} drafts more: see `cairn drafts`", report.idle_drafts.len() - SHOWN));
    }
    for left in report.staging.iter().take(SHOWN) {
        let path = cairn::error::show_path(&left.directory);
        context.status(&format!(
            "{path}: a staging directory that no draft needs, made {}{}; it stays; `{}` removes it",
            left.since,
            age(&left.since),
            removal(left)
        ));
    }
    if report.staging.len() > SHOWN {
        let more = report.staging.len() - SHOWN;
        context.status(&format!("and {more} staging directories more: see `cairn drafts --all`"));
    }
}

fn discarded_by(draft: &IdleDraft) -> String {
    format!("cairn draft discard {} {}", draft.artifact, cairn::error::shell_word(&draft.distributed_id))
}

fn age_seconds(since: &str) -> Option<u64> {
    Some((clock::unix_now() - clock::parse(since)?).max(0).unsigned_abs())
}

/// How long ago that was, by this host's clock.
fn age(since: &str) -> String {
    age_seconds(since).map_or_else(String::new, |seconds| format!(" ({} ago)", about(seconds)))
}

/// Who must do what, so that the rest can be freed.
fn token_text(token: &TokenOfOther) -> String {
    let TokenOfOther { directory, owner, since, holder, is_alive, .. } = token;
    let at = cairn::error::show_path(directory);
    let process = holder.as_ref().map_or_else(|| "a process whose lock you may not read".to_owned(), holder_text);
    if *is_alive {
        return format!("waits for {process}: {at} of {owner}, last changed {since}");
    }
    let who = if owner == "root" { "root".to_owned() } else { format!("{owner} or root") };
    format!(
        "nothing more is freed before {who} runs `cairn gc`: {at} belongs to {owner} (last changed {since}) \
         and is of {process}, which is dead, and you may not end it"
    )
}

fn holder_text(holder: &LockRecord) -> String {
    let LockRecord { purpose, user, host, pid, since, .. } = holder;
    format!("a {purpose} of {user} on {host} (process {pid}), at work since {since}")
}

fn amount(amount: &Amount) -> String {
    let files = if amount.files == 1 { "file" } else { "files" };
    format!("{} {files}, {}", amount.files, crate::progress::human(amount.bytes))
}

fn lines(report: &GcReport, args: &GcArgs) -> Vec<String> {
    if args.dry_run {
        let mut out = vec![format!("would move to the trash: {}", amount(&report.moved))];
        if report.rewritten.files > 0 {
            let needed = crate::progress::human(report.written.bytes);
            out.push(format!("would rewrite: {}, of which {needed} are needed", amount(&report.rewritten)));
        }
        out.extend(removed(report));
        out.extend(kept_for_parts(report));
        return out;
    }
    let mut out = vec![format!("moved to the trash: {}", amount(&report.moved))];
    if report.rewritten.files > 0 {
        out.push(format!("rewritten: {}, into {}", amount(&report.rewritten), amount(&report.written)));
    }
    if report.not_rewritten > 0 {
        out.push(format!("not rewritten, because there is no space: {} files", report.not_rewritten));
    }
    out.push(format!("freed: {}", amount(&report.freed)));
    if report.put_back.files > 0 {
        out.push(format!("needed again and put back: {}", amount(&report.put_back)));
    }
    out.extend(removed(report));
    if report.in_trash.files > 0 {
        let when = match args.min_age.as_secs() {
            0 => String::new(),
            seconds => format!("; a gc {} or more after the move frees it", duration(seconds)),
        };
        out.push(format!("in the trash: {}{when}", amount(&report.in_trash)));
    }
    out.extend(kept_for_parts(report));
    if report.dead_writers > 0 {
        out.push(format!("dead writers cleaned up: {}", report.dead_writers));
    }
    out
}

/// Why it is garbage, as far as removed versions are the reason.
fn removed(report: &GcReport) -> impl Iterator<Item = String> {
    report.removed.iter().map(|(name, of)| format!("of removed versions of {name}: {}", amount(of)))
}

/// What a later collection frees, when no composed file has parts of it any more.
fn kept_for_parts(report: &GcReport) -> Option<String> {
    let kept = &report.kept_for_parts;
    (kept.files > 0).then(|| format!("not freed: {}; other versions share parts of them", amount(kept)))
}

fn as_json(report: &GcReport, dry_run: bool) -> Value {
    let amount = |amount: &Amount| json!({ "files": amount.files, "bytes": amount.bytes });
    json!({
        "dry_run": dry_run,
        "moved": amount(&report.moved),
        "rewritten": amount(&report.rewritten),
        "written": amount(&report.written),
        "not_rewritten": report.not_rewritten,
        "removed": report.removed.iter().map(|(name, of)| (name.to_string(), amount(of))).collect::<BTreeMap<_, _>>(),
        "staging": report.staging.iter().map(staging_document).collect::<Vec<_>>(),
        "idle_drafts": report.idle_drafts.iter().map(draft_document).collect::<Vec<_>>(),
        "open_drafts": report.open_drafts,
        "freed": amount(&report.freed),
        "put_back": amount(&report.put_back),
        "in_trash": amount(&report.in_trash),
        "unused_in_packs": report.unused_in_packs,
        "kept_for_parts": amount(&report.kept_for_parts),
        "dead_writers": report.dead_writers,
        "waits_for": report.waits_for,
        "tokens_of_others": report.tokens_of_others.iter().map(token_document).collect::<Vec<_>>(),
        "other_collections": report.other_collections,
        "taken_over": report.taken_over,
        "damaged": report.damaged,
        "unknown": report.unknown.iter().map(|path| cairn::error::show_path(path)).collect::<Vec<_>>(),
    })
}

fn staging_document(left: &Leftover) -> Value {
    let mut document = left_document(left);
    document["age_seconds"] = json!(age_seconds(&left.since));
    document
}

fn draft_document(draft: &IdleDraft) -> Value {
    json!({
        "artifact": draft.artifact, "distributed_id": draft.distributed_id, "since": draft.since,
        "age_seconds": age_seconds(&draft.since), "discarded_by": discarded_by(draft),
        "staging": draft.staging.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
    })
}

fn token_document(token: &TokenOfOther) -> Value {
    json!({
        "directory": token.directory.to_string_lossy(), "owner": token.owner, "since": token.since,
        "holder": token.holder, "is_alive": token.is_alive,
    })
}
