//! `cairn.Table`, `Image`, `Classes` and `Html`.

use crate::convert::{cell, from_cell, usage};
use crate::error::Result;
use cairn::assets::{BoundingBox, Boxes, Classes, Html, Image, Mask, Object, Table};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
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

    fn __repr__(&self) -> String {
        format!("<Table of {} rows, columns {:?}>", self.__len__(), self.columns())
    }
}

impl PyTable {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An image: a file in a known format (PNG, JPEG, …) or pixels, with a caption, classes, boxes and masks.
#[pyclass(frozen, name = "Image", module = "cairn")]
pub struct PyImage(pub Image);

#[pymethods]
impl PyImage {
    #[new]
    #[pyo3(signature = (
        data_or_path, caption=None, *, classes=None, boxes=None, masks=None, grouping=None, name="image.png"
    ))]
    fn new(
        data_or_path: &Bound<'_, PyAny>,
        caption: Option<&str>,
        classes: Option<&Bound<'_, PyClasses>>,
        boxes: Option<&Bound<'_, PyDict>>,
        masks: Option<&Bound<'_, PyDict>>,
        grouping: Option<i64>,
        name: &str,
    ) -> Result<Self> {
        let mut image = picture(data_or_path, name)?;
        if let Some(caption) = caption {
            image = image.caption(caption);
        }
        if let Some(group) = grouping {
            image = image.grouping(group);
        }
        for (layer, value) in boxes.into_iter().flatten() {
            image = image.boxes(&layer.extract::<String>()?, boxes_of(&value)?);
        }
        for (layer, value) in masks.into_iter().flatten() {
            image = image.mask(&layer.extract::<String>()?, mask_of(&value)?);
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

    fn __repr__(&self) -> String {
        format!("<Image {}, {} x {}>", self.format(), self.width(), self.height())
    }
}

/// The picture of bytes, a path, a NumPy array, a tensor or a PIL image.
fn picture(data_or_path: &Bound<'_, PyAny>, name: &str) -> Result<Image> {
    if let Ok(bytes) = data_or_path.cast::<PyBytes>() {
        return Ok(Image::from_bytes(name, bytes.as_bytes())?);
    }
    if let Ok(path) = data_or_path.extract::<PathBuf>() {
        return Ok(Image::from_file(path)?);
    }
    let (width, height, channels, pixels) = pixels(data_or_path)?;
    Ok(Image::from_pixels(width, height, channels, &pixels)?)
}

/// Width, height, channels and bytes.
fn pixels(value: &Bound<'_, PyAny>) -> PyResult<(usize, usize, usize, Vec<u8>)> {
    value.py().import("cairn._files")?.call_method1("pixels", (value,))?.extract()
}

/// The labels of W&B's dictionaries for boxes and masks.
fn labels(value: &Bound<'_, PyAny>) -> PyResult<Option<Vec<(i64, String)>>> {
    let Some(labels) = value.cast::<PyDict>()?.get_item("class_labels")? else { return Ok(None) };
    let pairs = labels.call_method0("items")?.try_iter()?.map(|item| item?.extract());
    Ok(Some(pairs.collect::<PyResult<_>>()?))
}

/// `{"box_data": [{"position": …, "class_id": 1}], "class_labels": {1: "cat"}}`
fn boxes_of(value: &Bound<'_, PyAny>) -> Result<Boxes> {
    let boxes = value.get_item("box_data")?.try_iter()?.map(|item| Ok(BoundingBox::try_from(cell(&item?)?)?));
    let boxes = Boxes::new(boxes.collect::<Result<Vec<_>>>()?);
    Ok(match labels(value)? {
        Some(labels) => boxes.labels(labels),
        None => boxes,
    })
}

/// `{"mask_data": array, "class_labels": {1: "cat"}}`, or `{"path": file}`.
fn mask_of(value: &Bound<'_, PyAny>) -> Result<Mask> {
    let mask = match value.cast::<PyDict>().map_err(PyErr::from)?.get_item("path")? {
        Some(path) => Mask::from_file(path.extract::<PathBuf>()?)?,
        None => {
            let (width, height, channels, pixels) = pixels(&value.get_item("mask_data")?)?;
            if channels != 1 {
                return Err(usage("the mask of an image has one class for each pixel"));
            }
            Mask::from_pixels(width, height, &pixels)?
        }
    };
    Ok(match labels(value)? {
        Some(labels) => mask.labels(labels),
        None => mask,
    })
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

    fn __repr__(&self) -> String {
        format!("<Classes {:?}>", self.names())
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

    fn __repr__(&self) -> String {
        format!("<Html of {} characters>", self.0.text().chars().count())
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
        Err(_) => {
            let why = format!("expected a Table, an Image, Classes or Html, found {}", obj.get_type().name()?);
            Err(PyTypeError::new_err(why).into())
        }
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
