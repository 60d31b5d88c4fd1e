//! Content in the trash that is put back into its place, because it is needed again.
//!
//! A collector may free it at the same moment: a rename finds it or does not. Whether it is in place is then looked up
//! by the writer that needs it, after its token was made.

use super::content_store::Objects;
use super::damage::StoredFile;
use super::pack::BlobKind;
use crate::disk;
use crate::error::Result;
use crate::types::Digest;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What is in the trash: where each object and pack is.
#[derive(Debug, Default)]
pub struct Trash {
    objects: HashMap<Digest, PathBuf>,
    packs: HashMap<Digest, PathBuf>,
}

impl Objects {
    /// What is in the trash now.
    ///
    /// # Errors
    /// I/O.
    pub fn trash(&self) -> Result<Trash> {
        let mut out = Trash::default();
        for batch in self.batches()? {
            let dir = self.layout().trash().join(&batch);
            for name in disk::list(&dir)? {
                let digest = |kind: &[u8]| Digest::of_hex(name.as_encoded_bytes().strip_prefix(kind)?);
                if let Some(digest) = digest(b"object-") {
                    out.objects.insert(digest, dir.join(&name));
                } else if let Some(digest) = digest(b"pack-") {
                    out.packs.insert(digest, dir.join(&name));
                }
            }
        }
        Ok(out)
    }

    /// Puts an object back, if it is in the trash. Returns the directory in which its name is now.
    ///
    /// # Errors
    /// I/O.
    pub fn put_object_back(&self, trash: &Trash, digest: &Digest) -> Result<Option<PathBuf>> {
        let Some(from) = trash.objects.get(digest) else { return Ok(None) };
        let dir = self.layout().object_dir(digest);
        self.disk().create_dir(&dir)?;
        let moved = self.put_file_back(from, &self.layout().object(digest))?;
        Ok(moved.then_some(dir))
    }

    /// Puts a pack back, if it is in the trash. Returns the directory in which its name is now.
    ///
    /// # Errors
    /// I/O.
    pub fn put_pack_back(&self, trash: &Trash, name: &Digest) -> Result<Option<PathBuf>> {
        let Some(from) = trash.packs.get(name) else { return Ok(None) };
        let moved = self.put_file_back(from, &self.layout().pack(name))?;
        Ok(moved.then(|| self.layout().packs()))
    }

    /// Those of these contents and nodes that are in a pack in place, by the packs' own footers. Does not use the
    /// index: no segment may cover a pack that was put back a moment ago.
    ///
    /// # Errors
    /// I/O.
    pub fn in_packs_in_place(&self, wanted: &HashSet<Digest>) -> Result<HashSet<Digest>> {
        let mut out = HashSet::new();
        for file in self.packs_in_place()?.iter().filter(|file| file.name.is_some()) {
            let Ok(contents) = self.list_pack(file, &mut Vec::new()) else { continue };
            let plain = contents.blobs.iter().filter(|(_, kind, _)| *kind != BlobKind::Recipe);
            out.extend(plain.map(|(digest, ..)| *digest).filter(|digest| wanted.contains(digest)));
        }
        Ok(out)
    }

    /// The packs in the trash that have one of these blobs. Packs that cannot be read have none.
    ///
    /// # Errors
    /// I/O.
    pub fn packs_in_trash_with(&self, trash: &Trash, wanted: &HashSet<Digest>) -> Result<Vec<Digest>> {
        let mut out = Vec::new();
        if wanted.is_empty() {
            return Ok(out);
        }
        for (name, path) in &trash.packs {
            let Some(meta) = disk::lstat(path)? else { continue };
            let file = StoredFile { path: path.clone(), name: Some(*name), size: meta.len() };
            let Ok(contents) = self.list_pack(&file, &mut Vec::new()) else { continue };
            if contents.blobs.iter().any(|(digest, _, _)| wanted.contains(digest)) {
                out.push(*name);
            }
        }
        Ok(out)
    }

    /// Returns whether it is in its place now. If the file keeps its old name too, a collector removes that.
    fn put_file_back(&self, from: &Path, to: &Path) -> Result<bool> {
        match self.disk().move_if_absent(from, to) {
            Ok(_) => Ok(true),
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(disk::lstat_revalidated(to)?.is_some()),
            Err(e) => Err(e),
        }
    }
}
