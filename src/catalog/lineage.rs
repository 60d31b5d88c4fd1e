//! Lineage: which run made a version, which runs used it, and what those made; and the versions that its content was
//! copied or added from.
//!
//! The records of versions say which run made them and what their content came from, and `uses/` which runs used them.
//! What a run made is found by reading the records of all versions in the store, in parallel and at most once; this is
//! done only if a run used the version.

use super::draft::Draft;
use super::shared::SourceRecord;
use super::version::Version;
use super::{artifact, numbers, removal, uses};
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::threads;
use crate::types::{ArtifactName, RunId, VersionNumber};
use std::collections::{BTreeSet, HashMap, HashSet};

/// A version by its name. It may be removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionName {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The number.
    pub version: VersionNumber,
}

impl std::fmt::Display for VersionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.artifact, self.version)
    }
}

/// What a run did with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Did {
    /// It made the version, or contributed to it, or made the same content again.
    Made,
    /// It used the version.
    Used,
}

/// A run and a version that it made or used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Step {
    /// The run.
    pub run: RunId,
    /// What it did.
    pub did: Did,
    /// The version.
    pub version: VersionName,
}

/// A version, and one that its content came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContentStep {
    /// The version.
    pub version: VersionName,
    /// Where its content came from.
    pub source: SourceRecord,
    /// Whether it is a copy. Else some entries were added from the source.
    pub is_copy: bool,
}

impl ContentStep {
    /// The name of the source, if it is in the same store.
    pub fn source_here(&self) -> Option<VersionName> {
        let SourceRecord { artifact, version, store_id, .. } = &self.source;
        store_id.is_none().then(|| VersionName { artifact: artifact.clone(), version: *version })
    }
}

/// What led to a version, and what came of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Lineage {
    /// The version.
    pub version: VersionName,
    /// The runs that made it, what those used, the runs that made that, and so on.
    pub sources: Vec<Step>,
    /// The versions that its content came from, what the content of those came from, and so on.
    pub content: Vec<ContentStep>,
    /// The runs that used it, what those made, the runs that used that, and so on.
    pub results: Vec<Step>,
    /// Versions in it that are removed.
    pub removed: BTreeSet<VersionName>,
    /// Whether nothing is beyond the wanted depth.
    pub is_complete: bool,
    /// What cannot be read. It may be missing in the lineage.
    pub damaged: Vec<Error>,
}

/// The lineage of a version, up to `depth` runs in each direction. Each version and run is followed once.
///
/// # Errors
/// I/O.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(dir.path().join("s"), &Default::default())?;
/// use cairn::{Artifact, Run, RunOptions, catalog::lineage};
///
/// let mut images = Artifact::new("images", "dataset")?;
/// images.add_bytes("a.png", "…")?.save(&store)?;
/// let run = Run::new(&store, RunOptions::default().id("train-1"))?;
/// let used = run.use_artifact("images:latest")?;
/// let mut model = Artifact::new("model", "model")?;
/// run.log_artifact(model.add_bytes("weights.bin", [0u8; 16])?)?;
///
/// let lineage = lineage::of(&used, 10)?;
/// let steps: Vec<_> = lineage.results.iter().map(|s| format!("{} {:?} {}", s.run, s.did, s.version)).collect();
/// assert_eq!(steps, ["train-1 Used images:v0", "train-1 Made model:v0"]);
/// # Ok::<(), cairn::Error>(())
/// ```
pub fn of(version: &Version, depth: usize) -> Result<Lineage> {
    let start = VersionName { artifact: version.artifact().clone(), version: version.number() };
    let mut reader =
        Reader { store: version.store(), made: None, used: None, content: Vec::new(), damaged: Vec::new() };
    let (sources, all_sources) = follow(&mut reader, &start, depth, [Did::Made, Did::Used])?;
    let (results, all_results) = follow(&mut reader, &start, depth, [Did::Used, Did::Made])?;
    let Reader { content, damaged, .. } = reader;
    let stepped = sources.iter().chain(&results).map(|step| step.version.clone());
    let removed = removed_among(version.store(), stepped.chain(content.iter().filter_map(ContentStep::source_here)))?;
    Ok(Lineage { version: start, sources, content, results, removed, is_complete: all_sources && all_results, damaged })
}

/// Follows versions to runs by the first, and runs to versions by the second. Returns whether that came to an end.
fn follow(reader: &mut Reader<'_>, start: &VersionName, depth: usize, ways: [Did; 2]) -> Result<(Vec<Step>, bool)> {
    let mut steps = Vec::new();
    let (mut versions, mut runs) = (HashSet::from([start.clone()]), HashSet::new());
    let mut front = vec![start.clone()];
    for _ in 0..depth {
        let mut next = Vec::new();
        for version in front {
            if ways[0] == Did::Made {
                next.extend(reader.follow_content(&version)?.into_iter().filter(|v| versions.insert(v.clone())));
            }
            for run in reader.runs(&version, ways[0])? {
                steps.push(Step { run: run.clone(), did: ways[0], version: version.clone() });
                if !runs.insert(run.clone()) {
                    continue;
                }
                for other in reader.versions(&run, ways[1])? {
                    steps.push(Step { run: run.clone(), did: ways[1], version: other.clone() });
                    if versions.insert(other.clone()) {
                        next.push(other);
                    }
                }
            }
        }
        if next.is_empty() {
            return Ok((steps, true));
        }
        front = next;
    }
    for version in &front {
        let has_content = ways[0] == Did::Made && !reader.content_of(version)?.is_empty();
        if has_content || !reader.runs(version, ways[0])?.is_empty() {
            return Ok((steps, false));
        }
    }
    Ok((steps, true))
}

