//! `cairn.Entry`, `cairn.Change`, and lazy iterators over them.

use crate::convert::path_text;
use crate::work::quick;
use cairn::manifest::{Change, Entry, Visit};
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

/// How many entries are read at once.
const BATCH: usize = 256;

/// One entry of a version: a file, a reference, a symbolic link or a directory.
#[pyclass(frozen, get_all, eq, hash, name = "Entry", module = "cairn")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PyEntry {
    /// Its path in the version.
    path: OsString,
    /// `file`, `reference`, `symbolic link` or `directory`.
    kind: &'static str,
    /// Its size in bytes, where one is known; of a directory that of all below it.
    size: Option<u64>,
    /// SHA-256 of a file's content, or of a directory's entries, in hexadecimal.
    digest: Option<String>,
    /// Whether a file may be executed.
    executable: bool,
    /// The target of a symbolic link.
    target: Option<OsString>,
    /// The URI of a reference.
    uri: Option<String>,
}

impl PyEntry {
    pub fn of(path: &cairn::types::RelPath, entry: &Entry) -> Self {
        let path = path_text(path);
        let kind = entry.kind_name();
        let none = PyEntry { path, kind, size: None, digest: None, executable: false, target: None, uri: None };
        match entry {
            Entry::File { digest, size, exec, .. } => {
                PyEntry { size: Some(*size), digest: Some(digest.hex()), executable: *exec, ..none }
            }
            Entry::Symlink { target } => {
                PyEntry { target: Some(std::os::unix::ffi::OsStringExt::from_vec(target.clone())), ..none }
            }
            Entry::Reference(r) => {
                PyEntry { size: r.size, digest: r.digest.map(|d| d.hex()), uri: Some(r.uri.clone()), ..none }
            }
            Entry::Directory(dir) => {
                PyEntry { size: Some(dir.totals().bytes), digest: Some(dir.digest().hex()), ..none }
            }
        }
    }
}

#[pymethods]
impl PyEntry {
    fn __repr__(&self) -> String {
        format!("<{} {:?}>", self.kind, self.path)
    }
}

/// A path at which two versions differ.
#[pyclass(frozen, get_all, eq, hash, name = "Change", module = "cairn")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PyChange {
    /// The path.
    path: OsString,
    /// `added`, `removed` or `changed`.
    status: &'static str,
    /// The entry before; None: there was none.
    old: Option<PyEntry>,
    /// The entry now; None: there is none.
    new: Option<PyEntry>,
}

impl PyChange {
    fn of(change: &Change) -> Self {
        let entry = |entry: &Option<Entry>| entry.as_ref().map(|e| PyEntry::of(&change.path, e));
        let status = match (&change.old, &change.new) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        PyChange { path: path_text(&change.path), status, old: entry(&change.old), new: entry(&change.new) }
    }
}

#[pymethods]
impl PyChange {
    fn __repr__(&self) -> String {
        format!("<{} {:?}>", self.status, self.path)
    }
}

/// What an iterator gives.
enum Item {
    Entry(PyEntry),
    Change(Box<PyChange>),
}

type Source = Box<dyn Iterator<Item = cairn::Result<Item>> + Send>;

struct Ahead {
    source: Source,
    /// What was read, and the error that ended the reading.
    read: VecDeque<cairn::Result<Item>>,
}

/// An iterator that reads ahead a little.
#[pyclass(frozen, name = "_Entries", module = "cairn")]
pub struct Entries(Mutex<Ahead>);

impl Entries {
    fn new(source: Source) -> Self {
        Entries(Mutex::new(Ahead { source, read: VecDeque::new() }))
    }

    /// Over the entries of a walk that `wanted` accepts.
    pub fn of_walk(
        walk: impl Iterator<Item = cairn::Result<Visit>> + Send + 'static,
        wanted: fn(&Entry) -> bool,
    ) -> Self {
        let wanted = move |visit: &cairn::Result<Visit>| visit.as_ref().map_or(true, |v| wanted(&v.entry));
        Entries::new(Box::new(walk.filter(wanted).map(|v| v.map(|v| Item::Entry(PyEntry::of(&v.path, &v.entry))))))
    }

    /// Over the changes of a comparison.
    pub fn of_changes(changes: impl Iterator<Item = cairn::Result<Change>> + Send + 'static) -> Self {
        Entries::new(Box::new(changes.map(|c| c.map(|c| Item::Change(Box::new(PyChange::of(&c)))))))
    }
}

#[pymethods]
impl Entries {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> crate::error::Result<Option<Py<PyAny>>> {
        let next = quick(py, || {
            let mut ahead = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if ahead.read.is_empty() {
                let Ahead { source, read } = &mut *ahead;
                read.extend(source.by_ref().take(BATCH));
            }
            ahead.read.pop_front().transpose()
        })?;
        Ok(match next {
            None => None,
            Some(Item::Entry(entry)) => Some(Py::new(py, entry)?.into_any()),
            Some(Item::Change(change)) => Some(Py::new(py, *change)?.into_any()),
        })
    }
}
