//! Pins: versions that somebody reads, so that they are not removed by mistake and never freed (FORMAT.md, "Pins").
//!
//! A holder is a directory `pins/TOKEN` with a lock file `holder` in it, which tells who it is and lives as locks do;
//! each version it relies on is an empty file `NAME@vN` beside it. A pin is made first, and then its version is looked
//! at, FRESH: not removed. A pin of a holder judged dead is nobody's, and a collector's to take away. Who may not write
//! to the store holds none.
//!
//! A mount of a whole store keeps a pin while the kernel remembers the version, used or not. A process that wants to
//! remove the version asks for the pin with `NAME@vN.wanted` beside it: the mount makes the kernel forget what is not
//! in use, and what is in use as soon as it no longer is. The pin stays while the version is in use, and goes within
//! some seconds after that.

use crate::disk;
use crate::error::Result;
use crate::lock::{self, HolderStatus, LockFile, LockRecord, Purpose};
use crate::store::Store;
use crate::types::{ArtifactName, Token, VersionNumber};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const HOLDER: &str = "holder";
const WANTED: &str = ".wanted";
/// How long a holder is given to give a pin back: some rounds of its housekeeping.
const TIMEOUT: Duration = Duration::from_secs(5);

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
    /// The pins that somebody wants back since this was last asked.
    ///
    /// # Errors
    /// I/O.
    pub fn wanted(&self) -> Result<Vec<(ArtifactName, VersionNumber)>> {
        let mut wanted = Vec::new();
        for file in disk::list(&self.dir)? {
            let Some(pin) = file.to_str().and_then(|f| f.strip_suffix(WANTED)) else { continue };
            self.store.disk().remove_file(&self.dir.join(&file))?;
            wanted.extend(
                pin.split_once('@').and_then(|(name, number)| {
                    Some((ArtifactName::parse(name).ok()?, VersionNumber::of_text(number)?))
                }),
            );
        }
        Ok(wanted)
    }

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

/// The live holders that use a version. Those that may only remember it are asked to give their pins back, and waited
/// for. Takes some seconds then, and when one is on another host, whose life must be watched.
///
/// # Errors
/// I/O.
pub fn users(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Vec<LockRecord>> {
    let begun = Instant::now();
    let mut asked = false;
    loop {
        let holders = holders(store, name, number)?;
        // A mount of one version uses it.
        let surely_used = holders.iter().any(|(_, record)| record.artifact.is_some());
        if holders.is_empty() || surely_used || begun.elapsed() > TIMEOUT {
            return Ok(holders.into_iter().map(|(_, record)| record).collect());
        }
        if !std::mem::replace(&mut asked, true) {
            for (dir, _) in &holders {
                // Wanted by another already, or not to be asked: then it is only waited for.
                drop(store.disk().create_file(dir.join(pin_name(name, number) + WANTED)));
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The live holders that pin a version, and their directories.
fn holders(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Vec<(PathBuf, LockRecord)>> {
    let pins = store.layout().pins();
    let mut files = Vec::new();
    for holder in disk::list(&pins)? {
        let dir = pins.join(holder);
        if disk::lstat_revalidated(&dir.join(pin_name(name, number)))?.is_some() {
            files.push(dir.join(HOLDER));
        }
    }
    let live = lock::judge(store, &files)?.into_iter().filter(|l| l.life == HolderStatus::Live);
    Ok(live.filter_map(|l| Some((l.path.parent()?.to_path_buf(), l.record?))).collect())
}
