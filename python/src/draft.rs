//! `cairn.Draft`.

use crate::error::Result;
use crate::work::quick;
use cairn::catalog::Draft;
use cairn::internals::commit::{OpenDraft, survey};
use cairn::types::{ArtifactName, RunId};
use cairn::{Error, Store};
use pyo3::prelude::*;
use std::collections::BTreeMap;

/// A version that several runs make together and that is not finished yet; see `Store.drafts`.
///
/// >>> part = cairn.Artifact("scores")
/// >>> part.add_bytes("0.csv", "0.5")
/// >>> _ = cairn.Run(store, id="rank-0").upsert_artifact(part, "eval-7")
/// >>> store.drafts()
/// [Draft("scores", "eval-7")]
/// >>> (draft,) = store.drafts("scores")
/// >>> draft.runs, draft.file_count
/// (['rank-0'], 1)
/// >>> draft.discard()
/// >>> store.drafts()
/// []
#[pyclass(frozen, name = "Draft", module = "cairn")]
pub struct PyDraft {
    draft: Draft,
    /// How many files each run's contributions have.
    files: BTreeMap<String, u64>,
    writing: usize,
}

impl PyDraft {
    fn of(open: OpenDraft) -> Self {
        let mut files = BTreeMap::new();
        for contribution in &open.state.contributions {
            *files.entry(contribution.record.run.id.to_string()).or_default() += contribution.record.files;
        }
        PyDraft { draft: open.draft, files, writing: open.writers.len() + open.left_open.len() }
    }
}

/// The drafts of one artifact or of all that are not finished, by name and id.
pub fn open_drafts(store: &Store, name: Option<&str>) -> cairn::Result<Vec<PyDraft>> {
    let name = name.map(ArtifactName::parse).transpose()?;
    let survey = survey(store, name.as_ref())?;
    match survey.unreadable.into_iter().next() {
        Some(e) => Err(e),
        None => Ok(survey.open.into_iter().map(PyDraft::of).collect()),
    }
}

#[pymethods]
impl PyDraft {
    /// The artifact's name.
    #[getter]
    fn name(&self) -> String {
        self.draft.artifact().to_string()
    }

    /// The id that the runs give.
    #[getter]
    fn distributed_id(&self) -> String {
        self.draft.id().to_string()
    }

    /// The ids of the runs that contributed, sorted.
    #[getter]
    fn runs(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    /// How many files the contributions have; a path that several have counts several times.
    #[getter]
    fn file_count(&self) -> u64 {
        self.files.values().sum()
    }

    /// How many runs are contributing now, or stopped in the middle.
    #[getter]
    fn writing(&self) -> usize {
        self.writing
    }

    /// Makes the contributions of a run not count.
    fn drop_run(&self, py: Python<'_>, run: &str) -> Result<()> {
        quick(py, || self.draft.drop_run(&RunId::parse(run)?))
    }

    /// Makes all contributions not count. The id can begin again.
    fn discard(&self, py: Python<'_>) -> Result<()> {
        quick(py, || self.draft.discard())
    }

    fn __reduce__(&self) -> Result<()> {
        Err(Error::usage("a draft cannot be pickled: ask the store for it again").into())
    }

    fn __repr__(&self) -> String {
        format!("Draft({:?}, {:?})", self.name(), self.distributed_id())
    }
}
