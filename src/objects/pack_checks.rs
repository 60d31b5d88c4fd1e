//! Which packs of others a writer may rely on.
//!
//! Each pack is looked up once, by a revalidated lookup, after the writer's token was made. The first few blobs found
//! in it are confirmed by their own headers, later ones by the pack's footer, which is read once and has the pack's
//! name as its checksum. So a writer whose content is all in the store reads one part in a hundred of it, and notices a
//! pack that is missing, truncated or another one. A writer does not rely on what is on the list of known damage.

use super::content_store::Objects;
use super::damage::{DamagedItem, KnownDamage};
use super::miss::{Miss, is_unreadable};
use super::pack::{BlobKind, Footer, PackTime};
use crate::disk;
use crate::error::Result;
use crate::locks::Mutex;
use crate::types::{Digest, Location, PackRef};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// This many blobs of a pack are confirmed by their headers before its footer is read.
const CONFIRM_BY_HEADER: u32 = if cfg!(test) { 3 } else { 16 };

/// How many whole footers are kept: of the longest packs, 3 MiB each.
const RECENT_FOOTERS: usize = 3;

/// The packs that a writer asked about.
#[derive(Default)]
pub(super) struct PackChecks {
    packs: Mutex<HashMap<PackRef, Arc<PackCheck>>>,
    /// The footers that were asked for last, so that the threads of a writer read each once.
    recent: Mutex<Vec<(PackRef, Arc<Footer>)>>,
}

#[derive(Default)]
struct PackCheck {
    /// Whether it was in place when it was first asked for.
    in_place: OnceLock<bool>,
    /// Blobs that were confirmed by their headers.
    hits: AtomicU32,
    /// `None`: the footer is wrong, and the writer relies on nothing in the pack.
    footer: OnceLock<Option<BlobMarks>>,
    /// Held while one of the above is determined.
    checking: Mutex<()>,
}

/// A valid footer in compact form: eight bytes for each blob.
struct BlobMarks {
    marks: Box<[u64]>,
    time: PackTime,
}

/// Identifies a blob at its offset. The digest's bytes are as good as random.
fn mark(digest: &Digest, kind: BlobKind, offset: u32) -> u64 {
    digest.prefix() ^ (u64::from(offset) << 8) ^ kind as u64
}

impl PackChecks {
    fn of(&self, pack: PackRef) -> Arc<PackCheck> {
        self.packs.lock().entry(pack).or_default().clone()
    }

    /// Whether the pack is in place. `listed` as for [`PackChecks::confirm`].
    ///
    /// # Errors
    /// I/O.
    pub(super) fn is_in_place(
        &self,
        objects: &Objects,
        listed: impl Fn(&Digest) -> bool,
        pack: PackRef,
    ) -> Result<bool> {
        let Some(name) = objects.pack_name(pack) else { return Ok(false) };
        self.of(pack).is_in_place(objects, listed, pack, &name)
    }

    /// The footer of a pack on which the writer may rely; `None` if something in it is known to be damaged, or if the
    /// pack is not as it was written. `listed` as for [`PackChecks::confirm`].
    ///
    /// # Errors
    /// As [`PackChecks::confirm`].
    pub(super) fn whole_footer(
        &self,
        objects: &Objects,
        damage: &KnownDamage,
        listed: impl Fn(&Digest) -> bool,
        pack: PackRef,
    ) -> Result<Option<Arc<Footer>>> {
        let mut recent = self.recent.lock();
        if let Some((_, footer)) = recent.iter().find(|(known, _)| *known == pack) {
            return Ok(Some(footer.clone()));
        }
        let Some(name) = objects.pack_name(pack) else { return Ok(None) };
        if damage.has_pack(&name) || !self.of(pack).is_in_place(objects, listed, pack, &name)? {
            return Ok(None);
        }
        let footer = read_footer(objects, pack, &name)?.map(|(footer, _)| Arc::new(footer));
        if let Some(footer) = &footer {
            recent.truncate(RECENT_FOOTERS - 1);
            recent.insert(0, (pack, footer.clone()));
        }
        Ok(footer)
    }

    /// When the pack was written that has the blob at `place`; `None` if the writer may not rely on the blob there.
    /// `listed` says whether a pack was in a listing that this writer made.
    ///
    /// # Errors
    /// I/O, except for a pack that cannot be read: it counts as absent.
    pub(super) fn confirm(
        &self,
        objects: &Objects,
        damage: &KnownDamage,
        listed: impl Fn(&Digest) -> bool,
        place: Location,
        digest: &Digest,
        kind: BlobKind,
    ) -> Result<Option<PackTime>> {
        let Some(name) = objects.pack_name(place.pack) else { return Ok(None) };
        if damage.has_blob(digest, kind, &name) {
            return Ok(None);
        }
        let check = self.of(place.pack);
        if !check.is_in_place(objects, listed, place.pack, &name)? {
            return Ok(None);
        }
        if check.footer.get().is_none() && check.hits.fetch_add(1, Ordering::Relaxed) < CONFIRM_BY_HEADER {
            return objects.confirm_by_header(place, digest, kind);
        }
        let Some(footer) = check.footer(objects, place.pack, &name)? else { return Ok(None) };
        Ok(footer.marks.binary_search(&mark(digest, kind, place.offset)).is_ok().then_some(footer.time))
    }
}

impl PackCheck {
    fn is_in_place(
        &self,
        objects: &Objects,
        listed: impl Fn(&Digest) -> bool,
        pack: PackRef,
        name: &Digest,
    ) -> Result<bool> {
        if let Some(known) = self.in_place.get() {
            return Ok(*known);
        }
        let _one = self.checking.lock();
        if let Some(known) = self.in_place.get() {
            return Ok(*known);
        }
        let found = listed(name) || disk::lstat_revalidated(&objects.layout().pack(name))?.is_some();
        objects.open_packs().forget(pack); // its open handle may belong to a file that was replaced since
        Ok(*self.in_place.get_or_init(|| found))
    }

    fn footer(&self, objects: &Objects, pack: PackRef, name: &Digest) -> Result<Option<&BlobMarks>> {
        if self.footer.get().is_none() {
            let _one = self.checking.lock();
            if self.footer.get().is_none() {
                let read = read_marks(objects, pack, name)?;
                self.footer.get_or_init(|| read);
            }
        }
        Ok(self.footer.get().and_then(Option::as_ref))
    }
}

fn read_marks(objects: &Objects, pack: PackRef, name: &Digest) -> Result<Option<BlobMarks>> {
    let Some((footer, time)) = read_footer(objects, pack, name)? else { return Ok(None) };
    let mut marks: Box<[u64]> = footer.blobs.iter().map(|b| mark(&b.digest, b.kind, b.offset)).collect();
    marks.sort_unstable();
    Ok(Some(BlobMarks { marks, time }))
}

/// The footer, checked, and when the pack was written; `None` if the writer may not rely on the pack.
fn read_footer(objects: &Objects, pack: PackRef, name: &Digest) -> Result<Option<(Footer, PackTime)>> {
    match objects.open_pack(pack).and_then(|file| Ok((file.footer(name)?.0, file.time()))) {
        Ok(read) => Ok(Some(read)),
        Err(Miss::Gone) => Ok(None),
        Err(Miss::Wrong(_) | Miss::Incomplete(_)) => {
            objects.list_as_damaged(DamagedItem::Pack(*name));
            Ok(None)
        }
        Err(Miss::Io(e)) if is_unreadable(&e) => {
            objects.list_unreadable(DamagedItem::Pack(*name));
            Ok(None)
        }
        Err(Miss::Io(e)) => Err(e),
    }
}
