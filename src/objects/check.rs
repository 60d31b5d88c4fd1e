//! Reading content whole, for `verify`: every byte of a pack or object is covered by a digest that is compared here.

use super::codec::{StoredBytes, unpacked};
use super::content_store::Objects;
use super::damage::{Damage, StoredFile};
use super::hints::{self, Hints};
use super::miss::Miss;
use super::object_file::has_object_time;
use super::pack::{BLOB_HEADER, Blob, BlobKind, HEAD};
use super::pack_file::PackFile;
use super::recipe::Recipe;
use crate::disk::{self, hash_file};
use crate::error::{Error, Result};
use crate::types::Digest;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// The blobs of a pack, as far as its footer is right.
#[derive(Debug, Default)]
pub struct PackContents {
    /// Blobs that are right: digest, kind, stored length.
    pub blobs: Vec<(Digest, BlobKind, u32)>,
    /// The offsets of their headers, in the same order.
    pub offsets: Vec<u32>,
    /// Bytes read.
    pub bytes: u64,
}

/// Bytes of a pack that are read at once.
const WINDOW: usize = 4 << 20;

impl Objects {
    /// Reads only a pack's footer.
    ///
    /// # Errors
    /// I/O.
    pub fn list_pack(&self, pack: &StoredFile, damage: &mut Vec<Damage>) -> Result<PackContents> {
        let Some(name) = pack.name else {
            damage.push(Damage::ForeignFile);
            return Ok(PackContents::default());
        };
        match PackFile::open(pack.path.clone()).and_then(|file| file.footer(&name)) {
            Ok((footer, _)) => Ok(PackContents {
                blobs: footer.blobs.iter().map(|b| (b.digest, b.kind, b.len)).collect(),
                offsets: footer.blobs.iter().map(|b| b.offset).collect(),
                bytes: 0,
            }),
            Err(miss) => record_miss(miss, damage).map(|()| PackContents::default()),
        }
    }

    /// Reads a whole pack in order and checks every byte of it: footer, headers, blobs, nodes, hints (F1, F8, F11).
    ///
    /// # Errors
    /// I/O.
    pub fn check_pack(&self, pack: &StoredFile, damage: &mut Vec<Damage>) -> Result<PackContents> {
        let Some(name) = pack.name else {
            damage.push(Damage::ForeignFile);
            return Ok(PackContents::default());
        };
        let opened = PackFile::open(pack.path.clone()).and_then(|file| Ok((file.footer(&name)?, file)));
        let ((footer, start), file) = match opened {
            Ok(opened) => opened,
            Err(miss) => {
                return record_miss(miss, damage)
                    .map(|()| PackContents { bytes: pack.size, ..PackContents::default() });
            }
        };
        check_pack_mode(&pack.path, &name, damage)?;
        let Some(file) = file.file() else { return Ok(PackContents::default()) };
        disk::advise_sequential(file);
        let mut window = Window::new(file, &pack.path, start);
        check_magic(&mut window, &name, damage)?;
        let mut order = footer.blobs;
        order.sort_unstable_by_key(|b| b.offset);
        let mut right = PackContents { bytes: pack.size, ..PackContents::default() };
        for blob in order {
            if self.check_blob(&blob, &mut window, damage)? {
                right.blobs.push((blob.digest, blob.kind, blob.len));
                right.offsets.push(blob.offset);
            }
        }
        Ok(right)
    }

    /// Whether a blob is right.
    pub(super) fn check_blob(&self, blob: &Blob, window: &mut Window<'_>, damage: &mut Vec<Damage>) -> Result<bool> {
        let wrong = |why| Damage::Blob { digest: blob.digest, kind: blob.kind, why };
        let bytes = match window.get(u64::from(blob.offset), BLOB_HEADER + blob.len as usize) {
            Err(e) if e.is_about_one_file() => {
                damage.push(wrong(format!("{e:#}")));
                return Ok(false);
            }
            bytes => bytes?,
        };
        match self.check_blob_bytes(blob, bytes) {
            Ok(Hints::Whole) => Ok(true),
            Ok(Hints::Damaged) => {
                damage.push(Damage::Hints(blob.digest));
                Ok(true)
            }
            Err(why) => {
                damage.push(wrong(why));
                Ok(false)
            }
        }
    }

