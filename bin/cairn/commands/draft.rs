//! `cairn drafts`, `cairn draft`

use super::shared_args::HeaderArg;
use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::{Context, count, dash};
use crate::progress::human;
use cairn::Store;
use cairn::catalog::draft::ContributionRecord;
use cairn::catalog::origin::UserRecord;
use cairn::catalog::stage::{StageInfo, StageState, stages};
use cairn::catalog::{Draft, DraftState};
use cairn::error::{Error, Result, shell_path, shell_word, show_path};
use cairn::internals::commit::{OpenDraft, Survey, no_draft, survey};
use cairn::internals::lock::LockRecord;
use cairn::staging::{self, Leftover};
use cairn::types::{ArtifactName, DistributedId, RunId};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::HashSet;

/// `cairn drafts`
#[derive(Args, Debug)]
pub struct DraftsArgs {
    /// List only the drafts of this artifact
    pub name: Option<String>,
    /// Also list staging directories that finished drafts left, and how to remove each
    #[arg(long)]
    pub all: bool,
    /// Whether headings are printed.
    #[command(flatten)]
    pub header: HeaderArg,
}

/// The text of `--help`.
pub const DRAFTS_HELP: Help = Help {
    description: &[
        "A draft is a version that several runs make together and that is not finished. Runs contribute to it by \
         `cairn upsert` or `cairn mount --stage`, and `cairn finish` publishes it. A draft never expires; `cairn draft \
         discard` discards one.",
        "The columns are ARTIFACT, ID, RUNS (how many contributed), FILES and SIZE of all contributions (a repeated \
         one counts once), \
         USERS, WRITING (the runs that are still writing or left their staging directory open) and SINCE. Headings are \
         printed on a terminal, where columns without a value are left out, or with --header.",
    ],
    examples: &[
        ("cairn drafts", ""),
        ("cairn drafts eval --json", ""),
        ("cairn drafts --all", "with the staging directories that finished drafts left"),
    ],
    exit: &[],
    json: "[{\"artifact\", \"distributed_id\", \"runs\", \"contributions\", \"files\", \"bytes\", \
         \"users\", \"writing\", \"since\"}]\n\
         --all adds {\"artifact\", \"distributed_id\", \"run\", \"since\", \"left_at\", \"removed_by\"}",
    list: None,
};

/// `cairn draft`
#[derive(Args, Debug)]
pub struct DraftArgs {
    /// What to do with the draft.
    #[command(subcommand)]
    pub command: DraftCommand,
}

/// The text of `--help`.
pub const DRAFT_HELP: Help = Help {
    description: &["A draft is a version that several runs make together and that is not finished. `cairn drafts` \
         lists the drafts of a store."],
    examples: &[
        ("cairn draft show eval eval-7", ""),
        ("cairn draft drop eval eval-7 --run rank-3", "remove one run's contributions"),
        ("cairn draft discard eval eval-7", "discard all of it"),
    ],
    exit: &[],
    json: "",
    list: None,
};

/// The subcommands of `cairn draft`.
#[derive(Subcommand, Debug)]
pub enum DraftCommand {
    /// Show the contributions to a draft and the runs that are writing
    Show {
        /// The draft.
        #[command(flatten)]
        draft: DraftName,
        /// Whether headings are printed.
        #[command(flatten)]
        header: HeaderArg,
    },
    /// Remove one run's contributions from a draft
    Drop {
        /// The draft.
        #[command(flatten)]
        draft: DraftName,
        /// The run
        #[arg(long, value_name = "RUN")]
        run: String,
    },
    /// Discard a draft; its id can then be used again
    Discard(DraftName),
}

/// One draft.
#[derive(Args, Debug)]
pub struct DraftName {
    /// The artifact
    pub name: String,
    /// The draft's id, as given to --distributed-id
    pub id: String,
}

/// The text of `--help`.
pub const DRAFT_SHOW_HELP: Help = Help {
    description: &[
        "Lists each contribution and each run that is writing. The columns are NUMBER (in the order of the \
         contributions), RUN, USER, STATE, FILES, SIZE and SINCE. The draft may be finished.",
    ],
    examples: &[("cairn draft show eval eval-7", "")],
    exit: &[],
    json: "{\"artifact\", \"distributed_id\", \"version\", \"contributions\": [{\"number\", \"run\", \
         \"user\", \"files\", \"bytes\", \"new_bytes\", \"digest\", \"replace\", \"at\"}], \"writing\": \
         [{\"run\", \"user\", \"host\", \"pid\", \"since\"}]}\n\
         version is null until the draft is finished.",
    list: None,
};

