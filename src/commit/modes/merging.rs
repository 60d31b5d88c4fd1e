//! The contributions of a draft, and what the finisher adds, on their way to one manifest.

use super::conflicts::Conflicts;
use super::content_check::{self, ContentCheck};
use crate::catalog::RunRecord;
use crate::catalog::draft::{Contribution, Draft, DraftState, OnConflict};
use crate::error::{Kind, Result};
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
        let (name, id) = (self.draft.artifact(), self.draft.id());
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
            Some(Contribution { number, record }) => format!("run {} (number {number} of the log)", record.run.id),
            None => "this finish".to_owned(),
        }
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
