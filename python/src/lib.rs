//! The compiled part of the Python package `cairn`: thin classes over the library, one file each.

#![allow(clippy::too_many_arguments, reason = "functions of Python take many by name")]

mod artifact;
mod assets;
mod content;
mod convert;
mod draft;
mod entry;
mod error;
mod finding;
mod lazy;
mod preview;
mod provenance;
mod read;
mod run;
mod store;
mod version;
mod work;

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
fn _cairn(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_class::<store::PyStore>()?;
    m.add_class::<artifact::PyArtifact>()?;
    m.add_class::<run::PyRun>()?;
    m.add_class::<version::PyVersion>()?;
    m.add_class::<read::PyReader>()?;
    m.add_class::<read::PyLocalFiles>()?;
    m.add_class::<finding::PyFinding>()?;
    m.add_class::<draft::PyDraft>()?;
    m.add_class::<preview::PyPreview>()?;
    m.add_class::<entry::PyEntry>()?;
    m.add_class::<entry::PyChange>()?;
    m.add_class::<entry::Entries>()?;
    m.add_class::<assets::PyTable>()?;
    m.add_class::<assets::PyImage>()?;
    m.add_class::<assets::PyClasses>()?;
    m.add_class::<assets::PyHtml>()
}
