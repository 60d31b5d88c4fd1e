//! Images: a picture file, its size, and what is known about it.

use super::asset::{Asset, AssetFile, md5_base64};
use super::classes::Classes;
use super::python_json;
use super::value::{ClassesFile, Image, Picture, Value, fields_at, map, number_at, text_at};
use crate::catalog::Version;
use crate::error::{Error, Result, show_path};
use crate::types::Digest;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

const SUFFIX: &str = ".image-file.json";

impl Image {
    /// The picture in a file: PNG, JPEG, GIF, WebP, BMP, TIFF or another format whose header has the size.
    ///
    /// # Errors
    /// Not found; usage: not a picture. I/O.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::not_found(format!("{} does not exist", show_path(path))),
            _ => Error::io("read", path, e),
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Image::from_bytes(&name, bytes)
    }

    /// The picture in `bytes`. `name` is the base name that its file gets.
    ///
    /// # Errors
    /// Usage: not a picture.
    pub fn from_bytes(name: &str, bytes: impl Into<Vec<u8>>) -> Result<Image> {
        let bytes = bytes.into();
        let size = imagesize::blob_size(&bytes).map_err(|e| {
            Error::usage(format!("{name} is not an image that can be read"))
                .with_source(e)
                .with_hint("add_file_at adds it as a file")
        })?;
        let digest = Digest::of(&bytes);
        let sha256 = digest.to_string();
        let format = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        Ok(Image {
            width: size.width,
            height: size.height,
            format: format.to_ascii_lowercase(),
            path: format!("media/images/{}/{name}", &sha256[..20]),
            sha256,
            classes: None,
            others: BTreeMap::new(),
            picture: Picture::Bytes(bytes.into()),
        })
    }

    /// Sets a caption.
    #[must_use = "the image is returned, not changed in place"]
    pub fn caption(mut self, text: &str) -> Image {
        self.others.insert("caption".into(), text.into());
        self
    }

    /// Sets the names of its classes.
    #[must_use = "the image is returned, not changed in place"]
    pub fn classes(mut self, classes: Classes) -> Image {
        let path = format!("media/classes/{}_cls.classes.json", classes.media_id());
        let bytes = classes.to_bytes();
        let (digest, names) = (md5_base64(&bytes), classes.names());
        self.classes = Some(ClassesFile { path, digest, bytes: Some(bytes), names });
        self
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The picture's format: the suffix of its name.
    pub fn format(&self) -> &str {
        &self.format
    }

    /// The caption, if it has one.
    pub fn caption_text(&self) -> Option<&str> {
        text_at(&self.others, "caption")
    }

    /// Where the picture is in the version.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The bytes of the picture's file.
    ///
    /// # Errors
    /// For an image of a version: not found, damaged, I/O.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        match &self.picture {
            Picture::Bytes(bytes) => Ok(bytes.to_vec()),
            Picture::In(version) => read_file(version, &self.path),
        }
    }

    /// The names of its classes by their numbers, if they are known without reading the version.
    pub(super) fn class_names(&self) -> BTreeMap<String, Value> {
        self.classes.as_ref().map(|file| file.names.clone()).unwrap_or_default()
    }

    pub(super) fn to_value(&self) -> Value {
        let mut fields = self.others.clone();
        fields.insert("_type".into(), "image-file".into());
        fields.insert("format".into(), self.format.as_str().into());
        fields.insert("width".into(), self.width.into());
        fields.insert("height".into(), self.height.into());
        fields.insert("path".into(), self.path.as_str().into());
        fields.insert("sha256".into(), self.sha256.as_str().into());
        if let Some(file) = &self.classes {
            let classes = map([
                ("type", "classes-file".into()),
                ("path", file.path.as_str().into()),
                ("digest", file.digest.as_str().into()),
            ]);
            fields.insert("classes".into(), classes);
        }
        Value::Map(fields)
    }

    /// The image that a parsed file or cell describes; its picture is in `version`.
    pub(super) fn parse(fields: &BTreeMap<String, Value>, version: &Version) -> Option<Image> {
        let classes = match fields_at(fields, "classes") {
            Some(file) => Some(ClassesFile {
                path: text_at(file, "path")?.to_owned(),
                digest: text_at(file, "digest")?.to_owned(),
                bytes: None,
                names: BTreeMap::new(),
            }),
            None => None,
        };
        let known = ["_type", "format", "width", "height", "path", "sha256", "classes"];
        let others = fields.iter().filter(|(key, _)| !known.contains(&key.as_str()));
        Some(Image {
            width: number_at(fields, "width")?,
            height: number_at(fields, "height")?,
            format: text_at(fields, "format")?.to_owned(),
            path: text_at(fields, "path")?.to_owned(),
            sha256: text_at(fields, "sha256")?.to_owned(),
            classes,
            others: others.map(|(key, value)| (key.clone(), value.clone())).collect(),
            picture: Picture::In(version.clone()),
        })
    }

    /// The files that it needs besides its own.
    pub(super) fn media(&self) -> Result<Vec<AssetFile>> {
        let mut files = vec![AssetFile::at(&self.path, self.bytes()?)];
        if let Some(file) = &self.classes {
            let bytes = match (&file.bytes, &self.picture) {
                (Some(bytes), _) => bytes.clone(),
                (None, Picture::In(version)) => read_file(version, &file.path)?,
                (None, Picture::Bytes(_)) => return Ok(files),
            };
            files.push(AssetFile::at(&file.path, bytes));
        }
        // The masks of an image that was read are pictures of their own.
        if let (Picture::In(version), Some(masks)) = (&self.picture, fields_at(&self.others, "masks")) {
            for mask in masks.values() {
                let Value::Map(fields) = mask else { continue };
                if let Some(path) = text_at(fields, "path") {
                    files.push(AssetFile::at(path, read_file(version, path)?));
                }
            }
        }
        Ok(files)
    }
}

impl Asset for Image {
    fn suffix(&self) -> &str {
        SUFFIX
    }

    fn files(&self) -> Result<Vec<AssetFile>> {
        let mut files = vec![AssetFile::main(python_json::write(&self.to_value()))];
        files.extend(self.media()?);
        Ok(files)
    }
}

/// A whole file of a version.
pub(super) fn read_file(version: &Version, path: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = version.open(path)?;
    file.read_to_end(&mut bytes)
        .map_err(|e| Error::io_message(format!("cannot read {path} of {version}")).with_source(e))?;
    Ok(bytes)
}
