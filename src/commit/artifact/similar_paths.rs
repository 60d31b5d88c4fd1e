//! Files of a version that a new file is probably similar to, because their paths are: the one of the day before, an
//! earlier checkpoint, what was renamed.
//!
//! Names near by in the order of a directory begin alike. So only these are read, however large the directory is.

use crate::error::Result;
use crate::manifest::{Entry, Tree};
use crate::objects::{COMPOSED_MIN, Earlier};
use crate::types::RelPath;
use std::cmp::Reverse;
use std::ops::RangeInclusive;

/// How many names before a name are read, and how many after it.
const NEAR: u64 = 32;
/// The same, for the names of directories: each of them is searched.
const NEAR_DIRECTORIES: u64 = 8;
/// How many directories up the names are changed.
const LEVELS: usize = 3;
/// The most files that are returned for each level, and in all.
const MAX_OF_LEVEL: usize = 2;
const MAX_FILES: usize = 4;

/// Files whose paths differ from this one in one name, and that have between half and twice the size. The most similar
/// one is the first.
pub(super) fn similar_files(tree: &Tree, path: &RelPath, size: u64) -> Vec<Earlier> {
    let names: Vec<&[u8]> = path.parts().collect();
    let sizes = COMPOSED_MIN.max(size / 2)..=size.saturating_mul(2);
    let mut out = Vec::new();
    for changed in (0..names.len()).rev().take(LEVELS) {
        // They only propose what to compare: nothing is lost without them.
        let mut found = at_level(tree, &names, changed, &sizes).unwrap_or_default();
        found.sort_by_key(|(name, file)| (Reverse(likeness(names[changed], name)), file.size.abs_diff(size)));
        out.extend(found.into_iter().take(MAX_OF_LEVEL).map(|(_, file)| file));
    }
    out.truncate(MAX_FILES);
    out
}

/// Files whose paths differ in the name number `changed`, and these names.
fn at_level(
    tree: &Tree,
    names: &[&[u8]],
    changed: usize,
    sizes: &RangeInclusive<u64>,
) -> Result<Vec<(Vec<u8>, Earlier)>> {
    let joined = |at: RelPath, names: &[&[u8]]| names.iter().try_fold(at, |path, name| path.join(name));
    let parent = joined(RelPath::root(), &names[..changed])?;
    let (below, near) = match &names[changed + 1..] {
        [] => (None, NEAR),
        below => (Some(below), NEAR_DIRECTORIES),
    };
    let Some(found) = tree.lookup(&parent)? else { return Ok(Vec::new()) };
    let Entry::Directory(dir) = found.entry else { return Ok(Vec::new()) };
    let mut listing = tree.list(&dir, found.rank)?;
    listing.seek_name(names[changed])?;
    let before = listing.clone().next().transpose()?.map_or(listing.total(), |next| next.index);
    listing.seek_index(before.saturating_sub(near))?;
    let mut out = Vec::new();
    for listed in listing.take(2 * near as usize + 1) {
        let listed = listed?;
        let entry = match (below, &listed.entry) {
            _ if listed.name == names[changed] => continue,
            (None, entry) => Some(entry.clone()),
            (Some(below), Entry::Directory(_)) => {
                let path = joined(parent.join(&listed.name)?, below)?;
                tree.lookup(&path)?.map(|found| found.entry)
            }
            (Some(_), _) => None,
        };
        if let Some(Entry::File { digest, size, .. }) = entry
            && sizes.contains(&size)
        {
            out.push((listed.name, Earlier { digest, size, stored_at: i64::MIN }));
        }
    }
    Ok(out)
}

/// How alike two names are: whether they differ only in numbers, and how many bytes they share at both ends.
fn likeness(a: &[u8], b: &[u8]) -> (bool, usize) {
    let begin = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let end = a[begin..].iter().rev().zip(b[begin..].iter().rev()).take_while(|(a, b)| a == b).count();
    (without_numbers(a).eq(without_numbers(b)), begin + end)
}

/// The bytes of a name, with the first digit of each number as `0` and without the others.
fn without_numbers(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let is_digit = |i: usize| name[i].is_ascii_digit();
    let kept = move |i: &usize| !is_digit(*i) || *i == 0 || !is_digit(*i - 1);
    (0..name.len()).filter(kept).map(move |i| if is_digit(i) { b'0' } else { name[i] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_numbers_are_more_alike_than_others() {
        let most_alike = |name: &str, others: &[&'static str]| {
            *others.iter().max_by_key(|other| likeness(name.as_bytes(), other.as_bytes())).unwrap()
        };
        assert_eq!(most_alike("v10", &["v1a", "v9"]), "v9");
        assert_eq!(most_alike("step-2000.bin", &["step-2000.txt", "step-999.bin"]), "step-999.bin");
        assert_eq!(most_alike("day-2026-12-01.parquet", &["day-2026-11-30.csv", "day-2026-11-30.parquet"]), {
            "day-2026-11-30.parquet"
        });
        assert_eq!(most_alike("new.csv", &["old.txt", "old.csv", ""]), "old.csv");
        assert_eq!(likeness(b"12a3", b"4a567"), (true, 0));
        assert_eq!(likeness(b"aa", b"aaa"), (false, 2));
    }
}
