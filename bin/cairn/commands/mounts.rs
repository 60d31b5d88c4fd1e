//! `cairn mounts`

use super::shared_args::HeaderArg;
use crate::errors::CommandResult;
use crate::help::Help;
use crate::output::{Context, dash};
use cairn::fuse::{Health, MountInfo, Shows, mounts};
use clap::Args;
use serde_json::{Value, json};

/// `cairn mounts`
#[derive(Args, Debug)]
pub struct MountsArgs {
    /// Whether headings are printed.
    #[command(flatten)]
    pub header: HeaderArg,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Lists the mounts of any store in this mount namespace; a container has its own. The columns are MOUNTPOINT, \
         SHOWS (what is mounted), STORE, USER, SINCE, PID (of the daemon) and STATE: ok, dead (the daemon was killed: \
         `cairn umount` removes the mount) or no answer (within two seconds).",
        "Headings are printed on a terminal, where columns without a value are left out, or with --header.",
        "A bind mount of a mount is listed as a copy of it; it has the same daemon.",
        "If the user who mounted may not write to the store, some columns show - or ?.",
    ],
    examples: &[
        ("cairn mounts", ""),
        ("cairn mounts --json | jq -r '.[] | select(.healthy | not) | .mountpoint'", "the mounts that do not answer"),
    ],
    exit: &[],
    json: "[{\"mountpoint\", \"store\", \"shows\": \"store|version|stage\", \"artifact\", \"version\", \
         \"distributed_id\", \"run\", \"user\", \"since\", \"pid\", \"state\", \"healthy\", \"copy_of\"}]",
    list: None,
};

/// This host's mounts.
pub fn run(context: &mut Context, args: MountsArgs) -> CommandResult {
    args.header.apply(context);
    let mounts = mounts();
    if context.json() {
        context.out.json(&mounts.iter().map(document).collect::<Vec<_>>())?;
        return Ok(0);
    }
    if mounts.is_empty() {
        context.status("no cairn mounts on this host");
    }
    let heads = ["MOUNTPOINT", "SHOWS", "STORE", "USER", "SINCE", ">PID", "STATE"];
    context.out.table(&heads, &mounts.iter().map(row).collect::<Vec<_>>())?;
    Ok(0)
}

fn document(m: &MountInfo) -> Value {
    let (artifact, version, draft, run) = match &m.shows {
        Shows::Version(artifact, version) => (Some(artifact), Some(version), None, None),
        Shows::Stage(artifact, draft, run) => (Some(artifact), None, Some(draft), Some(run)),
        _ => (None, None, None, None),
    };
    let shows = match m.shows {
        Shows::Store => Some("store"),
        Shows::Version(..) => Some("version"),
        Shows::Stage(..) => Some("stage"),
        _ => None,
    };
    json!({
        "mountpoint": m.mountpoint.to_string_lossy(), "store": m.store.to_string_lossy(), "shows": shows,
        "artifact": artifact, "version": version, "distributed_id": draft, "run": run,
        "user": m.user, "since": m.since, "pid": m.pid, "state": m.health.as_str(),
        "healthy": m.health == Health::Answers,
        "copy_of": m.copy_of.as_ref().map(|at| at.to_string_lossy()),
    })
}

fn row(m: &MountInfo) -> Vec<String> {
    let shows = match &m.shows {
        Shows::Store => "all versions".to_owned(),
        Shows::Version(artifact, version) => format!("{artifact}:{version}"),
        Shows::Stage(artifact, draft, run) => format!("{artifact} {draft} {run}"),
        _ => "?".to_owned(),
    };
    let copy = m.copy_of.as_ref().map_or_else(String::new, |at| format!(", copy of {}", cairn::error::show_path(at)));
    vec![
        cairn::error::show_path(&m.mountpoint),
        shows + &copy,
        cairn::error::show_path(&m.store),
        dash(m.user.as_deref().unwrap_or_default()),
        dash(m.since.as_deref().unwrap_or_default()),
        m.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        m.health.as_str().to_owned(),
    ]
}
