//! What can be wrong with stored content, and the list of what is known to be wrong.

use super::pack::BlobKind;
use crate::disk::Disk;
use crate::error::Result;
use crate::layout::Layout;
use crate::locks::Mutex;
use crate::types::Digest;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

/// What this process has reported is remembered up to this many items, so that reading the same damage again writes
/// nothing.
const MAX_REMEMBERED: usize = 1 << 12;

/// If more blobs of one pack than this are damaged, the whole pack is listed instead.
pub(super) const MAX_BLOBS_PER_PACK: usize = 16;

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
    /// A pack that can be written to. Its bytes are right.
    Writable(Digest),
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
            DamagedItem::Blob { digest, kind: BlobKind::Recipe, pack } => format!("recipe-{digest}-{pack}"),
        }
    }

    /// Puts it on the list of known damage. Best effort.
    pub(super) fn list(&self, layout: &Layout, disk: &Disk) {
        // A store of an earlier release does not have the directory.
        let _: Result<()> = disk.create_marker(&layout.damaged().join(self.file_name()));
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
            "recipe" => blob(BlobKind::Recipe),
            _ => None,
        }
    }

    /// The name of the file that it is, or lies in.
    pub(super) fn file_digest(&self) -> &Digest {
        match self {
            DamagedItem::Object(name) | DamagedItem::Pack(name) | DamagedItem::Blob { pack: name, .. } => name,
        }
    }

    /// The pack that it is, or lies in.
    pub fn pack(&self) -> Option<&Digest> {
        match self {
            DamagedItem::Object(_) => None,
            DamagedItem::Pack(pack) | DamagedItem::Blob { pack, .. } => Some(pack),
        }
    }
}

/// The list of known damage at the time it was read: the items of each object or pack, by its name.
#[derive(Clone, Default, Debug)]
pub struct KnownDamage(HashMap<Digest, Vec<DamagedItem>>);

impl KnownDamage {
    pub(super) fn new(items: impl Iterator<Item = DamagedItem>) -> KnownDamage {
        let mut out: HashMap<Digest, Vec<DamagedItem>> = HashMap::new();
        for item in items {
            out.entry(*item.file_digest()).or_default().push(item);
        }
        KnownDamage(out)
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether exactly this item is listed.
    pub fn has(&self, item: &DamagedItem) -> bool {
        !self.0.is_empty() && self.of(item.file_digest()).contains(item)
    }

    /// Whether the blob's copy in that pack is listed, by itself or with the whole pack.
    pub fn has_blob(&self, digest: &Digest, kind: BlobKind, pack: &Digest) -> bool {
        self.has(&DamagedItem::Pack(*pack)) || self.has(&DamagedItem::Blob { digest: *digest, kind, pack: *pack })
    }

    /// Whether that pack or anything in it is listed.
    pub fn has_pack(&self, pack: &Digest) -> bool {
        self.of(pack).iter().any(|d| d.pack() == Some(pack))
    }

    /// What is listed of the object or pack with that name.
    pub fn of(&self, name: &Digest) -> &[DamagedItem] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = &DamagedItem> {
        self.0.values().flatten()
    }
}

/// The items that this process has put on the list.
#[derive(Debug)]
pub(super) struct ReportedDamage(Mutex<Reported>);

#[derive(Default, Debug)]
struct Reported {
    items: HashSet<DamagedItem>,
    /// How many blobs of each pack are among them.
    blobs: HashMap<Digest, usize>,
}

impl Reported {
    fn has(&self, item: &DamagedItem) -> bool {
        let whole = item.pack().map(|pack| DamagedItem::Pack(*pack));
        self.items.contains(item) || whole.is_some_and(|whole| self.items.contains(&whole))
    }
}

impl Default for ReportedDamage {
    fn default() -> Self {
        ReportedDamage(Mutex::cache())
    }
}

impl ReportedDamage {
    /// Whether the item, or the pack that it lies in, is remembered.
    pub(super) fn has(&self, item: &DamagedItem) -> bool {
        self.0.lock().has(item)
    }

    /// Remembers an item. Returns what must be put on the list: nothing if it was remembered before; the whole pack
    /// instead of a blob if many blobs of that pack were reported.
    pub(super) fn insert(&self, item: DamagedItem) -> Option<DamagedItem> {
        let mut reported = self.0.lock();
        if reported.has(&item) {
            return None;
        }
        if reported.items.len() >= MAX_REMEMBERED {
            *reported = Reported::default();
        }
        let DamagedItem::Blob { pack, .. } = item else {
            return reported.items.insert(item).then_some(item);
        };
        let count = reported.blobs.entry(pack).or_default();
        *count += 1;
        let listed = if *count > MAX_BLOBS_PER_PACK { DamagedItem::Pack(pack) } else { item };
        reported.items.insert(listed).then_some(listed)
    }

    pub(super) fn remove(&self, item: &DamagedItem) {
        let mut reported = self.0.lock();
        if reported.items.remove(item)
            && let Some(pack) = item.pack()
        {
            reported.blobs.remove(pack);
        }
    }
}
