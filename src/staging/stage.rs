//! A stage that this process holds: opened or begun, sealed or discarded.

use super::holders::{claim_holder_number, hold, refuse_second_holder};
use super::removal::{discard_files, remove, sweep};
use super::seal::{SealOptions, Sealer};
use crate::catalog::draft::Draft;
use crate::catalog::stage::{StageRecord, StageState, stages};
use crate::catalog::{RunRecord, artifact};
use crate::clock;
use crate::commit::{Upserted, refuse_if_finished};
use crate::disk;
use crate::error::Result;
use crate::lock::LockFile;
use crate::locks::Mutex;
use crate::record;
use crate::types::{ArtifactType, RunId, Token};
use std::path::{Path, PathBuf};

/// What to do with a stage that the run left open before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Resume {
    /// Continue with it.
    #[default]
    Continue,
    /// Discard it.
    Fresh,
}

/// A stage held by this process. Its lock file exists until this value is dropped; the files stay.
#[derive(Debug)]
pub struct Stage {
    draft: Draft,
    record: StageRecord,
    token: Token,
    /// `None` once it is sealed.
    lock: Mutex<Option<LockFile>>,
    /// Whether this process began it.
    is_new: bool,
    /// The number of this process among the holders of the stage; `None` if it only seals.
    number: Option<u64>,
}

impl Stage {
    /// Opens the run's stage in `draft`, or makes one. If another process began to seal it, it is sealed first, and a
    /// new one is made.
    ///
    /// # Errors
    /// Refused: another process holds it; the draft is finished; another type. I/O.
    pub fn open(draft: &Draft, run: &RunRecord, kind: Option<&ArtifactType>, resume: Resume) -> Result<Stage> {
        let store = draft.store();
        store.check_writable()?;
        artifact::check_type(store, draft.artifact(), kind)?;
        refuse_if_finished(draft)?;
        // Take the lock before checking for a marker: so of a mount and a sealer, at least one sees the other.
        let lock = hold(draft, &run.id)?;
        refuse_second_holder(draft, &run.id, &lock)?;
        sweep(store)?;
        for found in stages(store)?.into_iter().filter(|s| s.is_of(draft, &run.id)) {
            let token = found.token().clone();
            match found.state {
                StageState::Sealing => {
                    drop(Sealer::of(draft, &found.record, &token).seal(&SealOptions::default(), &mut |_| ())?)
                }
                StageState::Dropped => remove(store, &token)?,
                StageState::Open if resume == Resume::Fresh => {
                    discard_files(store, &token)?;
                }
                StageState::Open => {
                    let number = Some(claim_holder_number(store, &token)?);
                    return Ok(Stage {
                        draft: draft.clone(),
                        record: found.record,
                        token,
                        lock: Mutex::new(Some(lock)),
                        is_new: false,
                        number,
                    });
                }
            }
        }
        let token = Token::fresh();
        let record = StageRecord {
            stage: token.to_string(),
            artifact: draft.artifact().clone(),
            distributed_id: draft.id().clone(),
            run: run.clone(),
            kind: kind.cloned(),
            at: clock::now(),
        };
        let layout = store.layout();
        store.disk().create_own_dir(&layout.stage(&token))?;
        let file = store.disk().write_file(layout.stage_record(&token), &record::encode(&record)?)?;
        store.disk().sync_file(&file)?;
        let number = Some(claim_holder_number(store, &token)?);
        store.disk().sync_dir(&layout.staging())?; // so that files which the run fsyncs can be found after a crash
        Ok(Stage { draft: draft.clone(), record, token, lock: Mutex::new(Some(lock)), is_new: true, number })
    }

    /// The run's stage in `draft` that was left open, or that another process began to seal; `None` if there is none.
    ///
    /// # Errors
    /// Refused: another process holds it. I/O.
    pub fn find(draft: &Draft, run: &RunId) -> Result<Option<Stage>> {
        let store = draft.store();
        store.check_writable()?;
        let lock = hold(draft, run)?;
        refuse_second_holder(draft, run, &lock)?;
        let found = stages(store)?.into_iter().find(|s| s.is_of(draft, run) && s.state != StageState::Dropped);
        Ok(found.map(|s| Stage {
            draft: draft.clone(),
            token: s.token().clone(),
            record: s.record,
            lock: Mutex::new(Some(lock)),
            is_new: false,
            number: None,
        }))
    }

    /// Discards the stage if it is empty; returns false if it is not. No process may be able to write to it any more.
    ///
    /// # Errors
    /// I/O.
    pub fn discard_if_empty(&self) -> Result<bool> {
        if !disk::list(&self.directory())?.is_empty() {
            return Ok(false);
        }
        discard_files(self.draft.store(), &self.token)?;
        drop(self.lock.lock().take());
        Ok(true)
    }

    /// Whether this process still holds the stage: no other process took it over, began to seal it, or discarded it.
    ///
    /// # Errors
    /// I/O: this is unknown then.
    pub fn is_ours(&self) -> Result<bool> {
        let layout = self.draft.store().layout();
        let Some(number) = self.number else { return Ok(false) };
        let there = |path: PathBuf| disk::lstat_revalidated(&path).map(|found| found.is_some());
        let taken = there(layout.stage_holder(&self.token, number + 1))? || there(layout.stage_sealing(&self.token))?;
        Ok(!taken && there(layout.stage_record(&self.token))?)
    }

    /// Discards the stage if this process began it and it is empty: for a mount that failed.
    ///
    /// # Errors
    /// I/O.
    pub fn discard_if_unused(&self) -> Result<()> {
        if self.is_new { self.discard_if_empty().map(drop) } else { Ok(()) }
    }

    /// Makes a contribution of the files. No process may have one of them open for writing; the mount checks this.
    /// `recorded` is called when the contribution is recorded, before the files are removed.
    ///
    /// # Errors
    /// Refused: another live holder; the draft is finished. Usage: a device node, socket or FIFO. I/O. After an error
    /// the stage is open again, unless [`Stage::is_closed`].
    pub fn seal(&self, options: &SealOptions<'_>, recorded: &mut dyn FnMut(&Upserted)) -> Result<Upserted> {
        let done = Sealer::of(&self.draft, &self.record, &self.token).seal(options, recorded)?;
        drop(self.lock.lock().take()); // the run is not active any more
        Ok(done)
    }

    /// Whether a process began to seal it, so that no process may write to it.
    ///
    /// # Errors
    /// I/O.
    pub fn is_closed(&self) -> Result<bool> {
        disk::lstat_revalidated(&self.draft.store().layout().stage_sealing(&self.token)).map(|found| found.is_some())
    }

    /// The draft it contributes to.
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// The artifact, draft and run.
    pub fn record(&self) -> &StageRecord {
        &self.record
    }

    /// Its name in the store.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Where its files are. They are changed only through a mount.
    pub fn directory(&self) -> PathBuf {
        self.draft.store().layout().stage(&self.token)
    }

    /// Notes where it is mounted on this host, for commands that get only the names of the run. The note can be out of
    /// date.
    ///
    /// # Errors
    /// I/O.
    pub fn note_mount(&self, at: &Path) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let path = self.draft.store().layout().stage_mount(&self.token);
        self.draft.store().disk().remove_file(&path)?;
        self.draft.store().disk().write_file(path, at.as_os_str().as_bytes()).map(drop)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Removes the note of where it was mounted, unless another mount has written one since.
        if self.lock.lock().is_some() && self.is_ours().is_ok_and(|ours| ours) {
            drop(self.draft.store().disk().remove_file(&self.draft.store().layout().stage_mount(&self.token)));
        }
    }
}
