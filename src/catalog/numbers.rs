//! Directories of numbers: versions (`v7`) and logs of records (`000001`). Numbers are dense; the highest counts.

use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::types::VersionNumber;
use std::path::Path;

/// A record that knows which numbers it may have.
pub trait Numbered {
    /// Why this cannot be the record that was claimed at `number`; `None` when it can be.
    fn contradicts(&self, number: u64) -> Option<String>;
}

/// The rule for a record that may have one number only.
pub(crate) fn unless_exactly(from: u64, number: u64) -> Option<String> {
    (from != number).then(|| format!("it was written for number {from} and no other"))
}

/// The rule for a record whose claim walked up from a number.
pub(crate) fn unless_from(from: u64, number: u64) -> Option<String> {
    (from > number).then(|| format!("it was written for number {from} or a higher one"))
}

/// Compares a record with the number at which it was found, whose path is `at` (F15).
///
/// # Errors
/// Damaged: it belongs to another number.
pub fn check_number(record: &impl Numbered, number: u64, at: &Path) -> Result<()> {
    match record.contradicts(number) {
        None => Ok(()),
        Some(why) => Err(Error::damaged(format!("{} leads to the record of another number: {why}", show_path(at)))),
    }
}

/// All version numbers that were ever claimed in a `versions` directory, ascending.
///
/// # Errors
/// I/O.
pub fn versions(dir: &Path) -> Result<Vec<VersionNumber>> {
    let mut out: Vec<_> = disk::list(dir)?.iter().filter_map(|n| VersionNumber::of_text(n.to_str()?)).collect();
    out.sort();
    Ok(out)
}

/// The highest version number ever claimed, by revalidated lookups.
///
/// # Errors
/// I/O.
pub fn highest(dir: &Path) -> Result<Option<VersionNumber>> {
    Ok(highest_from(dir, 0, |n| VersionNumber(n).to_string(), version)?.map(VersionNumber))
}

/// [`highest`], searched from `known` on, a number that was claimed: one or two lookups if little came after it.
///
/// # Errors
/// I/O.
pub fn highest_after(dir: &Path, known: VersionNumber) -> Result<Option<VersionNumber>> {
    Ok(highest_from(dir, known.0, |n| VersionNumber(n).to_string(), version)?.map(VersionNumber))
}

/// The highest number in a log of records, by revalidated lookups; 0 when it is empty. For logs that may be long.
///
/// # Errors
/// I/O.
pub fn highest_record(dir: &Path) -> Result<u64> {
    Ok(highest_from(dir, 1, record_name, parse_record)?.unwrap_or(0))
}

/// The highest number of those whose names `name` gives and `parse` reads, by revalidated lookups.
///
/// Searches by doubling and halving: numbers are dense (F4), and a listing would cost more with each one. One more
/// lookup, of the number after the first free one, finds out whether a number is lost; then a listing decides.
///
/// # Errors
/// I/O.
pub(crate) fn highest_from(
    dir: &Path,
    first: u64,
    name: impl Fn(u64) -> String,
    parse: impl Fn(&str) -> Option<u64>,
) -> Result<Option<u64>> {
    let path = |n: u64| dir.join(name(first + n));
    let there = |n: u64| disk::lstat(&path(n)).map(|m| m.is_some());
    let listed = || Ok(disk::list(dir)?.iter().filter_map(|n| parse(n.to_str()?)).max());
    // How many numbers from the first one on are known to exist.
    let mut known = u64::from(disk::lstat_revalidated(&path(0))?.is_some());
    loop {
        if known > 0 {
            let (mut low, mut high) = (known - 1, known);
            let mut step = 1;
            while there(high)? {
                step *= 2;
                (low, high) = (high, high + step);
            }
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if there(middle)? { low = middle } else { high = middle }
            }
            known = low + 1;
        }
        if !there(known + 1)? {
            return Ok((known > 0).then(|| first + known - 1));
        }
        if disk::lstat_revalidated(&path(known))?.is_none() {
            return listed();
        }
        known += 1; // claimed since it was looked up
    }
}

fn version(name: &str) -> Option<u64> {
    VersionNumber::of_text(name).map(|n| n.0)
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

/// A record's number, from its name.
pub fn parse_record(name: &str) -> Option<u64> {
    let n = name.bytes().all(|b| b.is_ascii_digit()).then(|| name.parse().ok())??;
    (n > 0 && record_name(n) == name).then_some(n)
}
