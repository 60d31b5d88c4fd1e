//! The manifests: every node once, whatever number of versions and paths lead to it (L5), and what is affected by
//! what is wrong.

use super::affected::{self, Affected};
use super::artifact_check::finding_of;
use super::content::{Depth, Present};
use super::cuts::Cuts;
use super::meet::{Meet, Suspects, whole};
use super::options::VerifyOptions;
use super::packed::ReadContents;
use super::places::PlaceCheck;
use super::report::{Finding, VerifyReport, code};
use super::root::{ManifestOwner, OwnedManifest};
use crate::disk;
use crate::error::Result;
use crate::manifest::{Census, NodeSource, Occurrences};
use crate::objects::{KnownDamage, RECIPE_MIN, SMALL_MAX, SearchDepth};
use crate::store::Store;
use crate::types::{Digest, RelPath};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// How often what is missing is searched, and the pause before each search after the first: what others publish or
/// free meanwhile is not damage.
const MAX_ATTEMPTS: u32 = 2;
const MAX_SHARED_ATTEMPTS: u32 = 4;
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Checks manifests.
pub(super) struct Manifests<'a> {
    store: &'a Store,
    options: &'a VerifyOptions,
    /// What is in the store; `None`: each content is read as it is met.
    present: Option<Present>,
    /// What a quick check takes as damaged, where content is read in the order of the manifest.
    known: KnownDamage,
    census: Census,
    suspects: Suspects,
    /// Content that was read and is right.
    read: ReadContents,
    /// Small content that was read and is wrong there: a file of packs is never changed, so it is not read again.
    wrong: HashMap<Digest, String>,
    suspected: Vec<ManifestOwner>,
    cuts: Cuts,
    places: PlaceCheck,
    report: &'a mut VerifyReport,
}

impl<'a> Manifests<'a> {
    pub fn new(
        store: &'a Store,
        options: &'a VerifyOptions,
        present: Option<Present>,
        report: &'a mut VerifyReport,
    ) -> Self {
        let (census, suspects) = (Census::new(), Suspects::default());
        let listed = options.quick && present.is_none();
        let known = if listed { store.objects().known_damage().unwrap_or_default() } else { Default::default() };
        let (read, wrong, suspected, cuts) = (ReadContents::default(), HashMap::new(), Vec::new(), Cuts::default());
        let places = PlaceCheck::default();
        Manifests { store, options, present, known, census, suspects, read, wrong, suspected, cuts, places, report }
    }

    /// The report, for findings of other kinds.
    pub fn report(&mut self) -> &mut VerifyReport {
        self.report
    }

    /// Checks one.
    pub fn check(&mut self, root: ManifestOwner) -> Result<()> {
        let what = root.to_string();
        let code = match &root {
            ManifestOwner::Version(_) => {
                self.report.versions += 1;
                code::VERSION
            }
            ManifestOwner::Contribution(..) => code::NODE,
        };
        let manifest = root.manifest(self.store);
        if let (Err(_), Some(digest)) = (&manifest, root.packed_root()) {
            self.report.lost.nodes.insert(digest);
        }
        let Some(manifest) = self.found(code, &what, manifest)? else { return Ok(()) };
        if !manifest.hints_whole {
            self.finding(code::HINTS, &what, "those of its root".into());
        }
        let (sums, totals) = (root.sums(), manifest.tree.totals());
        if (totals.entries, totals.files, totals.bytes) != sums {
            let (entries, files, bytes) = sums;
            self.finding(
                code,
                &what,
                format!("its record says {entries} entries, {files} files, {bytes} bytes; the manifest {totals:?}"),
            );
        }
        self.visit(root, manifest)
    }

    fn visit(&mut self, root: ManifestOwner, manifest: OwnedManifest) -> Result<()> {
        let OwnedManifest { tree, packs, chained, .. } = manifest;
        let mut absent = Vec::new();
        for pack in &packs {
            if !self.has_pack(pack)? {
                absent.push(*pack);
            }
        }
        let mut lacks = false;
        // A version's root is in its `manifest`, and in a pack like every other node.
        let rooted = self.store.objects().load(&tree.digest().into());
        if let Err(e) = rooted {
            let finding = finding_of(e, code::NODE, "")?;
            self.suspects.nodes.entry(tree.digest()).or_insert(finding.why);
            lacks = true;
        }
        let mut meet = Meet {
            store: self.store,
            options: self.options,
            present: self.present.as_ref(),
            known: &self.known,
            suspects: &mut self.suspects,
            read: &mut self.read,
            wrong: &self.wrong,
            cuts: &mut self.cuts,
            places: &mut self.places,
            owner: &root,
            report: self.report,
        };
        if self.census.visit(&tree, &mut meet)? || lacks {
            if !absent.is_empty() {
                self.suspects.packs.push((self.suspected.len(), absent));
            }
            self.suspected.push(root);
        } else if let Some(present) = &self.present {
            self.places.listed(&present.places, &tree.digest(), (&packs, chained), &root, self.report);
        }
        Ok(())
    }

