//! Images: a picture file, its size, and what is known about it.

use super::asset::{Asset, AssetFile, Source, md5_base64, md5_hex};
use super::classes::Classes;
use super::mask::{read_picture, size_of};
use super::pixels;
use super::python_json;
use super::value::{Boxes, ClassNames, ClassesFile, Image, Mask, Picture, Value, fields_at, map, number_at, text_at};
use crate::catalog::Version;
use crate::error::{Error, Result};
use crate::types::Digest;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

const SUFFIX: &str = ".image-file.json";

impl Image {
    /// The picture in a file: PNG, JPEG, GIF, WebP, BMP, TIFF or another format whose header has the size.
    ///
    /// # Errors
    /// Not found; usage: not a picture. I/O.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let bytes = read_picture(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Image::from_bytes(&name, bytes)
    }

    /// The picture in `bytes`. `name` is the base name that its file gets.
    ///
    /// # Errors
    /// Usage: not a picture.
    pub fn from_bytes(name: &str, bytes: impl Into<Vec<u8>>) -> Result<Image> {
        let bytes = bytes.into();
        let size = size_of(name, &bytes)?;
        let sha256 = Digest::of(&bytes).to_string();
        let format = name.rsplit_once('.').map_or("", |(_, suffix)| suffix).to_ascii_lowercase();
        let path = format!("media/images/{}/{name}", &sha256[..20]);
        Ok(Image::new((size.width, size.height), format, path, sha256, Picture::Bytes(bytes.into())))
    }

    /// The picture of rows of pixels: one byte a pixel (gray), three (RGB) or four (RGBA). It is stored as PNG. Equal
    /// pixels give equal bytes with one release of cairn.
    ///
    /// # Errors
    /// Usage: another number of channels, or `pixels` does not have `width` times `height` times `channels` bytes.
    pub fn from_pixels(width: usize, height: usize, channels: usize, pixels: &[u8]) -> Result<Image> {
        let png = pixels::png(width, height, channels, pixels)?;
        let path = format!("media/images/{}.png", &md5_hex(&png)[..20]);
        let sha256 = Digest::of(&png).to_string();
        Ok(Image::new((width, height), "png".to_owned(), path, sha256, Picture::Bytes(png.into())))
    }

    fn new((width, height): (usize, usize), format: String, path: String, sha256: String, picture: Picture) -> Image {
        Image {
            width,
            height,
            format,
            path,
            sha256,
            own_classes: Vec::new(),
            classes: None,
            boxes: Vec::new(),
            masks: Vec::new(),
            others: BTreeMap::new(),
            picture,
            source: Source::default(),
        }
    }

    /// Sets a caption.
    #[must_use = "the image is returned, not changed in place"]
    pub fn caption(mut self, text: &str) -> Image {
        self.others.insert("caption".into(), text.into());
        self.source.forget();
        self
    }

    /// Sets a number that W&B shows images by.
    #[must_use = "the image is returned, not changed in place"]
    pub fn grouping(mut self, group: i64) -> Image {
        self.others.insert("grouping".into(), group.into());
        self.source.forget();
        self
    }

    /// Sets the names of its classes. They are united with those of its boxes and masks; a name that is set here
    /// counts.
    #[must_use = "the image is returned, not changed in place"]
    pub fn classes(mut self, classes: Classes) -> Image {
        self.own_classes = classes.iter().map(|(number, name)| (number, name.to_owned())).collect();
        self.unite_classes();
        self
    }

    /// Sets the bounding boxes of a layer.
    #[must_use = "the image is returned, not changed in place"]
    pub fn boxes(mut self, layer: &str, boxes: Boxes) -> Image {
        self.boxes.retain(|(name, _)| name != layer);
        self.boxes.push((layer.to_owned(), boxes));
        self.unite_classes();
        self
    }

    /// Sets the mask of a layer.
    #[must_use = "the image is returned, not changed in place"]
    pub fn mask(mut self, layer: &str, mask: Mask) -> Image {
        self.masks.retain(|(name, _)| name != layer);
        self.masks.push((layer.to_owned(), mask));
        self.unite_classes();
        self
    }

    /// Makes the file of all classes: those of boxes, then of masks, then its own. A class keeps its place, and its
    /// last name counts.
    fn unite_classes(&mut self) {
        self.source.forget();
        let mut all = ClassNames::new();
        let of_boxes = self.boxes.iter().flat_map(|(_, boxes)| boxes.class_names());
        let of_masks = self.masks.iter().flat_map(|(_, mask)| mask.labels.clone());
        for (number, name) in of_boxes.chain(of_masks).chain(self.own_classes.clone()) {
            match all.iter_mut().find(|(n, _)| *n == number) {
                Some((_, before)) => *before = name,
                None => all.push((number, name)),
            }
        }
        self.classes = (!all.is_empty()).then(|| Arc::new(classes_file(all)));
    }

    /// The layers of bounding boxes.
    pub fn box_layers(&self) -> impl Iterator<Item = (&str, &Boxes)> {
        self.boxes.iter().map(|(layer, boxes)| (layer.as_str(), boxes))
    }

    /// The layers of masks.
    pub fn mask_layers(&self) -> impl Iterator<Item = (&str, &Mask)> {
        self.masks.iter().map(|(layer, mask)| (layer.as_str(), mask))
    }

    /// The names of its classes by their numbers.
    pub fn class_names(&self) -> impl Iterator<Item = (i64, &str)> {
        self.classes.iter().flat_map(|file| file.names.iter().map(|(number, name)| (*number, name.as_str())))
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
        self.picture.bytes(&self.path)
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
        if !self.boxes.is_empty() {
            let layers = self.boxes.iter().map(|(layer, boxes)| (layer.clone(), boxes.to_value()));
            fields.insert("boxes".into(), Value::Map(layers.collect()));
        }
        if !self.masks.is_empty() {
            let layers = self.masks.iter().map(|(layer, mask)| (layer.clone(), mask.to_value()));
            fields.insert("masks".into(), Value::Map(layers.collect()));
        }
        Value::Map(fields)
    }

    /// The image that a parsed file or cell describes; its pictures and classes are in `files`.
    pub(super) fn parse(fields: &BTreeMap<String, Value>, files: &mut ImageFiles) -> Option<Image> {
        let classes = match fields_at(fields, "classes") {
            Some(file) => Some(files.classes(text_at(file, "path")?, text_at(file, "digest")?)),
            None => None,
        };
        let names = classes.as_ref().map(|file| file.names.clone()).unwrap_or_default();
        let mut others = fields.clone();
        for known in ["_type", "format", "width", "height", "path", "sha256", "classes"] {
            others.remove(known);
        }
        // Layers in another form stay as they are.
        let boxes = take_layers(&mut others, "boxes", |layer| Boxes::parse(layer, &names));
        let masks = take_layers(&mut others, "masks", |layer| Mask::parse(layer, files.version));
        Some(Image {
            width: number_at(fields, "width")?,
            height: number_at(fields, "height")?,
            format: text_at(fields, "format")?.to_owned(),
            path: text_at(fields, "path")?.to_owned(),
            sha256: text_at(fields, "sha256")?.to_owned(),
            own_classes: names,
            classes,
            boxes,
            masks,
            others,
            picture: Picture::In(files.version.clone()),
            source: Source::default(),
        })
    }

    /// The files that it needs besides its own.
    pub(super) fn media(&self) -> Result<Vec<AssetFile>> {
        let mut files = vec![self.picture.file(&self.path)];
        if let Some(file) = &self.classes {
            let bytes = match (&file.bytes, &self.picture) {
                (Some(bytes), _) => bytes.clone(),
                (None, picture) => picture.bytes(&file.path)?,
            };
            files.push(AssetFile::at(&file.path, bytes));
        }
        for (_, mask) in &self.masks {
            files.push(mask.picture.file(&mask.path));
        }
        Ok(files)
    }
}

