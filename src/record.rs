//! JSON records that carry a SHA-256 of themselves (L6).
//!
//! A record is a pretty-printed JSON object whose last field, on a line of its own, is `sha256`: the digest of all
//! lines before that line. `head -n -2 FILE | sha256sum` computes it in a shell.

use crate::error::{Error, Result};
use crate::types::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest record that is read, in bytes.
pub const MAX_RECORD: u64 = 1 << 20;

/// How much of a wrong field an error quotes, in characters.
const MAX_QUOTED: usize = 300;

const SUM_LINE: &str = "  \"sha256\": \"";

/// Encodes a record with its sum.
///
/// # Errors
/// A usage error, if the record is longer than [`MAX_RECORD`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|e| Error::usage("cannot write this as JSON").with_source(e))?;
    let body = text.strip_suffix("\n}").expect("a record is a JSON object with fields").len();
    text.truncate(body);
    text.push_str(",\n");
    let sum = Digest::of(text.as_bytes());
    text.push_str(&format!("{SUM_LINE}{sum}\"\n}}\n"));
    if text.len() as u64 > MAX_RECORD {
        return Err(Error::usage(format!("a record of {} bytes is too long: at most {MAX_RECORD}", text.len())));
    }
    Ok(text.into_bytes())
}

/// Checks and parses a record. `what` names it in errors.
///
/// # Errors
/// Damaged, if the sum is wrong or missing, or if the fields do not fit.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    let tail = SUM_LINE.len() + 64 + 4;
    let bad = |why: &str| Error::damaged(format!("record {what}: {why}"));
    let body_len = bytes.len().checked_sub(tail).ok_or_else(|| bad("it is too short"))?;
    let (body, end) = bytes.split_at(body_len);
    let hex = end
        .strip_prefix(SUM_LINE.as_bytes())
        .and_then(|e| e.strip_suffix(b"\"\n}\n"))
        .ok_or_else(|| bad("it does not end with its sha256"))?;
    let sum = Digest::of_hex(hex).ok_or_else(|| bad("its sha256 is not a digest"))?;
    if Digest::of(body) != sum {
        return Err(bad(&format!("expected sha256 {sum}, found {}", Digest::of(body))));
    }
    serde_json::from_slice(bytes).map_err(|e| {
        // The message may quote a field of any length.
        let why: String = e.to_string().chars().take(MAX_QUOTED).collect();
        bad("its fields do not fit").with_cause(why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_quotes_only_the_beginning_of_a_wrong_field() {
        #[derive(serde::Deserialize, Debug)]
        #[serde(rename_all = "lowercase")]
        enum Mode {
            A,
        }
        #[derive(serde::Deserialize, Debug)]
        struct Fields {
            #[allow(dead_code)]
            mode: Mode,
        }
        let bytes = encode(&serde_json::json!({"mode": "é".repeat(70_000)})).unwrap();
        let error = format!("{:#}", decode::<Fields>(&bytes, "r").unwrap_err());
        assert!(error.contains("unknown variant") && error.len() < 1000, "{} bytes", error.len());
        assert!(matches!(
            decode::<Fields>(&encode(&serde_json::json!({"mode": "a"})).unwrap(), "r"),
            Ok(Fields { mode: Mode::A })
        ));
    }

    #[test]
    fn every_flipped_byte_of_a_record_is_found() {
        let bytes = encode(&serde_json::json!({"name": "a", "text": "  \"sha256\": \"x"})).unwrap();
        decode::<serde_json::Value>(&bytes, "r").unwrap();
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[i] ^= 1 << bit;
                assert!(decode::<serde_json::Value>(&bad, "r").is_err(), "byte {i} bit {bit}");
            }
            assert!(decode::<serde_json::Value>(&bytes[..i], "r").is_err());
        }
    }
}
