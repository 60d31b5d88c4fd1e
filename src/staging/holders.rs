//! Which process holds a run's stage, and where it is mounted.

use crate::catalog::Draft;
use crate::catalog::stage::stages;
use crate::disk::{self, Created};
use crate::error::{Detail, Error, Result, shell_path};
use crate::lock::{self, LockFile, LockRecord, Purpose};
use crate::store::Store;
use crate::types::{RunId, Token};
use std::path::PathBuf;

/// The purpose in lock files of stages.
pub const PURPOSE: &str = "stage";

/// Whether a live process of this host holds a run's stage.
///
/// # Errors
/// I/O.
pub fn is_held_here(draft: &Draft, run: &RunId) -> Result<bool> {
    Ok(lock::held(draft.store(), |r| holds(draft, run, r))?.iter().any(LockRecord::is_here))
}

/// Takes the lock file of a run's stage.
pub(super) fn hold(draft: &Draft, run: &RunId) -> Result<LockFile> {
    let purpose = Purpose {
        purpose: PURPOSE,
        artifact: Some(draft.artifact().as_str()),
        draft: Some(draft.id().as_str()),
        run: Some(run.as_str()),
        ..Purpose::default()
    };
    LockFile::take(draft.store(), &Token::fresh(), &purpose)
}

/// The other processes that hold the run's stage.
pub(super) fn holders(draft: &Draft, run: &RunId) -> Result<Vec<LockRecord>> {
    lock::live(draft.store(), |r| holds(draft, run, r))
}

pub(super) fn holds(draft: &Draft, run: &RunId, r: &LockRecord) -> bool {
    let (name, id) = (Some(draft.artifact().as_str()), Some(draft.id().as_str()));
    r.purpose == PURPOSE
        && r.artifact.as_deref() == name
        && r.draft.as_deref() == id
        && r.run.as_deref() == Some(run.as_str())
        && !r.is_own()
}

/// Refuses if another process holds the stage. If two processes come at once, one of them gets it.
pub(super) fn refuse_second_holder(draft: &Draft, run: &RunId, lock: &LockFile) -> Result<()> {
    let Some(holder) = lock.competing_holder(|r| holds(draft, run, r))? else { return Ok(()) };
    let why = format!(
        "the staging directory of run {run} for {draft} is held by process {} on {}, since {}",
        holder.pid, holder.host, holder.since
    );
    let stage = stages(draft.store())?.into_iter().find(|s| s.is_of(draft, run));
    let at = stage.map(|s| mounted_at(draft.store(), s.token())).transpose()?.flatten();
    // A mount of the whole store is unmounted at its own mount point, not where its staging directories are.
    let is_main = |r: &LockRecord| r.purpose == "mount" && r.pid == holder.pid && r.mountpoint.is_some();
    let main = lock::held(draft.store(), is_main)?.into_iter().filter(LockRecord::is_here).find_map(|r| r.mountpoint);
    let at = main.map(PathBuf::from).or(at);
    let at = at.filter(|_| holder.is_here()).map_or_else(|| "MNT".to_owned(), |at| shell_path(&at));
    let there = if holder.is_here() { String::new() } else { format!(" on {}", holder.host) };
    let unmount = format!("`cairn umount --no-seal {at}`{there} unmounts it without sealing");
    Err(Error::conflict(why).with_detail(Detail::Locked { holder: holder.holder() }).with_hint(format!(
        "{unmount}; `cairn locks` shows the lock, and --break ID removes it if its holder is gone for good"
    )))
}

/// Makes this process the stage's holder. The previous holder sees that the number after its own exists, and stops. The
/// claim only stops other holders and does not describe the content, so it need not survive a loss of power.
pub(super) fn claim_holder_number(store: &Store, token: &Token) -> Result<u64> {
    let own = Token::fresh();
    let mut number = 1;
    loop {
        let path = store.layout().stage_holder(token, number);
        match store.disk().claim(own.as_str(), &path)? {
            Created::New => return Ok(number),
            // It is this process's own claim if only the reply was lost.
            Created::Exists if disk::read_link(&path)?.is_some_and(|text| text == own.as_str().as_bytes()) => {
                return Ok(number);
            }
            Created::Exists => number += 1,
        }
    }
}

/// Where a stage is mounted, according to its note.
///
/// # Errors
/// I/O.
pub fn mounted_at(store: &Store, token: &Token) -> Result<Option<PathBuf>> {
    use std::os::unix::ffi::OsStringExt;
    let noted = disk::read_small(&store.layout().stage_mount(token), 4096)?;
    Ok(noted.map(|bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes))))
}
