//! `cairn mount --stage`, `cairn seal`, and `cairn upsert` without a source: a run contributes by writing files.

use super::upsert::{Contributed, options, report};
use crate::args::{Io, Mount, Seal};
use crate::errors::{Done, Stop};
use crate::output::Context;
use crate::signals;
use cairn::Store;
use cairn::catalog::stage::stages;
use cairn::catalog::{Draft, VersionSpec};
use cairn::commit::{Artifact, Run};
use cairn::error::{Error, Kind, Result, show_path};
use cairn::fuse::Ground;
use cairn::fuse::staging::{SealedBy, StagingOptions, ask_to_seal, mount_staging};
use cairn::staging::{self, Resume, SealOptions, Stage};
use cairn::words::{ArtifactName, RunId};
use serde_json::json;
use std::path::Path;

/// Mounts a run's staging directory.
pub fn mount(context: &mut Context, args: Mount) -> Done {
    let name = args.version.clone().unwrap_or_default();
    if name.contains(':') {
        return Err(Error::usage(format!("--stage {name}: a contribution is to an artifact, not to a version of it")).hint("leave :V away").into());
    }
    let name = ArtifactName::parse(&VersionSpec::parse(&name)?.artifact.to_string())?;
    let store = context.store()?;
    let run = Run::new(&store, options(&args.run))?;
    let draft = run.draft(&name, args.distributed_id.as_deref())?;
    let (root, id, record) = (store.root().to_path_buf(), draft.id().clone(), run.record().clone());
    drop((store, draft, run)); // the daemon opens the store by itself
    let resume = if args.fresh { Resume::Fresh } else { Resume::Continue };
    let staging = StagingOptions {
        ground: if args.foreground { Ground::Foreground } else { Ground::Background },
        passthrough: args.io != Io::NoOpen,
        allow_other: args.allow_other,
        threads: args.threads.map_or(StagingOptions::default().threads, usize::from),
        log: args.log.clone(),
        ..StagingOptions::default()
    };
    let words = (name.to_string(), id.to_string(), record.id.to_string());
    let say = |context: &mut Context| -> std::result::Result<(), Stop> {
        if context.json() {
            context.out.json(&json!({ "artifact": words.0, "distributed_id": words.1, "run": words.2, "mountpoint": args.mountpoint.to_string_lossy() }))?;
        } else {
            context.out.line(&format!("{} {} {}", words.0, words.1, words.2))?;
        }
        context.out.flush()
    };
    if args.foreground {
        say(context)?;
    }
    signals::unwatch();
    let make = || {
        let draft = Draft::new(&Store::open(&root)?, &name, &id);
        Stage::open(&draft, &record, None, resume)
    };
    mount_staging(make, &root, &args.mountpoint, &staging)?;
    if !args.foreground {
        say(context)?;
        let at = show_path(&args.mountpoint);
        context.talk(&format!("mounted; `cairn seal {at}` makes a contribution of what is there, `cairn umount {at}` does so and unmounts"));
    }
    Ok(0)
}

/// Asks a mount's daemon to seal.
pub fn seal(context: &mut Context, args: Seal) -> Done {
    report(context, &contributed(ask_to_seal(&args.path)?))
}

/// What a run left in its staging directory, mounted or not.
pub fn seal_of_run(context: &mut Context, draft: &Draft, run: &RunId, said: &SealOptions<'_>) -> Done {
    let none = || {
        Error::not_found(format!("run {run} has no staging directory for {draft}")).hint("say what is to be contributed: `cairn upsert NAME SRC`; or write it: `cairn mount MNT NAME --stage`")
    };
    let store = draft.store();
    let stage = stages(store)?.into_iter().find(|s| s.is_of(draft, run)).ok_or_else(none)?;
    match Stage::find(draft, run) {
        Ok(Some(stage)) => {
            let bar = context.bar("upsert");
            cairn::mount::raise_open_files(); // each large file is held while it is taken over
            let done = stage.seal(&SealOptions { progress: bar.progress(), ..*said }, &mut |_| ())?;
            drop(bar);
            report(context, &Contributed::of(&done))
        }
        Ok(None) => Err(none().into()),
        Err(e) if e.kind() == Kind::Refused && (said.replace || said.words.is_some_and(Artifact::says_something)) => {
            Err(e.hint("a mount seals what is there and is told nothing more: `cairn umount --no-seal` it, then say this again").into())
        }
        // Mounted on this host: its daemon does it.
        Err(e) if e.kind() == Kind::Refused => match staging::mounted_at(store, stage.token())?.map(|at| ask_to_seal(&at)) {
            Some(Ok(done)) if done.run == run.as_str() => report(context, &contributed(done)),
            Some(Err(told)) if told.kind() == Kind::Refused => Err(told.into()),
            _ => Err(e.into()),
        },
        Err(e) => Err(e.into()),
    }
}

/// Seals a staging directory that is about to be unmounted; anything else is left alone.
pub fn seal_before_unmount(context: &mut Context, mountpoint: &Path) -> Result<()> {
    match ask_to_seal(mountpoint) {
        Ok(done) => {
            context.talk(&format!("sealed: {} {} {}", done.artifact, done.distributed_id, done.run));
            Ok(())
        }
        // No staging directory, or its daemon is gone: what it held stays open.
        Err(e) if e.kind() == Kind::Usage || e.errno().is_some() => Ok(()),
        Err(e) => Err(e.hint("--no-seal unmounts without sealing: the run can go on with it")),
    }
}

fn contributed(done: SealedBy) -> Contributed {
    Contributed { artifact: done.artifact, distributed_id: done.distributed_id, run: done.run, counts: (done.files, done.bytes, done.new_bytes) }
}
