//! `cairn.Version`.

use crate::artifact::PyArtifact;
use crate::assets;
use crate::convert::{Inside, from_json, metadata, usage};
use crate::entry::{Entries, PyEntry};
use crate::error::{Result, of_io};
use crate::lazy::Lazy;
use crate::store::PyStore;
use crate::work::{long, quick};
use cairn::catalog::note::{self, Note};
use cairn::manifest::{Entry, Tree};
use cairn::types::{RelPath, Tag};
use cairn::view::{CheckoutOptions, FileReader, Link};
use cairn::{Kind, Version};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One version of an artifact. It never changes; its description, metadata, tags and aliases may.
#[pyclass(frozen, name = "Version", module = "cairn")]
pub struct PyVersion {
    pub version: Version,
    tree: Lazy<Tree>,
}

/// A file by its path or by its number.
#[derive(FromPyObject)]
enum Which {
    Number(u64),
    Path(Inside),
}

impl PyVersion {
    pub fn new(version: Version) -> Self {
        PyVersion { version, tree: Lazy::default() }
    }

    fn tree(&self) -> cairn::Result<&Tree> {
        self.tree.get(|| self.version.tree())
    }

    fn find(&self, path: &RelPath) -> cairn::Result<Entry> {
        match self.tree()?.lookup(path)? {
            Some(found) => Ok(found.entry),
            None => self.version.entry(path), // it has the right error
        }
    }

    fn reader(&self, which: &Which) -> cairn::Result<FileReader> {
        match which {
            Which::Path(path) => {
                let path = RelPath::parse(&path.0)?;
                self.version.open_entry(&path, &self.find(&path)?)
            }
            Which::Number(n) => {
                let visit = self.tree()?.file_at(*n)?.ok_or_else(|| no_file(&self.version, *n))?;
                self.version.open_entry(&visit.path, &visit.entry)
            }
        }
    }

    fn read(&self, which: &Which) -> cairn::Result<Vec<u8>> {
        let mut reader = self.reader(which)?;
        let mut bytes = Vec::with_capacity(usize::try_from(reader.size()).unwrap_or(0));
        reader.read_to_end(&mut bytes).map_err(|e| of_io(&self.version.to_string(), e))?;
        Ok(bytes)
    }
}

fn no_file(version: &Version, n: u64) -> cairn::Error {
    cairn::Error::new(Kind::NotFound, format!("there is no file number {n} in {version}"))
        .with_hint(format!("it has {} files, numbered from 0", version.file_count()))
}

#[pymethods]
impl PyVersion {
    /// `NAME:vN`.
    #[getter]
    fn qualified_name(&self) -> String {
        self.version.to_string()
    }

    /// The artifact's name.
    #[getter]
    fn name(&self) -> String {
        self.version.artifact().to_string()
    }

    /// `vN`.
    #[getter]
    fn version(&self) -> String {
        self.version.number().to_string()
    }

    /// The number N of `vN`.
    #[getter]
    fn number(&self) -> u64 {
        self.version.number().0
    }

