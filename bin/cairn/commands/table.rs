//! `cairn table`, and what `cairn show NAME PATH` says of one entry.

use super::entry::{Line, json_name, points_at};
use crate::errors::{CommandResult, Failure};
use crate::help::Help;
use crate::output::{Context, count};
use crate::progress::human;
use cairn::Version;
use cairn::assets::{Object, Table, Value};
use cairn::error::{Error, Kind, shell_word, show_bytes};
use cairn::manifest::Entry;
use cairn::types::RelPath;
use clap::{Args, ValueEnum};
use serde_json::{Map, json};
use std::iter;

/// `cairn table`
#[derive(Args, Debug)]
pub struct TableArgs {
    /// The version
    #[arg(value_name = "NAME[:V]")]
    pub version: String,
    /// A table of the version; .table.json may be omitted
    pub path: String,
    /// Print only the first N rows
    #[arg(long, value_name = "N", value_parser = super::shared_args::whole::<usize>(0..=u64::MAX))]
    pub head: Option<usize>,
    /// The form in which the table is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How a table is printed.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people
    Text,
    /// Comma-separated values with a header
    Csv,
    /// A line of JSON for each row
    Json,
}

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &["Prints a table of a version: one made by `cairn put --table`, by the library's Table, or by \
         wandb.Table. For an image in a cell, the path of its file is printed."],
    examples: &[
        ("cairn table eval:v3 pred --head 20", "the first rows of pred.table.json"),
        ("cairn table eval pred --format csv > pred.csv", ""),
        ("cairn table eval pred --format json | jq 'select(.score < 0.5)'", ""),
    ],
    exit: &[],
    json: "As --format json: a line for each row, an object with a field for each column.",
    list: None,
};

/// Prints a table.
pub fn run(context: &mut Context, args: TableArgs) -> CommandResult {
    let version = context.version(&args.version)?;
    let Object::Table(table) = version.get(&args.path)? else {
        return Err(Error::usage(format!("{} in {version} is not a table", args.path))
            .with_hint(format!("`cairn show {version} {}` says what it is", shell_word(&args.path)))
            .into());
    };
    let rows = &table.rows()[..args.head.unwrap_or(usize::MAX).min(table.rows().len())];
    match args.format {
        _ if context.json() => json_rows(context, &table, rows)?,
        Format::Json => json_rows(context, &table, rows)?,
        Format::Csv => csv_rows(context, &table, rows)?,
        Format::Text => text_rows(context, &table, rows)?,
    }
    if rows.len() < table.rows().len() {
        context.status(&format!("{} of {}", rows.len(), count(table.rows().len() as u64, "row")));
    }
    Ok(0)
}

fn json_rows(context: &mut Context, table: &Table, rows: &[Vec<Value>]) -> Result<(), Failure> {
    for row in rows {
        let fields: Map<_, _> = table.columns().iter().cloned().zip(row.iter().map(json_cell)).collect();
        context.out.json(&fields)?;
    }
    Ok(())
}

/// A cell in JSON. JSON has no infinities: they are texts.
fn json_cell(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(b) => json!(b),
        Value::Int(n) => i64::try_from(*n).map_or_else(|_| json!(*n as f64), |n| json!(n)),
        Value::Float(x) if x.is_finite() => json!(x),
        Value::List(items) => items.iter().map(json_cell).collect(),
        Value::Map(fields) => {
            serde_json::Value::Object(fields.iter().map(|(name, value)| (name.clone(), json_cell(value))).collect())
        }
        other => json!(cell(other)),
    }
}

/// A cell as text: an image is its path.
fn cell(value: &Value) -> String {
    match value {
        Value::Image(image) => image.path().to_owned(),
        other => other.to_string(),
    }
}

fn csv_rows(context: &mut Context, table: &Table, rows: &[Vec<Value>]) -> Result<(), Failure> {
    let cells = rows.iter().map(|row| row.iter().map(cell).collect());
    context.out.csv(iter::once(table.columns().to_vec()).chain(cells))
}

