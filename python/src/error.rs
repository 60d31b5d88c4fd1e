//! Errors of the library as exceptions of `cairn.errors`.

use pyo3::prelude::*;

/// An error on its way to Python.
pub enum Failure {
    /// The library's.
    Cairn(cairn::Error),
    /// An exception, for example of a signal's handler.
    Python(PyErr),
}

pub type Result<T> = std::result::Result<T, Failure>;

impl From<cairn::Error> for Failure {
    fn from(e: cairn::Error) -> Self {
        Failure::Cairn(e)
    }
}

impl From<PyErr> for Failure {
    fn from(e: PyErr) -> Self {
        Failure::Python(e)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> PyErr {
        match failure {
            Failure::Cairn(e) => Python::attach(|py| exception(py, &e).unwrap_or_else(|e| e)),
            Failure::Python(e) => e,
        }
    }
}

/// The exception of an error.
fn exception(py: Python<'_>, e: &cairn::Error) -> PyResult<PyErr> {
    let kind = serde_json::to_value(e.kind()).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    let detail = e.detail().and_then(|d| serde_json::to_string(d).ok());
    let parts = (kind, e.message(), e.causes(), e.hint(), e.kind().exit_status(), e.errno(), detail);
    let made = py.import("cairn.errors")?.call_method1("_of_library", parts)?;
    Ok(PyErr::from_value(made))
}

/// The error of reading a file: the library's own, if it is one.
pub fn of_io(path: &str, e: std::io::Error) -> cairn::Error {
    e.downcast::<cairn::Error>().unwrap_or_else(|e| cairn::Error::io("read", path.as_ref(), e))
}
