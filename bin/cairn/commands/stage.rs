//! `cairn mount --stage`, `cairn seal`, and `cairn upsert` without a source: a run contributes the files that it writes
//! to a staging directory.

use super::mount::{IoArg, MountArgs};
use super::upsert::{Contributed, report};
use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::{Context, count};
use crate::progress::human;
use crate::signals;
use cairn::Store;
use cairn::catalog::stage::{StageRecord, stages};
use cairn::catalog::{Draft, VersionSpec};
use cairn::error::{Error, Kind, Result, shell_path, shell_word, show_path};
use cairn::fuse::RunMode;
use cairn::fuse::cairn_mount;
use cairn::fuse::staging::{
    LeftOpen, RunState, SealRequest, SealedBy, StagingOptions, ask_to_seal, mount_staging, open_in, run_at, seal_at,
};
use cairn::internals::commit::{ArtifactAnnotations, Run, refuse_if_finished};
use cairn::staging::{self, Resume, SealOptions, Stage};
use cairn::types::{ArtifactName, RunId};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

/// `cairn seal`
#[derive(Args, Debug)]
pub struct SealArgs {
    /// Any path in the staging directory
    pub path: PathBuf,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &["The files in the staging directory become the run's contribution to the draft, and the directory \
         becomes read-only. Prints the artifact, the draft's id and the run. Sealing it a second time changes \
         nothing and prints the same."],
    examples: &[
        ("cairn seal mnt", "prints NAME ID RUN"),
        ("cairn mount mnt eval --stage --distributed-id eval-7 --run rank-3", "before: mount a staging directory"),
        ("cp -r results mnt/", "before: any program writes to it"),
    ],
    exit: &[(3, "refused: a file is open for writing; the error names it and the process")],
    json: "{\"artifact\", \"distributed_id\", \"run\", \"files\", \"bytes\"}",
    list: None,
};

/// Mounts a run's staging directory.
pub fn mount(context: &mut Context, args: MountArgs) -> CommandResult {
    let name = args.version.clone().unwrap_or_default();
    if name.contains(':') {
        return Err(Error::usage(format!("--stage {name}: a contribution is to an artifact, not to a version of it"))
            .with_hint("omit :V")
            .into());
    }
    let name = ArtifactName::parse(&VersionSpec::parse(&name)?.artifact.to_string())?;
    let store = context.store()?;
    let run = Run::new(&store, args.run.options())?;
    super::upsert::say_if_unnamed(context, &run);
    let draft = run.draft(&name, args.distributed_id.as_deref())?;
    let (root, id, record) = (store.root().to_path_buf(), draft.id().clone(), run.record().clone());
    drop((store, draft, run)); // the daemon opens the store by itself
    let resume = if args.fresh { Resume::Fresh } else { Resume::Continue };
    let mut staging = StagingOptions::default()
        .run_mode(if args.foreground { RunMode::Foreground } else { RunMode::Background })
        .passthrough(args.io != IoArg::NoOpen)
        .allow_other(args.allow_other);
    staging.threads = args.threads.map_or(staging.threads, usize::from);
    staging.log = args.log.clone();
    let ids = (name.to_string(), id.to_string(), record.id.to_string());
    let at_json = super::mount::absolute(&args.mountpoint); // before it is mounted over
    let print_run = |context: &mut Context| -> std::result::Result<(), Failure> {
        if context.json() {
            context
                .out
                .json(&json!({ "artifact": ids.0, "distributed_id": ids.1, "run": ids.2, "mountpoint": at_json }))?;
        } else {
            context.out.line(&format!("{} {} {}", ids.0, ids.1, ids.2))?;
        }
        context.out.flush()
    };
    signals::unwatch(); // a signal must end a wait for a dead or stopped daemon at once
    if !args.foreground && !args.fresh && is_there(&root, &args.mountpoint, &ids)? {
        print_run(context)?;
        context.status("it is already mounted");
        return Ok(0);
    }
    if args.foreground {
        print_run(context)?;
    }
    let make = || {
        let draft = Draft::new(&Store::open(&root)?, &name, &id);
        Stage::open(&draft, &record, None, resume)
    };
    mount_staging(make, &root, &args.mountpoint, &staging)?;
    if !args.foreground {
        print_run(context)?;
        let at = shell_path(&args.mountpoint);
        context.status(&format!(
            "mounted; `cairn seal {at}` makes a contribution of what is there, `cairn umount {at}` does so and unmounts"
        ));
    }
    Ok(0)
}

