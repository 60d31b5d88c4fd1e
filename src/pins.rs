//! Pins: versions that somebody reads, so that they are not removed by mistake and never freed (FORMAT.md, "Pins").
//!
//! A holder is a directory `pins/TOKEN` with a lock file `holder` in it, which tells who it is and lives as locks do; each version it relies
//! on is an empty file `NAME@vN` beside it. A pin is made first, and then its version is looked at, FRESH: not removed. A pin of a holder
//! judged dead is nobody's, and a collector's to take away. Who may not write to the store holds none.

use crate::disk;
use crate::error::Result;
use crate::lock::{self, Life, LockFile, LockRecord, Purpose};
use crate::store::Store;
use crate::words::{ArtifactName, Token, VersionNumber};
use std::path::PathBuf;

const HOLDER: &str = "holder";

/// Who pins versions, until it is dropped. Dropped with pins left, it takes them away too.
#[derive(Debug)]
pub struct Pins {
    store: Store,
    dir: PathBuf,
    _holder: LockFile,
}

impl Pins {
    /// A holder without pins yet.
    ///
    /// # Errors
    /// I/O: who may not write to the store holds no pins.
    pub fn hold(store: &Store, purpose: &Purpose<'_>) -> Result<Pins> {
        let dir = store.layout().pin_holder(&Token::fresh());
        store.disk().create_dir(&dir)?;
        match LockFile::take_at(store, dir.join(HOLDER), purpose) {
            Ok(holder) => Ok(Pins { store: store.clone(), dir, _holder: holder }),
            Err(e) => {
                let _ = store.disk().remove_dir(&dir); // else a collector does
                Err(e)
            }
        }
    }

    /// Pins a version. Look FRESH afterwards that it is not removed.
    ///
    /// # Errors
    /// I/O.
    pub fn pin(&self, name: &ArtifactName, number: VersionNumber) -> Result<()> {
        self.store.disk().create_file(self.dir.join(pin_name(name, number))).map(drop)
    }

    /// Takes a pin away.
    ///
    /// # Errors
    /// I/O.
    pub fn unpin(&self, name: &ArtifactName, number: VersionNumber) -> Result<()> {
        self.store.disk().remove_file(&self.dir.join(pin_name(name, number)))
    }
}

impl Pins {
    /// Takes all pins away, and the holder: it pins nothing any more.
    pub fn release(&self) {
        // What stays has a holder that is dead: a collector's.
        for name in disk::list(&self.dir).unwrap_or_default() {
            let _ = self.store.disk().remove_file(&self.dir.join(name));
        }
        let _ = self.store.disk().remove_dir(&self.dir);
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.release();
    }
}

fn pin_name(name: &ArtifactName, number: VersionNumber) -> String {
    format!("{name}@{number}")
}

/// The live holders that pin a version. Takes some seconds when one is on another host, whose life must be watched.
///
/// # Errors
/// I/O.
pub fn holders(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Vec<LockRecord>> {
    let pins = store.layout().pins();
    let mut files = Vec::new();
    for holder in disk::list(&pins)? {
        let dir = pins.join(holder);
        if disk::look_fresh(&dir.join(pin_name(name, number)))?.is_some() {
            files.push(dir.join(HOLDER));
        }
    }
    let live = lock::judge(&files)?.into_iter().filter(|l| l.life == Life::Live);
    Ok(live.filter_map(|l| l.record).collect())
}
