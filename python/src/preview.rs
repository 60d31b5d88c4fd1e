//! `cairn.Preview`.

use crate::entry::Entries;
use cairn::manifest::{Entry, Tree};
use pyo3::prelude::*;

/// What an artifact would have as a version; see `Artifact.preview`.
#[pyclass(frozen, name = "Preview", module = "cairn")]
pub struct PyPreview(pub Tree);

#[pymethods]
impl PyPreview {
    /// The digest that the version would have.
    #[getter]
    fn digest(&self) -> String {
        self.0.digest().hex()
    }

    /// The sum of the files' sizes in bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.0.totals().bytes
    }

    /// How many files and references there are.
    #[getter]
    fn file_count(&self) -> u64 {
        self.0.totals().files
    }

    /// The files and references in path order.
    fn files(&self) -> Entries {
        let wanted = |entry: &Entry| matches!(entry, Entry::File { .. } | Entry::Reference(_));
        Entries::of_walk(self.0.walk(), wanted)
    }

    fn __repr__(&self) -> String {
        format!("Preview({:?})", self.digest())
    }
}
