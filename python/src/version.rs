//! `cairn.Version`.

use crate::artifact::PyArtifact;
use crate::assets;
use crate::convert::{Inside, Several, from_json, hash_of, metadata, path_text, usage};
use crate::entry::{Entries, PyEntry};
use crate::error::Result;
use crate::finding::PyFinding;
use crate::lazy::Lazy;
use crate::provenance;
use crate::read::{Number, PyReader, Which, read_all};
use crate::store::PyStore;
use crate::work::{Report, long, quick};
use cairn::catalog::note::{self, Note};
use cairn::manifest::{Entry, FoundEntry, Tree};
use cairn::types::{RelPath, Tag};
use cairn::verify::VerifyOptions;
use cairn::view::{CheckoutOptions, Link, References};
use cairn::{SaveOptions, ScanOptions, Version};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// One version of an artifact. It never changes; its description, metadata, tags and aliases may.
///
/// >>> version = store.version("tour:v0")
/// >>> version.name, version.number, version.file_count, version.size
/// ('tour', 0, 2, 11)
/// >>> version.tags = ["checked"]
/// >>> version.tags, version.aliases
/// (['checked'], ['latest'])
#[pyclass(frozen, name = "Version", module = "cairn")]
pub struct PyVersion {
    pub version: Version,
    pub(crate) tree: Lazy<Tree>,
}

impl PyVersion {
    pub fn new(version: Version) -> Self {
        PyVersion { version, tree: Lazy::default() }
    }
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

    /// A version is true, also without files.
    fn __bool__(&self) -> bool {
        true
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

    #[setter]
    fn set_description(&self, py: Python<'_>, text: Option<String>) -> Result<()> {
        let description = Some(text.unwrap_or_default());
        quick(py, || note::add(&self.version, Note { description, ..Note::default() })).map(drop)
    }

    /// The metadata, as it is now. To change it, set the attribute: `v.metadata = {**v.metadata, "lr": 0.1}`. A change
    /// of the dictionary that you got changes nothing.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        Ok(from_json(py, &quick(py, || self.version.annotations())?.metadata)?)
    }

