//! Where marking begins: pins, the bases of tokens at work, contributions of unfinished drafts, versions.
//!
//! The order decides that nothing is missed while writers work (L14). A writer names what it relies on before it relies
//! on it, publishes before it ends its token, and a finish becomes a version before its draft is closed. So pins and
//! tokens come first, then drafts, then versions: what leaves one of them has arrived in a later one.

use super::history::History;
use super::marks::Marks;
use super::report::IdleDraft;
use crate::catalog::draft::{self, DraftRecord};
use crate::catalog::{Contribution, Draft, Version, lost, numbers, removal, stage, version_record};
use crate::commit;
use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::objects::RecipesInPacks;
use crate::pins;
use crate::progress::Progress;
use crate::store::Store;
use crate::txn::{self, claim};
use crate::types::{ArtifactName, Token, VersionNumber};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The versions that were removed when a collection began. A version that is removed later counts as not removed.
pub(super) struct Removals(HashMap<ArtifactName, HashSet<VersionNumber>>);

impl Removals {
    pub(super) fn read(store: &Store) -> Result<Removals> {
        let mut all = HashMap::new();
        for name in artifacts(store)? {
            let removed: HashSet<_> = removal::removed(store, &name)?.into_iter().collect();
            all.insert(name, removed);
        }
        Ok(Removals(all))
    }

    pub(super) fn by_artifact(&self) -> impl Iterator<Item = (&ArtifactName, &HashSet<VersionNumber>)> {
        self.0.iter()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&ArtifactName, VersionNumber)> {
        self.0.iter().flat_map(|(name, numbers)| numbers.iter().map(move |number| (name, *number)))
    }

    fn has(&self, name: &ArtifactName, number: VersionNumber) -> bool {
        self.0.get(name).is_some_and(|numbers| numbers.contains(&number))
    }
}

/// Reads all roots into marks, twice in a collection.
pub(super) struct Marker<'a> {
    store: &'a Store,
    removals: &'a Removals,
    progress: &'a Progress,
    pub(super) marks: Marks,
    /// The recipes of the store, if it has composed content.
    pub(super) recipes: RecipesInPacks,
    /// What the store has, to compare it with what it had (L18).
    pub(super) history: History,
    /// Versions that are marked.
    versions: HashSet<(ArtifactName, VersionNumber)>,
    /// Tokens of versions and of finishes: their directories are needed.
    pub(super) published: HashSet<Token>,
    /// Directories of pins whose holders are dead.
    pub(super) dead_pins: Vec<PathBuf>,
    /// Directories of pins without a holder.
    pub(super) empty_pins: Vec<PathBuf>,
    /// Drafts with contributions that are not finished.
    pub(super) open_drafts: u64,
}

