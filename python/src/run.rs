//! `cairn.Run`.

use crate::artifact::PyArtifact;
use crate::convert::{Several, usage};
use crate::error::Result;
use crate::store::{self, PyStore};
use crate::version::PyVersion;
use crate::work::{Report, long, quick};
use cairn::catalog::uses;
use cairn::types::RunId;
use cairn::{FinishOptions, OnConflict, Run, RunOptions, SaveOptions, UpsertOptions};
use pyo3::prelude::*;
use std::time::Duration;

/// One execution of a program. Versions that it makes record its id, group and job type.
///
/// What is not given comes from `CAIRN_RUN`, `CAIRN_RUN_GROUP` and `CAIRN_JOB_TYPE`. A run without an id gets a
/// random one.
///
/// >>> for rank in range(2):
/// ...     part = cairn.Artifact("scores")
/// ...     part.add_bytes(f"{rank}.csv", "0.5")
/// ...     _ = cairn.Run(store, id=f"rank-{rank}").upsert_artifact(part, "eval-7")
/// >>> run = cairn.Run(store, id="last", job_type="evaluate")
/// >>> run.finish_artifact(cairn.Artifact("scores"), "eval-7", expect=2).file_count
/// 2
#[pyclass(frozen, name = "Run", module = "cairn")]
pub struct PyRun {
    run: Run,
    store: PyStore,
}

#[pymethods]
impl PyRun {
    #[new]
    #[pyo3(signature = (store=None, id=None, group=None, job_type=None))]
    fn new(
        py: Python<'_>,
        store: Option<&PyStore>,
        id: Option<String>,
        group: Option<String>,
        job_type: Option<String>,
    ) -> Result<Self> {
        let store = store::or_default(py, store)?;
        let mut options = RunOptions::default();
        (options.id, options.group, options.job_type) = (id, group, job_type);
        Ok(PyRun { run: Run::new(&store.0, options)?, store })
    }

    /// Its id.
    #[getter]
    fn id(&self) -> String {
        self.run.id().to_string()
    }

    /// The group it belongs to.
    #[getter]
    fn group(&self) -> Option<String> {
        self.run.group().map(str::to_owned)
    }

    /// What kind of work it is.
    #[getter]
    fn job_type(&self) -> Option<String> {
        self.run.record().job_type.clone()
    }

    /// The store that it uses.
    #[getter]
    fn store(&self) -> PyStore {
        self.store.clone()
    }

    /// Records that this run uses a version, or the one that a text names now, and returns it. `cairn lineage` shows
    /// it.
    fn use_artifact(&self, py: Python<'_>, version: &Bound<'_, PyAny>) -> Result<PyVersion> {
        let Ok(version) = version.cast::<PyVersion>() else {
            let spec: String = version.extract()?;
            return quick(py, || self.run.use_artifact(&spec)).map(PyVersion::new);
        };
        let version = version.get().version.clone();
        quick(py, || uses::record(&version, self.run.record()))?;
        Ok(PyVersion::new(version))
    }

    /// Publishes an artifact as made by this run.
    #[pyo3(signature = (artifact, aliases=Several::default(), tags=Several::default(), *, always_new=false, progress=None))]
    fn log_artifact(
        &self,
        py: Python<'_>,
        artifact: &Bound<'_, PyArtifact>,
        aliases: Several<String>,
        tags: Several<String>,
        always_new: bool,
        progress: Option<Py<PyAny>>,
    ) -> Result<PyVersion> {
        let artifact = artifact.get();
        artifact.annotate(None, None, tags, aliases)?;
        let published = long(py, &mut Report::of(py, artifact.name(), progress)?, |progress| {
            let options = SaveOptions::default().always_new(always_new).progress(progress.clone());
            self.run.log_artifact_with(&artifact.lock(), options)
        })?;
        Ok(PyVersion::new(published.version))
    }

    /// Contributes an artifact to the collaborative version `distributed_id` (default: the run's group). Returns how
    /// many files it has.
    #[pyo3(signature = (artifact, distributed_id=None, *, replace=false, progress=None))]
    fn upsert_artifact(
        &self,
        py: Python<'_>,
        artifact: &Bound<'_, PyArtifact>,
        distributed_id: Option<&str>,
        replace: bool,
        progress: Option<Py<PyAny>>,
    ) -> Result<u64> {
        let artifact = artifact.get();
        let upserted = long(py, &mut Report::of(py, artifact.name(), progress)?, |progress| {
            let options = UpsertOptions::default().replace(replace).progress(progress.clone());
            self.run.upsert_artifact_with(&artifact.lock(), distributed_id, &options)
        })?;
        Ok(upserted.files)
    }

    /// Makes one version of all that runs contributed to `distributed_id` (default: the run's group) and of what
    /// `artifact` has. `expect`: how many runs, or which, must have contributed; `wait`: how many seconds to wait for
    /// them and for runs that are writing. `on_conflict`: "refuse" or "latest", for paths at which runs differ.
    #[pyo3(signature = (artifact, distributed_id=None, *, expect=None, wait=None, on_conflict="refuse", progress=None))]
    fn finish_artifact(
        &self,
        py: Python<'_>,
        artifact: &Bound<'_, PyArtifact>,
        distributed_id: Option<&str>,
        expect: Option<&Bound<'_, PyAny>>,
        wait: Option<f64>,
        on_conflict: &str,
        progress: Option<Py<PyAny>>,
    ) -> Result<PyVersion> {
        let artifact = artifact.get();
        let mut report = Report::of(py, artifact.name(), progress)?;
        let mut options = FinishOptions::default();
        options.on_conflict = policy(on_conflict)?;
        options.wait = wait.map(|s| Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX));
        match expect.map(|e| e.extract::<u64>().map_err(|_| e.extract::<Several<String>>())) {
            None => {}
            Some(Ok(count)) => options.expect = Some(count),
            Some(Err(ids)) => {
                options.expect_runs = ids?.0.iter().map(|id| RunId::parse(id)).collect::<cairn::Result<_>>()?;
            }
        }
        let published = long(py, &mut report, |progress| {
            let options = options.progress(progress.clone());
            self.run.finish_artifact_with(&artifact.lock(), distributed_id, &options)
        })?;
        Ok(PyVersion::new(published.version))
    }

    fn __repr__(&self) -> String {
        format!("Run({:?})", self.id())
    }
}

fn policy(text: &str) -> Result<OnConflict> {
    serde_json::from_value(text.into())
        .map_err(|_| usage(format!("on_conflict is {text:?}: expected refuse or latest")))
}
