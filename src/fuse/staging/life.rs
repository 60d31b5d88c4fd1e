//! A staging mount's life, and how a command asks its daemon to seal: an ioctl on a directory in it, answered with JSON.

use super::adapter::Connection;
use super::tree::{Live, StagingTree};
use crate::commit::Upserted;
use crate::disk::{open_file, open_log};
use crate::error::{Error, Kind, Result, show_path};
use crate::fuse::session::end_on_signal;
use crate::fuse::{Ground, Guard};
use crate::layout::Layout;
use crate::mount::{self, Daemon, Execution, MountPoint, Reach, Ready};
use crate::staging::Stage;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of the answer to a request to seal: JSON, and zeros after it.
pub const SEAL_ANSWER: usize = 4096;
/// The request: `_IOR('c', 1, char[4096])`.
pub const SEAL_REQUEST: u32 = 2 << 30 | (SEAL_ANSWER as u32) << 16 | (b'c' as u32) << 8 | 1;

/// How a staging directory is mounted.
#[derive(Clone, Debug)]
pub struct StagingOptions {
    /// Foreground or background.
    pub ground: Ground,
    /// Whether the kernel may read and write files by itself, where it can.
    pub passthrough: bool,
    /// Whether other users may work in it, each as themselves.
    pub allow_other: bool,
    /// Whether programs may be run from it.
    pub execution: Execution,
    /// How many requests are answered at a time.
    pub threads: usize,
    /// Where a daemon's log goes (appended).
    pub log: Option<PathBuf>,
}

impl Default for StagingOptions {
    fn default() -> Self {
        StagingOptions { ground: Ground::default(), passthrough: true, allow_other: false, execution: Execution::Allowed, threads: 4, log: None }
    }
}

/// Mounts a run's staging directory at `mnt`, writable. In the background a daemon is forked off, which runs `make`: this process must have one thread only, and
/// paths that `make` uses must be absolute. The call returns when the mount answers; in the foreground, when it is gone. However it ends, what was written
/// stays, unsealed, and the run can go on with it.
///
/// # Errors
/// Those of `make`; I/O when mounting is not possible, with a hint.
pub fn mount_staging(make: impl FnOnce() -> Result<Stage>, store_root: &Path, mnt: &Path, options: &StagingOptions) -> Result<()> {
    let store = store_root.canonicalize().map_err(|e| Error::io("resolve", store_root, e))?;
    let mut point = MountPoint::check(mnt, &store)?;
    match options.ground {
        Ground::Foreground => {
            drop(options.log.as_deref().map(open_log).transpose()?);
            serve(make, &store, &mut point, options, &mut Ready::foreground())
        }
        Ground::Background => match mount::background(&point, options.log.as_deref())? {
            Daemon::Parent => Ok(()),
            Daemon::Child(mut ready) => {
                let served = catch_unwind(AssertUnwindSafe(|| serve(make, &store, &mut point, options, &mut ready)));
                ready.end(served.unwrap_or_else(|_| Err(Error::io_message("the mount daemon panicked: please report this"))))
            }
        },
    }
}

fn serve(make: impl FnOnce() -> Result<Stage>, store: &Path, point: &mut MountPoint, options: &StagingOptions, ready: &mut Ready) -> Result<()> {
    mount::block_endings();
    mount::raise_open_files();
    let stage = make()?;
    stage.note_mount(point.path())?;
    let tree = StagingTree::one(Live::new(stage)?, mount::who());
    let (connection, device) = connect(tree, store, point, options)?;
    let guard: Arc<Mutex<Option<Guard>>> = Arc::new(Mutex::new(None));
    end_on_signal(point.clone(), device.clone(), None, guard)?;
    ready.mounted();
    let ran = connection.run();
    if ran.is_err() {
        detach(point, device.as_deref()); // the connection was aborted, and a dead mount would stay
    }
    ran
}

