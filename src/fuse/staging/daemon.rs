//! A staging mount's life: mounted, served, ended.

use super::adapter::Connection;
use super::admission::Admission;
use super::open_stage::OpenStage;
use super::tree::StagingTree;
use crate::disk::{FsKind, open_file, open_log};
use crate::error::{Error, Result, show_path};
use crate::fuse::log::{Log, Target};
use crate::fuse::session::end_on_signal;
use crate::fuse::{Guard, RunMode, default_threads};
use crate::layout::Layout;
use crate::mount::{self, Daemon, Execution, MountPoint, Reach, Ready};
use crate::staging::Stage;
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a staging directory is mounted.
#[derive(Clone, Debug)]
pub struct StagingOptions {
    /// Foreground or background.
    pub ground: RunMode,
    /// Whether the kernel may read and write files by itself, where it can.
    pub passthrough: bool,
    /// Whether other users may work in it, each as themselves.
    pub allow_other: bool,
    /// Whether programs may be run from it.
    pub execution: Execution,
    /// How many requests are answered at a time.
    pub threads: usize,
    /// Where a daemon's log goes (appended); without, to the system's log (syslog, systemd's journal). In the
    /// foreground without: stderr.
    pub log: Option<PathBuf>,
}

impl Default for StagingOptions {
    fn default() -> Self {
        StagingOptions {
            ground: RunMode::default(),
            passthrough: true,
            allow_other: false,
            execution: Execution::Allowed,
            threads: default_threads(),
            log: None,
        }
    }
}

/// Mounts a run's staging directory at `mnt`, writable. In the background a daemon is forked off, which runs `make`:
/// this process must have one thread only, and paths that `make` uses must be absolute. The call returns when the mount
/// answers; in the foreground, when it is gone. However it ends, what was written stays, unsealed, and the run can go
/// on with it.
///
/// # Errors
/// Those of `make`; I/O when mounting is not possible, with a hint.
pub fn mount_staging(
    make: impl FnOnce() -> Result<Stage>,
    store_root: &Path,
    mnt: &Path,
    options: &StagingOptions,
) -> Result<()> {
    let store = store_root.canonicalize().map_err(|e| Error::io("resolve", store_root, e))?;
    let mut point = MountPoint::check(mnt, &store)?;
    match options.ground {
        RunMode::Foreground => {
            let target = match &options.log {
                Some(path) => Target::File(open_log(path)?),
                None => Target::Stderr,
            };
            serve(make, &store, &mut point, options, target, &mut Ready::foreground())
        }
        RunMode::Background => match mount::background(&point, options.log.as_deref())? {
            Daemon::Parent => Ok(()),
            Daemon::Child(mut ready) => {
                let target = Target::of_daemon(options.log.as_deref());
                let served =
                    catch_unwind(AssertUnwindSafe(|| serve(make, &store, &mut point, options, target, &mut ready)));
                ready.end(
                    served.unwrap_or_else(|_| Err(Error::io_message("the mount daemon panicked: please report this"))),
                )
            }
        },
    }
}

fn serve(
    make: impl FnOnce() -> Result<Stage>,
    store: &Path,
    point: &mut MountPoint,
    options: &StagingOptions,
    target: Target,
    ready: &mut Ready,
) -> Result<()> {
    mount::block_endings();
    mount::raise_open_files();
    let alone = point.alone()?;
    let stage = make()?;
    let label = format!("{} {} {}", stage.draft().artifact(), stage.draft().id(), stage.record().run.id);
    let (log, runs_log) = (Log::new(target.again(), label.clone()), Log::new(target, label));
    let noted = stage.note_mount(point.path());
    let run = Arc::new(OpenStage::new(stage)?);
    let begun = noted.and_then(|()| begin(&run, store, point, options, (log, runs_log)));
    let (connection, device) = begun.inspect_err(|_| {
        // A run that never had a mount is not one that writes. If this fails, `cairn drafts` lists it.
        drop(run.stage.discard_if_unused());
    })?;
    drop(alone);
    ready.mounted();
    let ran = connection.run();
    if ran.is_err() {
        detach(point, device.as_deref()); // the connection was aborted, and a dead mount would stay
    }
    ran
}

/// Mounts it, and prepares for its end.
fn begin(
    run: &Arc<OpenStage>,
    store: &Path,
    point: &mut MountPoint,
    options: &StagingOptions,
    (log, runs_log): (Log, Log),
) -> Result<(Connection, Option<String>)> {
    let tree = StagingTree::one(run.clone(), mount::who(), runs_log);
    let (connection, device) = connect(tree, store, point, options, Some(log))?;
    let guard: Arc<Mutex<Option<Guard>>> = Arc::new(Mutex::new(None));
    end_on_signal(point.clone(), device.clone(), None, guard).inspect_err(|_| detach(point, device.as_deref()))?;
    Ok((connection, device))
}

/// Mounts and greets the kernel; also the mount's device.
pub(super) fn connect(
    tree: StagingTree,
    store: &Path,
    point: &mut MountPoint,
    options: &StagingOptions,
    log: Option<Log>,
) -> Result<(Connection, Option<String>)> {
    let config = Layout::new(store).config();
    let (probe, _) = open_file(&config)?.ok_or_else(|| Error::not_found(format!("{} is gone", show_path(&config))))?;
    let reach = if options.allow_other { Reach::Everyone } else { Reach::Mounter };
    // What the kernel writes by itself cannot be stopped when another host takes the run over.
    let passthrough = options.passthrough && FsKind::of(store)?.is_local();
    let admission = Admission::new(Layout::new(store).work(), options.allow_other, point.is_handed_over(), log);
    let attached = mount::attach_for_writing(point, store, reach, options.execution)?;
    let device = point.device();
    let connection = Connection::open(
        attached.descriptor,
        Arc::new(tree),
        admission,
        options.threads,
        passthrough.then_some(&probe),
    );
    Ok((connection.inspect_err(|_| detach(point, device.as_deref()))?, device))
}

fn detach(point: &MountPoint, device: Option<&str>) {
    if let Some(device) = device {
        mount::detach_own(point.path(), device);
    }
}
