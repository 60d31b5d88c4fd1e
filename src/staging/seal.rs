//! Sealing: a stage becomes a contribution.
//!
//! 1. `T.sealing`, then a look FRESH for another live holder. *A crash leaves the marker: the stage is never mounted again, and whoever comes seals it.*
//! 2. What cannot be in a version is looked for, so that a refusal comes before anything is taken.
//! 3. The files are stored: small ones packed, large ones shared or taken over under a lease, else copied.
//! 4. The contribution is recorded. *A crash before it: stored content that nothing names. After it: the same contribution once more, over itself.*
//! 5. The stage is removed; objects whose file somebody waits to write to get inodes of their own; the leases end.

use super::{Stage, holders, remove};
use crate::catalog::draft::Draft;
use crate::catalog::stage::StageRecord;
use crate::commit::{Artifact, Run, UpsertOptions, Upserted};
use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::ingest::ScanOptions;
use crate::objects::{Leases, unshare};
use crate::progress::Progress;
use crate::words::Token;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

/// What is said of the contribution.
#[derive(Clone, Debug, Default)]
pub struct SealOptions {
    /// It stands instead of the run's earlier contributions, not over them.
    pub replace: bool,
    /// Counters to move.
    pub progress: Arc<Progress>,
}

impl Stage {
    /// Makes a contribution of what is there. Nobody may have a file of it open for writing: that is the mount's to know.
    ///
    /// # Errors
    /// Refused: another live holder; the draft is finished. Usage: a device node, socket or FIFO. I/O. After any of them the stage is open again,
    /// unless it says otherwise.
    pub fn seal(&self, options: &SealOptions) -> Result<Upserted> {
        let done = seal(&self.draft, &self.record, &self.token, options)?;
        drop(self.lock.lock().take()); // the run is at work no more
        Ok(done)
    }
}

/// Seals what a sealer that died left.
pub(super) fn finish_sealing(draft: &Draft, record: &StageRecord, token: &Token) -> Result<Upserted> {
    seal(draft, record, token, &SealOptions::default())
}

fn seal(draft: &Draft, record: &StageRecord, token: &Token, options: &SealOptions) -> Result<Upserted> {
    let store = draft.store();
    let (disk, layout) = (store.disk(), store.layout());
    let marker = layout.stage_sealing(token);
    if disk::look_fresh(&marker)?.is_none() {
        let file = disk.write_file(marker.clone(), b"")?;
        disk.sync_file(&file)?;
        disk.sync_dir(&layout.staging())?;
    }
    let done = sealed(draft, record, token, options);
    if done.is_err() && disk.is_sound() {
        // Open again: what was taken over gets an inode of its own, then writers may come.
        unshare(disk, &layout.stage(token))?;
        disk.remove_file(&marker)?;
    }
    done
}

fn sealed(draft: &Draft, record: &StageRecord, token: &Token, options: &SealOptions) -> Result<Upserted> {
    let store = draft.store();
    let directory = store.layout().stage(token);
    if let Some(holder) = holders(draft, &record.run.id)?.first() {
        let why = format!("the staging directory of run {} is mounted by process {} on {} too", record.run.id, holder.pid, holder.host);
        return Err(Error::refused(why).hint("unmount it there first"));
    }
    refuse_special(&directory)?;
    let leases = Arc::new(Leases::new());
    let mut artifact = Artifact::new(record.artifact.as_str(), record.kind.as_ref().map(|k| k.as_str()))?;
    artifact.add_dir(&directory, "", &ScanOptions { no_ignore_files: true, ..ScanOptions::default() })?;
    let run = Run::of(store, record.run.clone());
    let upsert = UpsertOptions { replace: options.replace, progress: options.progress.clone(), taking: Some(leases.clone()), holding: true };
    let done = run.upsert_artifact_with(&artifact, record.distributed_id.as_str(), &upsert)?;
    // It is recorded: from here on nothing may undo it.
    remove(store, token).map_err(|e| e.while_doing("the contribution is recorded, but its staging directory could not be removed"))?;
    store.objects().secure(&leases, &store.layout().staging())?;
    Ok(done)
}

/// Device nodes, sockets and FIFOs cannot be in a version.
fn refuse_special(directory: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(directory) {
        let entry = entry.map_err(|e| Error::io_message(format!("cannot list {}", show_path(directory))).because(e))?;
        let kind = entry.file_type();
        if kind.is_block_device() || kind.is_char_device() || kind.is_fifo() || kind.is_socket() {
            let path = entry.path().strip_prefix(directory).unwrap_or(entry.path());
            return Err(Error::usage(format!("{} is a device node, socket or FIFO: it cannot be in a version", show_path(path))).hint("remove it, then seal again"));
        }
    }
    Ok(())
}
