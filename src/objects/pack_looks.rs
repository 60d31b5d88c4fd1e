//! What a writer has seen of the packs that others made, and on which its version may rely.
//!
//! Each pack is looked at once, FRESH, after the writer's token was made. The first few blobs that are found in it are
//! confirmed by their own headers; from then on by the pack's footer, which is read once and has the pack's name for
//! its checksum: so who finds all that he has in the store reads one part in a hundred of it, and a pack that is
//! missing, cut or another one is noticed. What is on the list of known damage is not relied upon.

use super::Objects;
use super::known_damage::{Damaged, KnownDamage};
use super::pack::{Kind, Made};
use super::pack_file::{Miss, is_unreadable};
use crate::error::Result;
use crate::types::{Digest, Location, PackRef};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// So many blobs of a pack are confirmed by their headers before its footer is read.
const BY_HEADER: u32 = if cfg!(test) { 3 } else { 16 };

/// The packs that a writer asked about.
#[derive(Default)]
pub(super) struct PackLooks(Mutex<HashMap<PackRef, Arc<PackLook>>>);

#[derive(Default)]
struct PackLook {
    /// Whether it was in place when it was first asked for.
    there: OnceLock<bool>,
    hits: AtomicU32,
    /// `None`: the footer is not right, and nothing in the pack is relied upon.
    footer: OnceLock<Option<Footprint>>,
    /// Held while one of the above is found out.
    looking: Mutex<()>,
}

/// A footer that was right, as small as can be: eight bytes for each blob.
struct Footprint {
    blobs: Box<[u64]>,
    made: Made,
}

/// Tells a blob at its place from others; the digest's bytes are as good as random.
fn mark(digest: &Digest, kind: Kind, offset: u32) -> u64 {
    digest.prefix() ^ (u64::from(offset) << 8) ^ kind as u64
}

impl PackLooks {
    fn look(&self, pack: PackRef) -> Arc<PackLook> {
        self.0.lock().entry(pack).or_default().clone()
    }

    /// Whether the pack is in place. `listed` as for [`PackLooks::confirm`].
    ///
    /// # Errors
    /// I/O.
    pub(super) fn is_in_place(
        &self,
        objects: &Objects,
        listed: impl Fn(&Digest) -> bool,
        pack: PackRef,
    ) -> Result<bool> {
        let Some(name) = objects.table.name(pack) else { return Ok(false) };
        self.look(pack).is_there(
            || Ok(listed(&name) || objects.look(&objects.layout.pack(&name))?.is_some()),
            objects,
            pack,
        )
    }

    /// When the pack was made that has the blob at `place`; `None` when the blob is not to be relied upon there.
    /// `listed` says that the pack was seen in a listing that this writer made.
    ///
    /// # Errors
    /// I/O, but for a pack that cannot be read: that is as good as none.
    pub(super) fn confirm(
        &self,
        objects: &Objects,
        damage: &KnownDamage,
        listed: impl Fn(&Digest) -> bool,
        place: Location,
        digest: &Digest,
        kind: Kind,
    ) -> Result<Option<Made>> {
        let Some(name) = objects.table.name(place.pack) else { return Ok(None) };
        if damage.has_blob(digest, kind, &name) {
            return Ok(None);
        }
        let look = self.look(place.pack);
        if !look.is_there(
            || Ok(listed(&name) || objects.look(&objects.layout.pack(&name))?.is_some()),
            objects,
            place.pack,
        )? {
            return Ok(None);
        }
        if look.footer.get().is_none() && look.hits.fetch_add(1, Ordering::Relaxed) < BY_HEADER {
            return objects.confirmed(place, digest, kind);
        }
        let Some(footer) = look.footer(objects, place.pack, &name)? else { return Ok(None) };
        Ok(footer.blobs.binary_search(&mark(digest, kind, place.offset)).is_ok().then_some(footer.made))
    }
}

impl PackLook {
    fn is_there(&self, ask: impl FnOnce() -> Result<bool>, objects: &Objects, pack: PackRef) -> Result<bool> {
        if let Some(known) = self.there.get() {
            return Ok(*known);
        }
        let _one = self.looking.lock();
        if let Some(known) = self.there.get() {
            return Ok(*known);
        }
        let there = ask()?;
        objects.open_packs.forget(pack); // an open handle may be of a file that was replaced since
        Ok(*self.there.get_or_init(|| there))
    }

    fn footer(&self, objects: &Objects, pack: PackRef, name: &Digest) -> Result<Option<&Footprint>> {
        if self.footer.get().is_none() {
            let _one = self.looking.lock();
            if self.footer.get().is_none() {
                let read = read(objects, pack, name)?;
                self.footer.get_or_init(|| read);
            }
        }
        Ok(self.footer.get().and_then(Option::as_ref))
    }
}

fn read(objects: &Objects, pack: PackRef, name: &Digest) -> Result<Option<Footprint>> {
    match objects.open_pack(pack).and_then(|file| Ok((file.footer(name)?.0, file.made()))) {
        Ok((footer, made)) => {
            let mut blobs: Box<[u64]> = footer.blobs.iter().map(|b| mark(&b.digest, b.kind, b.offset)).collect();
            blobs.sort_unstable();
            Ok(Some(Footprint { blobs, made }))
        }
        Err(Miss::Gone) => Ok(None),
        Err(Miss::Wrong(_)) => {
            objects.list_as_damaged(Damaged::Pack(*name));
            Ok(None)
        }
        Err(Miss::Io(e)) if is_unreadable(&e) => {
            objects.list_unreadable(Damaged::Pack(*name));
            Ok(None)
        }
        Err(Miss::Io(e)) => Err(e),
    }
}
