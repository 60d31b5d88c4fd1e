//! `cairn locks`

use super::shared_args::HeaderArg;
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::{Context, dash};
use cairn::Store;
use cairn::catalog::stage::{StageRecord, stages};
use cairn::internals::lock::{self, Lock, LockRecord};
use cairn::staging::{self, mounted_at};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

/// `cairn locks`
#[derive(Args, Debug)]
pub struct LocksArgs {
    /// Remove this lock, even if its holder is alive; the beginning of its id is enough
    #[arg(long = "break", value_name = "ID")]
    pub break_id: Option<String>,
    /// Whether headings are printed.
    #[command(flatten)]
    pub header: HeaderArg,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Lists the mounts, and the commands that hold a lock: those that write, and collections. LIFE says whether the \
         process is alive. Breaking a lock never damages data; its holder may have to run its command again.",
        "The columns are ID, LIFE, PURPOSE, ARTIFACT, VERSION, SINCE, HOST, PID, USER, DRAFT, RUN and MOUNTPOINT. \
         Headings are printed on a terminal, where columns without a value are left out, or with --header.",
        "If the store is on a local disk, locks of processes of this host that have ended are removed \
         first.",
    ],
    examples: &[("cairn locks", ""), ("cairn locks --break 3f0c", "its holder is gone for good")],
    exit: &[],
    json: "[{\"id\", \"life\", \"purpose\", \"artifact\", \"version\", \"draft\", \"run\", \"mountpoint\", \
         \"host\", \"pid\", \"user\", \"since\"}]\n\
         with --break: {\"broken\"}",
    list: None,
};

/// Who is at work, or one lock broken.
pub fn run(context: &mut Context, args: LocksArgs) -> CommandResult {
    args.header.apply(context);
    let store = context.store()?;
    if let Some(id) = args.break_id {
        let id = lock::break_lock(&store, &id)?;
        if context.json() {
            context.out.json(&json!({ "broken": id }))?;
        } else {
            context.out.line(&id)?;
        }
        return Ok(0);
    }
    let mut locks = lock::list(&store)?;
    match lock::remove_dead(&store, &mut locks) {
        Ok(0) => {}
        Ok(n) => {
            context.status(&format!("removed {} of processes that have ended", crate::output::count(n as u64, "lock")))
        }
        // a user without write permission can only list
        Err(e) => context.status(&format!("locks of processes that have ended were not removed: {}", e.message())),
    }
    let places = staging_places(&store);
    if context.json() {
        context.out.json(&locks.iter().map(|l| document(l, &places)).collect::<Vec<_>>())?;
        return Ok(0);
    }
    if locks.is_empty() {
        context.status("no locks");
    }
    context.out.table(
        &[
            "ID",
            "LIFE",
            "PURPOSE",
            "ARTIFACT",
            "VERSION",
            "SINCE",
            "HOST",
            ">PID",
            "USER",
            "DRAFT",
            "RUN",
            "MOUNTPOINT",
        ],
        &locks.iter().map(|l| row(l, &places)).collect::<Vec<_>>(),
    )?;
    Ok(0)
}

/// Where the staging directories of a store are mounted: artifact, draft, run, place.
type Places = Vec<(StageRecord, PathBuf)>;

fn staging_places(store: &Store) -> Places {
    let stages = stages(store).unwrap_or_default();
    stages.into_iter().filter_map(|s| Some((s.record.clone(), mounted_at(store, s.token()).ok()??))).collect()
}

/// Where what a lock is held for is mounted.
fn place(lock: &LockRecord, places: &Places) -> Option<String> {
    let same = |s: &StageRecord| {
        let (name, id, run) = (s.artifact.as_str(), s.distributed_id.as_str(), s.run.id.as_str());
        lock.purpose == staging::PURPOSE
            && (lock.artifact.as_deref(), lock.draft.as_deref(), lock.run.as_deref())
                == (Some(name), Some(id), Some(run))
    };
    let staged = || places.iter().find(|(s, _)| same(s)).map(|(_, at)| at.to_string_lossy().into_owned());
    lock.mountpoint.clone().or_else(staged)
}

fn document(lock: &Lock, places: &Places) -> Value {
    let r = lock.record.as_ref();
    json!({
        "id": lock.id, "life": lock.status.as_str(), "purpose": r.map(|r| &r.purpose),
        "artifact": r.and_then(|r| r.artifact.as_ref()),
        "version": r.and_then(|r| r.version.as_ref()), "draft": r.and_then(|r| r.draft.as_ref()),
        "run": r.and_then(|r| r.run.as_ref()), "mountpoint": r.and_then(|r| place(r, places)),
        "host": r.map(|r| &r.host), "pid": r.map(|r| r.pid),
        "user": r.map(|r| &r.user), "since": r.map(|r| &r.since),
    })
}

fn row(lock: &Lock, places: &Places) -> Vec<String> {
    let Some(r) = &lock.record else {
        return vec![lock.id.clone(), lock.status.as_str().into(), "unreadable".into()]
            .into_iter()
            .chain(std::iter::repeat_n("-".to_owned(), 9))
            .collect();
    };
    let or_dash = |text: &Option<String>| dash(text.as_deref().unwrap_or_default());
    vec![
        lock.id.clone(),
        lock.status.as_str().into(),
        r.purpose.clone(),
        or_dash(&r.artifact),
        or_dash(&r.version),
        r.since.clone(),
        r.host.clone(),
        r.pid.to_string(),
        r.user.clone(),
        or_dash(&r.draft),
        or_dash(&r.run),
        or_dash(&place(r, places)),
    ]
}
