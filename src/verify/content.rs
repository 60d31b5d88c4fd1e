//! The content: every pack and object read and hashed, by several threads.

use super::checkpoint::{FileSum, Verified};
use super::options::VerifyOptions;
use super::pace::{Pace, Sample, together};
use super::packed::PackedContents;
use super::places::Places;
use super::report::{Finding, Resumed, VerifyReport, code};
use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::objects::{BlobKind, Damage, DamagedItem, KnownDamage, Objects, PackContents, StoredFile};
use crate::progress::Progress;
use crate::store::Store;
use crate::threads;
use crate::types::Digest;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Why a quick check calls something damaged.
pub(super) const LISTED: &str = "it was found damaged before: it is listed in damaged/";

/// What content is in the store and right (for a quick check: what the store lists).
pub(super) struct Present {
    /// Packed content.
    packed: PackedContents,
    /// Object files.
    objects: HashSet<Digest>,
    /// Packed manifest nodes.
    nodes: HashSet<Digest>,
    /// Contents that have a recipe.
    recipes: HashSet<Digest>,
    /// Names of packs that were checked.
    pub packs: HashSet<Digest>,
    /// Where the blobs of the packs without damage are.
    pub places: Places,
    /// Blobs and nodes with a damaged copy.
    pub wrong: HashMap<Digest, Wrong>,
    /// Packs that cannot be read.
    unreadable: Vec<String>,
    /// What was listed as damaged before.
    known: KnownDamage,
    /// How fast content is read.
    pace: Pace,
    /// What is read.
    sample: Sample,
    /// What was read and is right, for a checkpoint.
    verified: Arc<Verified>,
}

/// A blob with a damaged copy.
pub(super) struct Wrong {
    /// What is wrong with it.
    pub why: String,
    /// Its findings, by their index in the report.
    pub findings: Vec<usize>,
}

/// How much is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Depth {
    /// Every byte.
    Whole,
    /// Footers, times and sizes.
    Quick,
}

enum Piece {
    Pack(StoredFile),
    Object(StoredFile),
}

impl Piece {
    fn stored(&self) -> &StoredFile {
        let (Piece::Pack(stored) | Piece::Object(stored)) = self;
        stored
    }
}

/// A piece that was checked.
struct CheckedPiece {
    /// What is right in it. Of a blob, the offset of its header.
    found: Vec<(Digest, BlobKind, u32)>,
    damage: Vec<Damage>,
    reading: Reading,
}

/// How much of a piece is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// All of it. With a sum, it is recorded if it is right.
    Whole(Option<FileSum>),
    /// As a quick check does.
    Quick,
    /// As a quick check does: the interrupted verification read it whole.
    Resumed,
}

impl Reading {
    fn depth(self) -> Depth {
        if matches!(self, Reading::Whole(_)) { Depth::Whole } else { Depth::Quick }
    }
}

impl Present {
    /// Whether a file's content is there and right.
    pub fn has(&self, digest: &Digest) -> bool {
        self.objects.contains(digest) || self.packed.has(digest)
    }

    /// Whether content is composed: what the store has of it is a recipe.
    pub fn is_composed(&self, digest: &Digest) -> bool {
        self.recipes.contains(digest)
    }

    /// Whether a whole check reads that content; waits until it may.
    pub fn is_read(&self, digest: &Digest, size: u64) -> bool {
        let is_read = self.sample.has(digest);
        if is_read {
            self.pace.wait_for(size);
        }
        is_read
    }

    /// The findings of damaged copies that have a right copy elsewhere.
    pub fn spare(&self) -> HashSet<usize> {
        let all = [&self.objects, &self.nodes, &self.recipes];
        let is_right = |digest: &Digest| self.packed.has(digest) || all.iter().any(|right| right.contains(digest));
        let spare = self.wrong.iter().filter(|(digest, _)| is_right(digest));
        spare.flat_map(|(_, wrong)| wrong.findings.iter().copied()).collect()
    }

