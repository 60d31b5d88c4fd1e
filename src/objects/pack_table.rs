//! Numbers for packs: a [`crate::types::Location`] takes eight bytes, and an open pack has a number before it has a
//! name.

use crate::locks::RwLock;
use crate::types::{Digest, PackRef};
use std::collections::HashMap;

/// The packs that this process knows.
#[derive(Debug)]
pub(super) struct PackTable(RwLock<PackNumbers>);

#[derive(Debug, Default)]
struct PackNumbers {
    names: Vec<Option<Digest>>,
    numbers: HashMap<Digest, PackRef>,
}

impl Default for PackTable {
    /// A forked child keeps the numbers: nodes in its caches name packs by them.
    fn default() -> Self {
        PackTable(RwLock::table(PackNumbers::default()))
    }
}

impl PackTable {
    /// The number of the pack with that name.
    pub(super) fn intern(&self, name: &Digest) -> PackRef {
        if let Some(found) = self.0.read().numbers.get(name) {
            return *found;
        }
        let mut inner = self.0.write();
        if let Some(found) = inner.numbers.get(name) {
            return *found;
        }
        let number = PackRef(inner.names.len() as u32);
        inner.names.push(Some(*name));
        inner.numbers.insert(*name, number);
        number
    }

    /// A number for a pack that will be written.
    pub(super) fn reserve(&self) -> PackRef {
        let mut inner = self.0.write();
        inner.names.push(None);
        PackRef(inner.names.len() as u32 - 1)
    }

    /// Sets the name of a pack whose number was reserved.
    pub(super) fn set_name(&self, number: PackRef, name: Digest) {
        let mut inner = self.0.write();
        inner.names[number.0 as usize] = Some(name);
        inner.numbers.entry(name).or_insert(number);
    }

    /// A pack's name; `None` while it is being written.
    pub(super) fn name(&self, number: PackRef) -> Option<Digest> {
        *self.0.read().names.get(number.0 as usize)?
    }
}
