//! JSON in the bytes that Python's `json.dumps(value, sort_keys=True)` writes: separators `", "` and `": "`, sorted
//! keys, ASCII escapes, floats as `repr` shows them, and the words `NaN` and `Infinity`, which JSON does not have.

use super::value::Value;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Begins a text that represents `NaN` or an infinity while serde_json parses. No text of a file can begin so: JSON has
/// no raw control characters, and one that is escaped is checked for.
const WORD: &str = "\u{0}cairn:";

/// Writes a value.
pub fn write(value: &Value) -> Vec<u8> {
    let mut out = String::new();
    value_to(value, &mut out);
    out.into_bytes()
}

/// Parses what Python writes, `NaN`, `Infinity` and `-Infinity` included. An integer that does not fit into 64 bits
/// becomes a float.
///
/// # Errors
/// The text is not JSON.
pub fn parse(text: &str) -> serde_json::Result<Value> {
    let words = quote_words(text);
    serde_json::from_str(words.as_deref().unwrap_or(text))
}

fn value_to(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(n) => write!(out, "{n}").expect("a String takes all that is written"),
        Value::Float(x) => out.push_str(&float(*x)),
        Value::Timestamp(ms) => write!(out, "{ms}").expect("a String takes all that is written"),
        Value::Text(text) => text_to(text, out),
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                value_to(item, out);
            }
            out.push(']');
        }
        Value::Map(fields) => {
            out.push('{');
            for (i, (key, item)) in fields.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                text_to(key, out);
                out.push_str(": ");
                value_to(item, out);
            }
            out.push('}');
        }
        Value::Image(image) => value_to(&image.to_value(), out),
    }
}

/// A float as Python's `repr` shows it: the shortest digits that give the same number, with an exponent if that is
/// below -4 or above 15.
fn float(x: f64) -> String {
    if x.is_nan() {
        return "NaN".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').expect("{:e} writes an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} writes a number as its exponent");
    if (-4..16).contains(&exponent) {
        format!("{x:?}")
    } else {
        format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    }
}

fn text_to(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("a String takes all that is written");
                }
            }
        }
    }
    out.push('"');
}

impl std::fmt::Display for Value {
    /// A text as it is, all else as JSON.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Null => Ok(()),
            Value::Timestamp(ms) => match jiff::Timestamp::from_millisecond(*ms) {
                Ok(time) => write!(f, "{time}"),
                Err(_) => write!(f, "{ms}"),
            },
            other => f.write_str(&String::from_utf8_lossy(&write(other))),
        }
    }
}

/// The text with each bare `NaN`, `Infinity` and `-Infinity` as a quoted text; `None` if it has none.
fn quote_words(text: &str) -> Option<String> {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return None;
    }
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            let end = end_of_text(rest);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if let Some(word) = ["NaN", "Infinity", "-Infinity"].into_iter().find(|w| rest.starts_with(w)) {
            write!(out, "\"\\u0000cairn:{word}\"").expect("a String takes all that is written");
            rest = &rest[word.len()..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    Some(out)
}

/// Where the text that begins `json` with a quotation mark ends.
fn end_of_text(json: &str) -> usize {
    let bytes = json.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }
    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n.into()))
    }
    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(Value::Int(n.into()))
    }
    fn visit_f64<E>(self, x: f64) -> Result<Value, E> {
        Ok(Value::Float(x))
    }
    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(match text.strip_prefix(WORD) {
            Some("NaN") => Value::Float(f64::NAN),
            Some("Infinity") => Value::Float(f64::INFINITY),
            Some("-Infinity") => Value::Float(f64::NEG_INFINITY),
            _ => Value::Text(text.to_owned()),
        })
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = fields.next_entry()? {
            map.insert(key, value);
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(x: f64) -> String {
        String::from_utf8(write(&x.into())).unwrap()
    }

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (x, text) in [
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1e-7, "1e-07"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e22, "1e+22"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (3.0, "3.0"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::from(0.1f32), "0.10000000149011612"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(shown(x), text);
        }
    }

    #[test]
    fn texts_are_written_in_ascii_and_keys_are_sorted() {
        let map: BTreeMap<String, Value> =
            [("b".to_owned(), "é\u{1f600}\u{7f}\n\"\\/".into()), ("Z".to_owned(), Value::Null)].into();
        let text = r#"{"Z": null, "b": "\u00e9\ud83d\ude00\u007f\n\"\\/"}"#;
        assert_eq!(write(&Value::Map(map.clone())), text.as_bytes());
        assert_eq!(parse(text).unwrap(), Value::Map(map));
    }

    #[test]
    fn what_was_written_is_parsed_also_what_json_does_not_have() {
        let text = r#"[NaN, Infinity, -Infinity, "NaN \" Infinity", -5, 18446744073709551615, 1.5, [], {}]"#;
        assert_eq!(String::from_utf8(write(&parse(text).unwrap())).unwrap(), text);
        assert!(matches!(parse("[1e400]"), Err(_) | Ok(Value::List(_))));
        for wrong in ["", "[", "NaNx", "\"", "\"\\", "[1,]", "{\"a\" 1}"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
