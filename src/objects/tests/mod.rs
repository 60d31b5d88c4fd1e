//! Tests of packs, index, reading and writing, against real files.

mod beginnings;
mod damage;
mod index;
mod large;
mod packs;
mod reading;
mod writing;

use super::Objects;
use crate::disk::{Access, Disk};
use crate::layout::{DIRECTORIES, Layout};
use crate::manifest::{Builder, Entry, RootNode};
use crate::types::{Digest, Location, Token};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A store's directories, without a store.
pub(super) struct TestStore {
    pub dir: tempfile::TempDir,
    pub layout: Layout,
    pub objects: Arc<Objects>,
}

impl TestStore {
    /// In memory where there is such a place: many puts, each synced.
    pub fn new() -> TestStore {
        Self::at(tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap()))
    }

    pub fn on_disk() -> TestStore {
        Self::at(tempfile::tempdir().unwrap())
    }

    fn at(dir: tempfile::TempDir) -> TestStore {
        for name in DIRECTORIES {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let layout = Layout::new(dir.path());
        let objects = open(&layout);
        TestStore { dir, layout, objects }
    }

    /// As another process sees it.
    pub fn afresh(&self) -> Arc<Objects> {
        open(&self.layout)
    }

    pub fn work(&self) -> PathBuf {
        let dir = self.layout.work().join(Token::fresh().to_string());
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    /// Puts small contents by one writer of another process.
    pub fn put(&self, contents: &[Vec<u8>]) -> Vec<Digest> {
        let writer = self.afresh().writer(&self.work()).unwrap();
        let mut thread_writer = writer.thread_writer();
        let digests = contents.iter().map(|c| put_small(&mut thread_writer, c).0).collect();
        thread_writer.close().unwrap();
        writer.seal(&[], &[]).unwrap();
        digests
    }

    pub fn packs(&self) -> Vec<PathBuf> {
        files(&self.layout.packs())
    }

    pub fn segments(&self) -> Vec<PathBuf> {
        files(&self.layout.index())
    }

    /// Where this process would find the content.
    pub fn place(&self, digest: &Digest) -> Option<Location> {
        let index = self.objects.load_index(super::index::IndexScope::Packs).unwrap();
        let confirm = |place| self.objects.confirm_by_header(place, digest, super::BlobKind::Content);
        let wanted = super::locate::Wanted { digest, kind: super::BlobKind::Content, confirm: &confirm };
        self.objects.find(&index, &wanted).unwrap()
    }
}

pub(super) fn open(layout: &Layout) -> Arc<Objects> {
    let disk = Arc::new(Disk::of(layout.root(), Access::Umask).unwrap());
    Arc::new(Objects::open(layout.clone(), disk).unwrap())
}

pub(super) fn put_small(thread_writer: &mut super::ThreadWriter<'_>, content: &[u8]) -> (Digest, super::SmallPut) {
    let digest = Digest::of(content);
    (digest, thread_writer.put_small(digest, content).unwrap())
}

/// Builds a flat version of these files.
pub(super) fn build(writer: &super::ObjectWriter, files: &[(String, Digest, u64, Option<Location>)]) -> RootNode {
    let mut nodes = writer.node_writer().unwrap();
    let mut builder = Builder::new(&mut nodes);
    for (name, digest, size, place) in files {
        builder
            .entry(name.as_bytes(), Entry::File { digest: *digest, size: *size, exec: false, place: *place })
            .unwrap();
    }
    builder.finish().unwrap()
}

pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    out.sort();
    out
}

/// Bytes that look random and are the same for the same seed.
pub(super) fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 32);
    let mut block = Digest::of(&seed.to_le_bytes());
    while out.len() < len {
        out.extend_from_slice(&block.0);
        block = Digest::of(&block.0);
    }
    out.truncate(len);
    out
}

/// Replaces a file's bytes, whatever its mode; its time changes.
/// Writes other bytes to a file of the store, which is read-only before and after.
pub(super) fn overwrite(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    let set_mode = |mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o644);
    std::fs::write(path, bytes).unwrap();
    set_mode(0o444);
}

pub(super) fn is_damage<T>(result: &crate::Result<T>) -> bool {
    result.as_ref().is_err_and(|e| e.kind() == crate::Kind::Damaged)
}
