//! Pins: versions that are in use, so that they are not removed by mistake and never freed (FORMAT.md, "Pins").
//!
//! A holder is a directory `pins/TOKEN` with a lock file `holder` in it, which names the holder and shows whether it is
//! alive, as locks do. Each version it relies on is an empty file `NAME@vN` next to it. A holder first makes the pin,
//! and then checks with a revalidated lookup that the version is not removed. If the holder is judged dead, its pins
//! have no effect, and `gc` removes them. A user who may not write to the store can hold no pins.
//!
//! A mount of a whole store keeps a pin while the kernel remembers the version, used or not. (If there are many pins,
//! it makes the kernel forget the versions that it pinned first, except those in use.) A process that wants to remove
//! the version asks for the pin back with `NAME@vN.wanted` next to it. The mount then makes the kernel forget the
//! version, at once if it is unused, else when it is no longer used. So the pin stays while the version is in use, and
//! is removed within some seconds after that.

use crate::disk;
use crate::error::Result;
use crate::lock::{self, HolderStatus, LockFile, LockRecord, Purpose};
use crate::locks::Mutex;
use crate::store::Store;
use crate::types::{ArtifactName, Token, VersionNumber};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const HOLDER: &str = "holder";
const WANTED: &str = ".wanted";
/// For more versions than this, a holder's pins are listed.
const FEW: usize = 4;
/// How long a holder has to give a pin back: some rounds of its housekeeping.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a holder tries to remove its directory, and the pause between two attempts.
const REMOVALS: u32 = 5;
const REMOVAL_INTERVAL: Duration = Duration::from_millis(20);

/// A holder of pins, until it is dropped. Dropping it removes its remaining pins.
#[derive(Debug)]
pub struct Pins {
    store: Store,
    dir: PathBuf,
    /// A forked child does not remove its parent's pins.
    pid: u32,
    holder: Mutex<Option<LockFile>>,
}

impl Pins {
    /// Makes a holder that has no pins yet.
    ///
    /// # Errors
    /// I/O, for example if the user may not write to the store.
    pub fn hold(store: &Store, purpose: &Purpose<'_>) -> Result<Pins> {
        let dir = store.layout().pin_holder(&Token::fresh());
        store.disk().create_dir(&dir)?;
        let take = || LockFile::take_at(store, dir.join(HOLDER), purpose);
        let taken = match take() {
            // This process rested for a long time, and a collection removed the empty directory.
            Err(e) if e.errno() == Some(libc::ENOENT) => store.disk().create_dir(&dir).and_then(|_| take()),
            taken => taken,
        };
        match taken {
            Ok(holder) => {
                let holder = Mutex::new(Some(holder));
                Ok(Pins { store: store.clone(), dir, pid: std::process::id(), holder })
            }
            Err(e) => {
                let _ = store.disk().remove_dir(&dir); // else `gc` does
                Err(e)
            }
        }
    }

    /// Pins a version. Afterwards check with a revalidated lookup that it is not removed.
    ///
    /// # Errors
    /// I/O.
    pub fn pin(&self, name: &ArtifactName, number: VersionNumber) -> Result<()> {
        self.store.disk().create_file(self.dir.join(pin_name(name, number))).map(drop)
    }

    /// Removes a pin.
    ///
    /// # Errors
    /// I/O.
    pub fn unpin(&self, name: &ArtifactName, number: VersionNumber) -> Result<()> {
        self.store.disk().remove_file(&self.dir.join(pin_name(name, number)))
    }
}

impl Pins {
    /// The pins that other processes have asked for since the last call.
    ///
    /// # Errors
    /// I/O.
    pub fn wanted(&self) -> Result<Vec<(ArtifactName, VersionNumber)>> {
        let mut wanted = Vec::new();
        for file in disk::list(&self.dir)? {
            let Some(pin) = file.to_str().and_then(|f| f.strip_suffix(WANTED)) else { continue };
            self.store.disk().remove_file(&self.dir.join(&file))?;
            wanted.extend(parse_pin(pin));
        }
        Ok(wanted)
    }

