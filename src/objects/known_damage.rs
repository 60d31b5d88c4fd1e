//! The list of known damage, `damaged/`: one empty file for each object, pack or packed blob whose bytes were found
//! wrong.
//!
//! A process that reads wrong bytes adds to it, if it may write to the store. Each writer reads the list once, after
//! its token was made, and does not count what is listed as stored: content that it has at hand is stored again. The
//! list decides what is stored twice, never what is right.

use super::content_store::Objects;
use super::damage::{Damage, DamagedItem, KnownDamage, MAX_BLOBS_PER_PACK, StoredFile};
use crate::disk;
use crate::error::Result;
use std::path::Path;

impl Objects {
    /// The list of known damage, by a revalidated lookup.
    ///
    /// # Errors
    /// I/O.
    pub fn known_damage(&self) -> Result<KnownDamage> {
        let names = disk::list(&self.layout().damaged())?;
        Ok(KnownDamage::new(names.iter().filter_map(|n| DamagedItem::from_file_name(n.to_str()?))))
    }

    /// Puts something on the list. Best effort: a process that may not write to the store changes nothing.
    pub fn list_as_damaged(&self, item: DamagedItem) {
        let Some(item) = self.reported_damage().insert(item) else { return };
        item.list(self.layout(), self.disk());
    }

    /// Lists what the disk cannot read. Only on a local disk: there such an error is permanent, elsewhere a server may
    /// not answer for a moment.
    pub(super) fn list_unreadable(&self, item: DamagedItem) {
        if self.disk().kind().is_local() {
            self.list_as_damaged(item);
        }
    }

    /// Removes from the list what is right again. Best effort.
    pub fn unlist(&self, item: &DamagedItem) {
        self.reported_damage().remove(item);
        let _: Result<()> = self.disk().remove_file(&self.layout().damaged().join(item.file_name()));
    }

    /// Lists the damage that a check found in a piece of stored content. For checks of any depth. Lists only damage of
    /// content in place: writers use nothing from the trash. Best effort.
    pub fn list_damage(&self, stored: &StoredFile, found: &[Damage]) {
        let in_packs = stored.path.starts_with(self.layout().packs());
        let Some(name) = stored.name.filter(|_| in_packs || stored.path.starts_with(self.layout().objects())) else {
            return;
        };
        let blobs = found.iter().filter(|d| matches!(d, Damage::Blob { .. })).count();
        for damage in found {
            match damage {
                Damage::Footer(_) => self.list_as_damaged(DamagedItem::Pack(name)),
                Damage::Blob { .. } if blobs > MAX_BLOBS_PER_PACK => self.list_as_damaged(DamagedItem::Pack(name)),
                Damage::Blob { digest, kind, .. } => {
                    self.list_as_damaged(DamagedItem::Blob { digest: *digest, kind: *kind, pack: name })
                }
                Damage::Object(digest, _) => self.list_as_damaged(DamagedItem::Object(*digest)),
                Damage::Unreadable(_) if in_packs => self.list_unreadable(DamagedItem::Pack(name)),
                Damage::Unreadable(_) => self.list_unreadable(DamagedItem::Object(name)),
                Damage::ForeignFile
                | Damage::Hints(_)
                | Damage::Touched(_)
                | Damage::Writable(_)
                | Damage::Segment(_) => {}
            }
        }
    }

    /// Compares the list with what a *whole* check ([`Objects::check_pack`], [`Objects::check_object`]) found in a
    /// piece of stored content: lists what is damaged, and removes what is not. Best effort.
    pub fn update_known_damage(&self, known: &KnownDamage, stored: &StoredFile, found: &[Damage]) {
        let listed = stored.name.as_ref().map_or(&[][..], |name| known.of(name));
        for listed in listed.iter().filter(|listed| self.is_in(listed, stored)) {
            if !still_damaged(listed, found) {
                self.unlist(listed);
            }
        }
        self.list_damage(stored, found);
    }

    /// Whether an item is this piece of stored content, or lies in it.
    fn is_in(&self, item: &DamagedItem, stored: &StoredFile) -> bool {
        let in_place = |path: &Path| path == stored.path;
        match item {
            DamagedItem::Object(digest) => Some(*digest) == stored.name && in_place(&self.layout().object(digest)),
            DamagedItem::Pack(pack) | DamagedItem::Blob { pack, .. } => {
                Some(*pack) == stored.name && in_place(&self.layout().pack(pack))
            }
        }
    }

    /// Removes from the list what concerns a pack or object that was stored again, or does not exist any more.
    pub(super) fn forget_damage(&self, known: &KnownDamage, of: &DamagedItem) {
        for listed in known.of(of.file_digest()) {
            let same = match of {
                DamagedItem::Object(_) => listed == of,
                DamagedItem::Pack(pack) | DamagedItem::Blob { pack, .. } => listed.pack() == Some(pack),
            };
            if same {
                self.unlist(listed);
            }
        }
    }

    /// Removes from the list what concerns packs and objects that were freed. What is in the trash stays on it: it may
    /// be put back.
    ///
    /// # Errors
    /// I/O.
    pub fn forget_damage_of_what_is_gone(&self) -> Result<()> {
        for listed in self.known_damage()?.iter() {
            // In place once more: it may have been put back in between.
            if !self.is_in_place(listed)? && !self.is_in_trash(listed)? && !self.is_in_place(listed)? {
                self.unlist(listed);
            }
        }
        Ok(())
    }

    fn is_in_place(&self, listed: &DamagedItem) -> Result<bool> {
        let place = match listed.pack() {
            Some(pack) => self.layout().pack(pack),
            None => self.layout().object(listed.file_digest()),
        };
        Ok(disk::lstat_revalidated(&place)?.is_some())
    }

    fn is_in_trash(&self, listed: &DamagedItem) -> Result<bool> {
        listed.pack().map_or_else(|| self.has_object_in_trash(listed.file_digest()), |pack| self.in_trash(pack))
    }
}

/// Whether a whole check found the listed damage again.
fn still_damaged(listed: &DamagedItem, found: &[Damage]) -> bool {
    found.iter().any(|damage| match (listed, damage) {
        (_, Damage::Unreadable(_)) => true,
        (DamagedItem::Object(digest), Damage::Object(of, _)) => of == digest,
        (DamagedItem::Pack(_), Damage::Footer(_) | Damage::Blob { .. }) => true,
        (DamagedItem::Blob { .. }, Damage::Footer(_)) => true,
        (DamagedItem::Blob { digest, kind, .. }, Damage::Blob { digest: of, kind: is, .. }) => {
            (of, is) == (digest, kind)
        }
        _ => false,
    })
}