impl<'a> Marker<'a> {
    pub(super) fn new(store: &'a Store, removals: &'a Removals, progress: &'a Progress) -> Marker<'a> {
        Marker {
            store,
            removals,
            progress,
            marks: Marks::default(),
            recipes: RecipesInPacks::default(),
            history: History::default(),
            versions: HashSet::new(),
            published: HashSet::new(),
            dead_pins: Vec::new(),
            empty_pins: Vec::new(),
            open_drafts: 0,
        }
    }

    /// Marks what all roots of the store lead to.
    ///
    /// # Errors
    /// If anything cannot be read, the collection ends, and nothing may be freed (L18).
    pub(super) fn mark(&mut self) -> Result<()> {
        let marked = self.mark_all().and_then(|()| self.mark_sources());
        self.marks.settle();
        marked
    }

    /// Marks what composed contents among the marked ones take parts of. The packs are listed after all roots were
    /// read: the recipes that a root needs were visible before it.
    ///
    /// # Errors
    /// If anything cannot be read, the collection ends, and nothing may be freed (L18).
    pub(super) fn mark_sources(&mut self) -> Result<()> {
        // A store without composed content has no recipes: there, a pack that cannot be read hides none.
        let all = self.store.has_composed_files()?;
        self.store.objects().read_recipes(&mut self.recipes, all)?;
        self.marks.add_sources(&self.recipes, self.store.objects())
    }

    fn mark_all(&mut self) -> Result<()> {
        self.history = History::default();
        self.open_drafts = 0;
        for (name, number) in self.relied_on()? {
            // A base that does not exist any more, or never did, keeps nothing alive.
            if let Some(version) = Version::read(self.store, &name, number)? {
                self.version(&version)?;
            }
        }
        let mut finishes = Vec::new();
        for name in artifacts(self.store)? {
            for draft in draft::all(self.store, &name)? {
                finishes.extend(self.draft(&draft?)?.map(|finish| (name.clone(), finish)));
            }
        }
        // Listed again: an artifact may have come meanwhile.
        for name in artifacts(self.store)? {
            self.versions_of(&name)?;
        }
        for (name, token) in finishes {
            if !self.published.contains(&token) {
                self.unclaimed_finish(&name, &token)?;
            }
        }
        Ok(())
    }

    /// Versions that a pin or a token at work names.
    fn relied_on(&mut self) -> Result<Vec<(ArtifactName, VersionNumber)>> {
        let pins = pins::all(self.store)?;
        self.dead_pins = pins.dead;
        self.empty_pins = pins.empty;
        let mut out = pins.versions;
        for token in txn::tokens(self.store)? {
            out.extend(txn::bases(self.store, &token)?);
        }
        Ok(out)
    }

    /// Marks the contributions of an unfinished draft. Returns the token of a finish that made a version.
    fn draft(&mut self, draft: &Draft) -> Result<Option<Token>> {
        let state = draft.state()?;
        self.history.log(draft.artifact(), &format!("draft {}", draft.id()), state.last);
        if let Some((token, finish)) = state.finish {
            return Ok(finish.same_as.is_none().then_some(token));
        }
        self.open_drafts += u64::from(!state.contributions.is_empty());
        for contribution in &state.contributions {
            self.contribution(contribution)?;
        }
        Ok(None)
    }

    fn versions_of(&mut self, name: &ArtifactName) -> Result<()> {
        let dir = self.store.layout().versions(name);
        let numbers = numbers::versions(&dir)?;
        if let Some((missing, why)) = lost::lost_by_records(self.store, name)?.pop_first() {
            let e = Error::damaged(format!("{name}:{missing} is missing from the store, and {why}"));
            return Err(e.with_hint(format!(
                "if a part of a shared disk does not answer at the moment, run the command again; else `cairn verify \
                 --repair` gives it its number again if its record is in the store, and `cairn rm {name}:{missing}` \
                 discards it"
            )));
        }
        // Listed again: what was restored since the collection began is needed.
        let changes = removal::all_changes(self.store, name)?;
        // A version whose number is lost may be removed: then there is only its marker.
        if let Some(highest) = numbers.last().max(changes.keys().next_back()) {
            self.history.versions(name, highest.0);
        }
        for (number, highest) in changes.iter().filter(|(_, highest)| **highest > 0) {
            self.history.log(name, &format!("removal of {number}"), *highest);
        }
        for number in numbers {
            let path = self.store.layout().version(name, number);
            let lost = || Error::damaged(format!("{} was listed and cannot be read", show_path(&path)));
            let still_removed = changes.get(&number).is_some_and(|changes| removal::is_removed_after(*changes));
            if (still_removed && self.removals.has(name, number)) || self.versions.contains(&(name.clone(), number)) {
                self.published.insert(claim::holder(&path)?.ok_or_else(lost)?);
                continue;
            }
            let version = Version::read(self.store, name, number)?.ok_or_else(lost)?;
            self.published.insert(version.token().clone());
            self.version(&version)?;
        }
        Ok(())
    }

    fn version(&mut self, version: &Version) -> Result<()> {
        if self.versions.insert((version.artifact().clone(), version.number())) {
            self.content_of(version)?;
        }
        Ok(())
    }

    fn content_of(&mut self, version: &Version) -> Result<()> {
        let manifest = version.manifest_file()?;
        self.marks.add(&version.tree_of(&manifest), self.progress)
    }

    fn contribution(&mut self, contribution: &Contribution) -> Result<()> {
        let tree = contribution.tree(self.store)?;
        self.marks.add(&tree, self.progress)
    }

    /// Marks the version of a finish. It may have no number yet, but it gets one, so its content is needed in any case.
    fn unclaimed_finish(&mut self, name: &ArtifactName, token: &Token) -> Result<()> {
        commit::recover(self.store, name)?;
        self.unpublished(name, token)
    }

    /// Marks the version whose record was written under a token, whether it has a number or not.
    fn unpublished(&mut self, name: &ArtifactName, token: &Token) -> Result<()> {
        self.published.insert(token.clone());
        let record = version_record::read_record(self.store, name, token)?;
        self.content_of(&Version::claimed(self.store, record.from, token.clone(), record))
    }

    /// Marks what a committed token is about to publish. `path` is where its record is.
    pub(super) fn committed(&mut self, token: &Token, path: &Path) -> Result<()> {
        let Some(name) = artifact_of(self.store, path) else { return Ok(()) };
        if path == self.store.layout().versions(&name).join(token.record_name()) {
            return self.unpublished(&name, token);
        }
        if !path.starts_with(self.store.layout().drafts(&name)) {
            return Ok(()); // an alias, a note or a removal names no content
        }
        match claim::read_record::<DraftRecord>(path)? {
            DraftRecord::Contribution(record) => self.contribution(&Contribution { number: 0, record }),
            DraftRecord::Finish(record) if record.same_as.is_none() => self.unpublished(&name, token),
            DraftRecord::Finish(_) | DraftRecord::Drop(_) | DraftRecord::Discard(_) => Ok(()),
        }
    }
}

/// Drafts that are not finished and to which no process writes, the oldest first. `are_open`: one has contributions.
pub(super) fn idle_drafts(store: &Store, are_open: bool) -> Result<Vec<IdleDraft>> {
    if !are_open && stage::stages(store)?.is_empty() {
        return Ok(Vec::new());
    }
    let mut idle = Vec::new();
    for open in commit::survey(store, None)?.open.into_iter().filter(|open| open.writers.is_empty()) {
        let contributed = open.state.contributions.iter().map(|c| &c.record.head.at);
        let last = contributed.chain(open.left_open.iter().map(|stage| &stage.record.at)).max().cloned();
        idle.push(IdleDraft {
            artifact: open.draft.artifact().clone(),
            distributed_id: open.draft.id().clone(),
            since: last.unwrap_or_default(),
            staging: open.left_open.iter().map(|stage| store.layout().stage(stage.token())).collect(),
        });
    }
    idle.sort_by(|a, b| a.since.cmp(&b.since));
    Ok(idle)
}

/// The artifact in whose directory a path is.
pub(super) fn artifact_of(store: &Store, path: &Path) -> Option<ArtifactName> {
    let below = path.strip_prefix(store.layout().artifacts()).ok()?;
    ArtifactName::parse(below.components().next()?.as_os_str().to_str()?).ok()
}

/// Every artifact's directory. If something may be an artifact's directory and this is not certain, the collection
/// ends.
pub(super) fn artifacts(store: &Store) -> Result<Vec<ArtifactName>> {
    let dir = store.layout().artifacts();
    let mut out = Vec::new();
    for entry in disk::list(&dir)? {
        let path = dir.join(&entry);
        let Some(meta) = disk::lstat(&path)? else { continue };
        let name = entry.to_str().and_then(|name| ArtifactName::parse(name).ok());
        match name {
            Some(name) if meta.is_dir() => out.push(name),
            // Left by another program. An artifact is a directory, and no artifact has such a name.
            _ if !meta.is_dir() && !meta.is_symlink() => {}
            None if entry.as_encoded_bytes().starts_with(b".") || entry == "lost+found" => {}
            _ => {
                let what = format!("{} is not an artifact's directory", show_path(&path));
                return Err(Error::conflict(what).with_hint(
                    "nothing is freed while something in `artifacts/` is unknown: move it out of the store",
                ));
            }
        }
    }
    out.sort();
    Ok(out)
}
