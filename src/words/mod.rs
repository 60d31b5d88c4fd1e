//! The vocabulary: validated values without I/O.

mod digest;
mod name;
mod place;
mod relpath;

pub use digest::{Digest, Hasher};
pub use name::{AliasName, ArtifactName, ArtifactType, DistributedId, RunId, Tag, Token, VersionNumber};
pub use place::{PackRef, Place};
pub use relpath::{MAX_NAME, MAX_PATH, RelPath, is_entry_name};
