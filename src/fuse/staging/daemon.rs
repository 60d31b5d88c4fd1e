//! Mounting a run's staging directory, and serving it until it is unmounted.

use super::admission::Admission;
use super::connection::StagingConnection;
use super::open_stage::OpenStage;
use super::tree::StagingTree;
use crate::disk::{FsKind, open_file};
use crate::error::{Error, Result, show_path};
use crate::fuse::lifecycle::{self, detach, end_on_signal};
use crate::fuse::log::{Log, Target};
use crate::fuse::{RunMode, default_threads};
use crate::layout::Layout;
use crate::mount::{self, Audience, Execution, MountPoint, Ready};
use crate::setters::setters;
use crate::staging::Stage;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to mount a staging directory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StagingOptions {
    /// Foreground or background.
    pub run_mode: RunMode,
    /// Whether the kernel may read and write files by itself, where it can.
    pub passthrough: bool,
    /// Whether other users may work in it, each with their own permissions.
    pub allow_other: bool,
    /// Whether programs may be run from it.
    pub execution: Execution,
    /// How many requests are answered at a time.
    pub threads: usize,
    /// The file to which a daemon appends its log. Without one the log goes to the system's log (syslog, or systemd's
    /// journal), in the foreground to stderr.
    pub log: Option<PathBuf>,
}

setters! {
    StagingOptions {
        run_mode: RunMode,
        passthrough: bool,
        allow_other: bool,
        execution: Execution,
        threads: usize,
        log: impl Into<PathBuf> => Some(log.into()),
    }
}

impl Default for StagingOptions {
    fn default() -> Self {
        StagingOptions {
            run_mode: RunMode::default(),
            passthrough: true,
            allow_other: false,
            execution: Execution::Allowed,
            threads: default_threads(),
            log: None,
        }
    }
}

/// Mounts a run's staging directory at `mnt`, writable. In the background this forks a daemon, which runs `make`: so
/// this process must have only one thread, and paths that `make` uses must be absolute. The call returns when the mount
/// answers; in the foreground, when it is gone. However the mount ends, what was written stays, unsealed, and the run
/// can continue with it.
///
/// # Errors
/// Those of `make`; I/O when mounting is not possible, with a hint.
pub fn mount_staging(
    make: impl FnOnce() -> Result<Stage>,
    store_root: &Path,
    mnt: &Path,
    options: &StagingOptions,
) -> Result<()> {
    lifecycle::run(store_root, mnt, options.run_mode, options.log.as_deref(), |store, point, target, ready| {
        serve(make, store, point, options, target, ready)
    })
}

fn serve(
    make: impl FnOnce() -> Result<Stage>,
    store: &Path,
    point: &mut MountPoint,
    options: &StagingOptions,
    target: Target,
    ready: &mut Ready,
) -> Result<()> {
    mount::block_termination_signals();
    mount::raise_open_files();
    let lock = point.lock_for_mounting()?;
    let stage = make()?;
    let label = format!("{} {} {}", stage.draft().artifact(), stage.draft().id(), stage.record().run.id);
    let (log, runs_log) = (Log::new(target.try_clone(), label.clone()), Log::new(target, label));
    let noted = stage.note_mount(point.path());
    let run = Arc::new(OpenStage::new(stage)?);
    let begun = noted.and_then(|()| begin(&run, store, point, options, (log, runs_log)));
    let (connection, device) = begun.inspect_err(|_| {
        // A run that never had a mount must not count as one that writes. If this fails, `cairn drafts` lists it.
        drop(run.stage.discard_if_unused());
    })?;
    drop(lock);
    ready.mounted();
    let ran = connection.run();
    if ran.is_err() {
        detach(point, device.as_deref()); // the connection was aborted, and a dead mount would stay
    }
    ran
}

/// Mounts it, and prepares for a signal that ends it.
fn begin(
    run: &Arc<OpenStage>,
    store: &Path,
    point: &mut MountPoint,
    options: &StagingOptions,
    (log, runs_log): (Log, Log),
) -> Result<(StagingConnection, Option<String>)> {
    let tree = StagingTree::one(run.clone(), mount::effective_ids(), runs_log);
    let (connection, device) = connect(tree, store, point, options, Some(log))?;
    end_on_signal(point.clone(), device.clone(), || (), || ()).inspect_err(|_| detach(point, device.as_deref()))?;
    Ok((connection, device))
}

/// Mounts and sets up the connection; also returns the mount's device.
pub(super) fn connect(
    tree: StagingTree,
    store: &Path,
    point: &mut MountPoint,
    options: &StagingOptions,
    log: Option<Log>,
) -> Result<(StagingConnection, Option<String>)> {
    let config = Layout::new(store).config();
    let (probe, _) =
        open_file(&config)?.ok_or_else(|| Error::not_found(format!("{} does not exist", show_path(&config))))?;
    let audience = Audience::of(options.allow_other);
    // If the kernel wrote by itself, it could not be stopped when another host takes the run over.
    let passthrough = options.passthrough && FsKind::of(store)?.is_local();
    let admission = Admission::new(Layout::new(store).work(), options.allow_other, point.is_handed_over(), log);
    let attached = mount::attach_for_writing(point, store, audience, options.execution)?;
    let device = point.device();
    let connection = StagingConnection::open(
        attached.descriptor,
        Arc::new(tree),
        admission,
        options.threads,
        passthrough.then_some(&probe),
    );
    Ok((connection.inspect_err(|_| detach(point, device.as_deref()))?, device))
}
