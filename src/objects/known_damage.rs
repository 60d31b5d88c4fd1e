//! The list of known damage, `damaged/`: one empty file for each object, pack or packed blob whose bytes were found
//! wrong.
//!
//! Whoever reads wrong bytes adds to it, as far as they may write to the store. Each writer lists it once, after its
//! token was made, and takes nothing that is listed for stored: content that it has at hand is stored again. The list
//! decides what is stored twice, never what is right.

use super::Objects;
use super::check::{Damage, Stored};
use super::pack::Kind;
use crate::disk;
use crate::error::Result;
use crate::types::Digest;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::path::Path;

/// With more damaged blobs than this in one pack, the whole pack is listed instead of each.
const BLOBS_OF_A_PACK: usize = 16;
/// What this process has listed is remembered up to this many entries, so that reading the same damage again writes
/// nothing.
const REMEMBERED: usize = 1 << 12;

/// Something of the store whose bytes were found wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Damaged {
    /// An object file.
    Object(Digest),
    /// A pack as a whole.
    Pack(Digest),
    /// One blob of a pack.
    Blob {
        /// Its digest.
        digest: Digest,
        /// What it is.
        kind: Kind,
        /// The pack's name.
        pack: Digest,
    },
}

impl Damaged {
    /// The name of its file in `damaged/`.
    fn file_name(&self) -> String {
        match self {
            Damaged::Object(digest) => format!("object-{digest}"),
            Damaged::Pack(name) => format!("pack-{name}"),
            Damaged::Blob { digest, kind: Kind::Content, pack } => format!("content-{digest}-{pack}"),
            Damaged::Blob { digest, kind: Kind::Node, pack } => format!("node-{digest}-{pack}"),
        }
    }

    fn from_file_name(name: &str) -> Option<Damaged> {
        let (what, rest) = name.split_once('-')?;
        let digest = |hex: &str| Digest::from_hex(hex.as_bytes());
        let blob = |kind| {
            let (blob, pack) = rest.split_once('-')?;
            Some(Damaged::Blob { digest: digest(blob)?, kind, pack: digest(pack)? })
        };
        match what {
            "object" => Some(Damaged::Object(digest(rest)?)),
            "pack" => Some(Damaged::Pack(digest(rest)?)),
            "content" => blob(Kind::Content),
            "node" => blob(Kind::Node),
            _ => None,
        }
    }

    /// The pack that it is, or lies in.
    fn pack(&self) -> Option<&Digest> {
        match self {
            Damaged::Object(_) => None,
            Damaged::Pack(pack) | Damaged::Blob { pack, .. } => Some(pack),
        }
    }
}

/// The list as it was when it was read.
#[derive(Clone, Default, Debug)]
pub struct KnownDamage(HashSet<Damaged>);

impl KnownDamage {
    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether exactly this is listed.
    pub fn has(&self, damaged: &Damaged) -> bool {
        !self.0.is_empty() && self.0.contains(damaged)
    }

    /// Whether the blob's copy in that pack is listed, by itself or with the whole pack.
    pub fn has_blob(&self, digest: &Digest, kind: Kind, pack: &Digest) -> bool {
        self.has(&Damaged::Pack(*pack)) || self.has(&Damaged::Blob { digest: *digest, kind, pack: *pack })
    }

    /// Whether anything is listed of that pack.
    pub fn has_pack(&self, pack: &Digest) -> bool {
        self.0.iter().any(|d| d.pack() == Some(pack))
    }

    /// Everything that is listed.
    pub fn iter(&self) -> impl Iterator<Item = &Damaged> {
        self.0.iter()
    }
}

/// What this process has put on the list, or found there.
#[derive(Default, Debug)]
pub(super) struct Listed(Mutex<HashSet<Damaged>>);

impl Objects {
    /// The list of known damage, FRESH.
    ///
    /// # Errors
    /// I/O.
    pub fn known_damage(&self) -> Result<KnownDamage> {
        let dir = self.layout.damaged();
        let names = disk::list(&dir)?;
        Ok(KnownDamage(names.iter().filter_map(|n| Damaged::from_file_name(n.to_str()?)).collect()))
    }

