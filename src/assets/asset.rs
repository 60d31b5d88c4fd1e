//! What an object is to an artifact: a few files.

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
#[derive(Clone, Debug, PartialEq)]
pub struct AssetFile {
    /// Where it is in the version; `None`: under the name that the object is added by.
    pub(super) path: Option<String>,
    pub(super) bytes: Vec<u8>,
}

impl AssetFile {
    /// The file that gets the object's name.
    pub fn main(bytes: Vec<u8>) -> AssetFile {
        AssetFile { path: None, bytes }
    }

    /// A file that is needed at `path` of the version.
    pub fn at(path: &str, bytes: Vec<u8>) -> AssetFile {
        AssetFile { path: Some(path.to_owned()), bytes }
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
