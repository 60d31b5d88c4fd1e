//! Sizes as people write them: `500M`, `100G`, `2TiB`.

use crate::error::{Error, Result};

/// The bytes that a text means: a number, with K, M, G or T for powers of 1024.
///
/// # Errors
/// Usage: it is not a size.
pub fn parse_size(text: &str) -> Result<u64> {
    let wrong = || Error::usage(format!("`{text}` is not a size")).with_hint("write it as 500M, 100G or 2T");
    let upper = text.trim().to_ascii_uppercase();
    let bare = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
    let (digits, shift) = match bare.char_indices().next_back() {
        Some((at, unit)) if !unit.is_ascii_digit() => {
            (&bare[..at], 10 * (1 + "KMGT".find(unit).ok_or_else(wrong)? as u32))
        }
        _ => (bare, 0),
    };
    let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024_and_anything_else_is_refused() {
        for (text, bytes) in
            [("0", 0), ("17", 17), ("4k", 4096), ("500 M", 500 << 20), ("1GiB", 1 << 30), ("2TB", 2 << 40)]
        {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "G", "1.5G", "-1", "5X", "99999999T", "1 0"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