fn text_rows(context: &mut Context, table: &Table, rows: &[Vec<Value>]) -> Result<(), Failure> {
    let is_number = |column: usize| rows.iter().any(|row| matches!(row[column], Value::Int(_) | Value::Float(_)));
    let printable = |text: &str| if text.is_empty() { String::new() } else { show_bytes(text.as_bytes()) };
    let heads: Vec<String> = (0..table.columns().len())
        .map(|i| format!("{}{}", if is_number(i) { ">" } else { "" }, printable(&table.columns()[i])))
        .collect();
    let shown: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|v| printable(&cell(v))).collect()).collect();
    context.out.table_with_heads(&heads.iter().map(String::as_str).collect::<Vec<_>>(), &shown)
}

/// Says what the entry at a path of a version is.
pub fn show_entry(context: &mut Context, version: &Version, path: &str) -> CommandResult {
    let (path, entry) = entry_or_object(version, path)?;
    let object = match &entry {
        Entry::File { .. } => version.get(&path.to_string()).ok(),
        _ => None,
    };
    if context.json() {
        let mut fields = json!(Line::of(path.as_bytes(), &entry));
        if let (Some(object), Some(fields)) = (&object, fields.as_object_mut()) {
            fields.insert("object".into(), json_object(object));
        }
        return context.out.json(&fields).map(|()| 0);
    }
    let mut lines = vec![("path", json_name(path.as_bytes()).0.into_owned())];
    match &entry {
        Entry::File { digest, size, exec, .. } => {
            lines.push(("kind", if *exec { "executable file" } else { "file" }.to_owned()));
            lines.push(("size", human(*size)));
            lines.push(("digest", digest.to_string()));
        }
        Entry::Symlink { .. } => lines.push(("kind", "symlink".into())),
        Entry::Reference(_) => lines.push(("kind", "reference".into())),
        Entry::Directory(dir) => {
            let totals = dir.totals();
            lines.push(("kind", "directory".into()));
            lines.push(("content", format!("{}, {}", count(totals.files, "file"), human(totals.bytes))));
        }
    }
    if let Some(target) = points_at(&entry) {
        lines.push(("points at", show_bytes(target)));
    }
    if let Some(object) = &object {
        lines.push(("object", describe(object)));
    }
    context.out.fields(lines)?;
    if let Some(Object::Table(table)) = &object {
        context.out.line("")?;
        text_rows(context, table, &table.rows()[..table.rows().len().min(10)])?;
    }
    Ok(0)
}

/// The entry at the path as it is, or with the suffix of an object.
fn entry_or_object(version: &Version, path: &str) -> Result<(RelPath, Entry), Error> {
    let exact = RelPath::parse(path.as_bytes())?;
    let missing = match version.entry(&exact) {
        Err(e) if e.kind() == Kind::NotFound => e,
        found => return Ok((exact, found?)),
    };
    let with_suffix = version.object_path(path).map_err(|_| missing)?;
    let with_suffix = RelPath::parse(with_suffix.as_bytes())?;
    let entry = version.entry(&with_suffix)?;
    Ok((with_suffix, entry))
}

fn describe(object: &Object) -> String {
    match object {
        Object::Table(table) => {
            let rows = count(table.rows().len() as u64, "row");
            format!("table of {rows} and {}", count(table.columns().len() as u64, "column"))
        }
        Object::Image(image) => format!("{} image of {} × {} pixels", image.format(), image.width(), image.height()),
        Object::Classes(classes) => count(classes.iter().count() as u64, "class name"),
        Object::Html(html) => format!("HTML page of {}", human(html.text().len() as u64)),
        _ => "object".to_owned(),
    }
}

fn json_object(object: &Object) -> serde_json::Value {
    match object {
        Object::Table(table) => json!({ "type": "table", "columns": table.columns(), "rows": table.rows().len() }),
        Object::Image(image) => json!({
            "type": "image", "format": image.format(), "width": image.width(), "height": image.height(),
            "picture": image.path(), "caption": image.caption_text(),
        }),
        Object::Classes(classes) => json!({ "type": "classes", "classes": classes.iter().collect::<Vec<_>>() }),
        Object::Html(html) => json!({ "type": "html", "bytes": html.text().len() }),
        _ => serde_json::Value::Null,
    }
}
