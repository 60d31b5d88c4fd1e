//! `cairn.Artifact`.

use crate::assets;
use crate::convert::{Inside, Several, metadata, usage};
use crate::error::Result;
use crate::preview::PyPreview;
use crate::store::{self, PyStore};
use crate::version::PyVersion;
use crate::work::{Report, long};
use cairn::{Artifact, SaveOptions, ScanOptions};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What becomes a version when it is saved: files, directories, bytes, references and objects, each at a path.
///
/// `Artifact(name, type)` begins an empty one; `version.new_draft()` begins with what the version has.
///
/// >>> artifact = cairn.Artifact("report", "result", metadata={"lr": 0.1})
/// >>> artifact.add_bytes("summary.txt", "fine")
/// >>> artifact.save(store)
/// Version("report:v0")
#[pyclass(frozen, name = "Artifact", module = "cairn")]
pub struct PyArtifact {
    artifact: Mutex<Artifact>,
    /// Temporary files, which must exist until it is saved.
    kept: Mutex<Vec<Py<PyAny>>>,
}

impl PyArtifact {
    pub fn of(artifact: Artifact) -> Self {
        PyArtifact { artifact: Mutex::new(artifact), kept: Mutex::default() }
    }

    pub fn lock(&self) -> MutexGuard<'_, Artifact> {
        self.artifact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it, without the interpreter's lock.
    fn change<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Artifact) -> cairn::Result<T> + Send,
    ) -> Result<T> {
        Ok(py.detach(|| work(&mut self.lock()))?)
    }
}

