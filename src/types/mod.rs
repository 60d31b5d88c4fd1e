//! The vocabulary: validated values without I/O.
//!
//! Each type that comes from text has `parse` and [`FromStr`](std::str::FromStr), which are the same, and fails with a
//! usage error; [`RelPath::parse`] takes bytes, because a path need not be UTF-8. Where the library reads names that
//! may belong to something else, such as a directory's entries, it asks with `of_text` or `of_hex`, which give an
//! `Option`.

mod digest;
mod location;
mod name;
mod relpath;

pub use digest::{Digest, Hasher};
pub use location::{Location, PackRef};
pub use name::{AliasName, ArtifactName, ArtifactType, DistributedId, RunId, Tag, Token, VersionNumber};
pub use relpath::{MAX_NAME, MAX_PATH, RelPath, is_entry_name};
