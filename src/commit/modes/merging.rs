//! The contributions of a draft, and what the finisher adds, on their way to one manifest.

use super::conflicts::Conflicts;
use super::content_check::{self, ContentCheck};
use super::open_drafts::no_draft;
use crate::catalog::RunRecord;
use crate::catalog::draft::{Contribution, Draft, DraftState, OnConflict};
use crate::commit::publication::draft_log;
use crate::error::{Error, Kind, Result, shell_word};
use crate::ingest::{NewNodes, Sink};
use crate::manifest::{self, Choice, Conflict, NodeRef, NodeRelocator, NodeSource, Part, RootNode, Tree};
use crate::objects::{NodePacks, ObjectWriter};
use crate::progress::Progress;
use crate::types::{RelPath, RunId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// If the contributions' nodes are in more packs than this, they are stored again, together: a version's list of packs
/// is bounded, and patches add to it.
const KEPT_PACKS: usize = 7;

/// The contributions, and what the finisher adds, on their way to one manifest.
pub(in crate::commit) struct Merging<'a> {
    pub(in crate::commit) draft: &'a Draft,
    pub(in crate::commit) state: &'a DraftState,
    pub(in crate::commit) own: Option<&'a Tree>,
    pub(in crate::commit) run: Option<&'a RunRecord>,
    pub(in crate::commit) on_conflict: OnConflict,
    pub(in crate::commit) progress: &'a Progress,
}

impl Merging<'_> {
    /// Merges into the store, streaming: new nodes are written. Nodes below a directory that only one contribution has
    /// stay in their packs, if those are few enough.
    pub(in crate::commit) fn root(&self, writer: &ObjectWriter) -> Result<RootNode> {
        let parts = self.parts()?;
        self.check_whole(writer, &parts)?;
        let packs: BTreeSet<_> = self.state.contributions.iter().flat_map(|c| &c.record.packs).copied().collect();
        let mut kept = NodePacks::default();
        if packs.len() <= KEPT_PACKS {
            for pack in packs {
                // If a pack is gone, its nodes were found elsewhere, and are stored again.
                if writer.has_pack_named(&pack)? {
                    kept.names.push(pack);
                }
            }
        }
        writer.keep_nodes_in(&kept);
        let source = self.source();
        let is_new = |at: &NodeRef| self.own.is_some() && at.place.is_none();
        let home = |at: &NodeRef| if is_new(at) { Ok(None) } else { writer.find_kept_node(&at.digest, at.place) };
        let mut lane = writer.node_writer()?;
        let mut conflicts = Conflicts::default();
        let mut decide = |conflict: &Conflict| match self.on_conflict {
            OnConflict::Latest => Choice::Later,
            OnConflict::Refuse => {
                conflicts.see(conflict);
                Choice::Refuse
            }
        };
        let mut carrier = NodeRelocator::new(&*source, &home, &mut lane);
        let root = manifest::merge(&parts, &mut decide, &mut carrier)?;
        let root = root.map(|root| carrier.settled(&root)).transpose()?;
        lane.close()?;
        root.ok_or_else(|| conflicts.error(self.draft, |i| self.who(i)))
    }

    /// Fails if content of a contribution is known to be damaged or is missing, unless a later contribution replaces
    /// its path.
    fn check_whole(&self, writer: &ObjectWriter, parts: &[Part]) -> Result<()> {
        let mut whole = ContentCheck::new(writer);
        let mut lost = Vec::new();
        for (i, part) in parts.iter().enumerate().take(self.state.contributions.len()) {
            self.progress.check_cancelled()?;
            if whole.is_whole(&part.tree)? {
                continue;
            }
            whole.lost(&part.tree, &mut |path| {
                if !parts[i + 1..].iter().any(|later| is_replaced(&part.tree, &later.tree, path)) {
                    lost.push(format!("{path}, by {}", self.who(i)));
                }
            });
        }
        if lost.is_empty() {
            return Ok(());
        }
        Err(content_check::damaged(&format!("{} is not finished", self.draft), lost).with_hint(self.again_hint()))
    }

    fn again_hint(&self) -> String {
        let (name, id) = (self.draft.artifact(), shell_word(self.draft.id()));
        format!(
            "let the run upsert the same files again, which stores them again: `cairn upsert {name} SRC \
             --distributed-id {id} --run RUN`; the draft stays open"
        )
    }

    fn source(&self) -> Arc<dyn NodeSource> {
        self.own
            .map_or_else(|| -> Arc<dyn NodeSource> { self.draft.store().objects().clone() }, |own| own.source().clone())
    }

    /// The trees in the order of the log, each with its run; the finisher's last.
    fn parts(&self) -> Result<Vec<Part>> {
        let mut numbers: HashMap<&RunId, usize> = HashMap::new();
        let mut parts = Vec::with_capacity(self.state.contributions.len() + 1);
        for contribution in &self.state.contributions {
            let next = numbers.len();
            let author = *numbers.entry(&contribution.record.run.id).or_insert(next);
            let tree = contribution.tree(self.draft.store()).map_err(|e| {
                let e = e.context(format!(
                    "{} is not finished: what run {} contributed cannot be read",
                    self.draft, contribution.record.run.id
                ));
                if e.kind() == Kind::Damaged { e.with_hint(self.again_hint()) } else { e }
            })?;
            parts.push(Part { tree, author });
        }
        if let Some(own) = self.own {
            let author = self.run.and_then(|run| numbers.get(&run.id)).copied().unwrap_or(numbers.len());
            parts.push(Part { tree: own.clone(), author });
        }
        Ok(parts)
    }

    /// Who contributed part `i`.
    fn who(&self, i: usize) -> String {
        match self.state.contributions.get(i) {
            Some(Contribution { number, record }) => format!("run {} (contribution {number})", record.run.id),
            None => "this finish".to_owned(),
        }
    }
}

