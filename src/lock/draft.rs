//! A draft for one at a time, by agreement: what programs take that want to commit to it one after the other.

use super::{AdvisoryTurn, LockFile, LockRecord, Purpose, live};
use crate::error::{Detail, Error, Result};
use crate::store::Store;
use crate::types::{ArtifactName, DistributedId, Token};
use std::time::{Duration, Instant};

const PURPOSE: &str = "draft-lock";
/// How often one who waits looks again.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A draft held by this process until it is dropped. Manners, not truth (L13): it keeps those away who ask for it too,
/// and nobody else; any lock can be broken, and then two hold it. What is upserted and finished is right either way.
#[derive(Debug)]
pub struct DraftLock {
    _file: LockFile,
}

impl Store {
    /// Takes a draft for this process, waiting up to `patience` for who holds it. A holder that died does not hold it:
    /// on this host that is seen at once, for another host it takes some seconds.
    ///
    /// # Errors
    /// Refused: it is held, naming by whom. I/O.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// use cairn::types::{ArtifactName, DistributedId};
    /// let (name, id) = (ArtifactName::parse("scores")?, DistributedId::parse("eval-7")?);
    /// let held = store.lock_draft(&name, &id, std::time::Duration::from_secs(60))?;
    /// // look at the draft, decide, upsert, finish: others who ask for the lock wait
    /// drop(held);
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn lock_draft(&self, name: &ArtifactName, id: &DistributedId, patience: Duration) -> Result<DraftLock> {
        self.check_writable()?;
        let until = Instant::now().checked_add(patience); // none: without end
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
                    holder = file.competing_holder(holds_it)?; // where the queue keeps nobody apart
                    if holder.is_none() {
                        return Ok(DraftLock { _file: file });
                    }
                }
                if let Some(holder) = holder.filter(|_| until.is_some_and(|until| Instant::now() >= until)) {
                    let why = format!(
                        "draft {id} of {name} is held by process {} on {}, since {}",
                        holder.pid, holder.host, holder.since
                    );
                    return Err(Error::conflict(why).with_detail(Detail::Locked { holder: holder.holder() }).with_hint("wait longer; `cairn locks` shows it, and --break ID takes it away if its holder is gone for good"));
                }
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}