    /// Why content is missing that no finding names.
    pub fn why_missing(&self, digest: &Digest) -> String {
        if let Some(wrong) = self.wrong.get(digest) {
            return wrong.why.clone();
        }
        match self.unreadable.as_slice() {
            [] => "it is nowhere in the store".into(),
            [one] => format!("it is nowhere in the store, unless in {one}"),
            [one, more @ ..] => {
                format!("it is nowhere in the store, unless in {one} or {} more that cannot be read", more.len())
            }
        }
    }

    /// Checks what was stored after the first check, by revalidated lookups: new packs, and objects whose content is
    /// missed. So what others publish while verify works is never called missing.
    pub fn check_late(
        &mut self,
        store: &Store,
        depth: Depth,
        missed: impl Iterator<Item = Digest>,
        progress: &Progress,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let mut pieces = Vec::new();
        for pack in store.objects().stored_packs()? {
            if pack.name.is_some_and(|name| !self.packs.contains(&name)) {
                pieces.push(Piece::Pack(pack));
            }
        }
        for digest in missed.filter(|d| !self.wrong.contains_key(d)) {
            let path = store.layout().object(&digest);
            if let Some(meta) = disk::lstat_revalidated(&path)?.filter(std::fs::Metadata::is_file) {
                pieces.push(Piece::Object(StoredFile { path, name: Some(digest), size: meta.len() }));
            }
        }
        self.add(store, &pieces, depth, progress, report)
    }

    /// Checks pieces, with several threads.
    fn add(
        &mut self,
        store: &Store,
        pieces: &[Piece],
        depth: Depth,
        progress: &Progress,
        report: &mut VerifyReport,
    ) -> Result<()> {
        for piece in pieces {
            progress.add_total(1, piece.stored().size);
            *if matches!(piece, Piece::Pack(_)) { &mut report.packs } else { &mut report.objects } += 1;
        }
        for together in pieces.chunk_by(together(|piece: &Piece| piece.stored().size)) {
            self.add_together(store, together, depth, progress, report)?;
        }
        self.packed.settle();
        Ok(())
    }

    fn add_together(
        &mut self,
        store: &Store,
        pieces: &[Piece],
        depth: Depth,
        progress: &Progress,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let this = &*self;
        let checked = threads::map(threads::count(), pieces, |piece| {
            let checked = this.check(store, piece, depth);
            progress.add_done(1, piece.stored().size);
            checked
        })?;
        for (piece, checked) in pieces.iter().zip(checked) {
            match (checked.reading, &mut report.resumed) {
                (Reading::Whole(_), _) => report.bytes += piece.stored().size,
                (Reading::Resumed, Some(resumed)) => {
                    resumed.files += 1;
                    resumed.bytes += piece.stored().size;
                }
                _ => {}
            }
            self.take(piece, checked, store.root(), report);
        }
        Ok(())
    }

    fn check(&self, store: &Store, piece: &Piece, depth: Depth) -> Result<CheckedPiece> {
        let reading = self.reading_of(piece, depth);
        let depth = reading.depth();
        if depth == Depth::Whole {
            self.pace.wait_for(piece.stored().size);
        }
        let mut checked = check_piece(store.objects(), piece, reading)?;
        self.list(store.objects(), piece, depth, &checked.damage);
        match reading {
            Reading::Whole(Some(sum)) if checked.damage.is_empty() => self.verified.add(sum),
            Reading::Whole(_) => {}
            Reading::Quick | Reading::Resumed => self.recall(store, piece, &mut checked),
        }
        Ok(checked)
    }

    /// How much of a piece is read. What is listed as damaged is read again in any case.
    fn reading_of(&self, piece: &Piece, depth: Depth) -> Reading {
        if self.depth_of(piece, depth) == Depth::Quick {
            return Reading::Quick;
        }
        let sum = self.verified.sum(piece.stored());
        let is_listed = piece.stored().name.is_some_and(|name| !self.known.of(&name).is_empty());
        if !is_listed && sum.is_some_and(|sum| self.verified.has(&sum)) {
            Reading::Resumed
        } else {
            Reading::Whole(sum)
        }
    }

