//! Tables: rows of values under named, typed columns.

use super::asset::{Asset, AssetFile, Source};
use super::column::ColumnType;
use super::image::ImageFiles;
use super::python_json;
use super::value::{Image, Value, fields_at, map, text_at};
use crate::catalog::Version;
use crate::error::{Error, Result, show_bytes};
use std::collections::BTreeMap;

/// A table. It is stored as `NAME.table.json`, in the bytes that W&B's `wandb.Table` has.
///
/// The type of a column comes from its first value that is not null; each later value must be of that type or null.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
/// use cairn::assets::{Object, Table};
///
/// let mut table = Table::new(["id", "score"]);
/// table.add_row([1.into(), 0.5.into()])?;
/// table.add_row([2.into(), None::<f64>.into()])?;
/// let mut artifact = cairn::Artifact::new("eval", None)?;
/// assert_eq!(artifact.add("scores", &table)?.to_string(), "scores.table.json");
/// let version = artifact.save(&store)?.version;
/// let Object::Table(read) = version.get("scores")? else { panic!() };
/// assert_eq!(read, table);
/// # Ok::<(), cairn::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    columns: Vec<String>,
    types: Vec<ColumnType>,
    rows: Vec<Vec<Value>>,
    log_mode: String,
    /// Fields of a table that was read and are not known here.
    others: BTreeMap<String, Value>,
    pub(super) source: Source,
}

const SUFFIX: &str = ".table.json";

impl Table {
    /// A table without rows.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Table {
        Table::with_types(columns, false)
    }

    /// A table whose columns hold values of any type.
    pub fn mixed<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Table {
        Table::with_types(columns, true)
    }

    fn with_types<S: Into<String>>(columns: impl IntoIterator<Item = S>, mixed: bool) -> Table {
        let columns: Vec<String> = columns.into_iter().map(Into::into).collect();
        let types = vec![ColumnType::new(mixed); columns.len()];
        Table {
            columns,
            types,
            rows: Vec::new(),
            log_mode: "IMMUTABLE".to_owned(),
            others: BTreeMap::new(),
            source: Source::default(),
        }
    }

    /// The names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The rows.
    pub fn rows(&self) -> &[Vec<Value>] {
        &self.rows
    }

    /// Adds a row, one value for each column.
    ///
    /// # Errors
    /// Usage: too few or too many values, or a value that does not fit its column. The table is unchanged then.
    pub fn add_row(&mut self, row: impl IntoIterator<Item = Value>) -> Result<()> {
        let row: Vec<Value> = row.into_iter().map(null_for_nan).collect();
        if row.len() != self.columns.len() {
            let (expected, found) = (self.columns.len(), row.len());
            return Err(Error::usage(format!(
                "row {} of the table has the wrong number of values: expected {expected}, found {found}",
                self.rows.len()
            )));
        }
        let mut types = Vec::with_capacity(row.len());
        for ((column, before), value) in self.columns.iter().zip(&self.types).zip(&row) {
            types.push(before.with(value).ok_or_else(|| self.misfit(column, before, value))?);
        }
        self.types = types;
        self.rows.push(row);
        self.source.forget();
        Ok(())
    }

    fn misfit(&self, column: &str, holds: &ColumnType, value: &Value) -> Error {
        let mut shown: String = value.to_string().chars().take(60).collect();
        if shown.len() < value.to_string().len() {
            shown.push('…');
        }
        let (row, holds, column) = (self.rows.len(), holds.noun(), show_name(column));
        let found = match value {
            Value::Text(_) => format!("the text {}", show_name(&shown)),
            _ => format!("{} ({shown})", value.noun()),
        };
        Error::usage(format!("column {column} of the table holds {holds}, but row {row} has {found}"))
            .with_hint("convert the column to one type, or make the table with mixed types")
    }

    /// The table of a parsed file of a version, whose images are in that version.
    pub(super) fn parse(json: &Value, version: &Version) -> Option<Table> {
        let Value::Map(fields) = json else { return None };
        let (Value::List(columns), Value::List(data)) = (fields.get("columns")?, fields.get("data")?) else {
            return None;
        };
        // W&B allows numbers as names.
        let columns: Vec<String> = columns.iter().map(Value::to_string).collect();
        let type_map = fields_at(fields, "column_types")
            .and_then(|t| fields_at(t, "params"))
            .and_then(|params| fields_at(params, "type_map"));
        let type_of = |name: &String| type_map.and_then(|types| types.get(name)).map(ColumnType::parse);
        let types: Vec<_> = columns.iter().map(|name| type_of(name).unwrap_or(ColumnType::Any)).collect();
        let mut files = ImageFiles::new(version);
        let mut rows = Vec::with_capacity(data.len());
        for row in data {
            let Value::List(cells) = row else { return None };
            if cells.len() != columns.len() {
                return None;
            }
            rows.push(cells.iter().zip(&types).map(|(cell, t)| read_cell(cell, t, &mut files)).collect());
        }
        let known = ["_type", "column_types", "columns", "data", "log_mode", "ncols", "nrows"];
        let others = fields.iter().filter(|(key, _)| !known.contains(&key.as_str()));
        Some(Table {
            columns,
            types,
            rows,
            log_mode: text_at(fields, "log_mode").unwrap_or("IMMUTABLE").to_owned(),
            others: others.map(|(key, value)| (key.clone(), value.clone())).collect(),
            source: Source::default(),
        })
    }

    fn to_value(&self) -> Value {
        let types = self.columns.iter().zip(&self.types).map(|(name, t)| (name.clone(), t.to_value())).collect();
        let fields = map([
            ("_type", "table".into()),
            (
                "column_types",
                map([("params", map([("type_map", Value::Map(types))])), ("wb_type", "typedDict".into())]),
            ),
            ("columns", self.columns.clone().into()),
            ("data", Value::List(self.rows.iter().map(|row| Value::List(row.clone())).collect())),
            ("log_mode", self.log_mode.as_str().into()),
            ("ncols", self.columns.len().into()),
            ("nrows", self.rows.len().into()),
        ]);
        let Value::Map(mut fields) = fields else { unreachable!("map() makes a map") };
        fields.extend(self.others.clone());
        Value::Map(fields)
    }

    fn images(&self) -> impl Iterator<Item = &Image> {
        self.rows.iter().flatten().filter_map(|value| match value {
            Value::Image(image) => Some(&**image),
            _ => None,
        })
    }
}

