//! Values between Python and the library: paths, JSON, cells of tables.

use crate::error::{Failure, Result};
use cairn::assets::{Image, Value};
use cairn::types::RelPath;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString};
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// A path in a version: a `str`, `bytes` or `os.PathLike`.
pub struct Inside(pub Vec<u8>);

impl<'a, 'py> FromPyObject<'a, 'py> for Inside {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(Inside(bytes.as_bytes().to_vec()));
        }
        let path: PathBuf = value.extract()?;
        Ok(Inside(path.into_os_string().into_vec()))
    }
}

impl Inside {
    pub fn parse(&self) -> Result<RelPath> {
        Ok(RelPath::parse(&self.0)?)
    }
}

/// Several values. A single text is refused: as a sequence it would be its letters.
pub struct Several<T>(pub Vec<T>);

impl<T> Default for Several<T> {
    fn default() -> Self {
        Several(Vec::new())
    }
}

impl<'a, 'py, T: for<'b> FromPyObject<'b, 'py, Error: Into<PyErr>>> FromPyObject<'a, 'py> for Several<T> {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>() {
            let shown = value.repr()?;
            return Err(PyTypeError::new_err(format!(
                "expected a list, found the single value {shown}: write [{shown}]"
            )));
        }
        let items = value.try_iter()?;
        items.map(|item| item?.extract().map_err(Into::into)).collect::<PyResult<_>>().map(Several)
    }
}

pub fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A path as Python shows those of the file system: bytes that are not UTF-8 as surrogates.
pub fn path_text(path: &RelPath) -> OsString {
    OsStr::from_bytes(path.as_bytes()).to_owned()
}

/// A dictionary as the library's metadata. NaN becomes null.
pub fn metadata(value: &Bound<'_, PyAny>) -> Result<cairn::catalog::Metadata> {
    let text: String = value.py().import("json")?.call_method1("dumps", (value,))?.extract()?;
    Ok(cairn::catalog::parse_metadata(&text)?)
}

/// JSON as Python's values.
pub fn from_json<'py>(py: Python<'py>, value: &impl serde::Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).map_err(|e| PyTypeError::new_err(e.to_string()))?;
    py.import("json")?.call_method1("loads", (text,))
}

/// A value of a table's cell.
pub fn cell(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    Ok(if value.is_none() {
        Value::Null
    } else if value.is_instance_of::<PyBool>() {
        Value::Bool(value.extract()?)
    } else if value.is_instance_of::<PyInt>() {
        Value::Int(value.extract()?)
    } else if value.is_instance_of::<PyFloat>() {
        Value::Float(value.extract()?)
    } else if value.is_instance_of::<PyString>() {
        Value::Text(value.extract()?)
    } else if let Ok(image) = value.extract::<PyRef<'_, crate::assets::PyImage>>() {
        Value::Image(Box::new(image.0.clone()))
    } else if let Ok(map) = value.cast::<PyDict>() {
        let pairs = map.iter().map(|(k, v)| Ok((k.str()?.extract()?, cell(&v)?)));
        Value::Map(pairs.collect::<PyResult<_>>()?)
    } else {
        other_cell(value)?
    })
}

/// A value by what it can do: NumPy's scalars and arrays, moments, sequences.
fn other_cell(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.hasattr("timestamp")? {
        let seconds: f64 = value.call_method0("timestamp")?.extract()?;
        return Ok(Value::Timestamp((seconds * 1000.0).round() as i64));
    }
    if value.hasattr("tolist")? {
        return cell(&value.call_method0("tolist")?);
    }
    if let Ok(items) = value.try_iter() {
        return Ok(Value::List(items.map(|item| cell(&item?)).collect::<PyResult<_>>()?));
    }
    let what = format!(
        "a table holds no {}: use numbers, texts, truth values, times, lists, dicts or images",
        value.get_type()
    );
    Err(PyTypeError::new_err(what))
}

/// A cell of a table as a value of Python. Times are `datetime` in UTC.
pub fn from_cell<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(b) => PyBool::new(py, *b).to_owned().into_any(),
        Value::Int(n) => n.into_pyobject(py)?.into_any(),
        Value::Float(n) => PyFloat::new(py, *n).into_any(),
        Value::Text(text) => PyString::new(py, text).into_any(),
        Value::Timestamp(ms) => {
            let datetime = py.import("datetime")?;
            let utc = datetime.getattr("timezone")?.getattr("utc")?;
            datetime.getattr("datetime")?.call_method1("fromtimestamp", (*ms as f64 / 1000.0, utc))?
        }
        Value::List(items) => {
            PyList::new(py, items.iter().map(|v| from_cell(py, v)).collect::<PyResult<Vec<_>>>()?)?.into_any()
        }
        Value::Map(pairs) => {
            let map = PyDict::new(py);
            for (name, value) in pairs {
                map.set_item(name, from_cell(py, value)?)?;
            }
            map.into_any()
        }
        Value::Image(image) => image_object(py, image)?,
        _ => return Err(PyTypeError::new_err("a value that this release does not know")),
    })
}

pub fn image_object<'py>(py: Python<'py>, image: &Image) -> PyResult<Bound<'py, PyAny>> {
    Ok(Bound::new(py, crate::assets::PyImage(image.clone()))?.into_any())
}

/// The failure of a wrong argument.
pub fn usage(message: impl Into<String>) -> Failure {
    cairn::Error::usage(message).into()
}
