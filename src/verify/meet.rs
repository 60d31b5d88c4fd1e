//! What a walk of the manifests meets: each file's content, each node and directory, and what may be damage.

use super::artifact_check::{finding_of, what_is_wrong};
use super::content::{LISTED, Present};
use super::cuts::Cuts;
use super::options::VerifyOptions;
use super::packed::ReadContents;
use super::places::PlaceCheck;
use super::report::{VerifyReport, code};
use super::root::ManifestOwner;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Node, NodeSource, Visitor};
use crate::objects::{Content, DamagedItem, KnownDamage, LargeObject, Objects, SMALL_MAX, SearchDepth};
use crate::store::Store;
use crate::types::{Digest, Location};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What was met that may be damage.
#[derive(Default)]
pub(super) struct Suspects {
    /// Content, with its size, where it is thought to be, and, where it was read, why that failed.
    pub content: BTreeMap<Digest, (u64, Option<Location>, Option<String>)>,
    /// Manifest nodes.
    pub nodes: BTreeMap<Digest, String>,
    /// Packs that are listed and not there, by the position in `suspected` of what lists them.
    pub packs: Vec<(usize, Vec<Digest>)>,
}

impl Suspects {
    /// A pack that is gone counts only if something that its version names is missing: a garbage collector may have
    /// rewritten it.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.nodes.is_empty()
    }
}

/// What the census meets.
pub(super) struct Meet<'a> {
    pub store: &'a Store,
    pub options: &'a VerifyOptions,
    pub present: Option<&'a Present>,
    pub known: &'a KnownDamage,
    pub suspects: &'a mut Suspects,
    pub read: &'a mut ReadContents,
    /// Small content that a check before this one found wrong where it was read.
    pub wrong: &'a HashMap<Digest, String>,
    pub cuts: &'a mut Cuts,
    pub places: &'a mut PlaceCheck,
    pub owner: &'a ManifestOwner,
    pub report: &'a mut VerifyReport,
}

impl Visitor for Meet<'_> {
    fn file(&mut self, digest: &Digest, size: u64, place: Option<Location>) -> Result<bool> {
        let why = match self.present {
            Some(present) if present.has(digest) => return Ok(false),
            Some(present) if present.is_composed(digest) => {
                if self.read.has(digest) {
                    return Ok(false);
                }
                match self.read_composed(present, digest, size)? {
                    None => return Ok(false),
                    Some(why) => why,
                }
            }
            Some(_) => None,
            None if self.read.has(digest) => return Ok(false),
            None if self.suspects.content.contains_key(digest) => return Ok(true),
            None if self.wrong.contains_key(digest) => self.wrong.get(digest).cloned(),
            None => match self.read_content(digest, size, place)? {
                None => return Ok(false),
                Some(why) => why,
            },
        };
        self.suspects.content.entry(*digest).or_insert((size, place, why));
        Ok(true)
    }

    fn node(&mut self, digest: &Digest, node: &Node) -> Result<()> {
        if let Some(present) = self.present {
            self.places.node(self.store.objects(), &present.places, digest, node, self.owner, self.report);
        }
        Ok(())
    }

    fn directory(&mut self, root: &Arc<Node>, source: &dyn NodeSource, distinct: u64) -> Result<()> {
        if self.options.quick {
            return Ok(());
        }
        self.cuts.check(root, source, distinct, self.owner, self.report)
    }

    fn fault(&mut self, digest: &Digest, error: Error) -> Result<()> {
        let finding = finding_of(error, code::NODE, "")?;
        self.suspects.nodes.entry(*digest).or_insert(finding.why);
        Ok(())
    }
}

impl Meet<'_> {
    /// Reads composed content whole; for a quick check, looks whether the objects that it needs are right. `None`: it
    /// is right; else why not.
    fn read_composed(&mut self, present: &Present, digest: &Digest, size: u64) -> Result<Option<Option<String>>> {
        let objects = self.store.objects();
        let checked = objects.content_into(digest, size, None, &mut Vec::new()).and_then(|content| match content {
            Content::Composed(composed) => {
                if let Some(wrong) = composed.objects().find(|object| !present.has(&object.digest())) {
                    let error = Error::damaged(format!("content {digest} cannot be read"));
                    return Err(
                        error.with_cause(format!("object {}, which it has parts of, is damaged", wrong.digest()))
                    );
                }
                if self.options.quick || !present.is_read(digest, size) {
                    return Ok(0);
                }
                objects.verify_composed(&composed).map(|()| size)
            }
            other => whole(objects, &other, digest, None).map(|()| size),
        });
        match checked {
            Ok(bytes) => {
                self.report.bytes += bytes;
                self.read.insert(digest);
                Ok(None)
            }
            Err(e) if e.kind() == Kind::Damaged && e.causes().is_empty() => Ok(Some(None)),
            Err(e) => Ok(Some(Some(finding_of(e, code::OBJECT, "")?.why))),
        }
    }

    /// Reads one file's content as readers do. `None`: it is right; else what was wrong where it was found.
    fn read_content(&mut self, digest: &Digest, size: u64, place: Option<Location>) -> Result<Option<Option<String>>> {
        let mut buffer = Vec::new();
        self.options.progress.add_total(1, size);
        let objects = self.store.objects();
        let read = objects
            .content_from(digest, size, place, &mut buffer, SearchDepth::Known)
            .and_then(|c| whole(objects, &c, digest, self.options.quick.then_some(self.known)));
        self.options.progress.add_done(1, size);
        match read {
            Ok(()) => {
                // A quick check reads small content, and only the names of objects.
                self.report.bytes += if self.options.quick && size >= SMALL_MAX { 0 } else { size };
                self.read.insert(digest);
                Ok(None)
            }
            // No error occurred where it should be: it is not there.
            Err(e) if e.kind() == Kind::Damaged && e.causes().is_empty() => Ok(Some(None)),
            Err(e) => what_is_wrong(e, self.store, digest).map(|why| Some(Some(why))),
        }
    }
}

/// Hashes a large file, or, for a quick check, asks the list of known damage; small content was compared when it was
/// read.
pub(super) fn whole(
    objects: &Objects,
    content: &Content<()>,
    digest: &Digest,
    known: Option<&KnownDamage>,
) -> Result<()> {
    match (content, known) {
        (Content::Large(large), None) => objects.verify_object(large),
        (Content::Composed(composed), None) => objects.verify_composed(composed),
        (Content::Composed(composed), Some(known)) => {
            let listed = composed.objects().find(|object| known.has(&DamagedItem::Object(object.digest())));
            let error = |object: &LargeObject| {
                Error::damaged(format!("object {} is damaged, and {digest} has parts of it", object.digest()))
                    .with_cause(LISTED)
            };
            listed.map_or(Ok(()), |object| Err(error(object)))
        }
        (Content::Large(_), Some(known)) if known.has(&DamagedItem::Object(*digest)) => {
            Err(Error::damaged(format!("object {digest} is damaged")).with_cause(LISTED))
        }
        _ => Ok(()),
    }
}