impl Asset for Table {
    fn suffix(&self) -> &str {
        SUFFIX
    }

    fn files(&self) -> Result<Vec<AssetFile>> {
        let mut names: Vec<&String> = self.columns.iter().collect();
        names.sort();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::usage(format!("the table has two columns named {}", show_name(twice[0]))));
        }
        let mut files = vec![self.source.main_or(|| python_json::write(&self.to_value()))];
        for image in self.images() {
            files.extend(image.media()?);
        }
        Ok(files)
    }
}

fn show_name(text: &str) -> String {
    show_bytes(text.as_bytes())
}

/// JSON has no NaN: in a cell it is null.
fn null_for_nan(value: Value) -> Value {
    match value {
        Value::Float(x) if x.is_nan() => Value::Null,
        other => other,
    }
}

/// A cell as its column has it: JSON has no times and no images.
fn read_cell(cell: &Value, column: &ColumnType, files: &mut ImageFiles) -> Value {
    match (column, cell) {
        (ColumnType::Optional(inner), cell) => read_cell(cell, inner, files),
        (ColumnType::Timestamp, Value::Int(ms)) => i64::try_from(*ms).map_or(cell.clone(), Value::Timestamp),
        (_, Value::Map(fields)) if text_at(fields, "_type") == Some("image-file") => {
            Image::parse(fields, files).map_or(cell.clone(), |image| Value::Image(Box::new(image)))
        }
        _ => cell.clone(),
    }
}
