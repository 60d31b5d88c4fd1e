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
use crate::record;
use crate::types::{ArtifactType, RunId, Token};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};

/// What is done with a stage that the run left open before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Resume {
    /// It goes on where it was.
    #[default]
    Continue,
    /// It is thrown away.
    Fresh,
}

/// A stage held by this process: its lock file is there until it is dropped. What was written stays.
#[derive(Debug)]
pub struct Stage {
    draft: Draft,
    record: StageRecord,
    token: Token,
    /// Until it is sealed.
    lock: Mutex<Option<LockFile>>,
    /// Whether this process began it.
    is_new: bool,
    /// Which of those who came to hold it this process is; none while it only seals.
    number: Option<u64>,
}

impl Stage {
    /// The run's open stage in `draft`, made if there is none. One that somebody began to seal is sealed first, and a
    /// new one begins.
    ///
    /// # Errors
    /// Refused: another process holds it; the draft is finished; another type. I/O.
    pub fn open(draft: &Draft, run: &RunRecord, kind: Option<&ArtifactType>, resume: Resume) -> Result<Stage> {
        let store = draft.store();
        store.check_writable()?;
        artifact::check_type(store, draft.artifact(), kind)?;
        refuse_if_finished(draft)?;
        // The lock first, then the look for a marker: of a mount and a sealer one sees the other.
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
        store.disk().create_dir(&layout.stage(&token))?;
        let file = store.disk().write_file(layout.stage_record(&token), &record::encode(&record)?)?;
        store.disk().sync_file(&file)?;
        let number = Some(claim_holder_number(store, &token)?);
        store.disk().sync_dir(&layout.staging())?; // what the run fsyncs is to be found again
        Ok(Stage { draft: draft.clone(), record, token, lock: Mutex::new(Some(lock)), is_new: true, number })
    }

    /// The run's stage in `draft` that was left open, or that somebody began to seal; `None` if there is none.
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

    /// Gives it up, if nothing is in it: false if there is. Whoever may write to it must have been stopped.
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

    /// Whether this process holds it still: no other has taken it over, and none began to seal it or discarded it.
    ///
    /// # Errors
    /// I/O: it cannot be told.
    pub fn is_ours(&self) -> Result<bool> {
        let layout = self.draft.store().layout();
        let Some(number) = self.number else { return Ok(false) };
        let there = |path: PathBuf| disk::lstat_revalidated(&path).map(|found| found.is_some());
        let taken = there(layout.stage_holder(&self.token, number + 1))? || there(layout.stage_sealing(&self.token))?;
        Ok(!taken && there(layout.stage_record(&self.token))?)
    }

    /// Discards a stage that this process began and in which nothing is: for a mount that failed.
    ///
    /// # Errors
    /// I/O.
    pub fn discard_if_unused(&self) -> Result<()> {
        if self.is_new { self.discard_if_empty().map(drop) } else { Ok(()) }
    }

    /// Makes a contribution of what is there. Nobody may have a file of it open for writing: that is the mount's to
    /// know. `recorded` is called when nothing can undo it any more, and before the files go.
    ///
    /// # Errors
    /// Refused: another live holder; the draft is finished. Usage: a device node, socket or FIFO. I/O. Afterwards the
    /// stage is open again, if [`Stage::is_closed`] does not say otherwise.
    pub fn seal(&self, options: &SealOptions<'_>, recorded: &mut dyn FnMut(&Upserted)) -> Result<Upserted> {
        let done = Sealer::of(&self.draft, &self.record, &self.token).seal(options, recorded)?;
        drop(self.lock.lock().take()); // the run is at work no more
        Ok(done)
    }

    /// Whether somebody began to seal it, so that nobody may write to it.
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

    /// Whose it is.
    pub fn record(&self) -> &StageRecord {
        &self.record
    }

    /// What it is called in the store.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Where its files are. They are changed through a mount only.
    pub fn directory(&self) -> PathBuf {
        self.draft.store().layout().stage(&self.token)
    }

    /// Notes where it is mounted on this host, for commands that are told only whose it is. A note, no truth.
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
        // Where it was mounted, if no other mount has noted its place since.
        if self.lock.lock().is_some() && self.is_ours().is_ok_and(|ours| ours) {
            drop(self.draft.store().disk().remove_file(&self.draft.store().layout().stage_mount(&self.token)));
        }
    }
}
