//! An advisory lock on a draft, for programs that want to commit to it one after the other.

use super::{AdvisoryTurn, LockFile, LockRecord, Purpose, live};
use crate::error::{Detail, Error, Result};
use crate::store::Store;
use crate::types::{ArtifactName, DistributedId, Token};
use std::time::{Duration, Instant};

const PURPOSE: &str = "draft-lock";
/// How often a waiting process checks again.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A lock on a draft, held by this process until it is dropped. It is advisory (L13): it only excludes other processes
/// that also ask for it, and any lock can be broken, so two processes may then hold it. Upserts and finishes are
/// correct either way.
#[derive(Debug)]
pub struct DraftLock {
    _file: LockFile,
}

impl Store {
    /// Locks a draft for this process. If another process holds the lock, this waits up to `patience` for it. A dead
    /// holder doesn't count: on this host its death is noticed at once, on another host after some seconds.
    ///
    /// # Errors
    /// A conflict that names the holder, if the lock is held; I/O.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// use cairn::types::{ArtifactName, DistributedId};
    /// let (name, id) = (ArtifactName::parse("scores")?, DistributedId::parse("eval-7")?);
    /// let held = store.lock_draft(&name, &id, std::time::Duration::from_secs(60))?;
    /// // read the draft, decide, upsert, finish: other processes that ask for the lock wait
    /// drop(held);
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn lock_draft(&self, name: &ArtifactName, id: &DistributedId, patience: Duration) -> Result<DraftLock> {
        self.check_writable()?;
        let until = Instant::now().checked_add(patience); // none: no limit
        let purpose = Purpose {
            purpose: PURPOSE,
            artifact: Some(name.as_str()),
            draft: Some(id.as_str()),
            run: None,
            ..Purpose::default()
        };
        let holds_it = |r: &LockRecord| {
            r.purpose == PURPOSE && r.artifact.as_deref() == purpose.artifact && r.draft.as_deref() == purpose.draft
        };
        loop {
            {
                let _turn = AdvisoryTurn::exclusive(&self.layout().locks(), Duration::from_secs(1));
                let mut holder = live(self, holds_it)?.into_iter().next();
                if holder.is_none() {
                    let file = LockFile::take(self, &Token::fresh(), &purpose)?;
                    holder = file.competing_holder(holds_it)?; // if the turn excluded no one
                    if holder.is_none() {
                        return Ok(DraftLock { _file: file });
                    }
                }
                if let Some(holder) = holder.filter(|_| until.is_some_and(|until| Instant::now() >= until)) {
                    let why = format!(
                        "draft {id} of {name} is held by process {} on {}, since {}",
                        holder.pid, holder.host, holder.since
                    );
                    let hint = "wait longer; `cairn locks` lists it, and if its holder is gone for good,
                                `cairn locks --break ID` removes it";
                    let holder = holder.holder();
                    return Err(Error::conflict(why).with_detail(Detail::Locked { holder }).with_hint(hint));
                }
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}
