//! Where names are in directories that are put together entry by entry, so that the cost of an entry does not grow with
//! the size of its directory.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Directories with at most this many entries are searched.
const SEARCHED: usize = 32;

/// The positions of names, for each directory in which one was looked for. Entries may only be added at the end; after
/// any other change the index must be dropped.
#[derive(Debug, Default)]
pub(super) struct NameIndex {
    hashes: RandomState,
    directories: HashMap<u32, IndexedNames>,
}

#[derive(Debug, Default)]
struct IndexedNames {
    /// How many entries are in the index.
    until: usize,
    /// The last position of a name with that hash.
    last: HashMap<u64, usize>,
}

impl NameIndex {
    /// The last position of `name` in directory `dir`, whose entries are `items`.
    pub(super) fn find<T>(
        &mut self,
        dir: u32,
        items: &[T],
        name: &[u8],
        name_of: impl Fn(&T) -> &[u8],
    ) -> Option<usize> {
        if items.len() <= SEARCHED {
            return items.iter().rposition(|item| name_of(item) == name);
        }
        let indexed = self.directories.entry(dir).or_default();
        for (at, item) in items.iter().enumerate().skip(indexed.until) {
            indexed.last.insert(self.hashes.hash_one(name_of(item)), at);
        }
        indexed.until = items.len();
        let at = *indexed.last.get(&self.hashes.hash_one(name))?;
        if name_of(&items[at]) == name {
            return Some(at);
        }
        items.iter().rposition(|item| name_of(item) == name) // two names with one hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn each_name_is_read_a_few_times_however_many_there_are() {
        let (mut index, mut names, read) = (NameIndex::default(), Vec::<Vec<u8>>::new(), Cell::new(0u64));
        let mut find = |names: &[Vec<u8>], name: &[u8]| {
            index.find(7, names, name, |found| {
                read.set(read.get() + 1);
                found
            })
        };
        for n in 0..20_000 {
            let name = format!("name-{n}").into_bytes();
            assert_eq!(find(&names, &name), None);
            names.push(name.clone());
            assert_eq!(find(&names, &name), Some(n));
            assert_eq!(find(&names, format!("name-{}", n / 2).as_bytes()), Some(n / 2));
        }
        assert!(read.get() < 100_000, "{} names were read", read.get());
        // Of equal names, the last one counts.
        names.push(b"name-5".to_vec());
        assert_eq!(find(&names, b"name-5"), Some(20_000));
    }
}
