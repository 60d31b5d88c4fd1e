//! Adding objects to artifacts, and getting them back from versions.

use super::asset::{Asset, AssetFile, FileSource, Source};
use super::classes::Classes;
use super::html::Html;
use super::image::{ImageFiles, read_file};
use super::python_json;
use super::table::Table;
use super::value::{Image, Value, text_at};
use crate::catalog::Version;
use crate::commit::Artifact;
use crate::error::{Error, Kind, Result, shell_word};
use crate::manifest::{Entry, Tree};
use crate::types::RelPath;
use serde::Serialize;

/// Any value that serde can serialize, stored as `NAME.json` with sorted keys.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
/// let mut artifact = cairn::Artifact::new("run", None)?;
/// artifact.add("config", &cairn::assets::Json(&[("lr", 0.1)]))?;
/// artifact.save(&store)?;
/// # Ok::<(), cairn::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Json<'a, T: ?Sized>(
    /// The value.
    pub &'a T,
);

impl<T: Serialize + ?Sized> Asset for Json<'_, T> {
    fn suffix(&self) -> &str {
        ".json"
    }

    fn files(&self) -> Result<Vec<AssetFile>> {
        let value =
            serde_json::to_value(self.0).map_err(|e| Error::usage("cannot write this as JSON").with_source(e))?;
        Ok(vec![AssetFile::main(python_json::write(&value.into()))])
    }
}

impl Asset for [u8] {
    fn suffix(&self) -> &str {
        ""
    }

    fn files(&self) -> Result<Vec<AssetFile>> {
        Ok(vec![AssetFile::main(self.to_vec())])
    }
}

impl Object {
    fn asset(&self) -> &dyn Asset {
        match self {
            Object::Table(table) => table,
            Object::Image(image) => image,
            Object::Classes(classes) => classes,
            Object::Html(html) => html,
        }
    }

    fn source(&mut self) -> &mut Source {
        match self {
            Object::Table(table) => &mut table.source,
            Object::Image(image) => &mut image.source,
            Object::Classes(classes) => &mut classes.source,
            Object::Html(html) => &mut html.source,
        }
    }
}

impl Asset for Object {
    fn suffix(&self) -> &str {
        self.asset().suffix()
    }

    fn files(&self) -> Result<Vec<AssetFile>> {
        self.asset().files()
    }
}

/// What [`Version::get`] finds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Object {
    /// A table.
    Table(Table),
    /// An image.
    Image(Image),
    /// Names of classes.
    Classes(Classes),
    /// A page.
    Html(Html),
}

/// The names of files that can be objects end with one of these.
const SUFFIXES: [&str; 4] = [".table.json", ".image-file.json", ".classes.json", ".html-file.json"];

impl Artifact {
    /// Adds an object as the file `at`, with the object's suffix if `at` does not end with it, and the files that the
    /// object needs. The same object added again at the same path is one entry. Returns the path of its file.
    ///
    /// An object that was read from a version ([`Version::get`]) and not changed is added as that version's file: the
    /// content is shared, not stored again, and the new version's record names the source
    /// ([`SharedRecord`](crate::catalog::SharedRecord)). It stays when the source is removed.
    ///
    /// # Errors
    /// Usage: a path that is not allowed, an object that cannot be stored. For an object of a version: damaged, I/O.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// let mut artifact = cairn::Artifact::new("cats", None)?;
    /// artifact.add("names", &cairn::assets::Classes::new([(0, "cat")]))?;
    /// let version = artifact.save(&store)?.version;
    /// assert_eq!(version.record().bytes, 61);
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn add(&mut self, at: impl AsRef<[u8]>, object: &(impl Asset + ?Sized)) -> Result<RelPath> {
        let (at, suffix) = (at.as_ref(), object.suffix().as_bytes());
        let name = if at.ends_with(suffix) { at.to_vec() } else { [at, suffix].concat() };
        let path = RelPath::parse(&name)?;
        let mut needed: Option<(Version, Tree)> = None;
        for file in object.files()? {
            match file.0 {
                FileSource::Main(bytes) => drop(self.add_bytes(path.as_bytes(), bytes)?),
                FileSource::MainOf(version, from) => drop(self.add_entry_of(&version, &from, path.as_bytes())?),
                FileSource::At(at, bytes) => drop(self.add_bytes(at, bytes)?),
                FileSource::Of(version, at) => {
                    // Images of a table are mostly of one version.
                    let (_, tree) = match needed.take_if(|(known, _)| known.token() == version.token()) {
                        Some(known) => needed.insert(known),
                        None => needed.insert((version.clone(), version.tree()?)),
                    };
                    self.add_needed(tree, &version, &at)?;
                }
            }
        }
        Ok(path)
    }
}

impl Version {
    /// The object at `path`; its suffix may be omitted.
    ///
    /// # Errors
    /// Not found. Usage: the file is not an object that cairn knows; [`Version::open`] reads its bytes. Damaged; I/O.
    pub fn get(&self, path: &str) -> Result<Object> {
        let path = self.object_path(path)?;
        let fields = match python_json::parse(&String::from_utf8_lossy(&read_file(self, &path)?)) {
            Ok(Value::Map(fields)) => fields,
            _ => return Err(self.no_object(&path)),
        };
        let mut object = match text_at(&fields, "_type") {
            Some("table") => Table::parse(&Value::Map(fields), self).map(Object::Table),
            Some("image-file") => Image::parse(&fields, &mut ImageFiles::new(self)).map(Object::Image),
            Some("classes") => Classes::parse(&fields).map(Object::Classes),
            Some("html-file") => Html::parse(&fields, self)?.map(Object::Html),
            _ => None,
        };
        if let Some(object) = &mut object {
            *object.source() = Source::at(self, &path);
        }
        object.ok_or_else(|| self.no_object(&path))
    }

    /// The path of the file that [`Version::get`] reads for `path`: as it is, or with the suffix of the object there.
    ///
    /// # Errors
    /// As [`Version::get`].
    pub fn object_path(&self, path: &str) -> Result<String> {
        let missing = match self.entry(&RelPath::parse(path.as_bytes())?) {
            Ok(Entry::File { .. }) => return Ok(path.to_owned()),
            Ok(_) => None,
            Err(e) if e.kind() == Kind::NotFound => Some(e),
            Err(e) => return Err(e),
        };
        for suffix in SUFFIXES {
            let with = format!("{path}{suffix}");
            match self.entry(&RelPath::parse(with.as_bytes())?) {
                Ok(_) => return Ok(with),
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Err(missing.unwrap_or_else(|| self.no_object(path)))
    }

    fn no_object(&self, path: &str) -> Error {
        Error::usage(format!("{path} in {self} is not a table, image, list of classes or HTML page"))
            .with_hint(format!("`cairn cat {self} {}` prints a file's bytes", shell_word(path)))
    }
}
