//! W&B's manifest of an artifact, version 1: for each file its MD5, and one MD5 over all.
//!
//! The source is wandb's `ArtifactManifestV1`: the digest of the whole is the MD5 of `wandb-artifact-manifest-v1\n`
//! and, in path order, `PATH:DIGEST\n` for each entry, where a file's digest is its MD5 in base64.

use crate::catalog::Version;
use crate::error::{Error, Result};
use crate::manifest::Entry;
use crate::types::RelPath;
use base64::Engine as _;
use md5::{Digest as _, Md5};
use serde_json::{Map, Value, json};
use std::io::Read;

/// W&B's manifest of a version.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WandbManifest {
    /// The JSON that wandb writes.
    pub json: Value,
    /// The digest of the whole: MD5 in hexadecimal digits.
    pub digest: String,
    /// What W&B's manifest cannot name: symlinks and empty directories.
    pub omitted: Vec<RelPath>,
}

/// Makes W&B's manifest of a version. Reads and hashes every file.
///
/// # Errors
/// Usage: a path that is not UTF-8. Damaged; I/O.
pub fn wandb_manifest(version: &Version) -> Result<WandbManifest> {
    let mut entries: Vec<(String, Value)> = Vec::new();
    let mut omitted = Vec::new();
    for visit in version.entries()? {
        let visit = visit?;
        let entry = match &visit.entry {
            Entry::File { size, .. } => {
                json!({ "digest": md5_of_file(version, &visit.path, &visit.entry)?, "size": size })
            }
            Entry::Reference(r) => {
                let digest = r.etag.clone().unwrap_or_else(|| r.uri.clone());
                let mut entry = json!({ "digest": digest, "ref": r.uri });
                if let Some(size) = r.size {
                    entry["size"] = size.into();
                }
                entry
            }
            Entry::Directory(dir) if dir.totals().entries > 0 => continue,
            Entry::Directory(_) | Entry::Symlink { .. } => {
                omitted.push(visit.path);
                continue;
            }
        };
        let path = String::from_utf8(visit.path.as_bytes().to_vec()).map_err(|_| {
            Error::usage(format!("{} of {version} cannot be in W&B's manifest: its path is not UTF-8", visit.path))
        })?;
        entries.push((path, entry));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0)); // by the whole path, where a walk is by names
    let mut whole = Md5::new_with_prefix("wandb-artifact-manifest-v1\n");
    for (path, entry) in &entries {
        whole.update(format!("{path}:{}\n", entry["digest"].as_str().unwrap_or_default()));
    }
    let digest = whole.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let json = json!({
        "version": 1,
        "storagePolicy": "wandb-storage-policy-v1",
        "storagePolicyConfig": { "storageLayout": "V2" },
        "contents": entries.into_iter().collect::<Map<_, _>>(),
    });
    Ok(WandbManifest { json, digest, omitted })
}

/// MD5 in base64.
fn md5_of_file(version: &Version, path: &RelPath, entry: &Entry) -> Result<String> {
    let mut file = version.open_entry(path, entry)?;
    let mut hash = Md5::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hash.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => {
                return Err(e
                    .downcast::<Error>()
                    .unwrap_or_else(|e| Error::io_message(format!("cannot read {path} of {version}")).with_source(e)));
            }
        }
    }
    let digest: [u8; 16] = hash.finalize().into();
    Ok(base64::engine::general_purpose::STANDARD.encode(digest))
}