    /// Removes all pins and the holder, which must not be used afterwards.
    pub fn release(&self) {
        if self.pid != std::process::id() {
            return;
        }
        // If something stays, its holder is dead, and `gc` removes it.
        for name in disk::list(&self.dir).unwrap_or_default() {
            let _ = self.store.disk().remove_file(&self.dir.join(name));
        }
        // NFS keeps a removed file in its directory, under another name, until it is closed.
        drop(self.holder.lock().take());
        for _ in 0..REMOVALS {
            match self.store.disk().remove_dir(&self.dir) {
                // The heartbeat has the file open at this moment.
                Err(e) if e.errno() == Some(libc::ENOTEMPTY) => std::thread::sleep(REMOVAL_INTERVAL),
                _ => return,
            }
        }
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

/// The live holders that use each of these versions of an artifact. Holders that may only remember one are asked to
/// give their pins back, which takes some seconds, however many versions there are. A holder on another host takes some
/// seconds too, because its heartbeat must be watched.
///
/// # Errors
/// I/O.
pub fn users_of_each(
    store: &Store,
    name: &ArtifactName,
    numbers: &[VersionNumber],
) -> Result<HashMap<VersionNumber, Vec<LockRecord>>> {
    let begun = Instant::now();
    let mut asked = false;
    loop {
        let holders = holders(store, name, numbers)?;
        let of = |number: VersionNumber| holders.iter().filter(move |holder| holder.pinned.contains(&number));
        // A mount of a single version uses it.
        let surely_used = |number: VersionNumber| of(number).any(|holder| holder.record.artifact.is_some());
        let undecided = |number: VersionNumber| of(number).next().is_some() && !surely_used(number);
        if !numbers.iter().any(|number| undecided(*number)) || begun.elapsed() > TIMEOUT {
            let users = |number: VersionNumber| (number, of(number).map(|holder| holder.record.clone()).collect());
            return Ok(numbers.iter().map(|number| users(*number)).collect());
        }
        if !std::mem::replace(&mut asked, true) {
            for (holder, number) in holders.iter().flat_map(|h| h.pinned.iter().map(move |number| (h, *number))) {
                if undecided(number) {
                    // If another process has asked already, or asking fails, this only waits.
                    drop(store.disk().create_file(holder.dir.join(pin_name(name, number) + WANTED)));
                }
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Reads what [`pin_name`] gives.
fn parse_pin(text: &str) -> Option<(ArtifactName, VersionNumber)> {
    let (name, number) = text.split_once('@')?;
    Some((ArtifactName::parse(name).ok()?, VersionNumber::of_text(number)?))
}

/// All pins of a store.
#[derive(Debug, Default)]
pub(crate) struct AllPins {
    /// The versions pinned by holders that are not known to be dead.
    pub versions: Vec<(ArtifactName, VersionNumber)>,
    /// The directories of dead holders.
    pub dead: Vec<PathBuf>,
    /// Empty directories: of a process that is about to become a holder, or of one that was stopped before or after
    /// it was one.
    pub empty: Vec<PathBuf>,
}

/// Every pin. Takes some seconds if a holder is on another host, because its lock must be watched.
///
/// # Errors
/// I/O.
pub(crate) fn all(store: &Store) -> Result<AllPins> {
    let pins = store.layout().pins();
    let mut all = AllPins::default();
    let mut holders = Vec::new();
    for holder in disk::list(&pins)? {
        let dir = pins.join(&holder);
        if !disk::lstat(&dir)?.is_some_and(|meta| meta.is_dir()) {
            continue;
        }
        let names = match disk::list(&dir) {
            Err(e) if e.errno() == Some(libc::ENOENT) => continue, // released
            names => names?,
        };
        let pinned: Vec<_> = names.iter().filter_map(|name| parse_pin(name.to_str()?)).collect();
        if names.is_empty() {
            all.empty.push(dir);
        } else if !pinned.is_empty() || names.iter().any(|name| name == HOLDER) {
            holders.push((dir.join(HOLDER), pinned));
        }
    }
    let files: Vec<_> = holders.iter().map(|(file, _)| file.clone()).collect();
    let judged = lock::judge(store, &files)?.into_iter();
    let dead = judged.filter(|lock| lock.status == HolderStatus::Dead && lock.record.is_some());
    let dead: HashSet<PathBuf> = dead.map(|lock| lock.path).collect();
    for (file, pinned) in holders {
        if !dead.contains(&file) {
            all.versions.extend(pinned);
        } else if let Some(dir) = file.parent() {
            all.dead.push(dir.to_path_buf());
        }
    }
    Ok(all)
}

/// A live holder that pins some of the versions in question.
struct Holder {
    dir: PathBuf,
    record: LockRecord,
    pinned: HashSet<VersionNumber>,
}

/// Which of these versions a holder pins. Looks for each pin if they are few, else it lists all.
fn pinned_by(dir: &Path, name: &ArtifactName, numbers: &[VersionNumber]) -> Result<HashSet<VersionNumber>> {
    if numbers.len() <= FEW {
        let mut pinned = HashSet::new();
        for number in numbers {
            if disk::lstat_revalidated(&dir.join(pin_name(name, *number)))?.is_some() {
                pinned.insert(*number);
            }
        }
        return Ok(pinned);
    }
    let names = match disk::list(dir) {
        Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(HashSet::new()), // released
        Err(e) if e.errno() == Some(libc::ENOTDIR) => return Ok(HashSet::new()), // not a holder
        names => names?,
    };
    let wanted: HashSet<VersionNumber> = numbers.iter().copied().collect();
    let pins = names.iter().filter_map(|pin| parse_pin(pin.to_str()?));
    Ok(pins.filter(|(of, number)| of == name && wanted.contains(number)).map(|(_, number)| number).collect())
}

/// The live holders that pin one of these versions.
fn holders(store: &Store, name: &ArtifactName, numbers: &[VersionNumber]) -> Result<Vec<Holder>> {
    let pins = store.layout().pins();
    let mut found = HashMap::new();
    for holder in disk::list(&pins)? {
        let dir = pins.join(holder);
        let pinned = pinned_by(&dir, name, numbers)?;
        if !pinned.is_empty() {
            found.insert(dir.join(HOLDER), pinned);
        }
    }
    let files: Vec<_> = found.keys().cloned().collect();
    let live = lock::judge(store, &files)?.into_iter().filter(|l| l.status == HolderStatus::Live);
    Ok(live
        .filter_map(|l| {
            let pinned = found.remove(&l.path)?;
            Some(Holder { dir: l.path.parent()?.to_path_buf(), record: l.record?, pinned })
        })
        .collect())
}
