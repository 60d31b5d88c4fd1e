//! References: content that stays where it is. What a URI names is found when it is added; its bytes are read on demand
//! and checked against what was recorded.
//!
//! | URI | recorded under checksum | a change is noticed by |
//! |---|---|---|
//! | `file:///PATH` | size, SHA-256 | the file is hashed once for each state (time stamps, inode) |
//! | `http(s)://` | size (measured if need be), ETag or time of change | `If-Match` on each range; each ETag |
//! | `s3://`, `gs://`, `az://` | size, ETag | the same |
//! | any other | nothing | it cannot be read |
//!
//! The network is behind the feature `remote`, in one trait (`source::Source`).

#[cfg(feature = "remote")]
mod aws;
#[cfg(feature = "remote")]
mod blocks;
#[cfg(feature = "remote")]
mod body;
#[cfg(feature = "remote")]
mod buckets;
mod caching;
#[cfg(feature = "remote")]
mod connector;
#[cfg(feature = "remote")]
mod far;
mod find;
#[cfg(feature = "remote")]
mod http;
mod local;
mod named;
#[cfg(feature = "remote")]
mod network;
mod opened;
#[cfg(feature = "remote")]
mod runtime;
#[cfg(feature = "remote")]
mod source;
mod uri;
mod whole;

pub use caching::references_directory;
pub(crate) use caching::use_cache;
pub(crate) use find::find;
pub(crate) use named::{FindOptions, Named};
pub(crate) use opened::check;
pub(crate) use opened::{OpenReference, is_readable};
#[cfg(feature = "fuse")]
pub(crate) use opened::{kept, longest_wait};
pub use uri::shown_uri;
pub(crate) use uri::{Location, Uri, local_path};
pub(crate) use whole::{read_whole, read_whole_into_cache};