fn take_layers<T>(
    fields: &mut BTreeMap<String, Value>,
    key: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Vec<(String, T)> {
    let layers = fields_at(fields, key).and_then(|layers| {
        layers.iter().map(|(layer, value)| Some((layer.clone(), read(value)?))).collect::<Option<Vec<_>>>()
    });
    if layers.is_some() {
        fields.remove(key);
    }
    layers.unwrap_or_default()
}

fn classes_file(names: ClassNames) -> ClassesFile {
    let classes = Classes::new(names.iter().cloned());
    let bytes = classes.to_bytes();
    let path = format!("media/classes/{}_cls.classes.json", classes.media_id());
    ClassesFile { path, digest: md5_base64(&bytes), bytes: Some(bytes), names }
}

/// Where the files of images that are read are. The classes of several images are read once.
pub(super) struct ImageFiles<'a> {
    version: &'a Version,
    classes: BTreeMap<(String, String), Arc<ClassesFile>>,
}

impl<'a> ImageFiles<'a> {
    pub fn new(version: &'a Version) -> ImageFiles<'a> {
        ImageFiles { version, classes: BTreeMap::new() }
    }

    fn classes(&mut self, path: &str, digest: &str) -> Arc<ClassesFile> {
        let version = self.version;
        let read = self.classes.entry((path.to_owned(), digest.to_owned())).or_insert_with(|| {
            // A file that is missing is reported if the image is added again.
            let bytes = read_file(version, path).ok();
            let fields = bytes.as_deref().and_then(|b| python_json::parse(&String::from_utf8_lossy(b)).ok());
            let classes = match fields {
                Some(Value::Map(fields)) => Classes::parse(&fields),
                _ => None,
            };
            let names = classes.iter().flat_map(Classes::iter).map(|(number, name)| (number, name.to_owned()));
            Arc::new(ClassesFile { path: path.to_owned(), digest: digest.to_owned(), names: names.collect(), bytes })
        });
        read.clone()
    }
}

impl Picture {
    /// The bytes of the file, which is at `path` in its version.
    pub(super) fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        match self {
            Picture::Bytes(bytes) => Ok(bytes.to_vec()),
            Picture::In(version) => read_file(version, path),
        }
    }

    /// The file, for an artifact that needs it at `path`.
    fn file(&self, path: &str) -> AssetFile {
        match self {
            Picture::Bytes(bytes) => AssetFile::at(path, bytes.to_vec()),
            Picture::In(version) => AssetFile::of(version, path),
        }
    }
}

impl Asset for Image {
    fn suffix(&self) -> &str {
        SUFFIX
    }

    fn files(&self) -> Result<Vec<AssetFile>> {
        let mut files = vec![self.source.main_or(|| python_json::write(&self.to_value()))];
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
