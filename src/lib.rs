//! cairn keeps versions of directories on plain disk: immutable, content-addressed, mountable, without a server.
//!
//! A [`Store`] is a directory. It holds artifacts; each artifact has numbered versions (`images:v0`, `images:v1`, …)
//! and aliases that point to them (`images:prod`). Any number of processes on any number of hosts may write to one
//! store at once, over NFS or any other shared POSIX file system.
//!
//! # Making a version
//!
//! An [`Artifact`] collects what becomes a version. If the newest version has the same content, no version is made.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # std::env::set_current_dir(&dir).unwrap();
//! # std::fs::create_dir("photos").unwrap();
//! # std::fs::write("photos/a.png", "…").unwrap();
//! use cairn::{Artifact, InitOptions, Store};
//!
//! let store = Store::init("store", &InitOptions::default())?;
//! let mut images = Artifact::new("images", "dataset")?;
//! images.add_dir("photos")?;
//! images.add_bytes("README", "one photo")?;
//! let published = images.save(&store)?;
//! assert_eq!(published.version.to_string(), "images:v0");
//! # Ok::<(), cairn::Error>(())
//! ```
//!
//! # Reading a version
//!
//! [`Store::version`] takes what people type: a name, a number, an alias. A [`Version`] gives its files, its entries,
//! and its differences from another version; [`Version::checkout`] writes it to a directory.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let store = cairn::Store::init(dir.path().join("store"), &Default::default())?;
//! # let mut images = cairn::Artifact::new("images", "dataset")?;
//! # images.add_bytes("README", "one photo")?;
//! # images.save(&store)?;
//! use std::io::Read;
//!
//! let version = store.version("images:latest")?;
//! let mut text = String::new();
//! version.open("README")?.read_to_string(&mut text).unwrap();
//! assert_eq!(text, "one photo");
//! for entry in version.entries()? {
//!     println!("{}", entry?.path);
//! }
//! version.checkout(dir.path().join("out"), &Default::default())?;
//! version.add_alias("prod")?;
//! # Ok::<(), cairn::Error>(())
//! ```
//!
//! # Changing a few files
//!
//! A patch costs what the difference costs, however large the version is. If another process publishes a version
//! meanwhile, the patch is rebased on it; if both changed the same path, saving fails with a conflict.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let store = cairn::Store::init(dir.path().join("store"), &Default::default())?;
//! # let mut images = cairn::Artifact::new("images", "dataset")?;
//! # images.add_bytes("README", "one photo")?.add_bytes("a.png", "…")?;
//! # images.save(&store)?;
//! let v0 = store.version("images")?;
//! let mut patch = v0.new_draft();
//! patch.add_bytes("README", "no photo")?.remove("a.png")?;
//! let v1 = patch.save(&store)?.version;
//! let changed: Vec<_> = v0.diff(&v1)?.map(|c| c.map(|c| c.path.to_string())).collect::<Result<_, _>>()?;
//! assert_eq!(changed, ["README", "a.png"]);
//! # Ok::<(), cairn::Error>(())
//! ```
//!
//! # One version from many runs
//!
//! Runs that share a distributed id each contribute files, in any order, at once, on any host. One of them finishes:
//! all contributions become one version, and the id is closed.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let store = cairn::Store::init(dir.path().join("store"), &Default::default())?;
//! use cairn::{Artifact, Run, RunOptions, Store};
//!
//! fn contribute(store: &Store, rank: u32) -> cairn::Result<Run> {
//!     let run = Run::new(store, RunOptions::default().id(format!("rank-{rank}")))?;
//!     let mut part = Artifact::new("scores", "dataset")?;
//!     part.add_bytes(format!("{rank}.csv"), "0.5")?;
//!     run.upsert_artifact(&part, "eval-7")?;
//!     Ok(run)
//! }
//!
//! contribute(&store, 0)?;
//! contribute(&store, 1)?;
//! let last = contribute(&store, 2)?;
//! let published = last.finish_artifact(&Artifact::new("scores", None)?, "eval-7")?;
//! assert_eq!(published.version.record().files, 3);
//! # Ok::<(), cairn::Error>(())
//! ```
//!
//! # Errors
//!
//! An [`Error`] has a [`Kind`], which says what its reader can do, and for programs a [`Detail`](error::Detail): the
//! paths in conflict, the process that holds a lock, the names that are near to one that does not exist.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let store = cairn::Store::init(dir.path().join("store"), &Default::default())?;
//! use cairn::error::{Detail, Kind};
//!
//! let e = store.version("imges").unwrap_err();
//! assert_eq!((e.kind(), e.message()), (Kind::NotFound, "there is no artifact imges"));
//! assert!(matches!(e.detail(), Some(Detail::NotFound { .. })));
//! # Ok::<(), cairn::Error>(())
//! ```
#![cfg_attr(
    feature = "fuse",
    doc = r#"
# Mounting

[`fuse::mount_version`] and [`fuse::mount_store`] serve a version or a whole store to the kernel. The call returns when
the mount answers; a daemon in the background serves it.

