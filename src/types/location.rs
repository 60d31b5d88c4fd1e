//! Where a packed blob probably is. A location is only a hint.

/// A pack by its number in the open store's pack table. The number has no meaning outside this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct PackRef(pub u32);

/// Where a packed blob or node is: the pack and the offset of its blob header. That header is checked whenever a
/// location is used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Location {
    /// The pack.
    pub pack: PackRef,
    /// Byte offset of the blob's header in the pack.
    pub offset: u32,
}