    /// The artifact's type.
    #[getter]
    fn r#type(&self) -> String {
        self.version.record().kind.to_string()
    }

    /// The digest of all that it has, in hexadecimal: equal for equal content.
    #[getter]
    fn digest(&self) -> String {
        self.version.digest().hex()
    }

    /// The sum of its files' sizes in bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.version.record().bytes
    }

    /// How many files and references it has.
    #[getter]
    fn file_count(&self) -> u64 {
        self.version.file_count()
    }

    fn __len__(&self) -> usize {
        usize::try_from(self.version.file_count()).unwrap_or(usize::MAX)
    }

    /// When it was made, in RFC 3339.
    #[getter]
    fn created_at(&self) -> String {
        self.version.record().created_at.clone()
    }

    /// The store that it is in.
    #[getter]
    fn store(&self) -> PyStore {
        PyStore(self.version.store().clone())
    }

    /// The description, as it is now.
    #[getter]
    fn description(&self, py: Python<'_>) -> Result<Option<String>> {
        Ok(quick(py, || self.version.annotations())?.description)
    }

    /// The metadata, as it is now. A change of the dictionary changes nothing: `annotate` does.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        Ok(from_json(py, &quick(py, || self.version.annotations())?.metadata)?)
    }

    /// The tags, as they are now.
    #[getter]
    fn tags(&self, py: Python<'_>) -> Result<Vec<String>> {
        Ok(quick(py, || self.version.annotations())?.tags.iter().map(|tag| tag.to_string()).collect())
    }

    /// The aliases that point to it now; `latest` is one.
    #[getter]
    fn aliases(&self, py: Python<'_>) -> Result<Vec<String>> {
        quick(py, || self.version.aliases())
    }

    /// The id of the run that made it, if one did.
    #[getter]
    fn run_id(&self) -> Option<String> {
        self.version.record().run.as_ref().map(|run| run.id.to_string())
    }

    /// Changes what people read about it. Metadata is replaced whole.
    #[pyo3(signature = (description=None, metadata=None, *, add_tags=Vec::new(), remove_tags=Vec::new()))]
    fn annotate(
        &self,
        py: Python<'_>,
        description: Option<String>,
        metadata: Option<&Bound<'_, PyAny>>,
        add_tags: Vec<String>,
        remove_tags: Vec<String>,
    ) -> Result<()> {
        let metadata = metadata.map(self::metadata).transpose()?;
        let tags = |tags: Vec<String>| tags.iter().map(|tag| Tag::parse(tag)).collect::<cairn::Result<Vec<_>>>();
        let (add_tags, remove_tags) = (tags(add_tags)?, tags(remove_tags)?);
        let note = Note { description, metadata, add_tags, remove_tags, ..Note::default() };
        quick(py, || note::add(&self.version, note)).map(drop)
    }

    /// Moves an alias to this version.
    fn add_alias(&self, py: Python<'_>, alias: &str) -> Result<()> {
        quick(py, || self.version.add_alias(alias))
    }

    /// Removes an alias that points to this version.
    fn remove_alias(&self, py: Python<'_>, alias: &str) -> Result<()> {
        quick(py, || self.version.remove_alias(alias))
    }

    /// Its files and references in path order, read while they are asked for. `start`: from this path on.
    #[pyo3(signature = (start=None))]
    fn files(&self, py: Python<'_>, start: Option<Inside>) -> Result<Entries> {
        let wanted = |entry: &Entry| matches!(entry, Entry::File { .. } | Entry::Reference(_));
        self.walk(py, start, wanted)
    }

    /// All its entries in path order: files, references, symbolic links and directories.
    #[pyo3(signature = (start=None))]
    fn entries(&self, py: Python<'_>, start: Option<Inside>) -> Result<Entries> {
        self.walk(py, start, |_| true)
    }

    /// The entry at a path.
    fn entry(&self, py: Python<'_>, path: Inside) -> Result<PyEntry> {
        let path = path.parse()?;
        quick(py, || Ok(PyEntry::of(&path, &self.find(&path)?)))
    }

    fn __contains__(&self, py: Python<'_>, path: Inside) -> Result<bool> {
        let path = path.parse()?;
        quick(py, || Ok(self.tree()?.lookup(&path)?.is_some()))
    }

    /// File or reference number `n` in path order, from 0, without a list of all.
    fn file_at(&self, py: Python<'_>, n: u64) -> Result<PyEntry> {
        quick(py, || {
            let visit = self.tree()?.file_at(n)?.ok_or_else(|| no_file(&self.version, n))?;
            Ok(PyEntry::of(&visit.path, &visit.entry))
        })
    }

    /// Opens a file for reading: by its path, or by its number. With mode "r" it gives text.
    #[pyo3(signature = (path, mode="rb", encoding=None))]
    fn open<'py>(slf: &Bound<'py, Self>, path: Which, mode: &str, encoding: Option<&str>) -> Result<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let reader = PyReader(quick(py, || this.reader(&path))?);
        Ok(py.import("cairn._files")?.call_method1("open_file", (reader, mode, encoding))?)
    }

    /// The bytes of a file.
    fn read_bytes<'py>(&self, py: Python<'py>, path: Which) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &quick(py, || self.read(&path))?))
    }

    /// The bytes of many files, given by path or number, read by several threads (`threads`; default: one for each
    /// processor, at most eight).
    #[pyo3(signature = (which, threads=None))]
    fn read_many<'py>(
        &self,
        py: Python<'py>,
        which: Vec<Which>,
        threads: Option<usize>,
    ) -> Result<Vec<Bound<'py, PyBytes>>> {
        let default = || std::thread::available_parallelism().map_or(2, |n| n.get().min(8));
        let threads = threads.unwrap_or_else(default).clamp(1, which.len().max(1));
        let read = long(py, |progress| {
            let next = AtomicUsize::new(0);
            let one_thread = || {
                let mut read = Vec::new();
                while let Some((i, which)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, which.get(i)?)))
                {
                    progress.check_cancelled()?;
                    read.push((i, self.read(which).inspect_err(|_| progress.cancel())?));
                }
                Ok::<_, cairn::Error>(read)
            };
            let parts: Vec<_> = std::thread::scope(|s| {
                let others: Vec<_> = (1..threads).map(|_| s.spawn(one_thread)).collect();
                let own = one_thread();
                let joined = others.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
                joined.chain([own]).collect()
            });
            in_order(parts, which.len())
        })?;
        Ok(read.iter().map(|bytes| PyBytes::new(py, bytes)).collect())
    }

    /// Writes it to the directory `root` (default: `artifacts/NAME:vN`) and returns that path. Files that are right
    /// already are kept.
    #[pyo3(signature = (root=None, path=None, *, force=false, prune=false, link="auto"))]
    fn download(
        &self,
        py: Python<'_>,
        root: Option<PathBuf>,
        path: Option<Inside>,
        force: bool,
        prune: bool,
        link: &str,
    ) -> Result<PathBuf> {
        let root = root.unwrap_or_else(|| PathBuf::from("artifacts").join(self.version.to_string()));
        let link = match link {
            "auto" => Link::Auto,
            "copy" => Link::Copy,
            "reflink" => Link::Reflink,
            "hardlink" => Link::Hardlink,
            _ => return Err(usage(format!("link is {link:?}: expected auto, copy, reflink or hardlink"))),
        };
        let mut options = CheckoutOptions::default().force(force).prune(prune).link(link);
        options.path = path.map(|path| path.parse()).transpose()?;
        long(py, |progress| {
            std::fs::create_dir_all(&root).map_err(|e| cairn::Error::io("create directory", &root, e))?;
            self.version.checkout(&root, &options.progress(progress.clone()))
        })?;
        Ok(root)
    }

    /// The paths at which `other` differs from this version, in path order.
    fn diff(&self, py: Python<'_>, other: &Bound<'_, PyVersion>) -> Result<Entries> {
        let other = other.get();
        Ok(Entries::of_changes(quick(py, || self.version.diff(&other.version))?))
    }

    /// The Table, Image, Classes or Html that was added as `name`.
    fn get<'py>(&self, py: Python<'py>, name: &str) -> Result<Bound<'py, PyAny>> {
        let object = quick(py, || self.version.get(name))?;
        Ok(assets::to_python(py, object)?)
    }

    /// An artifact that begins with what this version has: what is added, removed and renamed there makes the next
    /// version. Saving costs what the changes cost.
    fn new_draft(&self) -> PyArtifact {
        let mut draft = self.version.new_draft();
        draft.overwrite();
        PyArtifact::of(draft)
    }

    /// Mounts it at the directory `point` while the `with` block runs. Needs the command `cairn`.
    #[pyo3(signature = (point=None))]
    fn mount<'py>(slf: &Bound<'py, Self>, point: Option<PathBuf>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("cairn._mount")?.call_method1("mounted", (slf, point))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<PyVersion>().is_ok_and(|other| self.key() == other.get().key())
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.key().hash(&mut hasher);
        hasher.finish()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = slf.py();
        let (store, name) = (slf.get().store(), slf.get().qualified_name());
        let arguments = (store, name).into_pyobject(py)?;
        Ok((py.import("cairn._files")?.getattr("_version")?, arguments))
    }

    fn __repr__(&self) -> String {
        format!("Version({:?})", self.version.to_string())
    }
}