/// Mounts and greets the kernel; also the mount's device.
pub(super) fn connect(tree: StagingTree, store: &Path, point: &mut MountPoint, options: &StagingOptions) -> Result<(Connection, Option<String>)> {
    let config = Layout::new(store).config();
    let (probe, _) = open_file(&config)?.ok_or_else(|| Error::not_found(format!("{} is gone", show_path(&config))))?;
    let reach = if options.allow_other { Reach::Everyone } else { Reach::Mounter };
    let attached = mount::attach_for_writing(point, store, reach, options.execution)?;
    let device = point.device();
    let connection = Connection::open(attached.descriptor, Arc::new(tree), options.threads, options.passthrough.then_some(&probe));
    Ok((connection.inspect_err(|_| detach(point, device.as_deref()))?, device))
}

fn detach(point: &MountPoint, device: Option<&str>) {
    if let Some(device) = device {
        mount::detach_own(point.path(), device);
    }
}

/// What the daemon says of a sealing.
#[derive(Serialize, Deserialize)]
struct Said {
    artifact: Option<String>,
    distributed_id: Option<String>,
    run: Option<String>,
    number: u64,
    files: u64,
    bytes: u64,
    new_bytes: u64,
    /// The exit status, and what went wrong.
    failed: Option<(u8, String, Vec<String>, Option<String>)>,
}

/// A contribution that a daemon has sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBy {
    /// The artifact.
    pub artifact: String,
    /// The draft's id.
    pub distributed_id: String,
    /// The run.
    pub run: String,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of content that were not in the store before.
    pub new_bytes: u64,
}

/// The answer's bytes.
pub(super) fn answer_of(sealed: &Result<Upserted>) -> Vec<u8> {
    let mut said = Said { artifact: None, distributed_id: None, run: None, number: 0, files: 0, bytes: 0, new_bytes: 0, failed: None };
    match sealed {
        Ok(done) => {
            said.artifact = Some(done.draft.artifact().to_string());
            said.distributed_id = Some(done.draft.id().to_string());
            said.run = Some(done.run.to_string());
            (said.number, said.files, said.bytes, said.new_bytes) = (done.number, done.files, done.bytes, done.new_bytes);
        }
        Err(e) => {
            let short = |text: &str| text.chars().take(400).collect::<String>();
            let causes = e.causes().iter().take(3).map(|c| short(c)).collect();
            said.failed = Some((e.kind().exit_status(), short(e.message()), causes, e.hint_text().map(short)));
        }
    }
    let mut bytes = serde_json::to_vec(&said).unwrap_or_default();
    bytes.truncate(SEAL_ANSWER);
    bytes.resize(SEAL_ANSWER, 0);
    bytes
}

/// Asks the daemon that serves `path` to seal the run that it is in.
///
/// # Errors
/// Those of sealing. Usage: `path` is in no staging directory. I/O.
pub fn ask_to_seal(path: &Path) -> Result<SealedBy> {
    let file = std::fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut answer = vec![0u8; SEAL_ANSWER];
    // SAFETY: an open descriptor, and room for the answer that the request says.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), SEAL_REQUEST as _, answer.as_mut_ptr()) };
    if result != 0 {
        let e = std::io::Error::last_os_error();
        return match e.raw_os_error() {
            Some(libc::ENOTTY | libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => {
                Err(Error::usage(format!("{} is in no staging directory", show_path(path))).hint("`cairn mount MNT NAME --stage --distributed-id ID` makes one"))
            }
            _ => Err(Error::io("seal", path, e)),
        };
    }
    let end = answer.iter().position(|b| *b == 0).unwrap_or(answer.len());
    let said: Said = serde_json::from_slice(&answer[..end]).map_err(|e| Error::io_message(format!("the daemon's answer for {} cannot be read", show_path(path))).because(e))?;
    if let Some((status, message, causes, hint)) = said.failed {
        let kinds = [Kind::Usage, Kind::Refused, Kind::Damaged, Kind::Io, Kind::NotFound];
        let kind = kinds.into_iter().find(|k| k.exit_status() == status).unwrap_or(Kind::Io);
        let e = causes.into_iter().fold(Error::of_kind(kind, message), |e, cause| e.because(cause));
        return Err(match hint {
            Some(hint) => e.hint(hint),
            None => e,
        });
    }
    let text = |t: Option<String>| t.unwrap_or_default();
    Ok(SealedBy { artifact: text(said.artifact), distributed_id: text(said.distributed_id), run: text(said.run), files: said.files, bytes: said.bytes, new_bytes: said.new_bytes })
}