fn removed_among(store: &Store, all: impl Iterator<Item = VersionName>) -> Result<BTreeSet<VersionName>> {
    let mut out = BTreeSet::new();
    let mut by_artifact: HashMap<ArtifactName, BTreeSet<VersionNumber>> = HashMap::new();
    for VersionName { artifact, version } in all {
        by_artifact.entry(artifact).or_default().insert(version);
    }
    for (artifact, versions) in by_artifact {
        for version in removal::removed(store, &artifact)?.into_iter().filter(|number| versions.contains(number)) {
            out.insert(VersionName { artifact: artifact.clone(), version });
        }
    }
    Ok(out)
}

/// What each run made or used.
type ByRun = HashMap<RunId, Vec<VersionName>>;

/// Reads the store as far as it is asked.
struct Reader<'a> {
    store: &'a Store,
    made: Option<ByRun>,
    used: Option<ByRun>,
    content: Vec<ContentStep>,
    damaged: Vec<Error>,
}

impl Reader<'_> {
    /// Notes what the content of a version came from, and returns the versions of this store among it.
    fn follow_content(&mut self, of: &VersionName) -> Result<Vec<VersionName>> {
        let steps = self.content_of(of)?;
        let here = steps.iter().filter_map(ContentStep::source_here).collect();
        self.content.extend(steps);
        Ok(here)
    }

    fn content_of(&mut self, of: &VersionName) -> Result<Vec<ContentStep>> {
        let read = Version::read(self.store, &of.artifact, of.version);
        let Some(version) = self.or_damaged(read)?.flatten() else { return Ok(Vec::new()) };
        let record = version.record();
        let copied = record.source.iter().map(|source| (source, true));
        let mut steps: Vec<ContentStep> = Vec::new();
        for (source, is_copy) in copied.chain(record.shared.iter().map(|shared| (&shared.source, false))) {
            let step = ContentStep { version: of.clone(), source: source.clone(), is_copy };
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        Ok(steps)
    }

    fn runs(&mut self, of: &VersionName, did: Did) -> Result<Vec<RunId>> {
        if did == Did::Used {
            let (runs, damaged) = uses::runs(self.store, &of.artifact, of.version)?;
            self.damaged.extend(damaged);
            return Ok(runs);
        }
        let made = Version::read(self.store, &of.artifact, of.version)
            .and_then(|version| version.map_or(Ok(Vec::new()), |version| makers(&version, true)));
        Ok(self.or_damaged(made)?.unwrap_or_default())
    }

    fn versions(&mut self, run: &RunId, did: Did) -> Result<Vec<VersionName>> {
        let known = match did {
            Did::Made => &mut self.made,
            Did::Used => &mut self.used,
        };
        let all = match known.take() {
            Some(all) => all,
            None if did == Did::Made => self.all_made()?,
            None => self.all_used()?,
        };
        let found = all.get(run).cloned().unwrap_or_default();
        match did {
            Did::Made => self.made = Some(all),
            Did::Used => self.used = Some(all),
        }
        Ok(found)
    }

    fn all_made(&mut self) -> Result<ByRun> {
        let mut out = ByRun::new();
        for artifact in artifact::all_with_drafts(self.store)? {
            let numbers = numbers::versions(&self.store.layout().versions(&artifact))?;
            let noted: HashSet<_> = numbers::versions(&self.store.layout().all_notes(&artifact))?.into_iter().collect();
            let read = |number: &VersionNumber| {
                let version = Version::read(self.store, &artifact, *number);
                let runs = version.and_then(|version| {
                    version.map_or(Ok(Vec::new()), |version| makers(&version, noted.contains(number)))
                });
                match runs {
                    Err(e) if e.kind() != Kind::Damaged => Err(e),
                    result => Ok(result),
                }
            };
            let each = threads::map(threads::count(), &numbers, read)?;
            for (version, runs) in numbers.into_iter().zip(each) {
                for run in self.or_damaged(runs)?.unwrap_or_default() {
                    let name = VersionName { artifact: artifact.clone(), version };
                    out.entry(run).or_default().push(name);
                }
            }
        }
        Ok(out)
    }

    fn all_used(&mut self) -> Result<ByRun> {
        let mut out = ByRun::new();
        for artifact in artifact::all_with_drafts(self.store)? {
            for version in uses::used_versions(self.store, &artifact)? {
                let (runs, damaged) = uses::runs(self.store, &artifact, version)?;
                self.damaged.extend(damaged);
                for run in runs {
                    out.entry(run).or_default().push(VersionName { artifact: artifact.clone(), version });
                }
            }
        }
        Ok(out)
    }

    fn or_damaged<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(e) if e.kind() == Kind::Damaged => {
                self.damaged.push(e);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

/// The runs that made a version: the one that committed it, those that contributed to its draft, and those that made
/// the same content again, which only its notes say.
fn makers(version: &Version, with_notes: bool) -> Result<Vec<RunId>> {
    let record = version.record();
    let mut runs: Vec<RunId> = match with_notes {
        true => version.annotations()?.runs.into_iter().map(|run| run.id).collect(),
        false => record.run.iter().map(|run| run.id.clone()).collect(),
    };
    if let Some(id) = &record.distributed_id {
        let state = Draft::new(version.store(), version.artifact(), id).state()?;
        runs.extend(state.runs().into_iter().cloned());
    }
    let mut seen = HashSet::new();
    runs.retain(|run| seen.insert(run.clone()));
    Ok(runs)
}
