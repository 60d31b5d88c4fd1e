//! Repair: what `verify` finds missing or damaged is stored again from right bytes elsewhere, never from a guess.
//!
//! Right bytes come from this store (a version's `manifest` has its root node; version records have an artifact's name
//! and type) or from other stores that the caller names: content and manifest nodes by their digests, records by their
//! tokens; a lost number is claimed again for the record that had it, if that is certain. Each is checked before it is
//! used. All is done under a token of its own, while writers and collections may run: content is stored as a put does
//! it, and what was found damaged is replaced when the right bytes are durable.

mod clear;
mod content;
mod lost_numbers;
mod modes;
mod records;
mod report;

pub use report::{RepairReport, Repaired};

use crate::error::Result;
use crate::lock::Purpose;
use crate::store::Store;
use crate::txn::Txn;
use crate::verify::{Scope, VerifyOptions, VerifyReport, verify};

/// What is stored again may show that more is missing below it; so repair and verify alternate, at most so often.
const MAX_ROUNDS: usize = 5;

impl Store {
    /// Verifies the whole store and repairs what it can. See [`repair`].
    ///
    /// # Errors
    /// As [`repair`].
    pub fn repair(&self, others: &[Store], options: &VerifyOptions) -> Result<RepairReport> {
        repair(self, others, options)
    }
}

/// Verifies the whole store, repairs what right bytes are found for, and verifies again. `others` are stores that may
/// have what is lost here.
///
/// # Errors
/// As [`verify`]; a conflict if this user may not write to the store.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
/// let report = store.repair(&[], &Default::default())?;
/// assert!(report.after.findings.is_empty());
/// # Ok::<(), cairn::Error>(())
/// ```
pub fn repair(store: &Store, others: &[Store], options: &VerifyOptions) -> Result<RepairReport> {
    store.check_writable()?;
    let options = &options.clone().quick(false);
    let mut after = verify(store, &Scope::All, options)?;
    let mut repaired = Repaired::default();
    for _ in 0..MAX_ROUNDS {
        if after.findings.is_empty() && after.notes.is_empty() {
            break;
        }
        let done = round(store, others, &after, options)?;
        if done.is_empty() {
            break;
        }
        repaired.add(&done);
        store.objects().forget_misses();
        after = verify(store, &Scope::All, options)?;
    }
    Ok(RepairReport { repaired, after })
}

/// Repairs what one verification found.
fn round(store: &Store, others: &[Store], found: &VerifyReport, options: &VerifyOptions) -> Result<Repaired> {
    let purpose = Purpose { purpose: "repair", ..Purpose::default() };
    // No record will be committed: the token names the temporary files and makes collections wait.
    let work = Txn::begin(store, &purpose, &store.layout().trash())?;
    let mut done = Repaired { records: records::repair(store, others, &work.dir())?, ..Repaired::default() };
    clear::salvage(store, &work.dir(), &options.progress, &mut done)?;
    if done.contents + done.nodes == 0 {
        // What was salvaged is not lost any more: the next round knows what is.
        content::repair(store, others, found, &work.dir(), &mut done)?;
    }
    modes::repair(store, found, &mut done)?;
    clear::index(store, found, &work.dir(), &mut done)?;
    if done.is_empty() {
        clear::unneeded(store, found, &work, &options.progress, &mut done)?;
    }
    Ok(done)
}
