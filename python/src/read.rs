//! Reading files of a version: one at a time, many at once, and as paths.

use crate::convert::Inside;
use crate::error::{Result, of_io};
use crate::version::PyVersion;
use crate::work::{Report, long, quick};
use cairn::progress::Progress;
use cairn::view::{FileReader, LocalFiles};
use pyo3::exceptions::{PyIndexError, PyOverflowError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file by its path or by its number.
pub enum Which {
    Number(u64),
    Path(Inside),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Which {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        match value.extract::<Number>() {
            Ok(number) => Ok(Which::Number(number.0)),
            Err(e) if e.is_instance_of::<PyIndexError>(value.py()) => Err(e),
            Err(_) => value.extract().map(Which::Path),
        }
    }
}

/// The number of a file.
pub struct Number(pub u64);

impl<'a, 'py> FromPyObject<'a, 'py> for Number {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        value.extract::<u64>().map(Number).map_err(|e| match e.is_instance_of::<PyOverflowError>(value.py()) {
            true => PyIndexError::new_err(format!("{} is not the number of a file: they begin at 0", *value)),
            false => e,
        })
    }
}

/// One thread for each processor, at most eight.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get().min(8))
}

/// What `read` gives for each number below `len`, read by several threads. One is read on this thread.
pub fn read_all<T: Send>(
    py: Python<'_>,
    len: usize,
    threads: Option<usize>,
    read: impl Fn(usize) -> cairn::Result<T> + Send + Sync,
) -> Result<Vec<T>> {
    if len == 1 {
        return quick(py, || read(0)).map(|one| vec![one]);
    }
    let threads = threads.unwrap_or_else(default_threads).clamp(1, len.max(1));
    long(py, &mut Report::none(py), |progress| read_by(threads, len, progress, read))
}

fn read_by<T: Send>(
    threads: usize,
    len: usize,
    progress: &Progress,
    read: impl Fn(usize) -> cairn::Result<T> + Sync,
) -> cairn::Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let one_thread = || {
        let mut done = Vec::new();
        while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < len) {
            progress.check_cancelled()?;
            done.push((i, read(i).inspect_err(|_| progress.cancel())?));
        }
        Ok::<_, cairn::Error>(done)
    };
    let parts: Vec<_> = std::thread::scope(|s| {
        let others: Vec<_> = (1..threads).map(|_| s.spawn(one_thread)).collect();
        let own = one_thread();
        let joined = others.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        joined.chain([own]).collect()
    });
    in_order(parts)
}

/// What the threads read, in the order in which it was asked for; or an error, rather than that another ended the work.
fn in_order<T>(parts: Vec<cairn::Result<Vec<(usize, T)>>>) -> cairn::Result<Vec<T>> {
    let mut all = Vec::new();
    let mut failed: Option<cairn::Error> = None;
    for part in parts {
        match part {
            Ok(read) => all.extend(read),
            Err(e) if failed.as_ref().is_none_or(is_interrupt) => failed = Some(e),
            Err(_) => {}
        }
    }
    all.sort_unstable_by_key(|(i, _)| *i);
    failed.map_or_else(|| Ok(all.into_iter().map(|(_, read)| read).collect()), Err)
}

fn is_interrupt(e: &cairn::Error) -> bool {
    matches!(e.detail(), Some(cairn::error::Detail::Interrupted))
}

/// A file that is open for reading, as `cairn._files` uses it.
#[pyclass(frozen, name = "_Reader", module = "cairn")]
pub struct PyReader(pub FileReader);

#[pymethods]
impl PyReader {
    #[getter]
    fn size(&self) -> u64 {
        self.0.size()
    }

    /// Up to `n` bytes at `offset`; fewer only at the end.
    fn read_at<'py>(&self, py: Python<'py>, n: usize, offset: u64) -> Result<Bound<'py, PyBytes>> {
        let left = usize::try_from(self.0.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = PyBytes::new_with(py, n.min(left), |buffer| {
            let read = py.detach(|| {
                let mut done = 0;
                while done < buffer.len() {
                    done += self.0.read_at(&mut buffer[done..], offset + done as u64)?;
                }
                Ok(())
            });
            read.map_err(|e| crate::error::Failure::from(of_io("the file", e)).into())
        })?;
        Ok(bytes)
    }
}

/// Gives paths of a version's files, and pins the version, as `cairn._files` uses it.
#[pyclass(frozen, name = "_LocalFiles", module = "cairn")]
pub struct PyLocalFiles(LocalFiles);

#[pymethods]
impl PyLocalFiles {
    #[new]
    fn new(py: Python<'_>, version: &Bound<'_, PyVersion>) -> Result<Self> {
        let version = &version.get().version;
        quick(py, || LocalFiles::of(version)).map(PyLocalFiles)
    }

    fn path(&self, py: Python<'_>, path: Inside) -> Result<PathBuf> {
        quick(py, || self.0.path(&path.0))
    }
}