#[pymethods]
impl PyArtifact {
    #[new]
    #[pyo3(signature = (name, r#type=None, description=None, metadata=None, *, tags=Several::default(), aliases=Several::default()))]
    fn new(
        name: &str,
        r#type: Option<&str>,
        description: Option<String>,
        metadata: Option<&Bound<'_, PyAny>>,
        tags: Several<String>,
        aliases: Several<String>,
    ) -> Result<Self> {
        let this = PyArtifact::of(Artifact::new(name, r#type)?);
        this.annotate(description, metadata, tags, aliases)?;
        Ok(this)
    }

    /// Its name.
    #[getter]
    pub fn name(&self) -> String {
        self.lock().name().to_string()
    }

    /// Sets what people read about the version. What is not given stays as it is; tags and aliases are added.
    #[pyo3(signature = (description=None, metadata=None, tags=Several::default(), aliases=Several::default()))]
    pub fn annotate(
        &self,
        description: Option<String>,
        metadata: Option<&Bound<'_, PyAny>>,
        tags: Several<String>,
        aliases: Several<String>,
    ) -> Result<()> {
        let metadata = metadata.map(self::metadata).transpose()?;
        let mut artifact = self.lock();
        if let Some(text) = description {
            artifact.set_description(text);
        }
        if let Some(metadata) = metadata {
            artifact.set_metadata(metadata)?;
        }
        for tag in tags.0 {
            artifact.add_tag(&tag)?;
        }
        for alias in aliases.0 {
            artifact.add_alias(&alias)?;
        }
        Ok(())
    }

    /// Adds the file `local_path` as `name` (default: its base name). Its bytes are read when the artifact is saved; if
    /// the file was changed by then, saving is refused.
    #[pyo3(signature = (local_path, name=None))]
    fn add_file(&self, py: Python<'_>, local_path: PathBuf, name: Option<Inside>) -> Result<()> {
        self.change(py, |artifact| match name {
            Some(name) => artifact.add_file_at(name.0, &local_path).map(drop),
            None => artifact.add_file(&local_path).map(drop),
        })
    }

    /// Adds a file as its bytes are now, with its exec bit: they are copied to a temporary file in the store.
    #[pyo3(signature = (local_path, name, store))]
    fn add_copy(&self, py: Python<'_>, local_path: PathBuf, name: Inside, store: &PyStore) -> Result<()> {
        self.change(py, |artifact| {
            let failed = |e| cairn::Error::io("copy", &local_path, e);
            let mut from = std::fs::File::open(&local_path).map_err(failed)?;
            let mut copy = artifact.new_file_in(&name.0, &store.0)?;
            copy.set_executable(from.metadata().map_err(failed)?.mode() & 0o111 != 0);
            std::io::copy(&mut from, &mut copy).and_then(|_| copy.flush()).map_err(failed)?;
            copy.finish()
        })
    }

    /// Adds what is in the directory `local_path`, below `name` (default: the version's root), without what matches
    /// `exclude` (patterns as in a `.gitignore`). `skip_special`: without device nodes, sockets and FIFOs, which are
    /// refused otherwise. A store in the directory is left out.
    #[pyo3(signature = (local_path, name=None, *, exclude=Several::default(), follow_symlinks=false, skip_special=false))]
    fn add_dir(
        &self,
        py: Python<'_>,
        local_path: PathBuf,
        name: Option<Inside>,
        exclude: Several<String>,
        follow_symlinks: bool,
        skip_special: bool,
    ) -> Result<()> {
        let options =
            ScanOptions::default().exclude(exclude.0).follow_symlinks(follow_symlinks).skip_special(skip_special);
        let at = name.map_or_else(Vec::new, |name| name.0);
        self.change(py, |artifact| artifact.add_dir_at(at, &local_path, &options).map(drop))
    }

    /// Adds a file with these bytes (or this text, in UTF-8).
    fn add_bytes(&self, py: Python<'_>, name: Inside, data: &Bound<'_, PyAny>) -> Result<()> {
        let bytes: Vec<u8> = match data.cast::<PyBytes>() {
            Ok(bytes) => bytes.as_bytes().to_vec(),
            Err(_) => match data.extract::<String>() {
                Ok(text) => text.into_bytes(),
                Err(_) => bytes_of_buffer(data)?,
            },
        };
        self.change(py, |artifact| artifact.add_bytes(name.0, bytes).map(drop))
    }

    /// Adds what a URI names, without its content; a directory or prefix becomes an entry for each object. The name is
    /// by default the last part of the URI. With `checksum`, a change at the source makes a new version.
    ///
    /// `cairn://NAME:V/PATH` names a file or a directory of a version in `store` (default: the one that `Store()`
    /// opens), which this artifact must be saved in too. Its content is shared, not referred to.
    ///
    /// >>> mixed = cairn.Artifact("mixed")
    /// >>> mixed.add_reference("cairn://tour:v0/sub", "from-tour", store=store)
    /// >>> mixed.save(store).read_bytes("from-tour/b.txt")
    /// b'second'
    #[pyo3(signature = (uri, name=None, checksum=true, max_objects=None, *, store=None))]
    fn add_reference(
        &self,
        py: Python<'_>,
        uri: String,
        name: Option<Inside>,
        checksum: bool,
        max_objects: Option<u64>,
        store: Option<&PyStore>,
    ) -> Result<()> {
        let mut options = cairn::ReferenceOptions::default().checksum(checksum);
        if uri.starts_with("cairn://") {
            options = options.store(store::or_default(py, store)?.0);
        }
        options.max_objects = max_objects.unwrap_or(options.max_objects);
        let name = name.map(|name| name.0);
        self.change(py, |artifact| artifact.add_reference(&uri, name.as_deref(), &options).map(drop))
    }

    /// Adds a Table, Image, Classes or Html as `name`, with the suffix of its kind. Returns the path of its file.
    fn add(&self, obj: &Bound<'_, PyAny>, name: Inside) -> Result<String> {
        let object = assets::object(obj)?;
        Ok(self.lock().add(&name.0, &object)?.to_string())
    }

    /// A new file, written by `with artifact.new_file("notes.txt") as f: f.write(…)`. It is added when the block ends
    /// without an exception.
    ///
    /// >>> notes = cairn.Artifact("notes")
    /// >>> with notes.new_file("today.txt") as f:
    /// ...     _ = f.write("rain")
    /// >>> notes.save(store).read_bytes("today.txt")
    /// b'rain'
    #[pyo3(signature = (name, mode="w", encoding=None))]
    fn new_file<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        mode: &str,
        encoding: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("cairn._files")?.call_method1("new_file", (slf, name, mode, encoding))
    }

    fn _keep(&self, object: Py<PyAny>) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(object);
    }

