//! What can be wrong with stored content, and the list of what is known to be wrong.

use super::pack::BlobKind;
use crate::types::Digest;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::path::PathBuf;

/// What this process has reported is remembered up to this many items, so that reading the same damage again writes
/// nothing.
const MAX_REMEMBERED: usize = 1 << 12;

/// What a check found wrong with a piece of stored content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A file whose name is not one that the store gives.
    ForeignFile,
    /// A pack's footer or structure.
    Footer(String),
    /// One blob of a pack.
    Blob {
        /// Its digest, according to the footer.
        digest: Digest,
        /// What it is.
        kind: BlobKind,
        /// What was expected and found.
        why: String,
    },
    /// The hints of a node. It is read without them.
    Hints(Digest),
    /// An object's bytes.
    Object(Digest, String),
    /// An object's time or mode. Its bytes are right.
    Touched(Digest),
    /// An index segment. It is ignored and written again.
    Segment(String),
    /// It cannot be read: what the system says.
    Unreadable(String),
}

/// A file of stored content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Where it is.
    pub path: PathBuf,
    /// The digest in its name; `None` for a foreign file.
    pub name: Option<Digest>,
    /// Its size in bytes.
    pub size: u64,
}

/// Something in the store whose bytes were found wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DamagedItem {
    /// An object file.
    Object(Digest),
    /// A whole pack.
    Pack(Digest),
    /// One blob of a pack.
    Blob {
        /// Its digest.
        digest: Digest,
        /// What it is.
        kind: BlobKind,
        /// The pack's name.
        pack: Digest,
    },
}

impl DamagedItem {
    /// The name of its file in `damaged/`.
    pub(super) fn file_name(&self) -> String {
        match self {
            DamagedItem::Object(digest) => format!("object-{digest}"),
            DamagedItem::Pack(name) => format!("pack-{name}"),
            DamagedItem::Blob { digest, kind: BlobKind::Content, pack } => format!("content-{digest}-{pack}"),
            DamagedItem::Blob { digest, kind: BlobKind::Node, pack } => format!("node-{digest}-{pack}"),
        }
    }

    pub(super) fn from_file_name(name: &str) -> Option<DamagedItem> {
        let (what, rest) = name.split_once('-')?;
        let digest = |hex: &str| Digest::of_hex(hex.as_bytes());
        let blob = |kind| {
            let (blob, pack) = rest.split_once('-')?;
            Some(DamagedItem::Blob { digest: digest(blob)?, kind, pack: digest(pack)? })
        };
        match what {
            "object" => Some(DamagedItem::Object(digest(rest)?)),
            "pack" => Some(DamagedItem::Pack(digest(rest)?)),
            "content" => blob(BlobKind::Content),
            "node" => blob(BlobKind::Node),
            _ => None,
        }
    }

    /// The pack that it is, or lies in.
    pub(super) fn pack(&self) -> Option<&Digest> {
        match self {
            DamagedItem::Object(_) => None,
            DamagedItem::Pack(pack) | DamagedItem::Blob { pack, .. } => Some(pack),
        }
    }
}

/// The list of known damage at the time it was read.
#[derive(Clone, Default, Debug)]
pub struct KnownDamage(HashSet<DamagedItem>);

impl KnownDamage {
    pub(super) fn new(items: HashSet<DamagedItem>) -> KnownDamage {
        KnownDamage(items)
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether exactly this item is listed.
    pub fn has(&self, item: &DamagedItem) -> bool {
        !self.0.is_empty() && self.0.contains(item)
    }

    /// Whether the blob's copy in that pack is listed, by itself or with the whole pack.
    pub fn has_blob(&self, digest: &Digest, kind: BlobKind, pack: &Digest) -> bool {
        self.has(&DamagedItem::Pack(*pack)) || self.has(&DamagedItem::Blob { digest: *digest, kind, pack: *pack })
    }

    /// Whether that pack or anything in it is listed.
    pub fn has_pack(&self, pack: &Digest) -> bool {
        self.0.iter().any(|d| d.pack() == Some(pack))
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = &DamagedItem> {
        self.0.iter()
    }
}

/// The items that this process has put on the list.
#[derive(Default, Debug)]
pub(super) struct ReportedDamage(Mutex<HashSet<DamagedItem>>);

impl ReportedDamage {
    /// Remembers an item. `false` if it was remembered before.
    pub(super) fn insert(&self, item: DamagedItem) -> bool {
        let mut reported = self.0.lock();
        if reported.contains(&item) {
            return false;
        }
        if reported.len() >= MAX_REMEMBERED {
            reported.clear();
        }
        reported.insert(item)
    }

    pub(super) fn remove(&self, item: &DamagedItem) {
        self.0.lock().remove(item);
    }
}
