//! Packs by number: so that a place takes eight bytes, and an open pack has one before it has a name.

use crate::types::{Digest, PackRef};
use parking_lot::RwLock;
use std::collections::HashMap;

/// The packs that this process has heard of.
#[derive(Debug, Default)]
pub(super) struct PackTable(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    names: Vec<Option<Digest>>,
    numbers: HashMap<Digest, PackRef>,
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

    /// A number for a pack being written.
    pub(super) fn reserve(&self) -> PackRef {
        let mut inner = self.0.write();
        inner.names.push(None);
        PackRef(inner.names.len() as u32 - 1)
    }

    /// The pack being written got its name.
    pub(super) fn named(&self, number: PackRef, name: Digest) {
        let mut inner = self.0.write();
        inner.names[number.0 as usize] = Some(name);
        inner.numbers.entry(name).or_insert(number);
    }

    /// A pack's name; `None` while it is being written.
    pub(super) fn name(&self, number: PackRef) -> Option<Digest> {
        *self.0.read().names.get(number.0 as usize)?
    }
}
