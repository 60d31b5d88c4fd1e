//! Reading content whole, for verify: every byte of a pack or object is covered by a digest that is compared here.

use super::hints::{self, Hints};
use super::index_segment::{Opened, Segment};
use super::pack::{BLOB_HEADER, Blob, HEAD, Kind};
use super::pack_file::{Miss, PackFile, read_footer};
use super::{Objects, large};
use crate::disk;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::types::{Digest, Location};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is wrong with a piece of stored content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A name that nothing of the store has.
    Stranger,
    /// A pack's footer or shape.
    Footer(String),
    /// One blob of a pack.
    Blob {
        /// Its digest, as the footer says.
        digest: Digest,
        /// What it is.
        kind: Kind,
        /// What was expected and found.
        why: String,
    },
    /// The hints of a node: read without them.
    Hints(Digest),
    /// An object's bytes.
    Object(Digest, String),
    /// An object's time or mode: its bytes are right.
    Touched(Digest),
    /// An index run: it is ignored and made anew.
    Segment(String),
    /// It cannot be read: what the system says.
    Unreadable(String),
}

/// A file of stored content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where it is.
    pub path: PathBuf,
    /// Its name's digest; `None` for a stranger.
    pub name: Option<Digest>,
    /// Its size in bytes.
    pub size: u64,
}

/// What a pack holds, as far as its footer is right.
#[derive(Debug, Default)]
pub struct PackContents {
    /// Blobs that are right: digest, kind, stored length.
    pub blobs: Vec<(Digest, Kind, u32)>,
    /// Bytes read.
    pub bytes: u64,
}

/// How much of a pack is read at once.
const WINDOW: usize = 4 << 20;

impl Objects {
    /// All packs, those in the trash included.
    ///
    /// # Errors
    /// I/O.
    pub fn stored_packs(&self) -> Result<Vec<Stored>> {
        let mut out = stored(&self.layout.packs(), |n| Digest::from_hex(n.as_bytes()))?;
        for batch in self.batches()? {
            out.extend(
                stored(&self.layout.trash().join(batch), |n| Digest::from_hex(n.strip_prefix("pack-")?.as_bytes()))?
                    .into_iter()
                    .filter(|s| s.name.is_some()),
            );
        }
        Ok(out)
    }

