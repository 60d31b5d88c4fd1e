//! Tables from CSV and JSON lines.

use super::table::Table;
use super::value::Value;
use crate::error::{Error, Result, show_path};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

impl Table {
    /// The table in a file: CSV with a header if its name ends with `.csv`, tab-separated values if with `.tsv`, else
    /// JSON lines (`.jsonl`, `.ndjson`), one object a row.
    ///
    /// # Errors
    /// Not found; usage: another suffix, or a file that is not as its name says. I/O.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Table> {
        let path = path.as_ref();
        let suffix = path.extension().and_then(|s| s.to_str()).unwrap_or_default().to_ascii_lowercase();
        let open = || {
            std::fs::File::open(path).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => Error::not_found(format!("{} does not exist", show_path(path))),
                _ => Error::io("open", path, e),
            })
        };
        let table = match suffix.as_str() {
            "csv" => Table::from_csv(open()?, b','),
            "tsv" => Table::from_csv(open()?, b'\t'),
            "jsonl" | "ndjson" => Table::from_json_lines(open()?),
            _ => {
                return Err(Error::usage(format!("{} is not a table: its name has another suffix", show_path(path)))
                    .with_hint("tables are read from .csv, .tsv, .jsonl and .ndjson"));
            }
        };
        table.map_err(|e| e.context(format!("cannot read {} as a table", show_path(path))))
    }

    /// The table in a text with a header line and a delimiter. A column in which each value is a number becomes
    /// numbers, one with `true` and `false` only truth values, each other one texts. An empty field is null.
    ///
    /// # Errors
    /// Usage: not such a text, or not UTF-8.
    pub fn from_csv(text: impl Read, delimiter: u8) -> Result<Table> {
        let wrong = |e: csv::Error| Error::usage("it is not valid CSV in UTF-8").with_source(e);
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text);
        let header: Vec<String> = reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
        let records = reader.records().collect::<csv::Result<Vec<_>>>().map_err(wrong)?;
        let kinds: Vec<FieldKind> =
            (0..header.len()).map(|i| FieldKind::of_all(records.iter().filter_map(|r| r.get(i)))).collect();
        let mut table = Table::new(header);
        for record in &records {
            table.add_row(record.iter().zip(&kinds).map(|(field, kind)| kind.read(field)))?;
        }
        Ok(table)
    }

    /// The table in JSON lines: an object a line, each field a column, in the order in which they first occur. A field
    /// that an object does not have is null.
    ///
    /// # Errors
    /// Usage: a line that is not a JSON object, or values of several types in one column. I/O.
    pub fn from_json_lines(text: impl Read) -> Result<Table> {
        let mut columns: Vec<String> = Vec::new();
        let mut rows: Vec<serde_json::Map<String, serde_json::Value>> = Vec::new();
        for (number, line) in BufReader::new(text).lines().enumerate() {
            let line = line.map_err(|e| Error::io_message("cannot read the lines").with_source(e))?;
            if line.trim().is_empty() {
                continue;
            }
            let row: serde_json::Map<_, _> = serde_json::from_str(&line)
                .map_err(|e| Error::usage(format!("line {} is not a JSON object", number + 1)).with_source(e))?;
            let known = rows.last().is_some_and(|before| before.keys().eq(row.keys()));
            if !known {
                columns.extend(row.keys().filter(|key| !columns.contains(key)).cloned().collect::<Vec<_>>());
            }
            rows.push(row);
        }
        let mut table = Table::new(columns.clone());
        for mut row in rows {
            table.add_row(columns.iter().map(|name| row.remove(name).map_or(Value::Null, Value::from)))?;
        }
        Ok(table)
    }
}

/// What the fields of a CSV column are.
#[derive(Clone, Copy, PartialEq)]
enum FieldKind {
    Bool,
    Number,
    Text,
}

impl FieldKind {
    fn of_all<'a>(fields: impl Iterator<Item = &'a str> + Clone) -> FieldKind {
        let filled = fields.filter(|field| !field.is_empty());
        if filled.clone().all(|field| field.parse::<bool>().is_ok()) {
            FieldKind::Bool
        } else if filled.clone().all(|field| number(field).is_some()) {
            FieldKind::Number
        } else {
            FieldKind::Text
        }
    }

    fn read(self, field: &str) -> Value {
        match self {
            _ if field.is_empty() => Value::Null,
            FieldKind::Bool => field.parse::<bool>().ok().into(),
            FieldKind::Number => number(field).unwrap_or(Value::Null),
            FieldKind::Text => field.into(),
        }
    }
}

/// A number as programs write it. A text with leading zeros, such as a postal code, is not one.
fn number(field: &str) -> Option<Value> {
    let digits = field.strip_prefix(['-', '+']).unwrap_or(field);
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
    if leading_zero {
        return None;
    }
    if let Ok(n) = field.parse::<i64>() {
        return Some(n.into());
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        // More than 64 bits: an identifier, not a quantity.
        return None;
    }
    field.parse::<f64>().ok().map(Value::from)
}
