//! The data of typed objects: a value in a cell of a table, and an image, which can be one.

use super::asset::Source;
use crate::catalog::Version;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A value in a cell of a [`Table`](super::Table), or a part of one.
///
/// ```
/// use cairn::assets::Value;
///
/// assert_eq!(Value::from(3), Value::Int(3));
/// assert_eq!(Value::from(None::<f64>), Value::Null);
/// assert_eq!(Value::from(vec!["a", "b"]), Value::List(vec!["a".into(), "b".into()]));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A number. `NaN` in a cell of a table is stored as [`Value::Null`].
    Float(f64),
    /// A text.
    Text(String),
    /// A moment, in milliseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
    /// Values of one type.
    List(Vec<Value>),
    /// Values with names.
    Map(BTreeMap<String, Value>),
    /// An image.
    Image(Box<Image>),
}

/// An image. It is stored as `NAME.image-file.json`, in the bytes that W&B's `wandb.Image` has, and its picture as
/// `media/images/…`.
///
/// # Example
/// ```
/// use cairn::assets::{BoundingBox, Boxes, Classes, Image, Mask};
///
/// let red = [255, 0, 0].repeat(6);
/// let image = Image::from_pixels(3, 2, 3, &red)?.caption("a cat").classes(Classes::new([(0, "cat")]));
/// let boxes = Boxes::new([BoundingBox::corners(0, [0.1, 0.2], [0.5, 0.9]).score("acc", 0.7)]);
/// let image = image.boxes("predictions", boxes.labels([(0, "cat")]));
/// let image = image.mask("truth", Mask::from_pixels(3, 2, &[0, 0, 1, 0, 1, 1])?.labels([(1, "cat")]));
/// let mut artifact = cairn::Artifact::new("pictures", None)?;
/// artifact.add("first", &image)?;
/// # Ok::<(), cairn::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) format: String,
    /// Where the picture is in the version.
    pub(super) path: String,
    pub(super) sha256: String,
    /// The names of classes that were set, without those of its boxes and masks.
    pub(super) own_classes: ClassNames,
    /// The file of all its classes.
    pub(super) classes: Option<Arc<ClassesFile>>,
    /// Boxes by their layer, in the order in which they were set.
    pub(super) boxes: Vec<(String, Boxes)>,
    /// Masks by their layer, in the order in which they were set.
    pub(super) masks: Vec<(String, Mask)>,
    /// Caption, grouping, and fields that were read and are not known here.
    pub(super) others: BTreeMap<String, Value>,
    pub(super) picture: Picture,
    pub(super) source: Source,
}

/// Numbers of classes and their names.
pub(super) type ClassNames = Vec<(i64, String)>;

/// The file of an image's classes, which several images can share.
#[derive(Debug, PartialEq)]
pub(super) struct ClassesFile {
    pub(super) path: String,
    /// MD5 in base64.
    pub(super) digest: String,
    /// The bytes of the file; `None`: it could not be read from the image's version.
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) names: ClassNames,
}

/// The bounding boxes of one layer of an [`Image`], for example `predictions`, and the names of their classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Boxes {
    pub(super) boxes: Vec<BoundingBox>,
    pub(super) labels: Option<ClassNames>,
}

/// A box on an [`Image`]: where it is, the number of its class, and what is known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundingBox(pub(super) BTreeMap<String, Value>);

/// A mask of an [`Image`]: a picture that has the number of a class at each pixel, and the names of these classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    /// Where its picture is in the version.
    pub(super) path: String,
    pub(super) sha256: String,
    pub(super) labels: ClassNames,
    /// Fields that were read and are not known here.
    pub(super) others: BTreeMap<String, Value>,
    pub(super) picture: Picture,
}

#[derive(Clone)]
pub(super) enum Picture {
    Bytes(Arc<[u8]>),
    In(Version),
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Picture::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Picture::In(version) => write!(f, "in {version}"),
        }
    }
}

impl PartialEq for Picture {
    /// The image's SHA-256 says whether two pictures are equal.
    fn eq(&self, _: &Picture) -> bool {
        true
    }
}

impl Value {
    /// What it is, for messages: "a number".
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a truth value",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::Timestamp(_) => "a time",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Image(_) => "an image",
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one. A whole number beyond 2^53 is rounded.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(n) => Some(*n as f64),
            Value::Float(x) => Some(*x),
            _ => None,
        }
    }
}

macro_rules! from_ints {
    ($($int:ty),+) => {$(
        impl From<$int> for Value {
            fn from(n: $int) -> Value {
                Value::Int(n.into())
            }
        }
    )+};
}
from_ints!(i8, i16, i32, i64, u8, u16, u32, u64);

impl From<usize> for Value {
    fn from(n: usize) -> Value {
        Value::Int(n as i128)
    }
}

impl From<f64> for Value {
    fn from(x: f64) -> Value {
        Value::Float(x)
    }
}

impl From<f32> for Value {
    fn from(x: f32) -> Value {
        Value::Float(x.into())
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Value {
        Value::Bool(b)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<Image> for Value {
    fn from(image: Image) -> Value {
        Value::Image(Box::new(image))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Value {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Value {
        use serde_json::Value as Json;
        match value {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(b),
            Json::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(n), _) => Value::Int(n.into()),
                (None, Some(n)) => Value::Int(n.into()),
                (None, None) => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text),
            Json::Array(items) => Value::List(items.into_iter().map(Value::from).collect()),
            Json::Object(fields) => Value::Map(fields.into_iter().map(|(k, v)| (k, v.into())).collect()),
        }
    }
}

/// The text at `key`, if there is one.
pub(super) fn text_at<'a>(fields: &'a BTreeMap<String, Value>, key: &str) -> Option<&'a str> {
    fields.get(key).and_then(Value::as_text)
}

/// The whole number at `key`, if there is one that fits.
pub(super) fn number_at<T: TryFrom<i128>>(fields: &BTreeMap<String, Value>, key: &str) -> Option<T> {
    match fields.get(key) {
        Some(Value::Int(n)) => T::try_from(*n).ok(),
        _ => None,
    }
}

/// The map at `key`, if there is one.
pub(super) fn fields_at<'a>(fields: &'a BTreeMap<String, Value>, key: &str) -> Option<&'a BTreeMap<String, Value>> {
    match fields.get(key) {
        Some(Value::Map(inner)) => Some(inner),
        _ => None,
    }
}

/// A map of a few named values.
pub(super) fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
