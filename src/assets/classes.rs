//! Classes: the names that a data set's numbers stand for.

use super::asset::{Asset, AssetFile, Source, md5_hex};
use super::python_json;
use super::value::{Value, map, number_at, text_at};
use crate::error::Result;
use std::collections::BTreeMap;

/// Names of classes by number. It is stored as `NAME.classes.json`, in the bytes that W&B's `wandb.Classes` has.
///
/// # Example
/// ```
/// let classes = cairn::assets::Classes::new([(0, "cat"), (1, "dog")]);
/// assert_eq!(classes.name(1), Some("dog"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Classes {
    /// Each a map with `id` and `name`, and what else it was read with.
    set: Vec<BTreeMap<String, Value>>,
    pub(super) source: Source,
}

impl Classes {
    /// These classes, in this order.
    pub fn new<S: Into<String>>(classes: impl IntoIterator<Item = (i64, S)>) -> Classes {
        let class = |(id, name): (i64, S)| {
            [("id".to_owned(), Value::from(id)), ("name".to_owned(), Value::Text(name.into()))].into()
        };
        Classes { set: classes.into_iter().map(class).collect(), source: Source::default() }
    }

    /// The name of a class.
    pub fn name(&self, id: i64) -> Option<&str> {
        self.set.iter().find(|class| number_at(class, "id") == Some(id)).and_then(|class| text_at(class, "name"))
    }

    /// Numbers and names, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &str)> {
        self.set.iter().filter_map(|class| Some((number_at(class, "id")?, text_at(class, "name")?)))
    }

    pub(super) fn parse(fields: &BTreeMap<String, Value>) -> Option<Classes> {
        let Some(Value::List(items)) = fields.get("class_set") else { return None };
        let class = |item: &Value| match item {
            Value::Map(class) => Some(class.clone()),
            _ => None,
        };
        Some(Classes { set: items.iter().map(class).collect::<Option<_>>()?, source: Source::default() })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let set = self.set.iter().map(|class| Value::Map(class.clone())).collect();
        python_json::write(&map([("_type", "classes".into()), ("class_set", Value::List(set))]))
    }

    /// What names its file among an image's media: W&B takes the MD5 of the list as Python shows it.
    pub(super) fn media_id(&self) -> String {
        let shown: Vec<String> = self.set.iter().map(python_repr).collect();
        md5_hex(format!("[{}]", shown.join(", ")).as_bytes())
    }
}

impl Asset for Classes {
    fn suffix(&self) -> &str {
        ".classes.json"
    }

    fn files(&self) -> Result<Vec<AssetFile>> {
        Ok(vec![self.source.main_or(|| self.to_bytes())])
    }
}

/// A map as Python's `repr` shows it, for texts without control characters.
fn python_repr(class: &BTreeMap<String, Value>) -> String {
    let quote = |text: &str| match (text.contains('\''), text.contains('"')) {
        (true, false) => format!("\"{}\"", text.replace('\\', "\\\\")),
        _ => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
    };
    let show = |(key, value): (&String, &Value)| match value {
        Value::Text(text) => format!("{}: {}", quote(key), quote(text)),
        other => format!("{}: {}", quote(key), String::from_utf8_lossy(&python_json::write(other))),
    };
    format!("{{{}}}", class.iter().map(show).collect::<Vec<_>>().join(", "))
}
