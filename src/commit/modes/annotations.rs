//! The annotations of a version: those that a save records, and those that a finish merges.

use super::conflicts::listed;
use crate::catalog::draft::{Draft, DraftState};
use crate::catalog::{Metadata, Note, Recorded, RunRecord, alias, note, shared};
use crate::commit::artifact::Artifact;
use crate::commit::publication::{Published, SaveOptions};
use crate::error::{Error, Result};
use crate::store::Store;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Records the annotations of a version: its aliases and, if the version existed before, its tags, description,
/// metadata and run.
pub(in crate::commit) fn annotate(
    store: &Store,
    artifact: &Artifact,
    options: &SaveOptions,
    published: &mut Published,
) -> Result<()> {
    let version = &published.version;
    let mut moved = Vec::new();
    for name in &artifact.aliases {
        if !published.created && alias::get(store, version.artifact(), name)? != Some(version.number()) {
            moved.push(name.clone());
        }
        alias::set(store, version.artifact(), name, alias::Expected::Any, Some(version.number()))
            .map_err(|e| e.context(format!("{version} is published, but alias {name} did not move to it")))?;
    }
    if published.created {
        return Ok(());
    }
    let change = Note {
        description: artifact.description.clone(),
        metadata: artifact.metadata.clone(),
        add_tags: artifact.tags.clone(),
        produced_by: options.run.clone().filter(|_| options.note_run),
        ..Note::default()
    };
    let recorded = note::add(version, change);
    let recorded = recorded
        .map_err(|e| e.context(format!("{version} has this content already, but its annotations were not recorded")))?;
    published.recorded = Recorded { aliases: moved, ..recorded };
    Ok(())
}
/// The annotations of the version: the union of all aliases and tags, the last description, and the last value of each
/// key of the metadata.
pub(in crate::commit) fn merged_annotations(
    draft: &Draft,
    state: &DraftState,
    artifact: &Artifact,
) -> Result<Artifact> {
    let mut merged = Artifact::new(artifact.name.as_str(), artifact.kind.as_ref().map(|k| k.as_str()))?;
    let mut metadata = Metadata::new();
    let contributed = state
        .contributions
        .iter()
        .map(|c| &*c.record)
        .map(|r| (&r.description, Some(&r.metadata), &r.tags, &r.aliases));
    let own = (&artifact.description, artifact.metadata.as_ref(), &artifact.tags, &artifact.aliases);
    for (description, more, tags, aliases) in contributed.chain([own]) {
        if let Some(text) = description {
            merged.description = Some(text.clone());
        }
        metadata.extend(more.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        merged.tags.extend(tags.iter().filter(|t| !merged.tags.contains(t)).cloned().collect::<Vec<_>>());
        merged.aliases.extend(aliases.iter().filter(|a| !merged.aliases.contains(a)).cloned().collect::<Vec<_>>());
    }
    let contributed = state.contributions.iter().flat_map(|c| c.record.shared.iter().cloned());
    shared::unite(&mut merged.contributed, contributed.chain(artifact.shared(draft.store())));
    match merged.set_metadata(metadata) {
        Ok(_) => Ok(merged),
        Err(e) => Err(metadata_too_large(draft, state, artifact, &e)),
    }
}

/// The error for metadata that is within its bound for each contribution, but not together: lists the largest first.
fn metadata_too_large(draft: &Draft, state: &DraftState, artifact: &Artifact, why: &Error) -> Error {
    let size = |m: &Metadata| serde_json::to_vec(m).map_or(0, |json| json.len());
    let mut by_run: BTreeMap<String, Metadata> = BTreeMap::new();
    for record in state.contributions.iter().map(|c| &c.record).filter(|r| !r.metadata.is_empty()) {
        by_run.entry(format!("run {}", record.run.id)).or_default().extend(record.metadata.clone());
    }
    by_run.extend(artifact.metadata.clone().filter(|m| !m.is_empty()).map(|m| ("this finish".to_owned(), m)));
    let mut sizes: Vec<_> = by_run.into_iter().map(|(who, m)| (size(&m), m.len(), who)).collect();
    sizes.sort_by_key(|(bytes, keys, _)| Reverse((*bytes, *keys)));
    let lines = sizes.into_iter().map(|(bytes, keys, who)| format!("{who} has {keys} keys, {bytes} bytes"));
    let error = Error::conflict(format!(
        "{draft} is not finished: the metadata of its runs is too large together: {}",
        why.message()
    ));
    let hint = format!(
        "let a run upsert less metadata: `cairn upsert {} SRC --replace --metadata JSON`; or `cairn draft drop` one",
        artifact.name
    );
    listed(error, lines).with_hint(hint)
}

/// The same annotations, for a version that exists already.
pub(in crate::commit) fn note_of(annotations: &Artifact, run: Option<&RunRecord>) -> Note {
    let metadata = annotations.metadata.clone().filter(|m| !m.is_empty());
    Note {
        description: annotations.description.clone(),
        metadata,
        add_tags: annotations.tags.clone(),
        produced_by: run.cloned(),
        ..Note::default()
    }
}