/// The text of `--help`.
pub const DRAFT_DROP_HELP: Help = Help {
    description: &["Removes what the run has contributed so far, and its staging directory if that is not mounted. \
         Later contributions of the run count again. If the draft is finished, only the staging directory \
         is removed."],
    examples: &[("cairn draft drop eval eval-7 --run rank-3", "")],
    exit: &[],
    json: "{\"artifact\", \"distributed_id\", \"run\"}",
    list: None,
};

/// The text of `--help`.
pub const DRAFT_DISCARD_HELP: Help = Help {
    description: &["Removes all contributions, and the staging directories of the draft's runs that are not mounted. \
         `cairn draft show` lists beforehand what is removed. A finished draft cannot be discarded: `cairn rm` removes \
         its version."],
    examples: &[("cairn draft discard eval eval-7", "")],
    exit: &[(3, "the draft is finished, or it was changed at the same time")],
    json: "{\"artifact\", \"distributed_id\"}",
    list: None,
};

/// The drafts that are not finished. Those that cannot be read are reported at the end.
pub fn list(context: &mut Context, args: DraftsArgs) -> CommandResult {
    args.header.apply(context);
    let store = context.store()?;
    let name = args.name.as_deref().map(ArtifactName::parse).transpose()?;
    let Survey { open, unreadable } = survey(&store, name.as_ref())?;
    let (mut documents, mut rows) = (Vec::new(), Vec::new());
    for OpenDraft { draft, state, writers, left_open } in &open {
        let records = distinct(state);
        let sum = |of: fn(&ContributionRecord) -> u64| records.iter().map(|r| of(r)).sum::<u64>();
        let (runs, files, bytes) = (state.runs(), sum(|r| r.files), sum(|r| r.bytes));
        let contributed = state.contributions.first().map(|c| &c.record.head.at);
        let begun = writers.iter().map(|w| &w.since).chain(left_open.iter().map(|s| &s.record.at)).min();
        let since = contributed.or(begun);
        let mut users: Vec<String> = state
            .contributions
            .iter()
            .filter_map(|c| c.record.head.origin.user.as_ref().map(ToString::to_string))
            .collect();
        users.sort();
        users.dedup();
        let writing: Vec<&str> = writers
            .iter()
            .filter_map(|w| w.run.as_deref())
            .chain(left_open.iter().map(|s| s.record.run.id.as_str()))
            .collect();
        rows.push(vec![
            draft.artifact().to_string(),
            draft.id().to_string(),
            runs.len().to_string(),
            files.to_string(),
            human(bytes),
            dash(&users.join(",")),
            dash(&writing.join(",")),
            dash(since.map_or("", |s| s)),
        ]);
        documents.push(json!({
            "artifact": draft.artifact(), "distributed_id": draft.id(), "runs": runs,
            "contributions": state.contributions.len(), "files": files,
            "bytes": bytes, "users": users, "writing": writing, "since": since,
        }));
    }
    let left = if args.all { leftovers(&store, name.as_ref())? } else { Vec::new() };
    if context.json() {
        documents.extend(left.iter().map(left_document));
        context.out.json(&documents)?;
    } else {
        if rows.is_empty() && unreadable.is_empty() {
            context.status("no open drafts");
        }
        context.out.table(&["ARTIFACT", "ID", ">RUNS", ">FILES", ">SIZE", "USERS", "WRITING", "SINCE"], &rows)?;
    }
    if !context.json() && !left.is_empty() {
        let heads = ["LEFT OF", "ID", "RUN", "SINCE", "DIRECTORY", "REMOVED BY"];
        context.out.table(&heads, &left.iter().map(left_row).collect::<Vec<_>>())?;
    }
    let Some(first) = unreadable.first() else { return Ok(0) };
    let unread = count(unreadable.len() as u64, "draft");
    let e = Error::new(first.kind(), format!("{unread} cannot be read"));
    let e = unreadable.iter().fold(e, |e, cause| e.with_cause(format!("{cause:#}")));
    context.out.flush()?;
    Err(e.with_hint("`cairn verify` lists what is damaged and what it affects").into())
}