    /// A quick check reads a pack that is listed as damaged: it may have been repaired since.
    fn depth_of(&self, piece: &Piece, depth: Depth) -> Depth {
        let listed = |name: &Digest| self.known.has(&DamagedItem::Pack(*name));
        let is_listed = matches!(piece, Piece::Pack(pack) if pack.name.as_ref().is_some_and(listed));
        let is_left_out = !piece.stored().name.is_some_and(|name| self.sample.has(&name));
        match depth {
            _ if is_listed => Depth::Whole,
            Depth::Whole if is_left_out => Depth::Quick,
            depth => depth,
        }
    }

    /// Puts what is damaged on the list of known damage, so that writers store it again, and takes from it what is
    /// right.
    fn list(&self, objects: &Objects, piece: &Piece, depth: Depth, damage: &[Damage]) {
        match depth {
            Depth::Whole => objects.update_known_damage(&self.known, piece.stored(), damage),
            Depth::Quick => objects.list_damage(piece.stored(), damage),
        }
    }

    /// Adds what is on the list of known damage: a quick check does not read the bytes.
    fn recall(&self, store: &Store, piece: &Piece, checked: &mut CheckedPiece) {
        let StoredFile { path, name: Some(name), .. } = piece.stored() else { return };
        let CheckedPiece { found, damage, .. } = checked;
        match piece {
            Piece::Object(_) if *path != store.layout().object(name) => {}
            Piece::Object(_) => {
                if self.known.has(&DamagedItem::Object(*name)) {
                    found.clear();
                    damage.push(Damage::Object(*name, LISTED.into()));
                }
            }
            Piece::Pack(_) if *path != store.layout().pack(name) => {}
            Piece::Pack(_) => {
                found.retain(|(digest, kind, _)| {
                    let right = !self.known.has(&DamagedItem::Blob { digest: *digest, kind: *kind, pack: *name });
                    if !right {
                        damage.push(Damage::Blob { digest: *digest, kind: *kind, why: LISTED.into() });
                    }
                    right
                });
            }
        }
    }

    fn take(&mut self, piece: &Piece, checked: CheckedPiece, root: &Path, report: &mut VerifyReport) {
        for (digest, kind, _) in &checked.found {
            let digest = *digest;
            match (piece, kind) {
                (Piece::Object(_), _) => drop(self.objects.insert(digest)),
                (Piece::Pack(_), BlobKind::Content) => self.packed.insert(&digest),
                (Piece::Pack(_), BlobKind::Node) => drop(self.nodes.insert(digest)),
                (Piece::Pack(_), BlobKind::Recipe) => drop(self.recipes.insert(digest)),
            }
        }
        if let Piece::Pack(StoredFile { name: Some(name), .. }) = piece {
            self.packs.insert(*name);
            if checked.damage.iter().all(|d| matches!(d, Damage::Writable(_) | Damage::Hints(_))) {
                self.places.add(*name, &checked.found);
            }
        }
        let depth = checked.reading.depth();
        let what = show_path(piece.stored().path.strip_prefix(root).unwrap_or(&piece.stored().path));
        for damage in checked.damage {
            let blob = match &damage {
                Damage::Blob { digest, why, .. } | Damage::Object(digest, why) => Some((*digest, why.clone())),
                Damage::Footer(_) | Damage::Unreadable(_) => {
                    self.unreadable.push(what.clone());
                    None
                }
                _ => None,
            };
            if let Some((digest, why)) = blob {
                self.wrong
                    .entry(digest)
                    .or_insert_with(|| Wrong { why, findings: Vec::new() })
                    .findings
                    .push(report.findings.len());
            }
            report.findings.push(describe(what.clone(), depth, damage));
        }
    }
}