    fn has_pack(&self, pack: &Digest) -> Result<bool> {
        if let Some(present) = &self.present {
            return Ok(present.packs.contains(pack));
        }
        Ok(disk::lstat_revalidated(&self.store.layout().pack(pack))?.is_some()
            || self.store.objects().in_trash(pack)?)
    }

    /// Searches again for what is missing, then reports what stays missing.
    pub fn end(mut self) -> Result<()> {
        let local = self.store.disk().kind().is_local();
        for attempt in 1..if local { MAX_ATTEMPTS } else { MAX_SHARED_ATTEMPTS } {
            self.search_all_packs()?;
            if self.suspects.is_empty() {
                break;
            }
            if !local || attempt > 1 {
                std::thread::sleep(RETRY_INTERVAL);
            }
            self.recheck_missing()?;
        }
        self.search_all_packs()?;
        if !self.suspects.is_empty() {
            let affected = self.affected();
            self.missing_packs();
            self.conclude(affected)?;
        }
        self.note_spare();
        Ok(())
    }

    /// Damaged copies that nothing needs, because the same content is stored right elsewhere, become notes.
    fn note_spare(&mut self) {
        let Some(present) = &self.present else { return };
        let spare = present.spare();
        if spare.is_empty() {
            return;
        }
        for (i, mut finding) in std::mem::take(&mut self.report.findings).into_iter().enumerate() {
            if spare.contains(&i) && finding.affects.is_empty() {
                finding.why.push_str("; the same content is stored again elsewhere, and nothing is affected");
                self.report.notes.push(finding);
            } else {
                self.report.findings.push(finding);
            }
        }
    }

    /// Everything that leads to something suspect is visited once more, with what is in the store now.
    fn recheck_missing(&mut self) -> Result<()> {
        let missed: Vec<Digest> = self.suspects.content.keys().copied().collect();
        if let Some(present) = &mut self.present {
            let depth = if self.options.quick { Depth::Quick } else { Depth::Whole };
            present.check_late(self.store, depth, missed.into_iter(), &self.options.progress, self.report)?;
        }
        let suspects = std::mem::take(&mut self.suspects);
        // On a shared file system the bytes may have been those of a moment ago.
        if self.store.disk().kind().is_local() {
            let small = suspects.content.into_iter().filter(|(_, (size, hint, _))| *size < SMALL_MAX && hint.is_some());
            self.wrong.extend(small.filter_map(|(digest, (.., why))| Some((digest, why?))));
        }
        self.store.objects().forget_misses();
        self.census.forget_marked();
        for root in std::mem::take(&mut self.suspected) {
            // What cannot be decided is checked as before.
            if root.counts(self.store).unwrap_or(true)
                && let Ok(manifest) = root.manifest(self.store)
            {
                self.visit(root, manifest)?;
            }
        }
        Ok(())
    }

    /// Content that was to be read and was not where hints and the index lead: searched in all packs; each is opened
    /// once.
    fn search_all_packs(&mut self) -> Result<()> {
        if self.present.is_some() || self.suspects.content.is_empty() {
            return Ok(());
        }
        let objects = self.store.objects();
        let wanted: HashSet<Digest> = self.suspects.content.keys().copied().collect();
        let places = objects.locations_by_footers(&wanted)?;
        let trash = objects.has_trash()?;
        let known = if self.options.quick { Some(&self.known) } else { None };
        let mut buffer = Vec::new();
        let mut right = Vec::new();
        for (digest, (size, hint, why)) in &mut self.suspects.content {
            let found = places.get(digest).map_or(&[][..], Vec::as_slice);
            let mut tries: Vec<Result<()>> = Vec::new();
            // What is wrong at its hint was read there.
            let read = if why.is_some() { *hint } else { None };
            for place in found.iter().filter(|place| Some(**place) != read) {
                tries.push(
                    objects
                        .content_from(digest, *size, Some(*place), &mut buffer, SearchDepth::Known)
                        .and_then(|c| whole(objects, &c, digest, known)),
                );
            }
            // The recipe of large content is searched like content in the trash: everywhere.
            if trash || *size >= RECIPE_MIN {
                tries.push(
                    objects
                        .content_into(digest, *size, None, &mut buffer)
                        .and_then(|c| whole(objects, &c, digest, known)),
                );
            }
            if tries.iter().any(Result::is_ok) {
                right.push(*digest);
            } else if let (None, Some(Err(e))) = (&why, tries.into_iter().next()) {
                *why = Some(format!("{e:#}")).filter(|_| !found.is_empty());
            }
        }
        for digest in right {
            self.suspects.content.remove(&digest);
            self.read.insert(&digest);
        }
        Ok(())
    }