/// The contributions, without those that their run repeated with the same content.
fn distinct(state: &DraftState) -> Vec<&ContributionRecord> {
    let mut seen = HashSet::new();
    let all = state.contributions.iter().map(|c| &*c.record);
    all.filter(|r| seen.insert((&r.run.id, r.root.digest))).collect()
}

/// What is left in `staging/` for which no draft waits.
fn leftovers(store: &Store, name: Option<&ArtifactName>) -> Result<Vec<Leftover>> {
    let mut left = staging::leftovers(store)?;
    left.retain(|l| name.is_none_or(|name| l.record.as_ref().is_some_and(|r| r.artifact == *name)));
    Ok(left)
}

/// The command that removes it.
pub(super) fn removal(left: &Leftover) -> String {
    match &left.record {
        Some(r) => {
            format!("cairn draft drop {} {} --run {}", r.artifact, shell_word(&r.distributed_id), shell_word(&r.run.id))
        }
        None => format!("rm -r {}", shell_path(&left.directory)),
    }
}

pub(super) fn left_document(left: &Leftover) -> Value {
    let r = left.record.as_ref();
    json!({
        "artifact": r.map(|r| &r.artifact), "distributed_id": r.map(|r| &r.distributed_id),
        "run": r.map(|r| &r.run.id), "since": left.since,
        "left_at": left.directory.to_string_lossy(), "removed_by": removal(left),
    })
}

fn left_row(left: &Leftover) -> Vec<String> {
    let r = left.record.as_ref();
    vec![
        dash(r.map_or("", |r| r.artifact.as_str())),
        dash(r.map_or("", |r| r.distributed_id.as_str())),
        dash(r.map_or("", |r| r.run.id.as_str())),
        left.since.clone(),
        show_path(&left.directory),
        removal(left),
    ]
}

/// Staging directories of a draft that are not mounted.
fn left_open<'a>(
    stages: &'a [StageInfo],
    draft: &'a Draft,
    writers: &'a [LockRecord],
) -> impl Iterator<Item = &'a StageInfo> {
    let held = move |s: &StageInfo| writers.iter().any(|w| w.run.as_deref() == Some(s.record.run.id.as_str()));
    stages
        .iter()
        .filter(move |s| s.record.artifact == *draft.artifact() && s.record.distributed_id == *draft.id() && !held(s))
}

/// The user to whom a staging directory belongs.
fn owner_of(draft: &Draft, stage: &StageInfo) -> String {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(draft.store().layout().stage(stage.token()));
    meta.map(|m| UserRecord { uid: m.uid(), name: cairn::internals::disk::name_of_user(m.uid()) }.to_string())
        .unwrap_or_default()
}

/// One draft.
pub fn run(context: &mut Context, args: DraftArgs) -> CommandResult {
    match args.command {
        DraftCommand::Show { draft, header } => {
            header.apply(context);
            show(context, &draft)
        }
        DraftCommand::Drop { draft, run } => {
            let (draft, run) = (find(context, &draft)?, RunId::parse(&run)?);
            let gone = in_draft(&draft, Some(&run));
            let is_removed = staging::drop_run(&draft, &run)?;
            done(context, &draft, Some(&run), "dropped", gone)?;
            if is_removed {
                context.status(&format!("removed the staging directory of run {run}"));
            }
            Ok(0)
        }
        DraftCommand::Discard(name) => {
            let draft = find(context, &name)?;
            let gone = in_draft(&draft, None);
            let removed = staging::discard_draft(&draft)?;
            done(context, &draft, None, "discarded", gone)?;
            removed.iter().for_each(|run| context.status(&format!("removed the staging directory of run {run}")));
            Ok(0)
        }
    }
}

fn find(context: &Context, name: &DraftName) -> Result<Draft> {
    Ok(Draft::new(&context.store()?, &ArtifactName::parse(&name.name)?, &DistributedId::parse(&name.id)?))
}

