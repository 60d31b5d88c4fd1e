//! Notes which locks of other hosts were judged dead, so that not every process has to watch them again.
//!
//! Next to the lock `TOKEN` the file `TOKEN.dead` holds the counter value that did not change while the lock was
//! watched. If the holder is alive after all, it changes its counter, and the note no longer applies. Notes are
//! advisory, as locks are.

use crate::disk;
use crate::store::Store;
use crate::types::Token;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".dead";

fn note_of(lock: &Path) -> PathBuf {
    let mut path = lock.as_os_str().to_owned();
    path.push(SUFFIX);
    path.into()
}

/// Whether a file in `locks/` is such a note, not a lock.
pub(super) fn is_note(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.ends_with(SUFFIX))
}

/// Whether a lock was judged dead while its counter was at `beat`.
pub(super) fn is_noted(lock: &Path, beat: &str) -> bool {
    disk::read_small(&note_of(lock), 64).is_ok_and(|text| text.as_deref() == Some(beat.as_bytes()))
}

/// Notes that a lock is dead. If the user may not write to the store, it does nothing.
pub(super) fn note(store: &Store, lock: &Path, beat: &str) {
    sweep(store, lock);
    let path = note_of(lock);
    let _ = store.disk().remove_file(&path); // of an earlier counter value
    if let Ok(file) = store.disk().write_file(path, beat.as_bytes())
        && !store.disk().kind().is_local()
    {
        file.write_through_uncounted();
    }
}

/// Removes the note of a lock that is removed.
pub(super) fn forget(store: &Store, lock: &Path) {
    let note = note_of(lock);
    if disk::lstat(&note).is_ok_and(|found| found.is_some()) {
        let _ = store.disk().remove_file(&note);
    }
}

/// Removes the notes next to `lock` whose locks no longer exist.
fn sweep(store: &Store, lock: &Path) {
    let Some(dir) = lock.parent() else { return };
    for name in disk::list(dir).unwrap_or_default() {
        let token = name.to_str().and_then(|n| n.strip_suffix(SUFFIX)).and_then(Token::of_text);
        let Some(token) = token else { continue };
        let there = disk::lstat_revalidated(&dir.join(token.as_str()));
        if there.is_ok_and(|found| found.is_none()) {
            let _ = store.disk().remove_file(&dir.join(&name));
        }
    }
}
