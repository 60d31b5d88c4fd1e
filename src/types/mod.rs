//! The vocabulary: validated values without I/O.

mod digest;
mod location;
mod name;
mod relpath;

pub use digest::{Digest, Hasher};
pub use location::{Location, PackRef};
pub use name::{AliasName, ArtifactName, ArtifactType, DistributedId, RunId, Tag, Token, VersionNumber};
pub use relpath::{MAX_NAME, MAX_PATH, RelPath, is_entry_name};
