//! Where a packed blob is thought to lie: a hint, never a truth.

/// A pack by its number in the open store's pack table. Means nothing outside this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct PackRef(pub u32);

/// Where a packed blob or node lies: pack and the offset of its blob header. Checked by that header whenever it is
/// used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Location {
    /// The pack.
    pub pack: PackRef,
    /// Byte offset of the blob's header in the pack.
    pub offset: u32,
}
