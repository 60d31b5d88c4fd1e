//! Lost numbers: a number whose link is lost is claimed again for the record that had it, if that record is certain.
//!
//! A record is certain for a number if no other record without a number fits, and if it fits no other lost number. If
//! there are as many records as lost numbers, what is certain for one of them decides about the others. Nothing is
//! guessed.

use crate::catalog::{Mode, Version, VersionRecord, lost};
use crate::error::Result;
use crate::store::Store;
use crate::txn::claim::{self, Claimed};
use crate::types::{ArtifactName, VersionNumber};
use std::collections::BTreeMap;

/// Claims the lost numbers of an artifact again, as far as their records are certain. Returns how many.
///
/// # Errors
/// I/O.
pub(super) fn repair(store: &Store, name: &ArtifactName) -> Result<u64> {
    let lost: Vec<VersionNumber> = lost::lost_numbers(store, name)?.into_keys().collect();
    if lost.is_empty() {
        return Ok(0);
    }
    let records = lost::unnumbered(store, name)?;
    let mut fits: Vec<(usize, VersionNumber)> = Vec::new();
    for (i, (_, record)) in records.iter().enumerate() {
        for number in &lost {
            if may_have(store, name, record, *number)? {
                fits.push((i, *number));
            }
        }
    }
    let mut done = 0;
    for (number, i) in certain(fits, lost.len() == records.len()) {
        let path = store.layout().version(name, number);
        if let Claimed::Own = claim::claim(store, &path, &records[i].0)? {
            done += 1;
        }
    }
    if done > 0 {
        store.disk().sync_dir(&store.layout().versions(name))?;
    }
    Ok(done)
}

/// Whether a record may have been at a number: its claim can have come there (FORMAT.md, "The claim", C6).
fn may_have(store: &Store, name: &ArtifactName, record: &VersionRecord, number: VersionNumber) -> Result<bool> {
    if record.from > number || (record.exact && record.from != number) || record.base.is_some_and(|base| base >= number)
    {
        return Ok(false);
    }
    if record.mode != Mode::Simple || record.always_new {
        return Ok(true);
    }
    // A version on the way with the same content would have been the answer.
    for passed in (record.from.0..number.0).map(VersionNumber) {
        if let Ok(Some(other)) = Version::read(store, name, passed)
            && other.digest() == record.digest
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The record of each number for which it is certain.
fn certain(mut fits: Vec<(usize, VersionNumber)>, as_many: bool) -> BTreeMap<VersionNumber, usize> {
    let mut out = BTreeMap::new();
    loop {
        let alone = |&(i, number): &(usize, VersionNumber)| {
            let record_fits = fits.iter().filter(|(other, _)| *other == i).count();
            let number_fits = fits.iter().filter(|(_, other)| *other == number).count();
            if as_many { record_fits == 1 || number_fits == 1 } else { record_fits == 1 && number_fits == 1 }
        };
        let Some((i, number)) = fits.iter().copied().find(alone) else { return out };
        fits.retain(|(other, at)| *other != i && *at != number);
        out.insert(number, i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fits: &[(usize, u64)], as_many: bool) -> Vec<(u64, usize)> {
        let fits = fits.iter().map(|(i, n)| (*i, VersionNumber(*n))).collect();
        certain(fits, as_many).into_iter().map(|(n, i)| (n.0, i)).collect()
    }

    #[test]
    fn only_what_is_certain_is_taken() {
        assert_eq!(found(&[(0, 1)], true), [(1, 0)]);
        assert_eq!(found(&[(0, 1), (1, 1)], false), [], "two records fit");
        assert_eq!(found(&[(0, 1), (0, 2)], false), [], "it fits two numbers");
        assert_eq!(found(&[(0, 1), (0, 2), (1, 2)], true), [(1, 0), (2, 1)], "the second decides about the first");
        assert_eq!(found(&[(0, 1), (0, 2), (1, 2)], false), [], "a third number or record is there");
        assert_eq!(found(&[(0, 1), (0, 2), (1, 1), (1, 2)], true), [], "they can be exchanged");
    }
}
