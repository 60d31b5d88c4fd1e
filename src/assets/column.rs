//! The types of a table's columns, as W&B's tables have them: each value of a column is of the column's type or null.

use super::image_type::ImageType;
use super::value::{Value, fields_at, map, number_at};
use std::collections::BTreeMap;

/// The type of a column or of a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ColumnType {
    /// No value was seen yet.
    Unknown,
    /// Null only: a field of a map that was null.
    Nothing,
    /// Any value.
    Any,
    Boolean,
    Number,
    Text,
    Timestamp,
    /// A type or null.
    Optional(Box<ColumnType>),
    List {
        element: Box<ColumnType>,
        length: usize,
    },
    Map(BTreeMap<String, ColumnType>),
    /// Images.
    Image(Box<ImageType>),
    /// A type that was read from a file and is not one of these. It takes any value.
    Other(Value),
}

impl ColumnType {
    /// A new column.
    pub fn new(mixed: bool) -> ColumnType {
        ColumnType::Optional(Box::new(if mixed { ColumnType::Any } else { ColumnType::Unknown }))
    }

    fn of(value: &Value) -> Option<ColumnType> {
        Some(match value {
            Value::Null => ColumnType::Nothing,
            Value::Bool(_) => ColumnType::Boolean,
            Value::Int(_) | Value::Float(_) => ColumnType::Number,
            Value::Text(_) => ColumnType::Text,
            Value::Timestamp(_) => ColumnType::Timestamp,
            Value::List(items) => {
                let unknown = ColumnType::Unknown;
                let first = if items.contains(&Value::Null) { unknown.or_null() } else { unknown };
                let element = items.iter().try_fold(first, |element, item| element.with(item))?;
                ColumnType::List { element: Box::new(element), length: items.len() }
            }
            Value::Map(fields) => {
                let types = fields.iter().map(|(name, value)| Some((name.clone(), ColumnType::of(value)?)));
                ColumnType::Map(types.collect::<Option<_>>()?)
            }
            Value::Image(image) => ColumnType::Image(Box::new(ImageType::of(image))),
        })
    }

    fn or_null(self) -> ColumnType {
        ColumnType::Optional(Box::new(self))
    }

    /// The type after one more value; `None` if the value does not fit.
    pub fn with(&self, value: &Value) -> Option<ColumnType> {
        match (self, value) {
            (ColumnType::Any | ColumnType::Other(_), _) => Some(self.clone()),
            (ColumnType::Optional(_), Value::Null) => Some(self.clone()),
            (ColumnType::Optional(inner), _) => Some(inner.with(value)?.or_null()),
            (ColumnType::Unknown, _) => ColumnType::of(value),
            (ColumnType::List { element, .. }, Value::List(items)) => {
                let element = items.iter().try_fold((**element).clone(), |element, item| element.with(item))?;
                Some(ColumnType::List { element: Box::new(element), length: items.len() })
            }
            (ColumnType::Map(types), Value::Map(fields)) => {
                if !types.keys().eq(fields.keys()) {
                    return None;
                }
                let with = types.iter().zip(fields.values()).map(|((name, t), v)| Some((name.clone(), t.with(v)?)));
                Some(ColumnType::Map(with.collect::<Option<_>>()?))
            }
            (ColumnType::Image(before), Value::Image(image)) => Some(ColumnType::Image(Box::new(before.with(image)))),
            _ => (ColumnType::of(value)? == *self).then(|| self.clone()),
        }
    }