/// Whether this run's staging directory is mounted there and is open for changes.
fn is_there(store: &Path, mountpoint: &Path, (artifact, id, run): &(String, String, String)) -> Result<bool> {
    // If this check fails, the mount that follows reports the error.
    let Some(mounted) =
        cairn_mount(mountpoint).ok().flatten().filter(|m| !m.is_dead && is_same_directory(&m.store, store))
    else {
        return Ok(false);
    };
    let Some(there) = run_at(&mounted.at).ok().flatten() else { return Ok(false) };
    if (&there.artifact, &there.distributed_id, &there.run) != (artifact, id, run) {
        return Ok(false);
    }
    let at = show_path(mountpoint);
    let why = match there.state {
        RunState::Open => return Ok(true),
        RunState::Closed => "is being sealed",
        RunState::Sealed => "is sealed",
        RunState::Finished => "belongs to a draft that is finished",
        RunState::Lost => "was taken over by another mount",
        _ => "takes no more changes",
    };
    let hint = format!("`cairn umount --no-seal {}`, then mount it again", shell_path(mountpoint));
    Err(Error::conflict(format!("cannot mount at {at}: what is mounted there {why}")).with_hint(hint))
}

/// Whether two paths lead to one directory.
pub fn is_same_directory(a: &Path, b: &Path) -> bool {
    matches!((std::fs::canonicalize(a), std::fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Asks a mount's daemon to seal.
pub fn seal(context: &mut Context, args: SealArgs) -> CommandResult {
    signals::unwatch(); // the daemon may not answer
    std::fs::metadata(&args.path).map_err(|e| super::sources::unreadable("seal", &args.path, e))?;
    let done = ask_to_seal(&args.path)?;
    warn_of(&done);
    report(context, &contributed(done))
}

/// The error for a run without a staging directory: its draft is finished, it was sealed before, or it never had one.
fn no_stage(draft: &Draft, run: &RunId) -> Error {
    let state = match refuse_if_finished(draft).and_then(|()| draft.state()) {
        Ok(state) => state,
        Err(e) => return e,
    };
    let done = if state.runs().contains(&run) { "; it has contributed already" } else { "" };
    Error::not_found(format!("run {run} has no open staging directory for {draft}{done}")).with_hint(
        "`cairn upsert NAME SRC` contributes files; `cairn mount MNT NAME --stage` mounts a directory to write them to",
    )
}

/// Seals what a run left in its staging directory, mounted or not.
pub fn seal_of_run(context: &mut Context, draft: &Draft, run: &RunId, options: SealOptions<'_>) -> CommandResult {
    let none = || no_stage(draft, run);
    let store = draft.store();
    let stage = stages(store)?.into_iter().find(|s| s.is_of(draft, run)).ok_or_else(none)?;
    match Stage::find(draft, run) {
        Ok(Some(stage)) => {
            let bar = context.bar("upsert");
            cairn::internals::mount::raise_open_files(); // each large file stays open while it is taken over
            let done = stage.seal(&options.progress(bar.progress()), &mut |_| ())?;
            drop(bar);
            warn_of_none(done.run.as_str(), done.files);
            report(context, &Contributed::of(&done))
        }
        Ok(None) => Err(none().into()),
        // If it is mounted on this host, its daemon seals it.
        Err(e) if e.kind() == Kind::Conflict => {
            let mut how = SealRequest::default().stage(stage.token()).replace(options.replace);
            how.annotations = options.annotations.filter(|a| a.has_annotations()).map(ArtifactAnnotations::of);
            match staging::mounted_at(store, stage.token())?.map(|at| seal_at(&at, &how)) {
                Some(Ok(Some(done))) => {
                    warn_of(&done);
                    report(context, &contributed(done))
                }
                // The daemon refused. With an errno it was not reached, and may be on another host.
                Some(Err(refusal)) if refusal.errno().is_none() => Err(refusal.into()),
                _ => Err(e.into()),
            }
        }
        Err(e) => Err(e.into()),
    }
}

/// What an unmount leaves.
pub struct Unmounting {
    /// Contributions that stay open.
    left: Vec<LeftOpen>,
    /// Whether one of them should have been sealed.
    not_sealed: bool,
}

/// Seals a staging directory that is about to be unmounted. If it cannot be sealed, it stays mounted. Only a mount
/// whose daemon is dead is unmounted anyway, because it serves no process.
pub fn before_unmount(context: &mut Context, mountpoint: &Path, seal: bool) -> Result<Unmounting> {
    // If this is not a cairn mount, the unmount reports that.
    let Some(mounted) = cairn_mount(mountpoint).ok().flatten() else {
        return Ok(Unmounting { left: Vec::new(), not_sealed: false });
    };
    let left = open_in(&mounted).unwrap_or_default(); // if the store cannot be read, the unmount continues
    let one_run = left.iter().any(|l| l.is_alone);
    if mounted.is_dead || !seal {
        return Ok(Unmounting { not_sealed: seal && one_run, left });
    }
    match seal_at(mountpoint, &SealRequest::default()) {
        Ok(Some(done)) => {
            let files = count(done.files, "file");
            warn_of(&done);
            let SealedBy { artifact, distributed_id, run, bytes, .. } = done;
            context.status(&format!("sealed: {artifact} {distributed_id} {run}: {files}, {}", human(bytes)));
            Ok(Unmounting { left: Vec::new(), not_sealed: false })
        }
        Ok(None) if !one_run => Ok(Unmounting { left, not_sealed: false }),
        Ok(None) => {
            let why =
                format!("cannot seal what is in {}: its daemon does not understand the request", show_path(mountpoint));
            Err(no_seal(Error::conflict(why), "it may be from another release"))
        }
        // This user may not ask the daemon, and the store knows of no run there.
        Err(e) if e.errno().is_some() && !one_run => Ok(Unmounting { left, not_sealed: false }),
        Err(e) => {
            let e = left.iter().filter(|l| l.is_finished).fold(e, |e, l| e.with_cause(kept(l)));
            let hint = e.hint().unwrap_or("correct what the error names, then run the command again").to_owned();
            Err(no_seal(e, &hint))
        }
    }
}

fn no_seal(e: Error, hint: &str) -> Error {
    e.with_hint(format!("{hint}; `cairn umount --no-seal` unmounts without sealing and keeps the files"))
}

/// Says where a run's files are after its draft was finished without them.
fn kept(left: &LeftOpen) -> String {
    let StageRecord { artifact, distributed_id, run, .. } = &left.record;
    let drop = format!("cairn draft drop {artifact} {} --run {}", shell_word(distributed_id), shell_word(&run.id));
    format!("the draft is finished; the files of run {} stay in {} until `{drop}`", run.id, show_path(&left.directory))
}

impl Unmounting {
    /// Prints what is left open, and fails if it should have been sealed. If `has_copies`, the daemon continues to
    /// serve the mount at another place, and so holds what is left open.
    pub fn end(self, context: &mut Context, mountpoint: &Path, has_copies: bool) -> Result<()> {
        let (finished, open): (Vec<_>, Vec<_>) = self.left.iter().partition(|l| l.is_finished);
        let mut lines: Vec<String> = open.iter().map(|l| named(&l.record)).collect();
        lines.extend(finished.into_iter().map(kept));
        let next = open.first().map(|l| {
            let StageRecord { artifact, distributed_id, run, .. } = &l.record;
            let rest = format!("--distributed-id {} --run {}", shell_word(distributed_id), shell_word(&run.id));
            let first = if has_copies { "unmount the other place first; then " } else { "" };
            let resume = format!("`cairn mount MNT {artifact} --stage {rest}` resumes it");
            format!("{first}{resume}, `cairn upsert {artifact} {rest}` seals it")
        });
        if self.not_sealed {
            let why =
                format!("{} is unmounted, but nothing was sealed: its daemon had been killed", show_path(mountpoint));
            let e = lines.iter().fold(Error::conflict(why), Error::with_cause);
            return Err(match next {
                Some(next) => e.with_hint(next),
                None => e,
            });
        }
        lines.into_iter().chain(next).for_each(|line| context.status(&line));
        Ok(())
    }
}

fn named(record: &StageRecord) -> String {
    format!("left open: {} {} {}", record.artifact, record.distributed_id, record.run.id)
}

/// Warns, also with `-q`, about files that are not in the contribution.
fn warn_of(done: &SealedBy) {
    if let Some(refused) = &done.refused {
        eprintln!("warning: {refused}; what they would have changed is not in the contribution of run {}", done.run);
    }
    warn_of_none(&done.run, done.files);
}

fn warn_of_none(run: &str, files: u64) {
    if files == 0 {
        eprintln!("warning: the contribution of run {run} has no files");
    }
}

fn contributed(done: SealedBy) -> Contributed {
    Contributed {
        artifact: done.artifact,
        distributed_id: done.distributed_id,
        run: done.run,
        counts: (done.files, done.bytes, done.new_bytes),
    }
}