impl PyVersion {
    fn key(&self) -> (PathBuf, String, u64) {
        (self.version.store().root().to_path_buf(), self.version.artifact().to_string(), self.version.number().0)
    }

    fn walk(&self, py: Python<'_>, start: Option<Inside>, wanted: fn(&Entry) -> bool) -> Result<Entries> {
        let start = RelPath::parse_or_root(&start.map_or_else(Vec::new, |start| start.0))?;
        Ok(Entries::of_walk(quick(py, || self.tree()?.walk_from(&start))?, wanted))
    }
}

/// What the threads read, in the order in which it was asked for; or an error, rather than that another ended the work.
fn in_order(parts: Vec<cairn::Result<Vec<(usize, Vec<u8>)>>>, len: usize) -> cairn::Result<Vec<Vec<u8>>> {
    let mut out = vec![Vec::new(); len];
    let mut failed: Option<cairn::Error> = None;
    for part in parts {
        match part {
            Ok(read) => read.into_iter().for_each(|(i, bytes)| out[i] = bytes),
            Err(e) if failed.as_ref().is_none_or(is_interrupt) => failed = Some(e),
            Err(_) => {}
        }
    }
    failed.map_or(Ok(out), Err)
}

fn is_interrupt(e: &cairn::Error) -> bool {
    matches!(e.detail(), Some(cairn::error::Detail::Interrupted))
}

/// A file that is open for reading, as `cairn._files` uses it.
#[pyclass(frozen, name = "_Reader", module = "cairn")]
pub struct PyReader(FileReader);

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
