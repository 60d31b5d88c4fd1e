//! Directories of numbers: versions (`v7`) and logs of records (`000001`). Numbers are dense; the highest counts.

use crate::disk;
use crate::error::Result;
use crate::words::VersionNumber;
use std::path::Path;

/// All version numbers that were ever claimed in a `versions` (or `removed`) directory, ascending.
///
/// # Errors
/// I/O.
pub fn versions(dir: &Path) -> Result<Vec<VersionNumber>> {
    let mut out: Vec<_> = disk::list(dir)?.iter().filter_map(|n| VersionNumber::from_text(n.to_str()?)).collect();
    out.sort();
    Ok(out)
}

/// The highest version number ever claimed, looked for FRESH.
///
/// # Errors
/// I/O.
pub fn highest(dir: &Path) -> Result<Option<VersionNumber>> {
    Ok(highest_from(dir, 0, |n| VersionNumber(n).to_string())?.map(VersionNumber))
}

/// [`highest`], looked for from `known` on, a number that was claimed: a look or two where nothing or little came after it.
///
/// # Errors
/// I/O.
pub fn highest_after(dir: &Path, known: VersionNumber) -> Result<Option<VersionNumber>> {
    Ok(highest_from(dir, known.0, |n| VersionNumber(n).to_string())?.map(VersionNumber))
}

/// The highest number in a log of records, looked for FRESH; 0 when it is empty. For logs that may be long.
///
/// # Errors
/// I/O.
pub fn highest_record(dir: &Path) -> Result<u64> {
    Ok(highest_from(dir, 1, record_name)?.unwrap_or(0))
}

/// By doubling and halving: numbers are dense (F4), and a listing would cost more with each one.
fn highest_from(dir: &Path, first: u64, name: impl Fn(u64) -> String) -> Result<Option<u64>> {
    let path = |n: u64| dir.join(name(first + n));
    let there = |n: u64| disk::look(&path(n)).map(|m| m.is_some());
    if disk::look_fresh(&path(0))?.is_none() {
        return Ok(None);
    }
    let (mut low, mut high) = (0, 1);
    while there(high)? {
        (low, high) = (high, high * 2);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if there(middle)? { low = middle } else { high = middle }
    }
    Ok(Some(first + low))
}

/// The highest number in a log of records; 0 when it is empty.
///
/// # Errors
/// I/O.
pub fn last_record(dir: &Path) -> Result<u64> {
    Ok(disk::list(dir)?.iter().filter_map(|n| parse_record(n.to_str()?)).max().unwrap_or(0))
}

/// The name of record `n` in a log: at least six digits.
pub fn record_name(n: u64) -> String {
    format!("{n:06}")
}

/// A record's number by its name.
pub fn parse_record(name: &str) -> Option<u64> {
    let n = name.bytes().all(|b| b.is_ascii_digit()).then(|| name.parse().ok())??;
    (n > 0 && record_name(n) == name).then_some(n)
}