/// `2 contributions, 3 files, 12 B`: what counts in a draft, or that of one run; `None` if nothing does.
fn in_draft(draft: &Draft, run: Option<&RunId>) -> Option<String> {
    let state = draft.state().ok().filter(|state| state.finish.is_none())?;
    let mut records = distinct(&state);
    records.retain(|record| run.is_none_or(|run| record.run.id == *run));
    let [files, bytes] = [|r: &ContributionRecord| r.files, |r: &ContributionRecord| r.bytes]
        .map(|of| records.iter().map(|record| of(record)).sum::<u64>());
    let contributions = count(records.len() as u64, "contribution");
    (!records.is_empty()).then(|| format!("{contributions}, {}, {}", count(files, "file"), human(bytes)))
}

fn done(
    context: &mut Context,
    draft: &Draft,
    run: Option<&RunId>,
    what: &str,
    gone: Option<String>,
) -> std::result::Result<(), Failure> {
    if context.json() {
        let mut document = json!({ "artifact": draft.artifact(), "distributed_id": draft.id() });
        if let Some(run) = run {
            document["run"] = json!(run);
        }
        context.out.json(&document)?;
    } else {
        let run = run.map_or(String::new(), |run| format!(" {run}"));
        context.out.line(&format!("{} {}{run}", draft.artifact(), draft.id()))?;
        context.out.flush()?;
        if let Some(gone) = gone {
            context.status(&format!("{what}: {gone}"));
        }
    }
    Ok(())
}

fn show(context: &mut Context, name: &DraftName) -> CommandResult {
    let draft = find(context, name)?;
    let (state, writers, stages) = (draft.state()?, draft.writers()?, stages(draft.store())?);
    if state.last == 0 && writers.is_empty() && left_open(&stages, &draft, &writers).next().is_none() {
        return Err(no_draft(&draft)?.into());
    }
    let version = draft.version(&state)?;
    if context.json() {
        let contributions: Vec<Value> = state
            .contributions
            .iter()
            .map(|c| {
                let r = &c.record;
                json!({
                    "number": c.number, "run": r.run.id, "user": r.head.origin.user, "files": r.files,
                    "bytes": r.bytes, "new_bytes": r.new_bytes, "digest": r.root.digest, "replace": r.replace,
                    "at": r.head.at,
                })
            })
            .collect();
        let mut writing: Vec<Value> = writers
            .iter()
            .map(|w| json!({ "run": w.run, "user": w.user, "host": w.host, "pid": w.pid, "since": w.since }))
            .collect();
        writing.extend(
            left_open(&stages, &draft, &writers)
                .map(|s| json!({ "run": s.record.run.id, "user": owner_of(&draft, s), "since": s.record.at })),
        );
        context.out.json(&json!({ "artifact": draft.artifact(), "distributed_id": draft.id(), "version": version,
        "contributions": contributions, "writing": writing }))?;
        return Ok(0);
    }
    if let Some(number) = version {
        context.status(&format!("finished as {}:{number}", draft.artifact()));
    }
    let rows = rows_of(&draft, &state, &writers, &stages);
    if rows.is_empty() {
        context.status("nothing is in it: what was contributed was dropped or discarded");
    }
    context.out.table(&[">NUMBER", "RUN", "USER", "STATE", ">FILES", ">SIZE", "SINCE"], &rows)?;
    Ok(0)
}

/// One row for each contribution, staging directory and writer.
fn rows_of(draft: &Draft, state: &DraftState, writers: &[LockRecord], stages: &[StageInfo]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for c in &state.contributions {
        let r = &c.record;
        let how = if r.replace { "contributed, replaces earlier" } else { "contributed" };
        let user = r.head.origin.user.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        rows.push(vec![
            c.number.to_string(),
            r.run.id.to_string(),
            user,
            how.into(),
            r.files.to_string(),
            human(r.bytes),
            r.head.at.clone(),
        ]);
    }
    for s in left_open(stages, draft, writers) {
        let how = match s.state {
            StageState::Open => "left open",
            StageState::Sealing => "being sealed",
            StageState::Dropped => "discarded",
            _ => "?",
        };
        rows.push(vec![
            "-".into(),
            s.record.run.id.to_string(),
            dash(&owner_of(draft, s)),
            how.into(),
            "-".into(),
            "-".into(),
            s.record.at.clone(),
        ]);
    }
    for w in writers {
        let run = w.run.clone().unwrap_or_default();
        rows.push(vec![
            "-".into(),
            dash(&run),
            w.user.clone(),
            format!("writing on {}", w.host),
            "-".into(),
            "-".into(),
            w.since.clone(),
        ]);
    }
    rows
}