    /// What is affected by each suspect.
    fn affected(&self) -> HashMap<Digest, Affected> {
        let (content, nodes) = (&self.suspects.content, &self.suspects.nodes);
        let tree = |i: usize| Some(self.suspected[i].manifest(self.store).ok()?.tree);
        let wanted = |digest: &Digest| content.contains_key(digest) || nodes.contains_key(digest);
        let limit = affected::limit(content.len() + nodes.len());
        let found = self.census.occurrences(self.suspected.len(), &tree, &wanted, limit);
        let list = |found: Occurrences| Affected {
            first: found.first.iter().map(|(i, path)| show(&self.suspected[*i], path)).collect(),
            count: found.count,
        };
        found.into_iter().map(|(digest, found)| (digest, list(found))).collect()
    }

    /// Packs that are gone, of versions that name content or a node that is nowhere. What is there and damaged has
    /// findings of its own.
    fn missing_packs(&mut self) {
        let Suspects { content, nodes, packs } = &mut self.suspects;
        if packs.is_empty() {
            return;
        }
        let packs = std::mem::take(packs);
        let wrong = self.present.as_ref().map(|p| &p.wrong);
        let is_wrong = |digest: &Digest| wrong.is_some_and(|wrong| wrong.contains_key(digest));
        let missing = |digest: &Digest| {
            !is_wrong(digest)
                && (nodes.contains_key(digest) || content.get(digest).is_some_and(|(_, _, why)| why.is_none()))
        };
        let tree = |i: usize| Some(self.suspected[i].manifest(self.store).ok()?.tree);
        let lacks = self.census.leading(self.suspected.len(), &tree, &missing);
        let mut by_pack: BTreeMap<Digest, Affected> = BTreeMap::new();
        for (i, packs) in packs.into_iter().filter(|(i, _)| lacks[*i]) {
            for pack in packs {
                by_pack.entry(pack).or_default().add(|| self.suspected[i].to_string());
            }
        }
        for (pack, by) in by_pack {
            let affects = by.list();
            self.report.findings.push(Finding {
                code: code::NO_PACK,
                what: format!("packs/{pack}"),
                why: "it is missing".into(),
                affects,
            });
        }
    }

    fn conclude(&mut self, mut affected: HashMap<Digest, Affected>) -> Result<()> {
        let Suspects { content, nodes, .. } = std::mem::take(&mut self.suspects);
        self.report.lost.content.extend(content.iter().map(|(digest, (size, ..))| (*digest, *size)));
        self.report.lost.nodes.extend(nodes.keys());
        let wrong = self.present.as_ref().map(|p| &p.wrong);
        let mut add = |digest: Digest, needed: &[Digest], code, what, why, report: &mut VerifyReport| {
            let affects = affected.remove(&digest).unwrap_or_default().list();
            // Composed content is affected by what is wrong with an object that it has parts of.
            let wrong = wrong.iter().flat_map(|wrong| needed.iter().chain([&digest]).filter_map(|d| wrong.get(d)));
            let findings: BTreeSet<usize> = wrong.flat_map(|wrong| wrong.findings.iter().copied()).collect();
            if findings.is_empty() {
                report.findings.push(Finding { code, what, why, affects });
            } else {
                findings.iter().for_each(|i| report.findings[*i].affects.extend_from_slice(&affects));
            }
        };
        for (digest, why) in nodes {
            add(digest, &[], code::NODE, format!("manifest node {digest}"), why, self.report);
        }
        for (digest, (size, _, why)) in content {
            let code = match &why {
                None => code::MISSING,
                Some(_) if size < SMALL_MAX => code::BLOB,
                Some(_) => code::OBJECT,
            };
            let why_is_known = why.is_some();
            let why = why.unwrap_or_else(|| {
                self.present.as_ref().map_or_else(|| "it is nowhere in the store".into(), |p| p.why_missing(&digest))
            });
            let mut needed = Vec::new();
            // Without a list of what is there, only content that was found wrong may be composed.
            let is_composed = self.present.as_ref().map_or(why_is_known, |present| present.is_composed(&digest));
            let sources = if is_composed { self.store.objects().sources_of(&digest, size)? } else { Vec::new() };
            for source in sources {
                if self.present.as_ref().is_some_and(|present| !present.has(&source.digest)) {
                    self.report.lost.content.insert(source.digest, source.size());
                }
                needed.push(source.digest);
            }
            add(digest, &needed, code, digest.to_string(), why, self.report);
        }
        Ok(())
    }

    fn found<T>(&mut self, code: &'static str, what: &str, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(e) => {
                let finding = finding_of(e, code, what)?;
                self.report.findings.push(Finding { affects: vec![what.to_owned()], ..finding });
                Ok(None)
            }
        }
    }

    fn finding(&mut self, code: &'static str, what: &str, why: String) {
        self.report.findings.push(Finding { code, what: what.to_owned(), why, affects: vec![what.to_owned()] });
    }
}

/// A path as findings show it; of the root directory, the version alone.
fn show(root: &ManifestOwner, path: &RelPath) -> String {
    if *path == RelPath::root() { root.to_string() } else { format!("{root} {path}") }
}
