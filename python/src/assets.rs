//! `cairn.Table`, `Image`, `Classes` and `Html`.

use crate::convert::{cell, from_cell, usage};
use crate::error::Result;
use cairn::assets::{Classes, Html, Image, Object, Table};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Rows of values under named columns. A column has values of one type; with `mixed`, of any.
///
/// >>> table = cairn.Table(["name", "score"], [["a", 0.5]])
/// >>> table.add_data("b", None)
/// >>> results = cairn.Artifact("results")
/// >>> results.add(table, "scores")
/// 'scores.table.json'
/// >>> results.save(store).get("scores").data
/// [['a', 0.5], ['b', None]]
#[pyclass(frozen, name = "Table", module = "cairn")]
pub struct PyTable(pub Mutex<Table>);

#[pymethods]
impl PyTable {
    #[new]
    #[pyo3(signature = (columns, data=Vec::new(), *, mixed=false))]
    fn new(columns: Vec<String>, data: Vec<Vec<Bound<'_, PyAny>>>, mixed: bool) -> Result<Self> {
        let mut table = if mixed { Table::mixed(columns) } else { Table::new(columns) };
        for row in data {
            table.add_row(row.iter().map(cell).collect::<PyResult<Vec<_>>>()?)?;
        }
        Ok(PyTable(Mutex::new(table)))
    }

    /// Adds a row.
    #[pyo3(signature = (*row))]
    fn add_data(&self, row: Vec<Bound<'_, PyAny>>) -> Result<()> {
        let row = row.iter().map(cell).collect::<PyResult<Vec<_>>>()?;
        self.lock().add_row(row)?;
        Ok(())
    }

    /// The names of the columns.
    #[getter]
    fn columns(&self) -> Vec<String> {
        self.lock().columns().to_vec()
    }

    /// The rows.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Vec<Vec<Bound<'py, PyAny>>>> {
        let table = self.lock().clone();
        table.rows().iter().map(|row| row.iter().map(|value| from_cell(py, value)).collect()).collect()
    }

    fn __len__(&self) -> usize {
        self.lock().rows().len()
    }
}

impl PyTable {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An image: a file in a known format (PNG, JPEG, …), with a caption and classes.
#[pyclass(frozen, name = "Image", module = "cairn")]
pub struct PyImage(pub Image);

#[pymethods]
impl PyImage {
    #[new]
    #[pyo3(signature = (data_or_path, caption=None, *, classes=None, name="image.png"))]
    fn new(
        data_or_path: &Bound<'_, PyAny>,
        caption: Option<&str>,
        classes: Option<&Bound<'_, PyClasses>>,
        name: &str,
    ) -> Result<Self> {
        let mut image = match data_or_path.cast::<PyBytes>() {
            Ok(bytes) => Image::from_bytes(name, bytes.as_bytes())?,
            Err(_) => match data_or_path.extract::<PathBuf>() {
                Ok(path) => Image::from_file(path)?,
                Err(_) => return Self::from_pixels(data_or_path, caption, classes),
            },
        };
        if let Some(caption) = caption {
            image = image.caption(caption);
        }
        if let Some(classes) = classes {
            image = image.classes(classes.get().0.clone());
        }
        Ok(PyImage(image))
    }

    #[getter]
    fn width(&self) -> usize {
        self.0.width()
    }

    #[getter]
    fn height(&self) -> usize {
        self.0.height()
    }

    #[getter]
    fn format(&self) -> String {
        self.0.format().to_owned()
    }

    #[getter]
    fn caption(&self) -> Option<String> {
        self.0.caption_text().map(str::to_owned)
    }

    /// The bytes of the picture's file.
    fn bytes<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &crate::work::quick(py, || self.0.bytes())?))
    }
}

impl PyImage {
    /// A NumPy array or a PIL image: PIL writes it as PNG.
    fn from_pixels(
        pixels: &Bound<'_, PyAny>,
        caption: Option<&str>,
        classes: Option<&Bound<'_, PyClasses>>,
    ) -> Result<Self> {
        let png = pixels.py().import("cairn._files")?.call_method1("png", (pixels,))?;
        PyImage::new(&png, caption, classes, "image.png")
    }
}

/// Names of classes by their numbers.
///
/// >>> cairn.Classes([(0, "cat"), (1, "dog")]).names
/// {0: 'cat', 1: 'dog'}
#[pyclass(frozen, name = "Classes", module = "cairn")]
pub struct PyClasses(pub Classes);

#[pymethods]
impl PyClasses {
    #[new]
    fn new(class_set: &Bound<'_, PyAny>) -> Result<Self> {
        let one = |item: PyResult<Bound<'_, PyAny>>| {
            let item = item?;
            item.extract::<(i64, String)>()
                .or_else(|_| Ok((item.get_item("id")?.extract()?, item.get_item("name")?.extract()?)))
        };
        let classes = class_set.try_iter()?.map(one).collect::<PyResult<Vec<(i64, String)>>>()?;
        Ok(PyClasses(Classes::new(classes)))
    }

    /// The names by their numbers.
    #[getter]
    fn names(&self) -> std::collections::BTreeMap<i64, String> {
        self.0.iter().map(|(id, name)| (id, name.to_owned())).collect()
    }
}

/// An HTML page.
#[pyclass(frozen, name = "Html", module = "cairn")]
pub struct PyHtml(pub Html);

#[pymethods]
impl PyHtml {
    #[new]
    fn new(text: String) -> Self {
        PyHtml(Html::new(text))
    }

    /// Its text.
    #[getter]
    fn text(&self) -> String {
        self.0.text().to_owned()
    }
}

/// The library's object of a Python object.
pub fn object(obj: &Bound<'_, PyAny>) -> Result<Object> {
    if let Ok(table) = obj.cast::<PyTable>() {
        return Ok(Object::Table(table.get().lock().clone()));
    }
    if let Ok(image) = obj.cast::<PyImage>() {
        return Ok(Object::Image(image.get().0.clone()));
    }
    if let Ok(classes) = obj.cast::<PyClasses>() {
        return Ok(Object::Classes(classes.get().0.clone()));
    }
    match obj.cast::<PyHtml>() {
        Ok(html) => Ok(Object::Html(html.get().0.clone())),
        Err(_) => Err(usage(format!("{} is not a Table, Image, Classes or Html", obj.get_type()))),
    }
}

/// The Python object of the library's object.
pub fn to_python<'py>(py: Python<'py>, object: Object) -> PyResult<Bound<'py, PyAny>> {
    Ok(match object {
        Object::Table(table) => Bound::new(py, PyTable(Mutex::new(table)))?.into_any(),
        Object::Image(image) => Bound::new(py, PyImage(image))?.into_any(),
        Object::Classes(classes) => Bound::new(py, PyClasses(classes))?.into_any(),
        Object::Html(html) => Bound::new(py, PyHtml(html))?.into_any(),
        _ => return Err(pyo3::exceptions::PyTypeError::new_err("an object that this release does not know")),
    })
}