/// Checks all content, and the caches over it.
pub(super) fn check_content(
    store: &Store,
    depth: Depth,
    options: &VerifyOptions,
    verified: Arc<Verified>,
    report: &mut VerifyReport,
) -> Result<Present> {
    let objects = store.objects();
    let mut pieces = Vec::new();
    let unreadable = |e: Error, dir: &str, report: &mut VerifyReport| -> Result<()> {
        report.findings.push(super::artifact_check::finding_of(e, code::UNREADABLE, dir)?);
        Ok(())
    };
    match objects.stored_packs() {
        Ok(packs) => pieces.extend(packs.into_iter().map(Piece::Pack)),
        Err(e) => unreadable(e, "packs", report)?,
    }
    match objects.stored_objects() {
        Ok(files) => pieces.extend(files.into_iter().map(Piece::Object)),
        Err(e) => unreadable(e, "objects", report)?,
    }
    let mut present = Present {
        known: objects.known_damage().unwrap_or_default(),
        pace: Pace::new(options.limit),
        sample: Sample::new(options.sample),
        verified,
        packed: PackedContents::default(),
        objects: HashSet::new(),
        nodes: HashSet::new(),
        recipes: HashSet::new(),
        packs: HashSet::new(),
        places: Places::default(),
        wrong: HashMap::new(),
        unreadable: Vec::new(),
    };
    report.resumed = present.verified.continued().map(|begun_at| Resumed { begun_at, files: 0, bytes: 0 });
    present.add(store, &pieces, depth, &options.progress, report)?;
    match objects.check_index() {
        Ok(runs) => {
            for (name, damage) in runs {
                let segment = store.layout().index().join(name);
                let what = show_path(segment.strip_prefix(store.root()).unwrap_or(&segment));
                report.notes.push(describe(what, depth, damage));
            }
        }
        Err(e) => report.notes.push(super::artifact_check::finding_of(e, code::INDEX, "index")?),
    }
    Ok(present)
}

fn check_piece(objects: &Objects, piece: &Piece, reading: Reading) -> Result<CheckedPiece> {
    let mut damage = Vec::new();
    let found = match read_piece(objects, piece, reading.depth(), &mut damage) {
        Err(e) if e.is_loss() => {
            damage.push(Damage::Unreadable(format!("{e:#}")));
            Vec::new()
        }
        found => found?,
    };
    Ok(CheckedPiece { found, damage, reading })
}

fn read_piece(
    objects: &Objects,
    piece: &Piece,
    depth: Depth,
    damage: &mut Vec<Damage>,
) -> Result<Vec<(Digest, BlobKind, u32)>> {
    let pack =
        |found: PackContents| found.blobs.into_iter().zip(found.offsets).map(|((d, k, _), at)| (d, k, at)).collect();
    Ok(match (piece, depth) {
        (Piece::Pack(stored), Depth::Whole) => pack(objects.check_pack(stored, damage)?),
        (Piece::Pack(stored), Depth::Quick) => pack(objects.list_pack(stored, damage)?),
        (Piece::Object(stored), depth) => {
            match depth {
                Depth::Whole => objects.check_object(stored, damage)?,
                Depth::Quick => objects.check_object_metadata(stored, damage)?,
            }
            let right = !damage.iter().any(|d| matches!(d, Damage::Object(..)));
            stored.name.filter(|_| right).map(|n| (n, BlobKind::Content, 0)).into_iter().collect()
        }
    })
}

/// A finding for a piece of damage.
fn describe(what: String, depth: Depth, damage: Damage) -> Finding {
    let (code, why) = match damage {
        Damage::ForeignFile => (code::STRANGER, "the store has no file with such a name".into()),
        Damage::Footer(why) => (code::PACK, why),
        Damage::Blob { digest, kind, why } => (code::BLOB, format!("{kind} {digest}: {why}")),
        Damage::Hints(digest) => (code::HINTS, format!("those of manifest node {digest}")),
        Damage::Object(_, why) => (code::OBJECT, why),
        Damage::Writable(_) | Damage::Touched(_) => {
            let bytes = match depth {
                Depth::Whole => "its bytes are right",
                Depth::Quick => "its bytes were not read: `cairn verify` without --quick hashes them",
            };
            let time = if matches!(damage, Damage::Touched(_)) { " and the time 1000000000" } else { "" };
            (code::TOUCHED, format!("expected mode 0444{time}; {bytes}"))
        }
        Damage::Segment(why) => (code::INDEX, why),
        Damage::Unreadable(why) => (code::UNREADABLE, why),
    };
    Finding { code, what, why, affects: Vec::new() }
}