    /// Lists something whose bytes were found wrong. Best effort: a process that may not write to the store changes
    /// nothing.
    pub fn list_as_damaged(&self, damaged: Damaged) {
        {
            let mut listed = self.listed.0.lock();
            if listed.contains(&damaged) {
                return;
            }
            if listed.len() >= REMEMBERED {
                listed.clear();
            }
            listed.insert(damaged);
        }
        let path = self.layout.damaged().join(damaged.file_name());
        if self.disk.create_mark(&path).is_err() && self.disk.create_dir(&self.layout.damaged()).is_ok() {
            // A store of an earlier release has no such directory.
            let _: Result<()> = self.disk.create_mark(&path);
        }
    }

    /// Lists what the disk could not read: on a local disk such an error stays, elsewhere it may be a server that does
    /// not answer for a moment.
    pub(super) fn list_unreadable(&self, damaged: Damaged) {
        if self.disk.kind().is_local() {
            self.list_as_damaged(damaged);
        }
    }

    /// Removes from the list what is right again. Best effort.
    pub(super) fn list_as_mended(&self, mended: &Damaged) {
        self.listed.0.lock().remove(mended);
        let _: Result<()> = self.disk.remove_file(&self.layout.damaged().join(mended.file_name()));
    }

    /// Takes over what a check found in a piece of stored content: [`Objects::list_pack`] and
    /// [`Objects::glance_at_object`] as well as the whole checks. Only damage of what is in place is listed: writers
    /// take nothing from the trash. Best effort.
    pub fn list_damage(&self, stored: &Stored, found: &[Damage]) {
        let Some(name) = stored
            .name
            .filter(|_| stored.path.starts_with(self.layout.packs()) || stored.path.starts_with(self.layout.objects()))
        else {
            return;
        };
        let blobs = found.iter().filter(|d| matches!(d, Damage::Blob { .. })).count();
        for damage in found {
            match damage {
                Damage::Footer(_) => self.list_as_damaged(Damaged::Pack(name)),
                Damage::Blob { .. } if blobs > BLOBS_OF_A_PACK => self.list_as_damaged(Damaged::Pack(name)),
                Damage::Blob { digest, kind, .. } => {
                    self.list_as_damaged(Damaged::Blob { digest: *digest, kind: *kind, pack: name })
                }
                Damage::Object(digest, _) => self.list_as_damaged(Damaged::Object(*digest)),
                Damage::Unreadable(_) if stored.path.starts_with(self.layout.packs()) => {
                    self.list_unreadable(Damaged::Pack(name))
                }
                Damage::Unreadable(_) => self.list_unreadable(Damaged::Object(name)),
                Damage::Stranger | Damage::Hints(_) | Damage::Touched(_) | Damage::Segment(_) => {}
            }
        }
    }

    /// Compares the list `known` with what a *whole* check ([`Objects::check_pack`], [`Objects::check_object`]) found
    /// in a piece of stored content: lists what is damaged, and removes from the list what is not. Best effort.
    pub fn update_known_damage(&self, known: &KnownDamage, stored: &Stored, found: &[Damage]) {
        let Some(name) = stored.name else { return };
        if !known.is_empty() {
            let in_place = |path: &Path| path == stored.path;
            let unreadable = found.iter().any(|d| matches!(d, Damage::Unreadable(_)));
            let still = |listed: &Damaged| match listed {
                _ if unreadable => true,
                Damaged::Object(digest) => found.iter().any(|d| matches!(d, Damage::Object(of, _) if of == digest)),
                Damaged::Pack(_) => found.iter().any(|d| matches!(d, Damage::Footer(_) | Damage::Blob { .. })),
                Damaged::Blob { digest, kind, .. } => found.iter().any(|d| match d {
                    Damage::Footer(_) => true,
                    Damage::Blob { digest: of, kind: is, .. } => (of, is) == (digest, kind),
                    _ => false,
                }),
            };
            for listed in known.iter() {
                let of_this = match listed {
                    Damaged::Object(digest) => *digest == name && in_place(&self.layout.object(digest)),
                    Damaged::Pack(pack) | Damaged::Blob { pack, .. } => {
                        *pack == name && in_place(&self.layout.pack(pack))
                    }
                };
                if of_this && !still(listed) {
                    self.list_as_mended(listed);
                }
            }
        }
        self.list_damage(stored, found);
    }

    /// Removes from the list what speaks of a pack or object that was stored anew, or is not there any more.
    pub(super) fn forget_damage(&self, known: &KnownDamage, of: &Damaged) {
        for listed in known.iter() {
            let same = match of {
                Damaged::Object(_) => listed == of,
                Damaged::Pack(pack) | Damaged::Blob { pack, .. } => listed.pack() == Some(pack),
            };
            if same {
                self.list_as_mended(listed);
            }
        }
    }
}
