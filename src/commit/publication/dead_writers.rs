//! Clears what killed writers of this host left in `work/` and `locks/`, so that later writers do not look at it again
//! and again. A garbage collector clears the rest: what writers of other hosts left, and what nothing shows to be dead.

use crate::error::Result;
use crate::lock;
use crate::store::Store;
use crate::txn;
use crate::types::Token;
use std::path::Path;

/// From this number of tokens on their holders are checked. Fewer may all be at work, and cost little.
const MIN_TOKENS: usize = 128;
/// How many holders are checked at a time. If none of them is dead, the rest is left alone.
const STEP: usize = 64;
/// How many holders one writer checks.
const MAX_CHECKED: usize = 2048;

/// Fences those of `tokens` whose holders are certainly dead, and removes what they left. `tokens` have not committed.
/// What cannot be read or removed is left to a collector.
pub(super) fn clear(store: &Store, mut tokens: Vec<Token>) {
    if tokens.len() < MIN_TOKENS {
        return;
    }
    // Not every writer begins at the same ones.
    let begin = std::process::id() as usize % tokens.len();
    tokens.rotate_left(begin);
    tokens.truncate(MAX_CHECKED);
    for some in tokens.chunks(STEP) {
        let locks: Vec<_> = some.iter().map(|token| store.layout().lock(token)).collect();
        let Ok(dead) = lock::certainly_dead(store, &locks) else { return };
        if dead.is_empty() {
            return;
        }
        let dead = dead.iter().filter_map(|lock| Token::of_text(&lock.id));
        dead.for_each(|token| drop(clear_one(store, &token)));
    }
}

/// A token with a record is fenced first: then the record can never be published, whatever others do at the same time.
/// A token without one was being removed when its holder died.
fn clear_one(store: &Store, token: &Token) -> Result<()> {
    if let Some(record) = txn::record_path(store, token)? {
        txn::fence(store, token)?;
        if !txn::is_fenced(store, token)? {
            return Ok(()); // it committed a moment before its holder died
        }
        if is_record(store, token, &record) {
            store.disk().remove_tree(&record)?;
        }
    }
    txn::remove_ended(store, token)?;
    store.disk().remove_file(&store.layout().lock(token))
}

/// Whether a path is that of this token's record, and not what a damaged link names.
fn is_record(store: &Store, token: &Token, path: &Path) -> bool {
    let name = token.record_name();
    let is_plain = |path: &Path| path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    path.file_name().is_some_and(|found| found == std::ffi::OsStr::new(&name))
        && path.strip_prefix(store.layout().artifacts()).is_ok_and(is_plain)
}
