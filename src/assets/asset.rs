//! What an object is to an artifact: a few files.

use crate::catalog::Version;
use crate::error::Result;
use base64::Engine as _;
use md5::{Digest as _, Md5};

/// An object that can be added to an artifact: it is stored as one file, or as one and others that it needs.
pub trait Asset {
    /// The end of its file's name, for example `.table.json`; it may be empty.
    fn suffix(&self) -> &str;

    /// Its files, the one that gets its name first.
    ///
    /// # Errors
    /// What keeps it from being stored.
    fn files(&self) -> Result<Vec<AssetFile>>;
}

/// A file of an [`Asset`].
#[derive(Clone, Debug)]
pub struct AssetFile(pub(super) FileSource);

/// Where the content of an [`AssetFile`] comes from.
#[derive(Clone, Debug)]
pub(super) enum FileSource {
    /// The object's own file, with these bytes.
    Main(Vec<u8>),
    /// The object's own file, as it is in a version at this path.
    MainOf(Version, String),
    /// A file at this path, with these bytes.
    At(String, Vec<u8>),
    /// A file at this path, as it is there in a version.
    Of(Version, String),
}

/// Where an object was read from: forgotten as soon as the object is changed, and not compared.
#[derive(Clone, Default)]
pub(super) struct Source(Option<Box<(Version, String)>>);

impl Source {
    pub(super) fn at(version: &Version, path: &str) -> Source {
        Source(Some(Box::new((version.clone(), path.to_owned()))))
    }

    /// The object's own file: that of the source, else the bytes that `write` gives.
    pub(super) fn main_or(&self, write: impl FnOnce() -> Vec<u8>) -> AssetFile {
        match self.0.as_deref() {
            Some((version, path)) => AssetFile(FileSource::MainOf(version.clone(), path.clone())),
            None => AssetFile::main(write()),
        }
    }

    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}

impl PartialEq for Source {
    fn eq(&self, _: &Source) -> bool {
        true
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_deref() {
            Some((version, path)) => write!(f, "{path} of {version}"),
            None => f.write_str("none"),
        }
    }
}

impl AssetFile {
    /// The file that gets the object's name.
    pub fn main(bytes: Vec<u8>) -> AssetFile {
        AssetFile(FileSource::Main(bytes))
    }

    /// A file that is needed at `path` of the version.
    pub fn at(path: &str, bytes: Vec<u8>) -> AssetFile {
        AssetFile(FileSource::At(path.to_owned(), bytes))
    }

    /// A file that is needed at `path`, as `version` has it.
    pub(super) fn of(version: &Version, path: &str) -> AssetFile {
        AssetFile(FileSource::Of(version.clone(), path.to_owned()))
    }
}

/// The MD5 of a file's bytes.
fn md5_of(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// W&B's digest of a file.
pub(super) fn md5_base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(md5_of(bytes))
}

pub(super) fn md5_hex(bytes: &[u8]) -> String {
    md5_of(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
