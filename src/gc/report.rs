//! The report of a collection.

use crate::lock::LockRecord;
use crate::staging::Leftover;
use crate::types::{ArtifactName, DistributedId};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Some files and their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Amount {
    /// How many.
    pub files: u64,
    /// The sum of their sizes in bytes.
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// A writer's token that this collection can neither end nor wait for by its lock: it belongs to another user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenOfOther {
    /// Its directory.
    pub directory: PathBuf,
    /// The user whose it is.
    pub owner: String,
    /// When it was last changed.
    pub since: String,
    /// The process that made it, if its lock can be read.
    pub holder: Option<LockRecord>,
    /// Whether that process is alive. If not, its owner or root must run a collection.
    pub is_alive: bool,
}

/// A draft that is not finished and to which no process writes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IdleDraft {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The draft's id.
    pub distributed_id: DistributedId,
    /// When it was last contributed to, or its last staging directory was made, by the writer's clock.
    pub since: String,
    /// Staging directories of its runs.
    pub staging: Vec<PathBuf>,
}

/// What a collection did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct GcReport {
    /// Objects and packs that nothing needs, or of which everything needed is stored elsewhere too, moved to the trash
    /// by this collection; with `dry_run`, found only.
    pub moved: Amount,
    /// Packs of which little is needed, and small packs of which there are many: what is needed of them was copied into
    /// new packs, and they were moved to the trash. With `dry_run`, found only.
    pub rewritten: Amount,
    /// The new packs. With `dry_run`, only the bytes are known.
    pub written: Amount,
    /// Packs that were not rewritten because there is no space.
    pub not_rewritten: u64,
    /// Of what `moved` and `rewritten` leave: the contents that removed versions named, by artifact, with their sizes.
    /// The rest are manifest nodes, second copies, and what interrupted or discarded work left.
    pub removed: BTreeMap<ArtifactName, Amount>,
    /// Freed.
    pub freed: Amount,
    /// Needed again, and put back into place.
    pub put_back: Amount,
    /// Left in the trash: not old enough, or writers that were at work have not finished.
    pub in_trash: Amount,
    /// Bytes that nothing needs in packs that stay: most of such a pack is needed.
    pub unused_in_packs: u64,
    /// Objects that no version names, and that are needed because composed files have parts of them. These keep at most
    /// twice their own size.
    pub kept_for_parts: Amount,
    /// Staging directories that no draft needs, with their ages. They stay, because they may have the only copy.
    pub staging: Vec<Leftover>,
    /// Drafts that are not finished. What was contributed to them is needed.
    pub open_drafts: u64,
    /// Drafts that are not finished and to which no process writes, the oldest first. They never expire.
    pub idle_drafts: Vec<IdleDraft>,
    /// Writers that are still at work. What they rely on must be known before anything is freed.
    pub waits_for: Vec<LockRecord>,
    /// Tokens of other users. Until they have ended, nothing is freed.
    pub tokens_of_others: Vec<TokenOfOther>,
    /// Other collections that were at work at the same time. What they moved, they free.
    pub other_collections: Vec<LockRecord>,
    /// How many files that this collection moved another one took over, to free them or to put them back.
    pub taken_over: u64,
    /// Tokens of dead writers that were removed.
    pub dead_writers: u64,
    /// Packs that cannot be read. They stay.
    pub damaged: Vec<String>,
    /// Files in the store's directories that are not cairn's. They stay.
    pub unknown: Vec<PathBuf>,
}