/// What a finish of a draft would make at the moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DraftPreview {
    /// The entries. Of entries at one path that differ between runs, the one that was appended last.
    pub tree: Tree,
    /// How many of these differ: a finish without `--on-conflict latest` refuses them.
    pub conflicts: u64,
}

impl Draft {
    /// What a finish of the draft would make at the moment, or, with `only`, what that run has contributed. Nothing is
    /// stored: new nodes of the manifest are in memory.
    ///
    /// # Errors
    /// Not found: the draft, or contributions of that run. Conflict: the draft is finished. Damaged; I/O.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(dir.path().join("s"), &Default::default())?;
    /// use cairn::types::{ArtifactName, DistributedId};
    ///
    /// let (name, id) = (ArtifactName::parse("eval")?, DistributedId::parse("day-1")?);
    /// let run = cairn::Run::new(&store, cairn::RunOptions::default().id("rank-0"))?;
    /// let mut artifact = cairn::Artifact::new("eval", "result")?;
    /// artifact.add_bytes("0.txt", "0.9")?;
    /// run.upsert_artifact(&artifact, "day-1")?;
    /// let preview = cairn::Draft::new(&store, &name, &id).preview(None)?;
    /// assert_eq!((preview.tree.totals().files, preview.conflicts), (1, 0));
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn preview(&self, only: Option<&RunId>) -> Result<DraftPreview> {
        let mut state = self.state()?;
        if state.last == 0 {
            return Err(no_draft(self)?);
        }
        if state.finish.is_some() {
            return Err(draft_log::finished(self)?);
        }
        if let Some(run) = only {
            state.contributions.retain(|c| c.record.run.id == *run);
            if state.contributions.is_empty() {
                let (name, id) = (self.artifact(), shell_word(self.id()));
                return Err(Error::not_found(format!("run {run} has no contribution in {self}"))
                    .with_hint(format!("`cairn draft show {name} {id}` lists the contributions")));
            }
        }
        let progress = Progress::default();
        let on_conflict = OnConflict::Latest;
        let merging = Merging { draft: self, state: &state, own: None, run: None, on_conflict, progress: &progress };
        let parts = merging.parts()?;
        let mut conflicts = 0;
        let mut decide = |_: &Conflict| {
            conflicts += 1;
            Choice::Later
        };
        let below: Arc<dyn NodeSource> = self.store().objects().clone();
        let mut nodes = NewNodes::new(&Sink::Nowhere.temporary(), Some(below));
        let root = manifest::merge(&parts, &mut decide, &mut nodes)?;
        let root = root.ok_or_else(|| Error::damaged(format!("{self} cannot be merged")))?;
        Ok(DraftPreview { tree: Tree::of(&root, Arc::new(nodes)), conflicts })
    }
}

/// Whether a later part replaces a path, or a directory above it. A part that cannot be read replaces nothing.
fn is_replaced(earlier: &Tree, later: &Tree, path: &RelPath) -> bool {
    let mut at = RelPath::root();
    for name in path.parts() {
        let Ok(here) = at.join(name) else { return false };
        at = here;
        let Ok(Some(found)) = later.lookup(&at) else { return false };
        if !found.entry.is_directory() {
            return !matches!(earlier.lookup(&at), Ok(Some(first)) if first.entry.same(&found.entry));
        }
    }
    // A directory over a file; over a directory it unites.
    matches!(earlier.lookup(path), Ok(Some(first)) if !first.entry.is_directory())
}