    /// The batches of the trash: its directories. Anything else there (what a file system keeps of an open file that
    /// was removed) is passed over.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn batches(&self) -> Result<Vec<OsString>> {
        let mut out = disk::list(&self.layout.trash())?;
        out.retain(|batch| disk::lstat(&self.layout.trash().join(batch)).is_ok_and(|m| m.is_some_and(|m| m.is_dir())));
        Ok(out)
    }

    /// All object files, those in the trash included.
    ///
    /// # Errors
    /// I/O.
    pub fn stored_objects(&self) -> Result<Vec<Stored>> {
        let mut out = Vec::new();
        for shard in disk::list(&self.layout.objects())? {
            let dir = self.layout.objects().join(&shard);
            if !disk::lstat(&dir)?.is_some_and(|m| m.is_dir()) {
                out.push(Stored { path: dir, name: None, size: 0 });
                continue;
            }
            out.extend(stored(&dir, |n| Digest::from_hex(format!("{}{n}", shard.to_str()?).as_bytes()))?);
        }
        for batch in self.batches()? {
            out.extend(
                stored(&self.layout.trash().join(batch), |n| Digest::from_hex(n.strip_prefix("object-")?.as_bytes()))?
                    .into_iter()
                    .filter(|s| s.name.is_some()),
            );
        }
        Ok(out)
    }

    /// Reads a pack's footer only.
    ///
    /// # Errors
    /// I/O.
    pub fn list_pack(&self, pack: &Stored, damage: &mut Vec<Damage>) -> Result<PackContents> {
        let Some(name) = pack.name else {
            damage.push(Damage::Stranger);
            return Ok(PackContents::default());
        };
        match PackFile::open(pack.path.clone()).and_then(|file| file.footer(&name)) {
            Ok((footer, _)) => {
                Ok(PackContents { blobs: footer.blobs.iter().map(|b| (b.digest, b.kind, b.len)).collect(), bytes: 0 })
            }
            Err(miss) => missed(miss, damage).map(|()| PackContents::default()),
        }
    }

    /// Reads a whole pack in order and compares every byte of it: footer, headers, blobs, nodes, hints (F1, F8, F11).
    ///
    /// # Errors
    /// I/O.
    pub fn check_pack(&self, pack: &Stored, damage: &mut Vec<Damage>) -> Result<PackContents> {
        let Some(name) = pack.name else {
            damage.push(Damage::Stranger);
            return Ok(PackContents::default());
        };
        let opened = PackFile::open(pack.path.clone()).and_then(|file| Ok((file.footer(&name)?, file)));
        let ((footer, start), file) = match opened {
            Ok(opened) => opened,
            Err(miss) => return missed(miss, damage).map(|()| PackContents { blobs: Vec::new(), bytes: pack.size }),
        };
        disk::will_read_in_order(file.file());
        let mut window = Window { file: file.file(), path: &pack.path, bytes: Vec::new(), from: 0, end: start };
        match window.get(0, HEAD.len()) {
            Err(e) if e.is_about_one_file() => {} // the blobs tell
            Err(e) => return Err(e),
            Ok(head) if head == HEAD => {}
            Ok(_) => damage.push(Damage::Footer(format!("pack {name} does not begin as a pack"))),
        }
        let mut order = footer.blobs;
        order.sort_unstable_by_key(|b| b.offset);
        let mut right = Vec::with_capacity(order.len());
        for blob in order {
            let bytes = match window.get(u64::from(blob.offset), BLOB_HEADER + blob.len as usize) {
                Err(e) if e.is_about_one_file() => {
                    damage.push(Damage::Blob { digest: blob.digest, kind: blob.kind, why: format!("{e:#}") });
                    continue;
                }
                bytes => bytes?,
            };
            match self.check_blob(&blob, bytes) {
                Ok(hints) => {
                    if hints == Hints::Damaged {
                        damage.push(Damage::Hints(blob.digest));
                    }
                    right.push((blob.digest, blob.kind, blob.len));
                }
                Err(why) => damage.push(Damage::Blob { digest: blob.digest, kind: blob.kind, why }),
            }
        }
        Ok(PackContents { blobs: right, bytes: pack.size })
    }

    fn check_blob(&self, blob: &Blob, bytes: &[u8]) -> std::result::Result<Hints, String> {
        let (header, body) = bytes.split_at(BLOB_HEADER);
        if Blob::from_header(header, blob.offset) != Some(*blob) {
            return Err("its header is not what the footer says".into());
        }
        let found = match blob.kind {
            Kind::Content => (Digest::of(body), Hints::Whole),
            Kind::Node => {
                let (node, hints) = hints::decode(body, None, &self.table).map_err(|e| format!("{e:#}"))?;
                (node.digest(), hints)
            }
        };
        if found.0 == blob.digest { Ok(found.1) } else { Err(format!("its bytes have digest {}", found.0)) }
    }

    /// Reads a whole object file and compares it with its name (F1).
    ///
    /// # Errors
    /// I/O.
    pub fn check_object(&self, object: &Stored, damage: &mut Vec<Damage>) -> Result<()> {
        let Some(name) = object.name else {
            damage.push(Damage::Stranger);
            return Ok(());
        };
        let Some((file, _)) = disk::open_file(&object.path)? else { return Ok(()) }; // freed meanwhile
        let (found, _) = large::hash_file(&file, &object.path, &mut |_| Ok(()))?;
        let meta = file.metadata().map_err(|e| Error::io("look at", &object.path, e))?;
        if found != name {
            damage.push(Damage::Object(name, format!("its bytes have digest {found}")));
        } else if !large::untouched(&meta) || meta.mode() & 0o222 != 0 {
            damage.push(Damage::Touched(name));
        }
        Ok(())
    }

    /// Compares an object's time with what it was left with; nothing is read.
    ///
    /// # Errors
    /// I/O.
    pub fn glance_at_object(&self, object: &Stored, damage: &mut Vec<Damage>) -> Result<()> {
        let Some(name) = object.name else {
            damage.push(Damage::Stranger);
            return Ok(());
        };
        if let Some(meta) = disk::lstat(&object.path)?
            && (!large::untouched(&meta) || meta.mode() & 0o222 != 0)
        {
            damage.push(Damage::Touched(name));
        }
        Ok(())
    }

    /// Where content lies by the packs' own footers, each read once, whatever the index says.
    ///
    /// # Errors
    /// I/O.
    pub fn places_by_footers(&self, wanted: &HashSet<Digest>) -> Result<HashMap<Digest, Vec<Location>>> {
        let mut out: HashMap<Digest, Vec<Location>> = HashMap::new();
        for pack in stored(&self.layout.packs(), |n| Digest::from_hex(n.as_bytes()))? {
            let Some(name) = pack.name else { continue };
            let footer = match read_footer(pack.path, &name) {
                Ok(footer) => footer,
                Err(e) if e.kind() == ErrorKind::Damaged || e.is_about_one_file() => continue,
                Err(e) => return Err(e),
            };
            for blob in footer.blobs.iter().filter(|b| b.kind == Kind::Content && wanted.contains(&b.digest)) {
                out.entry(blob.digest).or_default().push(self.place_of(&name, blob.offset));
            }
        }
        Ok(out)
    }

    /// Whether a pack is in the trash.
    ///
    /// # Errors
    /// I/O.
    pub fn in_trash(&self, pack: &Digest) -> Result<bool> {
        let paths = self.batches()?.into_iter().map(|batch| self.layout.trashed_pack(&batch, pack));
        for path in paths {
            if disk::lstat(&path)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether something lies in the trash.
    ///
    /// # Errors
    /// I/O.
    pub fn has_trash(&self) -> Result<bool> {
        Ok(!self.batches()?.is_empty())
    }

    /// Compares every index run with itself and with the footers of its packs (F12): each is a cache, and a damaged one
    /// is ignored.
    ///
    /// # Errors
    /// I/O.
    pub fn check_runs(&self) -> Result<Vec<(OsString, Damage)>> {
        let mut out = Vec::new();
        for name in disk::list(&self.layout.index())? {
            let path = self.layout.index().join(&name);
            let why = match Digest::from_hex(name.as_encoded_bytes()) {
                None => Some("its name is no digest".to_owned()),
                Some(digest) => match Segment::open(&path, digest) {
                    Opened::Gone => None, // merged into another meanwhile
                    Opened::Damaged => Some("its header is damaged".to_owned()),
                    Opened::Segment(run) => self.compare_run(&run)?,
                },
            };
            out.extend(why.map(|why| (name, Damage::Segment(why))));
        }
        Ok(out)
    }

    /// What is wrong with a run.
    fn compare_run(&self, run: &Segment) -> Result<Option<String>> {
        let mut counts = vec![0; run.packs().len()];
        let mut before = None;
        for i in 0..run.blocks() {
            let Some(entries) = run.block(i) else { return Ok(Some(format!("block {i} is damaged"))) };
            for entry in entries {
                let key = (entry.digest, entry.kind);
                let Some(count) = counts.get_mut(entry.pack as usize).filter(|_| before.is_none_or(|b| b <= key))
                else {
                    return Ok(Some(format!("block {i} has an entry out of order or bounds")));
                };
                *count += 1;
                before = Some(key);
            }
        }
        let mut found = Vec::new();
        for (i, (name, count)) in run.packs().iter().zip(counts).enumerate() {
            let path = self.layout.pack(name);
            // A pack that is gone, or damaged, says nothing against the run.
            if disk::lstat(&path)?.is_none() {
                continue;
            }
            let footer = match read_footer(path, name) {
                Ok(footer) => footer,
                Err(e) if e.kind() == ErrorKind::Damaged || e.is_about_one_file() => continue,
                Err(e) => return Err(e),
            };
            let all_there = footer.blobs.len() == count
                && footer.blobs.iter().all(|blob| {
                    found.clear();
                    run.find(&blob.digest, blob.kind, &mut found);
                    found.iter().any(|e| e.pack as usize == i && e.offset == blob.offset)
                });
            if !all_there {
                return Ok(Some(format!("it does not say what pack {name} holds")));
            }
        }
        Ok(None)
    }
}

fn missed(miss: Miss, damage: &mut Vec<Damage>) -> Result<()> {
    match miss {
        Miss::Gone => Ok(()), // freed meanwhile
        Miss::Wrong(why) => {
            damage.push(Damage::Footer(why));
            Ok(())
        }
        Miss::Io(e) => Err(e),
    }
}

/// The files of a directory, each with the digest that its name says.
fn stored(dir: &Path, digest: impl Fn(&str) -> Option<Digest>) -> Result<Vec<Stored>> {
    let mut out = Vec::new();
    for name in disk::list(dir)? {
        let path = dir.join(&name);
        let Some(meta) = disk::lstat(&path)? else { continue };
        if kept_open(name.as_encoded_bytes()) {
            continue;
        }
        let named = name.to_str().and_then(&digest).filter(|_| meta.is_file());
        out.push(Stored { path, name: named, size: meta.len() });
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(out)
}

/// What NFS and FUSE keep of a file that was removed while it was open: it goes with its last reader.
fn kept_open(name: &[u8]) -> bool {
    name.starts_with(b".nfs") || name.starts_with(b".fuse_hidden")
}

/// A forward reader over the part of a pack that has blobs.
struct Window<'a> {
    file: &'a File,
    path: &'a Path,
    bytes: Vec<u8>,
    from: u64,
    end: u64,
}

impl Window<'_> {
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

    fn get(&mut self, at: u64, len: usize) -> Result<&[u8]> {
        let inside = at >= self.from && at + len as u64 <= self.from + self.bytes.len() as u64;
        if !inside {
            let want = (self.end - at).min(len.max(WINDOW) as u64) as usize;
            // Where a sector cannot be read, what lies before and behind it can.
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
