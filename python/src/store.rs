//! `cairn.Store`.

use crate::convert::{hash_of, usage};
use crate::draft::{PyDraft, open_drafts};
use crate::error::Result;
use crate::finding::PyFinding;
use crate::version::PyVersion;
use crate::work::{Report, long, quick};
use cairn::verify::VerifyOptions;
use cairn::{Compression, InitOptions, Store};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::path::PathBuf;

/// A store: a directory that holds artifacts and their versions.
///
/// `Store(path)` opens the one at `path`. `Store()` opens the one that `CAIRN_STORE` names, else the nearest `.cairn`
/// in the working directory or above it.
///
/// >>> store = cairn.Store("store")
/// >>> store.artifacts(), store.exists("tour:v0"), store.exists("tour:v9")
/// (['tour'], True, False)
#[pyclass(frozen, name = "Store", module = "cairn")]
#[derive(Clone)]
pub struct PyStore(pub Store);

#[pymethods]
impl PyStore {
    #[new]
    #[pyo3(signature = (path=None))]
    fn new(py: Python<'_>, path: Option<PathBuf>) -> Result<Self> {
        quick(py, || Store::open(Store::find(path.as_deref())?)).map(PyStore)
    }

    /// Opens the store at `path`.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> Result<Self> {
        quick(py, || Store::open(path)).map(PyStore)
    }

    /// Makes a store in the directory `path`. `compression`: "auto" compresses small files that get smaller by it, and
    /// what is new in a changed large file; "all" compresses large files, too, which are then read through cairn; "none"
    /// compresses nothing, and earlier releases of cairn can use the store.
    #[staticmethod]
    #[pyo3(signature = (path, *, group=None, cache_bound_seconds=None, compression="auto", exist_ok=false))]
    fn init(
        py: Python<'_>,
        path: PathBuf,
        group: Option<String>,
        cache_bound_seconds: Option<u64>,
        compression: &str,
        exist_ok: bool,
    ) -> Result<Self> {
        let mut options = InitOptions::default();
        (options.group, options.cache_bound_seconds) = (group, cache_bound_seconds);
        options.compression = match compression {
            "auto" => Compression::Auto,
            "all" => Compression::All,
            "none" => Compression::None,
            _ => return Err(usage(format!("compression is {compression:?}: expected auto, all or none"))),
        };
        let make = || match Store::init(&path, &options) {
            Err(_) if exist_ok && path.join("cairn.json").exists() => Store::open(&path),
            made => made,
        };
        quick(py, make).map(PyStore)
    }

    /// The store that `Store()` would open, as a path.
    #[staticmethod]
    #[pyo3(signature = (path=None))]
    fn locate(py: Python<'_>, path: Option<PathBuf>) -> Result<PathBuf> {
        quick(py, || Store::find(path.as_deref()))
    }

    /// Its directory.
    #[getter]
    fn root(&self) -> PathBuf {
        self.0.root().to_path_buf()
    }

    /// The version that `spec` names: `NAME`, `NAME:vN`, `NAME:ALIAS`, `NAME:latest` or `NAME:DIGEST`.
    ///
    /// >>> store.version("tour"), store.version("tour:latest").version
    /// (Version("tour:v0"), 'v0')
    fn version(&self, py: Python<'_>, spec: &str) -> Result<PyVersion> {
        quick(py, || self.0.version(spec)).map(PyVersion::new)
    }

    /// Whether `spec` names a version.
    fn exists(&self, py: Python<'_>, spec: &str) -> Result<bool> {
        quick(py, || match self.0.version(spec) {
            Err(e) if e.kind() == cairn::Kind::NotFound => Ok(false),
            found => found.map(|_| true),
        })
    }

    /// The names of all artifacts, sorted.
    fn artifacts(&self, py: Python<'_>) -> Result<Vec<String>> {
        quick(py, || Ok(self.0.artifacts()?.iter().map(|name| name.to_string()).collect()))
    }

    /// The versions of an artifact that are not removed, oldest first.
    fn versions(&self, py: Python<'_>, name: &str) -> Result<Vec<PyVersion>> {
        Ok(quick(py, || self.0.versions(name))?.into_iter().map(PyVersion::new).collect())
    }

    /// The versions that runs make together and that are not finished, of one artifact or of all.
    #[pyo3(signature = (name=None))]
    fn drafts(&self, py: Python<'_>, name: Option<&str>) -> Result<Vec<PyDraft>> {
        quick(py, || open_drafts(&self.0, name))
    }

    /// Reads and hashes the whole store again. Returns what is not as it should be: a list, empty if all is right.
    /// `quick`: hash no files.
    #[pyo3(signature = (*, quick=false, progress=None))]
    fn verify(&self, py: Python<'_>, quick: bool, progress: Option<Py<PyAny>>) -> Result<Vec<PyFinding>> {
        let report = long(py, &mut Report::of(py, "verify", progress)?, |progress| {
            self.0.verify(&VerifyOptions::default().quick(quick).progress(progress.clone()))
        })?;
        Ok(PyFinding::of_report(report))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<PyStore>().is_ok_and(|other| self.0.root() == other.get().0.root())
    }

    fn __hash__(&self) -> u64 {
        hash_of(self.0.root())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = slf.py();
        Ok((slf.get_type().into_any(), PyTuple::new(py, [slf.get().root()])?))
    }

    fn __repr__(&self) -> String {
        format!("Store({:?})", self.0.root())
    }
}

/// The store that is given, else the one that `Store()` opens.
pub fn or_default(py: Python<'_>, given: Option<&PyStore>) -> Result<PyStore> {
    given.map_or_else(|| PyStore::new(py, None), |store| Ok(store.clone()))
}
