//! The content: every pack and object read and hashed, by several threads.

use super::report::{Finding, Report, code};
use crate::error::{Error, Result, show_path};
use crate::objects::{Damage, Kind, Objects, Stored};
use crate::progress::Progress;
use crate::store::Store;
use crate::words::Digest;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What content is in the store and right (or, for a quick look, said to be there).
#[derive(Default)]
pub(super) struct Present {
    /// Packed content.
    pub packed: HashSet<Digest>,
    /// Object files.
    pub objects: HashSet<Digest>,
    /// Names of packs.
    pub packs: HashSet<Digest>,
    /// Blobs that are there and wrong, with what is wrong, for those that have no right copy.
    pub wrong: HashMap<Digest, String>,
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
    Pack(Stored),
    Object(Stored),
}

/// Looks at all content.
pub(super) fn look(store: &Store, depth: Depth, progress: &Progress, report: &mut Report) -> Result<Present> {
    let objects = store.objects();
    let mut pieces: Vec<Piece> = objects.stored_packs()?.into_iter().map(Piece::Pack).collect();
    report.packs = pieces.len() as u64;
    pieces.extend(objects.stored_objects()?.into_iter().map(Piece::Object));
    report.objects = pieces.len() as u64 - report.packs;
    for Piece::Pack(s) | Piece::Object(s) in &pieces {
        progress.expect(1, s.size);
    }
    let shared = Mutex::new((Present::default(), Vec::new(), 0u64, None::<Error>));
    let next = AtomicUsize::new(0);
    let root = store.root();
    let work = || {
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (Piece::Pack(stored) | Piece::Object(stored)) = piece;
            let mut damage = Vec::new();
            let looked = look_at(objects, piece, depth, &mut damage);
            progress.done(1, stored.size);
            let mut shared = shared.lock();
            match looked {
                Ok(found) => {
                    shared.2 += if depth == Depth::Whole { stored.size } else { 0 };
                    for (digest, kind) in found {
                        match (piece, kind) {
                            (Piece::Object(_), _) => drop(shared.0.objects.insert(digest)),
                            (Piece::Pack(_), Kind::Content) => drop(shared.0.packed.insert(digest)),
                            (Piece::Pack(_), Kind::Node) => {}
                        }
                    }
                    if let Piece::Pack(Stored { name: Some(name), .. }) = piece {
                        shared.0.packs.insert(*name);
                    }
                    for damage in damage {
                        let (finding, blob) = describe(&stored.path, root, damage);
                        shared.0.wrong.extend(blob);
                        shared.1.push(finding);
                    }
                }
                Err(e) => drop(shared.3.get_or_insert(e)),
            }
        }
    };
    std::thread::scope(|s| {
        let threads = crate::threads::count();
        for _ in 1..threads {
            s.spawn(work);
        }
        work();
    });
    let (present, mut findings, bytes, error) = shared.into_inner();
    if let Some(e) = error {
        return Err(e);
    }
    for (name, damage) in objects.check_runs()? {
        findings.push(describe(&store.layout().index().join(name), root, damage).0);
    }
    findings.sort_by(|a: &Finding, b| (&a.what, a.code).cmp(&(&b.what, b.code)));
    report.bytes += bytes;
    report.findings.append(&mut findings);
    Ok(present)
}

fn look_at(objects: &Objects, piece: &Piece, depth: Depth, damage: &mut Vec<Damage>) -> Result<Vec<(Digest, Kind)>> {
    let pack = |blobs: Vec<(Digest, Kind, u32)>| blobs.into_iter().map(|(d, k, _)| (d, k)).collect();
    Ok(match (piece, depth) {
        (Piece::Pack(stored), Depth::Whole) => pack(objects.check_pack(stored, damage)?.blobs),
        (Piece::Pack(stored), Depth::Quick) => pack(objects.list_pack(stored, damage)?.blobs),
        (Piece::Object(stored), depth) => {
            match depth {
                Depth::Whole => objects.check_object(stored, damage)?,
                Depth::Quick => objects.glance_at_object(stored, damage)?,
            }
            let right = !damage.iter().any(|d| matches!(d, Damage::Object(..)));
            stored.name.filter(|_| right).map(|n| (n, Kind::Content)).into_iter().collect()
        }
    })
}

/// A finding for a piece of damage, and the content it makes wrong.
fn describe(path: &Path, root: &Path, damage: Damage) -> (Finding, Option<(Digest, String)>) {
    let at = show_path(path.strip_prefix(root).unwrap_or(path));
    let found = |code, why: String, affects| Finding { code, what: at.clone(), why, affects };
    match damage {
        Damage::Stranger => (found(code::STRANGER, "nothing of the store has such a name".into(), Vec::new()), None),
        Damage::Footer(why) => (found(code::PACK, why, Vec::new()), None),
        Damage::Blob { digest, kind, why } => {
            let what = if kind == Kind::Node { "manifest node" } else { "content" };
            let wrong = (kind == Kind::Content).then(|| (digest, why.clone()));
            (found(code::BLOB, format!("{what} {digest}: {why}"), Vec::new()), wrong)
        }
        Damage::Hints(digest) => (found(code::HINTS, format!("those of manifest node {digest}"), Vec::new()), None),
        Damage::Object(digest, why) => (found(code::OBJECT, why.clone(), Vec::new()), Some((digest, why))),
        Damage::Touched(_) => (found(code::TOUCHED, "expected mode 0444 and the fixed time".into(), Vec::new()), None),
        Damage::Run(why) => (found(code::INDEX, why, Vec::new()), None),
    }
}