    #[setter]
    fn set_metadata(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> Result<()> {
        let metadata = Some(metadata(value)?);
        quick(py, || note::add(&self.version, Note { metadata, ..Note::default() })).map(drop)
    }

    /// The tags, as they are now. What is set replaces them.
    #[getter]
    fn tags(&self, py: Python<'_>) -> Result<Vec<String>> {
        Ok(quick(py, || self.version.annotations())?.tags.iter().map(|tag| tag.to_string()).collect())
    }

    #[setter]
    fn set_tags(&self, py: Python<'_>, tags: Several<String>) -> Result<()> {
        quick(py, || self.version.set_tags(&tags.0))
    }

    /// The aliases that point to it now; `latest` may be one. What is set replaces all but `latest`, which moves by
    /// itself.
    #[getter]
    fn aliases(&self, py: Python<'_>) -> Result<Vec<String>> {
        quick(py, || self.version.aliases())
    }

    #[setter]
    fn set_aliases(&self, py: Python<'_>, aliases: Several<String>) -> Result<()> {
        quick(py, || self.version.set_aliases(&aliases.0))
    }

    /// The id of the run that made it, if one did.
    #[getter]
    fn run_id(&self) -> Option<String> {
        self.version.record().run.as_ref().map(|run| run.id.to_string())
    }

    /// The ids of the runs that made it, the first one first: a run that saved the same content again is one, too.
    fn made_by(&self, py: Python<'_>) -> Result<Vec<String>> {
        quick(py, || provenance::made_by(&self.version))
    }

    /// The ids of the runs that used it, sorted.
    fn used_by(&self, py: Python<'_>) -> Result<Vec<String>> {
        quick(py, || provenance::used_by(&self.version))
    }

    /// `NAME:vN` of the version in this store that it is a copy of.
    #[getter]
    fn source(&self) -> Option<String> {
        provenance::source(&self.version)
    }

    /// How long after it was made it expires; None: it does not. `cairn rm NAME --expired` removes what has expired;
    /// nothing does so by itself.
    #[getter]
    fn ttl(&self, py: Python<'_>) -> Result<Option<Duration>> {
        quick(py, || provenance::ttl(&self.version))
    }

    #[setter]
    fn set_ttl(&self, py: Python<'_>, ttl: Option<Duration>) -> Result<()> {
        quick(py, || provenance::set_ttl(&self.version, ttl))
    }

    /// Publishes its content as the next version of another artifact, here or in another store, with its description,
    /// metadata and tags. Content that the store has is not copied.
    ///
    /// >>> golden = version.copy("golden")
    /// >>> golden, golden.source, golden.digest == version.digest
    /// (Version("golden:v0"), 'tour:v0', True)
    #[pyo3(signature = (name, store=None, *, aliases=Several::default(), progress=None))]
    fn copy(
        &self,
        py: Python<'_>,
        name: &str,
        store: Option<&PyStore>,
        aliases: Several<String>,
        progress: Option<Py<PyAny>>,
    ) -> Result<PyVersion> {
        let store = store.map_or_else(|| self.version.store().clone(), |store| store.0.clone());
        let copied = long(py, &mut Report::of(py, self.qualified_name(), progress)?, |progress| {
            let options = SaveOptions::default().progress(progress.clone());
            provenance::copied(&self.version, &store, name, &aliases.0, &options)
        })?;
        Ok(PyVersion::new(copied))
    }

    /// Removes it: its number is not used again. Refused while an alias other than `latest` names it or a mount uses
    /// it, unless `force`: then it is removed with its aliases. `cairn restore` brings it back until `cairn gc` has
    /// freed its content.
    ///
    /// >>> version.copy("golden").delete()
    /// >>> store.exists("golden")
    /// False
    #[pyo3(signature = (*, force=false))]
    fn delete(&self, py: Python<'_>, force: bool) -> Result<()> {
        quick(py, || provenance::delete(&self.version, force))
    }

    /// W&B's manifest of it, as JSON, and that manifest's digest.
    fn _wandb_manifest(&self, py: Python<'_>) -> Result<(String, String)> {
        let made = long(py, &mut Report::none(py), |_| cairn::export::wandb_manifest(&self.version))?;
        Ok((made.json.to_string(), made.digest))
    }

    /// Changes what people read about it, in one step. Metadata is replaced whole.
    #[pyo3(signature = (description=None, metadata=None, *, add_tags=Several::default(), remove_tags=Several::default()))]
    fn annotate(
        &self,
        py: Python<'_>,
        description: Option<String>,
        metadata: Option<&Bound<'_, PyAny>>,
        add_tags: Several<String>,
        remove_tags: Several<String>,
    ) -> Result<()> {
        let metadata = metadata.map(self::metadata).transpose()?;
        let tags = |tags: Several<String>| tags.0.iter().map(|tag| Tag::parse(tag)).collect::<cairn::Result<Vec<_>>>();
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

    /// Its files and references in path order, read while they are asked for. `start`: from this path on. `below`: only
    /// those in this directory, at any depth.
    ///
    /// >>> [entry.path for entry in version.files()]
    /// ['a.txt', 'sub/b.txt']
    /// >>> [entry.path for entry in version.files(below="sub")]
    /// ['sub/b.txt']
    #[pyo3(signature = (start=None, *, below=None))]
    fn files(&self, py: Python<'_>, start: Option<Inside>, below: Option<Inside>) -> Result<Entries> {
        let wanted = |entry: &Entry| matches!(entry, Entry::File { .. } | Entry::Reference(_));
        self.walk(py, start, below, wanted)
    }

    /// All its entries in path order: files, references, symbolic links and directories.
    #[pyo3(signature = (start=None, *, below=None))]
    fn entries(&self, py: Python<'_>, start: Option<Inside>, below: Option<Inside>) -> Result<Entries> {
        self.walk(py, start, below, |_| true)
    }

    /// The entries of one directory, by default the version's root; of a file, the file.
    ///
    /// >>> version.ls()
    /// [<file "a.txt">, <directory "sub">]
    #[pyo3(signature = (path=None))]
    fn ls(&self, py: Python<'_>, path: Option<Inside>) -> Result<Vec<PyEntry>> {
        let path = RelPath::parse_or_root(&path.map_or_else(Vec::new, |path| path.0))?;
        quick(py, || {
            let tree = self.tree()?;
            let listing = match tree.lookup(&path)? {
                _ if path.is_root() => tree.list_root(),
                Some(FoundEntry { entry: Entry::Directory(dir), rank }) => tree.list(&dir, rank)?,
                _ => return Ok(vec![PyEntry::of(&path, &self.find(&path)?)]),
            };
            listing.map(|listed| listed.and_then(|l| Ok(PyEntry::of(&path.join(&l.name)?, &l.entry)))).collect()
        })
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
    ///
    /// >>> version.file_at(1)
    /// <file "sub/b.txt">
    fn file_at(&self, py: Python<'_>, n: Number) -> Result<PyEntry> {
        quick(py, || {
            let visit = self.file_at_number(n.0)?;
            Ok(PyEntry::of(&visit.path, &visit.entry))
        })
    }

    /// The numbers of the files and references below a directory, in path order.
    ///
    /// >>> version.file_numbers("sub"), version.file_numbers()
    /// (range(1, 2), range(0, 2))
    #[pyo3(signature = (below=None))]
    fn file_numbers<'py>(&self, py: Python<'py>, below: Option<Inside>) -> Result<Bound<'py, PyAny>> {
        let path = RelPath::parse_or_root(&below.map_or_else(Vec::new, |path| path.0))?;
        let numbers = quick(py, || match self.tree()?.file_numbers(&path)? {
            Some(numbers) => Ok(numbers),
            None => self.version.entry(&path).map(|_| 0..0), // it has the right error
        })?;
        Ok(py.import("builtins")?.call_method1("range", (numbers.start, numbers.end))?)
    }

    /// Opens a file for reading: by its path, or by its number. With mode "r" it gives text.
    ///
    /// >>> with version.open("a.txt") as f:
    /// ...     f.size, f.seek(1), f.read()
    /// (5, 1, b'ello')
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
    ///
    /// >>> version.read_many(["a.txt", 1])
    /// [b'hello', b'second']
    #[pyo3(signature = (which, threads=None))]
    fn read_many<'py>(
        &self,
        py: Python<'py>,
        which: Several<Which>,
        threads: Option<usize>,
    ) -> Result<Vec<Bound<'py, PyBytes>>> {
        let read = read_all(py, which.0.len(), threads, |i| self.read(&which.0[i]))?;
        Ok(read.iter().map(|bytes| PyBytes::new(py, bytes)).collect())
    }

    /// The paths and the bytes of files, given by number, read as `read_many` does.
    ///
    /// >>> version.read_files([1, 0])
    /// [('sub/b.txt', b'second'), ('a.txt', b'hello')]
    #[pyo3(signature = (numbers, threads=None))]
    fn read_files<'py>(
        &self,
        py: Python<'py>,
        numbers: Several<Number>,
        threads: Option<usize>,
    ) -> Result<Vec<(OsString, Bound<'py, PyBytes>)>> {
        let read = read_all(py, numbers.0.len(), threads, |i| {
            let visit = self.file_at_number(numbers.0[i].0)?;
            let bytes = self.read_entry(&visit.path, &visit.entry)?;
            Ok((path_text(&visit.path), bytes))
        })?;
        Ok(read.into_iter().map(|(path, bytes)| (path, PyBytes::new(py, &bytes))).collect())
    }

    /// A path of a file on this host's disk, for programs that take a path. A file of 128 KiB or more is not copied:
    /// the path is a link to the store's own read-only file. A smaller one is copied into the cache directory. The
    /// bytes were checked as a read checks them, and nothing of the version is freed until this process ends.
    ///
    /// >>> path = version.local_path("a.txt")
    /// >>> path.name, path.read_text()
    /// ('a.txt', 'hello')
    fn local_path<'py>(slf: &Bound<'py, Self>, path: Inside) -> Result<Bound<'py, PyAny>> {
        let path = path.parse()?;
        Ok(slf.py().import("cairn._files")?.call_method1("local_path", (slf, path_text(&path)))?)
    }

    /// Reads and hashes it again. Returns what is not as it should be: a list, empty if all is right. `quick`: hash no
    /// files.
    ///
    /// >>> version.verify()
    /// []
    #[pyo3(signature = (*, quick=false, progress=None))]
    fn verify(&self, py: Python<'_>, quick: bool, progress: Option<Py<PyAny>>) -> Result<Vec<PyFinding>> {
        let report = long(py, &mut Report::of(py, self.qualified_name(), progress)?, |progress| {
            self.version.verify(&VerifyOptions::default().quick(quick).progress(progress.clone()))
        })?;
        Ok(PyFinding::of_report(report))
    }

    /// Writes it to the directory `root` (default: `artifacts/NAME:vN`) and returns that path. Files that are right
    /// already are kept; those that differ are refused, or replaced with `force`. `prune` removes what the version does
    /// not have. `link`: "auto", "copy", "reflink" or "hardlink". `references`: "fetch" their content, "skip" them, or
    /// "link": symbolic links to local ones.
    ///
    /// >>> version.download("out").joinpath("sub/b.txt").read_text()
    /// 'second'
    #[pyo3(signature = (root=None, path=None, *, force=false, prune=false, link="auto", references="fetch", progress=None))]
    fn download(
        &self,
        py: Python<'_>,
        root: Option<PathBuf>,
        path: Option<Inside>,
        force: bool,
        prune: bool,
        link: &str,
        references: &str,
        progress: Option<Py<PyAny>>,
    ) -> Result<PathBuf> {
        let root = root.unwrap_or_else(|| PathBuf::from("artifacts").join(self.version.to_string()));
        let link = match link {
            "auto" => Link::Auto,
            "copy" => Link::Copy,
            "reflink" => Link::Reflink,
            "hardlink" => Link::Hardlink,
            _ => return Err(usage(format!("link is {link:?}: expected auto, copy, reflink or hardlink"))),
        };
        let references = match references {
            "fetch" => References::Fetch,
            "skip" => References::Skip,
            "link" => References::Link,
            _ => return Err(usage(format!("references is {references:?}: expected fetch, skip or link"))),
        };
        let mut options = CheckoutOptions::default().force(force).prune(prune).link(link).references(references);
        options.path = path.map(|path| path.parse()).transpose()?;
        long(py, &mut Report::of(py, self.qualified_name(), progress)?, |progress| {
            std::fs::create_dir_all(&root).map_err(|e| cairn::Error::io("create directory", &root, e))?;
            self.version.checkout(&root, &options.progress(progress.clone()))
        })?;
        Ok(root)
    }

    /// The paths at which `other` differs from this version, in path order. `other` is a version, or the path of a
    /// directory, which is read and hashed: without changes, it has exactly what this version has.
    ///
    /// >>> draft = version.new_draft()
    /// >>> draft.add_bytes("a.txt", "changed")
    /// >>> list(version.diff(draft.save(store)))
    /// [<changed "a.txt">]
    /// >>> list(version.diff(version.download("copy")))
    /// []
    fn diff(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> Result<Entries> {
        if let Ok(other) = other.cast::<PyVersion>() {
            let other = other.get();
            return Ok(Entries::of_changes(quick(py, || self.version.diff(&other.version))?));
        }
        let directory: PathBuf = other.extract()?;
        let changes = long(py, &mut Report::none(py), |progress| {
            self.version.diff_directory(&directory, &ScanOptions::default(), progress)
        })?;
        Ok(Entries::of_changes(changes))
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
        hash_of(self.key())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = slf.py();
        let (store, name) = (slf.get().store(), slf.get().qualified_name());
        let arguments = (store, name).into_pyobject(py)?;
        Ok((py.import("cairn._files")?.getattr("_version")?, arguments))
    }

    fn __str__(&self) -> String {
        self.version.to_string()
    }

    fn __repr__(&self) -> String {
        format!("Version({:?})", self.version.to_string())
    }
}

impl PyVersion {
    fn key(&self) -> (PathBuf, String, u64) {
        (self.version.store().root().to_path_buf(), self.version.artifact().to_string(), self.version.number().0)
    }

    fn walk(
        &self,
        py: Python<'_>,
        start: Option<Inside>,
        below: Option<Inside>,
        wanted: fn(&Entry) -> bool,
    ) -> Result<Entries> {
        let path = |path: Option<Inside>| RelPath::parse_or_root(&path.map_or_else(Vec::new, |path| path.0));
        if start.is_some() && below.is_some() {
            return Err(usage("start and below cannot be used together"));
        }
        let (start, below) = (path(start)?, path(below)?);
        let walk = quick(py, || match below.is_root() {
            true => self.tree()?.walk_from(&start),
            false => self.tree()?.walk_below(&below),
        })?;
        Ok(Entries::of_walk(walk, wanted))
    }
}