```no_run
use cairn::Store;
use cairn::fuse::{MountOptions, VersionView, mount_version, unmount};
use std::path::Path;

let (root, mnt) = (Path::new("store"), Path::new("/mnt/images"));
let view = |at: &Path| VersionView::of(&Store::open(root)?.version("images:v0")?, at);
mount_version(view, root, mnt, &MountOptions::default())?;
# Ok::<(), cairn::Error>(())
```
"#
)]
//!
//! # Features
//!
//! - `fuse` (default): mounts, in the module `fuse`.
//! - `remote` (default): references to `http(s)://`, `s3://`, `gs://` and `az://` are added and read. Without it only
//!   those to `file://` and `cairn://` are, and the others are recorded with `checksum(false)`.
//! - `cli` (default): what only the commands `cairn` and `cairnfs` need. Leave it out in a program that uses
//!   the library.
//!
//! # Where is what
//!
//! The names at the root are what most programs need. [`assets`] has typed objects, [`catalog`] has names, aliases,
//! annotations, drafts, removals and searches, [`manifest`] the tree of entries of a version, [`view`] reading and
//! checkout, [`export`] archives, [`verify`] the check of a store, [`types`] the validated names. [`internals`] is for
//! the project's own tests and commands.

mod access;
pub mod assets;
#[cfg_attr(
    not(all(feature = "fuse", feature = "remote")),
    allow(dead_code, reason = "mounts and references use all of it")
)]
mod cache;
pub mod catalog;
mod clock;
mod commit;
mod disk;
pub mod error;
pub mod export;
#[cfg(feature = "fuse")]
pub mod fuse;
pub mod gc;
mod ingest;
mod layout;
mod lock;
mod locks;
pub mod manifest;
mod memory;
#[cfg(feature = "fuse")]
mod mount;
mod objects;
mod pins;
mod prefixes;
pub mod progress;
#[cfg_attr(
    not(all(feature = "fuse", feature = "remote")),
    allow(dead_code, reason = "mounts and references use all of it")
)]
mod recent_cache;
mod record;
mod remote;
mod repair;
mod setters;
pub mod staging;
mod store;
mod threads;
mod txn;
pub mod types;
pub mod verify;
pub mod view;

pub use catalog::{Draft, OnConflict, Version, VersionSpec, resolve};
pub use commit::{
    Artifact, FileWriter, FinishOptions, Published, ReferenceOptions, Run, RunOptions, SaveOptions, UpsertOptions,
    Upserted,
};
pub use error::{Error, Kind, Result};
pub use ingest::ScanOptions;
pub use lock::DraftLock;
pub use repair::{RepairReport, Repaired, repair};
pub use store::{Compression, InitOptions, Store};

/// What the project's own commands, tests and benches use beyond the public surface. It may change in any release; no
/// other program should use it.
#[doc(hidden)]
pub mod internals {
    /// Records of the catalog.
    pub mod catalog {
        /// Artifacts.
        pub mod artifact {
            pub use crate::catalog::artifact::*;
        }
        /// Lost numbers.
        pub mod lost {
            pub use crate::catalog::lost::*;
        }
        /// The `manifest` file of a version.
        pub mod manifest_file {
            pub use crate::catalog::manifest_file::*;
        }
        /// How alike names are.
        pub mod similar {
            pub use crate::catalog::similar::*;
        }
        /// Removals.
        pub mod removal {
            pub use crate::catalog::removal::*;
        }
        /// Versions by number.
        pub mod version {
            pub use crate::catalog::version::*;
        }
    }
    /// Node-local caches.
    pub mod cache {
        pub use crate::cache::*;
        pub use crate::remote::references_directory;
    }
    /// Times as records and lists show them.
    pub mod clock {
        pub use crate::clock::*;
    }
    /// Making versions, step by step.
    pub mod commit {
        pub use crate::commit::*;
    }
    /// The only place that changes the disk.
    pub mod disk {
        pub use crate::disk::*;
    }
    /// Who may use a store.
    pub mod access {
        pub use crate::access::*;
    }
    /// Every path of FORMAT.md.
    pub mod layout {
        pub use crate::layout::*;
    }
    /// Locks of processes.
    pub mod lock {
        pub use crate::lock::*;
    }
    /// Nodes of manifests.
    pub mod manifest {
        pub use crate::manifest::internals::*;
    }
    /// Mount points and daemons.
    #[cfg(feature = "fuse")]
    pub mod mount {
        pub use crate::mount::*;
    }
    /// Packs and object files.
    pub mod objects {
        pub use crate::objects::*;
    }
    /// Versions in use.
    pub mod pins {
        pub use crate::pins::*;
    }
    /// JSON records with their SHA-256.
    pub mod record {
        pub use crate::record::*;
    }
    /// The store's configuration.
    pub mod store {
        pub use crate::store::*;
    }
    /// Tokens and claims.
    pub mod txn {
        pub use crate::txn::*;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_shared_between_threads<T: Send + Sync>() {}

    #[test]
    fn handles_can_be_shared_between_threads() {
        is_shared_between_threads::<Store>();
        is_shared_between_threads::<Version>();
        is_shared_between_threads::<Draft>();
        is_shared_between_threads::<Run>();
        is_shared_between_threads::<Artifact>();
        is_shared_between_threads::<manifest::Tree>();
        is_shared_between_threads::<Error>();
    }
}
