//! Objects and packs whose bytes are right, and whose mode or time was changed: both are set again.

use super::report::Repaired;
use crate::disk::{self, hash_file};
use crate::error::{Error, Result};
use crate::objects::{OBJECT_MODE, OBJECT_MTIME};
use crate::store::Store;
use crate::types::Digest;
use crate::verify::{VerifyReport, code};

/// Sets what was changed, as far as this user may.
///
/// # Errors
/// I/O.
pub(super) fn repair(store: &Store, found: &VerifyReport, done: &mut Repaired) -> Result<()> {
    for finding in found.findings.iter().filter(|finding| finding.code == code::TOUCHED) {
        let repaired = match finding.what.split_once('/') {
            Some(("packs", name)) => pack(store, name),
            Some(("objects", name)) => object(store, &name.replace('/', "")),
            _ => Ok(false),
        };
        match repaired {
            Err(e) if matches!(e.errno(), Some(libc::EPERM | libc::EACCES | libc::ENOENT)) => {}
            repaired => done.modes += u64::from(repaired?),
        }
    }
    Ok(())
}

fn pack(store: &Store, name: &str) -> Result<bool> {
    let Some(name) = Digest::of_hex(name.as_bytes()) else { return Ok(false) };
    store.disk().set_mode(&store.layout().pack(&name), OBJECT_MODE).map(|()| true)
}

/// An object is hashed again: its time says that its bytes are right.
fn object(store: &Store, name: &str) -> Result<bool> {
    let Some(name) = Digest::of_hex(name.as_bytes()) else { return Ok(false) };
    let path = store.layout().object(&name);
    let Some((file, before)) = disk::open_file(&path)? else { return Ok(false) };
    let changed = |e| Error::io("look at", &path, e);
    if hash_file(&file, &path, &mut |_| Ok(()))?.0 != name
        || file.metadata().map_err(changed)?.modified().ok() != before.modified().ok()
    {
        return Ok(false);
    }
    store.disk().set_mode_and_mtime(&file, &path, OBJECT_MODE, OBJECT_MTIME).map(|()| true)
}