    fn check_blob_bytes(&self, blob: &Blob, bytes: &[u8]) -> std::result::Result<Hints, String> {
        let (header, body) = bytes.split_at(BLOB_HEADER);
        if Blob::from_header(header, blob.offset) != Some(*blob) {
            return Err("its header differs from its footer entry".into());
        }
        let body = unpacked(StoredBytes { codec: blob.codec, bytes: body })?;
        let (found, hints) = match blob.kind {
            BlobKind::Content => (Digest::of(&body), Hints::Whole),
            BlobKind::Recipe => Recipe::parse(&body, &blob.digest).map(|_| (blob.digest, Hints::Whole))?,
            BlobKind::Node => {
                let (node, hints) = hints::decode(&body, None, self.table()).map_err(|e| format!("{e:#}"))?;
                (node.digest(), hints)
            }
        };
        if found == blob.digest { Ok(hints) } else { Err(format!("its bytes have digest {found}")) }
    }

    /// Reads a whole object file and compares it with its name (F1).
    ///
    /// # Errors
    /// I/O.
    pub fn check_object(&self, object: &StoredFile, damage: &mut Vec<Damage>) -> Result<()> {
        let Some(name) = object.name else {
            damage.push(Damage::ForeignFile);
            return Ok(());
        };
        let Some((file, _)) = disk::open_file(&object.path)? else { return Ok(()) }; // a collector removed it
        let (found, _) = hash_file(&file, &object.path, &mut |_| Ok(()))?;
        let meta = file.metadata().map_err(|e| Error::io("stat", &object.path, e))?;
        if found != name {
            damage.push(Damage::Object(name, format!("its bytes have digest {found}")));
        } else if is_touched(&meta) {
            damage.push(Damage::Touched(name));
        }
        Ok(())
    }

    /// Checks an object's time and mode, and reads nothing.
    ///
    /// # Errors
    /// I/O.
    pub fn check_object_metadata(&self, object: &StoredFile, damage: &mut Vec<Damage>) -> Result<()> {
        let Some(name) = object.name else {
            damage.push(Damage::ForeignFile);
            return Ok(());
        };
        if disk::lstat(&object.path)?.is_some_and(|meta| is_touched(&meta)) {
            damage.push(Damage::Touched(name));
        }
        Ok(())
    }
}

/// Whether a file does not have an object's time, or is writable.
fn is_touched(meta: &Metadata) -> bool {
    !has_object_time(meta) || meta.mode() & 0o222 != 0
}

/// A pack is not writable (F1).
fn check_pack_mode(path: &Path, name: &Digest, damage: &mut Vec<Damage>) -> Result<()> {
    if disk::lstat(path)?.is_some_and(|meta| meta.mode() & 0o222 != 0) {
        damage.push(Damage::Writable(*name));
    }
    Ok(())
}

fn check_magic(window: &mut Window<'_>, name: &Digest, damage: &mut Vec<Damage>) -> Result<()> {
    match window.get(0, HEAD.len()) {
        Err(e) if e.is_about_one_file() => {} // the first blob shows it
        Err(e) => return Err(e),
        Ok(head) if head == HEAD => {}
        Ok(_) => damage.push(Damage::Footer(format!("pack {name} does not begin as a pack"))),
    }
    Ok(())
}

fn record_miss(miss: Miss, damage: &mut Vec<Damage>) -> Result<()> {
    match miss {
        Miss::Gone => Ok(()), // a collector removed it
        Miss::Wrong(why) | Miss::Incomplete(why) => {
            damage.push(Damage::Footer(why));
            Ok(())
        }
        Miss::Io(e) => Err(e),
    }
}

/// A forward reader over the part of a pack that has blobs.
pub(super) struct Window<'a> {
    file: &'a File,
    path: &'a Path,
    bytes: Vec<u8>,
    from: u64,
    end: u64,
}

impl<'a> Window<'a> {
    /// Over the bytes before `end`.
    pub(super) fn new(file: &'a File, path: &'a Path, end: u64) -> Window<'a> {
        Window { file, path, bytes: Vec::new(), from: 0, end }
    }

    fn fill(&mut self, at: u64, len: usize) -> Result<()> {
        self.bytes.clear();
        self.bytes.resize(len, 0);
        self.from = at;
        let read = self.file.read_exact_at(&mut self.bytes, at).map_err(|e| Error::io("read", self.path, e));
        if read.is_err() {
            self.bytes.clear();
        }
        read
    }

    pub(super) fn get(&mut self, at: u64, len: usize) -> Result<&[u8]> {
        let inside = at >= self.from && at + len as u64 <= self.from + self.bytes.len() as u64;
        if !inside {
            let want = (self.end - at).min(len.max(WINDOW) as u64) as usize;
            // If a sector cannot be read, the bytes before and after it can.
            if let Err(e) = self.fill(at, want) {
                if !e.is_about_one_file() || want == len {
                    return Err(e);
                }
                self.fill(at, len)?;
            }
        }
        let start = (at - self.from) as usize;
        Ok(&self.bytes[start..start + len])
    }
}