    /// Removes a path, with all below it.
    fn remove(&self, name: Inside) -> Result<()> {
        self.lock().remove(name.0)?;
        Ok(())
    }

    /// Whether the file that was added as `name` last has the bytes of the file `local_path`. None: no file was.
    #[pyo3(signature = (name, local_path))]
    fn _has_bytes_of(&self, py: Python<'_>, name: Inside, local_path: PathBuf) -> Result<Option<bool>> {
        self.change(py, |artifact| artifact.has_bytes_of(name.0, local_path))
    }

    /// What a version of this would have if it were saved in `store` now. Files are read, and nothing is stored.
    ///
    /// >>> equal = cairn.Artifact("tour")
    /// >>> equal.add_bytes("a.txt", "hello"); equal.add_bytes("sub/b.txt", "second")
    /// >>> preview = equal.preview(store)
    /// >>> preview.file_count, preview.digest == version.digest
    /// (2, True)
    #[pyo3(signature = (store=None, *, progress=None))]
    fn preview(&self, py: Python<'_>, store: Option<&PyStore>, progress: Option<Py<PyAny>>) -> Result<PyPreview> {
        let found = store::or_default(py, store)?;
        let mut report = Report::of(py, self.name(), progress)?;
        long(py, &mut report, |progress| self.lock().preview(&found.0, progress)).map(PyPreview)
    }

    /// Moves a path of the version that this is a draft of.
    ///
    /// >>> draft = version.new_draft()
    /// >>> draft.rename("a.txt", "first.txt")
    /// >>> draft.remove("sub")
    /// >>> [entry.path for entry in draft.save(store).files()]
    /// ['first.txt']
    fn rename(&self, old: Inside, new: Inside) -> Result<()> {
        self.lock().rename(old.0, new.0)?;
        Ok(())
    }

    /// Lets later additions replace earlier ones at the same path. Without this, saving refuses them.
    fn overwrite(&self) {
        self.lock().overwrite();
    }

    /// Publishes it in `store` and returns the version: the newest one, if that has the same content. `progress`: see
    /// `cairn.Progress`.
    ///
    /// >>> equal = cairn.Artifact("tour")
    /// >>> equal.add_bytes("a.txt", "hello"); equal.add_bytes("sub/b.txt", "second")
    /// >>> equal.save(store)
    /// Version("tour:v0")
    #[pyo3(signature = (store=None, *, always_new=false, progress=None))]
    fn save(
        &self,
        py: Python<'_>,
        store: Option<&PyStore>,
        always_new: bool,
        progress: Option<Py<PyAny>>,
    ) -> Result<PyVersion> {
        let found = store::or_default(py, store)?;
        let mut report = Report::of(py, self.name(), progress)?;
        let published = long(py, &mut report, |progress| {
            let options = SaveOptions::default().always_new(always_new).progress(progress.clone());
            self.lock().save_with(&found.0, &options)
        })?;
        Ok(PyVersion::new(published.version))
    }

    fn __reduce__(&self) -> Result<()> {
        Err(usage("an artifact cannot be pickled: save it, and pickle the version"))
    }

    fn __repr__(&self) -> String {
        format!("Artifact({:?})", self.name())
    }
}

/// The bytes of what has a buffer, such as a `bytearray` or an array. (`bytes(5)` would be five zeros.)
fn bytes_of_buffer(data: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let builtins = data.py().import("builtins")?;
    let view = builtins.call_method1("memoryview", (data,))?;
    builtins.call_method1("bytes", (view,))?.extract()
}
