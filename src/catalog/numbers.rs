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

/// The highest version number ever claimed.
///
/// # Errors
/// I/O.
pub fn highest(dir: &Path) -> Result<Option<VersionNumber>> {
    Ok(disk::list(dir)?.iter().filter_map(|n| VersionNumber::from_text(n.to_str()?)).max())
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
