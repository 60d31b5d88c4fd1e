//! Staging directories: where a run writes files that become its contribution to a draft, without knowing of cairn.
//!
//! A stage is `staging/T/`, with a record beside it that says whose it is. While it is open it takes writes, also after
//! its holder died: the same run goes on with it. Sealing makes a contribution of it, and the stage is gone.
//! Guaranteed:
//! * of two mounts that both take themselves for the run's holder, one takes changes: the other sees the next
//!   `T.holder-N` before its next change;
//! * a stage that began to be sealed is never written to again by a mount: the marker `T.sealing` stands before
//!   anything of it is taken;
//! * nothing written later reaches an object (`objects::Leases`);
//! * killed at any step, sealing is done again by whoever comes next, and gives the same contribution.

mod discard;
mod seal;

pub use discard::{Leftover, discard_draft, drop_run, leftovers};
pub use seal::SealOptions;
use seal::Sealer;

use crate::catalog::draft::Draft;
use crate::catalog::stage::{DROPPED, StageRecord, StageState, stages};
use crate::catalog::{RunRecord, artifact};
use crate::clock;
use crate::commit::refuse_if_finished;
use crate::disk::{self, Created};
use crate::error::{Detail, Error, Result, show_path};
use crate::lock::{self, LockFile, LockRecord, Purpose};
use crate::record;
use crate::store::Store;
use crate::types::{ArtifactType, RunId, Token};
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What lock files of stages say they are for.
pub const PURPOSE: &str = "stage";

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
                    throw_away(store, &token)?;
                }
                StageState::Open => {
                    let number = Some(take_over(store, &token)?);
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
        let number = Some(take_over(store, &token)?);
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
    pub fn give_up_if_empty(&self) -> Result<bool> {
        if !disk::list(&self.directory())?.is_empty() {
            return Ok(false);
        }
        throw_away(self.draft.store(), &self.token)?;
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

/// Whether a process of this host holds a run's stage, and lives.
///
/// # Errors
/// I/O.
pub fn is_held_here(draft: &Draft, run: &RunId) -> Result<bool> {
    Ok(lock::held(draft.store(), |r| holds(draft, run, r))?.iter().any(LockRecord::is_here))
}

/// The lock file of a run's stage.
fn hold(draft: &Draft, run: &RunId) -> Result<LockFile> {
    let purpose = Purpose {
        purpose: PURPOSE,
        artifact: Some(draft.artifact().as_str()),
        draft: Some(draft.id().as_str()),
        run: Some(run.as_str()),
        ..Purpose::default()
    };
    LockFile::take(draft.store(), &Token::fresh(), &purpose)
}

/// Those who hold the run's stage, this process not counted.
fn holders(draft: &Draft, run: &RunId) -> Result<Vec<LockRecord>> {
    lock::live(draft.store(), |r| holds(draft, run, r))
}

fn holds(draft: &Draft, run: &RunId, r: &LockRecord) -> bool {
    let (name, id) = (Some(draft.artifact().as_str()), Some(draft.id().as_str()));
    r.purpose == PURPOSE
        && r.artifact.as_deref() == name
        && r.draft.as_deref() == id
        && r.run.as_deref() == Some(run.as_str())
        && !r.is_own()
}

/// If two processes come at once, one of them gets the stage.
fn refuse_second_holder(draft: &Draft, run: &RunId, lock: &LockFile) -> Result<()> {
    let Some(holder) = lock.competing_holder(|r| holds(draft, run, r))? else { return Ok(()) };
    let why = format!(
        "the staging directory of run {run} for {draft} is held by process {} on {}, since {}",
        holder.pid, holder.host, holder.since
    );
    let stage = stages(draft.store())?.into_iter().find(|s| s.is_of(draft, run));
    let at = stage.map(|s| mounted_at(draft.store(), s.token())).transpose()?.flatten();
    let at = at.filter(|_| holder.is_here()).map_or_else(|| "MNT".to_owned(), |at| show_path(&at));
    let there = if holder.is_here() { String::new() } else { format!(" on {}", holder.host) };
    let unmount = format!("`cairn umount --no-seal {at}`{there} unmounts it, and seals nothing");
    Err(Error::conflict(why).with_detail(Detail::Locked { holder: holder.holder() }).with_hint(format!(
        "{unmount}; `cairn locks` shows the lock, and --break ID removes it if its holder is gone for good"
    )))
}

/// Throws a stage away. Cut off, what is left is not taken for all that there was.
fn throw_away(store: &Store, token: &Token) -> Result<()> {
    let marker = store.layout().stage_sealing(token);
    store.disk().remove_file(&marker)?; // of a sealer that is gone
    let file = store.disk().write_file(marker, DROPPED)?;
    store.disk().sync_file(&file)?;
    remove(store, token)
}

/// Takes a stage away: its files, then what says whose they were.
fn remove(store: &Store, token: &Token) -> Result<()> {
    store.disk().remove_tree(&store.layout().stage(token))?;
    clear_notes(store, token)
}

/// Makes this process the stage's holder: whoever held it before sees the number after its own, and stops. The claim
/// says who is to stop, not what is in the stage, so it need not outlast a loss of power.
fn take_over(store: &Store, token: &Token) -> Result<u64> {
    let own = Token::fresh();
    let mut number = 1;
    loop {
        let path = store.layout().stage_holder(token, number);
        match store.disk().claim(own.as_str(), &path)? {
            Created::New => return Ok(number),
            // Its own, if only the reply was lost.
            Created::Exists if disk::read_link(&path)?.is_some_and(|text| text == own.as_str().as_bytes()) => {
                return Ok(number);
            }
            Created::Exists => number += 1,
        }
    }
}

/// Removes what is beside a stage whose files are gone: first what says whose it was, so that what is cut off belongs
/// to no run.
fn clear_notes(store: &Store, token: &Token) -> Result<()> {
    let layout = store.layout();
    store.disk().remove_file(&layout.stage_record(token))?;
    for number in 1.. {
        let path = layout.stage_holder(token, number);
        if disk::lstat(&path)?.is_none() {
            break;
        }
        store.disk().remove_file(&path)?;
    }
    if !store.disk().kind().is_local() {
        let _ = store.disk().remove_tree(&layout.stage_gone(token)); // while a file in it is open, that is for the next sweep
    }
    [layout.stage_mount(token), layout.stage_sealing(token)].iter().try_for_each(|path| store.disk().remove_file(path))
}

/// Removes the notes of stages that are gone: a stage's record is made before all of them.
fn sweep(store: &Store) -> Result<()> {
    for name in disk::list(&store.layout().staging())? {
        let Some((token, note)) = name.to_str().and_then(|n| n.split_once('.')) else { continue };
        let Some(token) = Token::from_text(token) else { continue };
        if note == "json" || disk::lstat_revalidated(&store.layout().stage_record(&token))?.is_some() {
            continue;
        }
        let path = store.layout().staging().join(&name);
        if note == "gone" {
            let _ = store.disk().remove_tree(&path); // a file in it may be open even now
        } else {
            store.disk().remove_file(&path)?;
        }
    }
    Ok(())
}

/// Whether an entry of `staging/` is a stage's directory without a record, or nothing of a stage.
fn is_nobodys(store: &Store, name: &OsStr) -> Result<bool> {
    let text = name.to_str().unwrap_or_default();
    let Some(token) = Token::from_text(text.split_once('.').map_or(text, |(token, _)| token)) else { return Ok(true) };
    Ok(text == token.as_str() && disk::lstat_revalidated(&store.layout().stage_record(&token))?.is_none())
}

/// Reads a stage's note of where it is mounted.
///
/// # Errors
/// I/O.
pub fn mounted_at(store: &Store, token: &Token) -> Result<Option<PathBuf>> {
    use std::os::unix::ffi::OsStringExt;
    let noted = disk::read_small(&store.layout().stage_mount(token), 4096)?;
    Ok(noted.map(|bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes))))
}
