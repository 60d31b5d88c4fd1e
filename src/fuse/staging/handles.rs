//! What is open.

use super::open_stage::OpenStage;
use crate::disk::backing::DirStream;
use crate::manifest::Listing;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::sync::Arc;

/// Bytes to read, and where they are.
pub(super) enum Bytes {
    /// A file of a stage, or an object.
    File(File),
    /// Packed content of what was sealed.
    Packed(Arc<[u8]>),
}

/// An open file.
pub(super) struct OpenFile {
    pub bytes: Bytes,
    /// The node.
    pub node: u64,
    /// The run it is in.
    pub run: Arc<OpenStage>,
    /// Whether it was opened for writing, and by which process.
    pub writer: Option<u32>,
    /// What it was called when it was opened, for people.
    pub label: String,
}

impl OpenFile {
    /// The file on disk, if its bytes lie in one.
    pub(super) fn disk_file(&self) -> Option<&File> {
        match &self.bytes {
            Bytes::File(file) => Some(file),
            Bytes::Packed(_) => None,
        }
    }
}

/// An open directory.
pub(super) enum OpenDirectory {
    /// Of a stage.
    Stage(Mutex<DirStream>, Arc<OpenStage>),
    /// Of what was sealed; where it stands in the listing.
    Sealed(Mutex<(Listing, u64)>),
    /// Above the runs: the names of directories.
    Namespace(Vec<OsString>),
}

/// Everything that is open.
#[derive(Default)]
pub(super) struct Handles {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    files: HashMap<u64, Arc<OpenFile>>,
    directories: HashMap<u64, Arc<OpenDirectory>>,
    /// Which are open of each node, for requests that come without a handle when the name is gone.
    of_node: HashMap<u64, Vec<u64>>,
}

impl Handles {
    pub(super) fn open(&self, file: OpenFile) -> u64 {
        let mut inner = self.inner.lock();
        inner.next += 1;
        let id = inner.next;
        inner.of_node.entry(file.node).or_default().push(id);
        inner.files.insert(id, Arc::new(file));
        id
    }

    pub(super) fn file(&self, id: u64) -> Result<Arc<OpenFile>, i32> {
        self.inner.lock().files.get(&id).cloned().ok_or(libc::EBADF)
    }

    /// Any open file of a node; one that can be written to, if there is one.
    pub(super) fn of_node(&self, node: u64) -> Option<Arc<OpenFile>> {
        let inner = self.inner.lock();
        let all = inner.of_node.get(&node)?;
        let best = all.iter().find(|id| inner.files.get(id).is_some_and(|f| f.writer.is_some())).or(all.first())?;
        inner.files.get(best).cloned()
    }

    pub(super) fn close(&self, id: u64) {
        let mut inner = self.inner.lock();
        let Some(file) = inner.files.remove(&id) else { return };
        if let Some(all) = inner.of_node.get_mut(&file.node) {
            all.retain(|other| *other != id);
            if all.is_empty() {
                inner.of_node.remove(&file.node);
            }
        }
        drop(inner);
        drop(file); // closing may take a while
    }

    pub(super) fn open_directory(&self, directory: OpenDirectory) -> u64 {
        let mut inner = self.inner.lock();
        inner.next += 1;
        let id = inner.next;
        inner.directories.insert(id, Arc::new(directory));
        id
    }

    pub(super) fn directory(&self, id: u64) -> Result<Arc<OpenDirectory>, i32> {
        self.inner.lock().directories.get(&id).cloned().ok_or(libc::EBADF)
    }

    pub(super) fn close_directory(&self, id: u64) {
        let gone = self.inner.lock().directories.remove(&id);
        drop(gone);
    }

    /// The files of a run that are open for writing: what they are called, and the process that opened each.
    pub(super) fn writers(&self, run: &Arc<OpenStage>) -> Vec<(String, u32)> {
        let inner = self.inner.lock();
        let mut out: Vec<_> = inner
            .files
            .values()
            .filter(|f| Arc::ptr_eq(&f.run, run))
            .filter_map(|f| Some((f.label.clone(), f.writer?)))
            .collect();
        out.sort();
        out
    }
}
