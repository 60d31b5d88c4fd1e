//! Masks of images: a class for each pixel.

use super::asset::md5_hex;
use super::boxes::default_names;
use super::pixels;
use super::value::{ClassNames, Mask, Picture, Value, text_at};
use crate::catalog::Version;
use crate::error::{Error, Result, show_path};
use crate::types::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

impl Mask {
    /// The mask of an image of that size: the number of a class for each pixel, row by row. Without [`Mask::labels`],
    /// the classes are called `class_0`, `class_1`, ….
    ///
    /// # Errors
    /// Usage: `classes` has not `width` times `height` bytes.
    pub fn from_pixels(width: usize, height: usize, classes: &[u8]) -> Result<Mask> {
        let png = pixels::png(width, height, 1, classes)?;
        let numbers: BTreeSet<i64> = classes.iter().copied().map(i64::from).collect();
        let path = format!("media/images/mask/{}.mask.png", &md5_hex(&png)[..20]);
        Ok(Mask::new(path, &Digest::of(&png), default_names(numbers), png))
    }

    /// The mask in a picture file.
    ///
    /// # Errors
    /// Not found; usage: not a picture. I/O.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Mask> {
        let path = path.as_ref();
        let bytes = read_picture(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        size_of(&name, &bytes)?;
        let digest = Digest::of(&bytes);
        let at = format!("media/images/mask/{}/{name}", &digest.to_string()[..20]);
        Ok(Mask::new(at, &digest, Vec::new(), bytes))
    }

    fn new(path: String, digest: &Digest, labels: ClassNames, bytes: Vec<u8>) -> Mask {
        let picture = Picture::Bytes(bytes.into());
        Mask { path, sha256: digest.to_string(), labels, others: BTreeMap::new(), picture }
    }

    /// Sets the names of the classes.
    #[must_use = "the mask is returned, not changed in place"]
    pub fn labels<S: Into<String>>(mut self, labels: impl IntoIterator<Item = (i64, S)>) -> Mask {
        self.labels = labels.into_iter().map(|(number, name)| (number, name.into())).collect();
        self
    }

    /// Where its picture is in the version.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The bytes of its picture's file.
    ///
    /// # Errors
    /// For a mask of a version: not found, damaged, I/O.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        self.picture.bytes(&self.path)
    }

    pub(super) fn parse(value: &Value, version: &Version) -> Option<Mask> {
        let Value::Map(fields) = value else { return None };
        if text_at(fields, "_type") != Some("mask") {
            return None;
        }
        let known = ["_type", "path", "sha256"];
        let others = fields.iter().filter(|(key, _)| !known.contains(&key.as_str()));
        Some(Mask {
            path: text_at(fields, "path")?.to_owned(),
            sha256: text_at(fields, "sha256")?.to_owned(),
            // A mask that is read does not say which of the image's classes it has.
            labels: Vec::new(),
            others: others.map(|(key, value)| (key.clone(), value.clone())).collect(),
            picture: Picture::In(version.clone()),
        })
    }

    pub(super) fn to_value(&self) -> Value {
        let mut fields = self.others.clone();
        fields.insert("_type".into(), "mask".into());
        fields.insert("path".into(), self.path.as_str().into());
        fields.insert("sha256".into(), self.sha256.as_str().into());
        Value::Map(fields)
    }
}

/// The bytes of a picture file.
pub(super) fn read_picture(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(format!("{} does not exist", show_path(path))),
        _ => Error::io("read", path, e),
    })
}

/// Width and height of a picture, from its header.
pub(super) fn size_of(name: &str, bytes: &[u8]) -> Result<imagesize::ImageSize> {
    imagesize::blob_size(bytes).map_err(|e| {
        Error::usage(format!("{name} is not an image that can be read"))
            .with_source(e)
            .with_hint("add_file_at adds it as a file")
    })
}