    /// What it holds, for messages.
    pub fn noun(&self) -> &'static str {
        match self {
            ColumnType::Unknown | ColumnType::Nothing => "nothing",
            ColumnType::Any | ColumnType::Other(_) => "values of any type",
            ColumnType::Boolean => "truth values",
            ColumnType::Number => "numbers",
            ColumnType::Text => "texts",
            ColumnType::Timestamp => "times",
            ColumnType::Optional(inner) => inner.noun(),
            ColumnType::List { .. } => "lists of one type",
            ColumnType::Map(_) => "maps with the same fields",
            ColumnType::Image(_) => "images",
        }
    }

    /// The text that the types of a union are sorted by: how W&B's Python code shows the type.
    fn sort_key(&self) -> String {
        match self {
            ColumnType::Unknown => "Unknown".into(),
            ColumnType::Nothing => "None".into(),
            ColumnType::Any => "Any".into(),
            ColumnType::Boolean => "Boolean".into(),
            ColumnType::Number => "Number".into(),
            ColumnType::Text => "String".into(),
            ColumnType::Timestamp => "Timestamp".into(),
            ColumnType::Optional(inner) => inner.with_null().map(ColumnType::sort_key).join(" or "),
            ColumnType::List { element, .. } => format!("{}[]", element.sort_key()),
            ColumnType::Map(_) => "{".into(),
            ColumnType::Image(_) => "Image-file(".into(),
            ColumnType::Other(_) => String::new(),
        }
    }

    /// This type and null, in the order of a union.
    fn with_null(&self) -> [&ColumnType; 2] {
        let mut types = [self, &ColumnType::Nothing];
        types.sort_by_key(|t| t.sort_key());
        types
    }

    /// The name in W&B's format.
    fn name(&self) -> &'static str {
        match self {
            ColumnType::Unknown => "unknown",
            ColumnType::Nothing => "none",
            ColumnType::Any => "any",
            ColumnType::Boolean => "boolean",
            ColumnType::Number => "number",
            ColumnType::Text => "string",
            ColumnType::Timestamp => "timestamp",
            ColumnType::Optional(_) => "union",
            ColumnType::List { .. } => "list",
            ColumnType::Map(_) => "typedDict",
            ColumnType::Image(_) => "image-file",
            ColumnType::Other(_) => "",
        }
    }

    /// The JSON of W&B's format.
    pub fn to_value(&self) -> Value {
        let params = match self {
            ColumnType::Other(value) => return value.clone(),
            ColumnType::Optional(inner) => {
                map([("allowed_types", Value::List(inner.with_null().map(ColumnType::to_value).into()))])
            }
            ColumnType::List { element, length } => {
                map([("element_type", element.to_value()), ("length", (*length).into())])
            }
            ColumnType::Map(types) => {
                let types = types.iter().map(|(name, t)| (name.clone(), t.to_value())).collect();
                map([("type_map", Value::Map(types))])
            }
            ColumnType::Image(image) => image.params(),
            _ => return map([("wb_type", self.name().into())]),
        };
        map([("params", params), ("wb_type", self.name().into())])
    }

    /// A type that was read.
    pub fn parse(value: &Value) -> ColumnType {
        ColumnType::parse_known(value).unwrap_or_else(|| ColumnType::Other(value.clone()))
    }

    fn parse_known(value: &Value) -> Option<ColumnType> {
        let Value::Map(fields) = value else { return None };
        let none = BTreeMap::new();
        let params = fields_at(fields, "params").unwrap_or(&none);
        let parsed = match fields.get("wb_type")?.as_text()? {
            "unknown" => ColumnType::Unknown,
            "none" => ColumnType::Nothing,
            "any" => ColumnType::Any,
            "boolean" => ColumnType::Boolean,
            "number" => ColumnType::Number,
            "string" => ColumnType::Text,
            "timestamp" => ColumnType::Timestamp,
            "union" => {
                let Value::List(types) = params.get("allowed_types")? else { return None };
                types.iter().map(ColumnType::parse).find(|t| *t != ColumnType::Nothing)?.or_null()
            }
            "list" => {
                let length = number_at(params, "length")?;
                ColumnType::List { element: Box::new(ColumnType::parse(params.get("element_type")?)), length }
            }
            "typedDict" => {
                let types = fields_at(params, "type_map")?;
                ColumnType::Map(types.iter().map(|(name, t)| (name.clone(), ColumnType::parse(t))).collect())
            }
            "image-file" => ColumnType::Image(Box::new(ImageType::parse(params)?)),
            _ => return None,
        };
        // A type with parts that are not known here is kept as it was read.
        (parsed.to_value() == *value).then_some(parsed)
    }
}
