//! Open files and directories.

use super::open_stage::OpenStage;
use crate::disk::backing::DirStream;
use crate::manifest::Listing;
use crate::objects::ComposedFile;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::sync::Arc;

/// Where the bytes of an open file are.
pub(super) enum OpenContent {
    /// In a file of a stage, or in an object.
    File(File),
    /// In memory: a packed file of a sealed contribution.
    Packed(Arc<[u8]>),
    /// Composed content.
    Parts(ComposedFile),
}

/// An open file.
pub(super) struct OpenFile {
    pub bytes: OpenContent,
    /// Its node.
    pub node: u64,
    /// Its run.
    pub run: Arc<OpenStage>,
    /// The process that opened it, if it was opened for writing.
    pub writer: Option<u32>,
    /// Its path when it was opened, for messages.
    pub label: String,
}

impl OpenFile {
    /// The file on disk, if it has one.
    pub(super) fn disk_file(&self) -> Option<&File> {
        match &self.bytes {
            OpenContent::File(file) => Some(file),
            OpenContent::Packed(_) | OpenContent::Parts(_) => None,
        }
    }
}

/// An open directory.
pub(super) enum OpenDirectory {
    /// A directory of a stage.
    Stage(Mutex<DirStream>, Arc<OpenStage>),
    /// A directory of a sealed contribution, and the position in its listing.
    Sealed(Mutex<(Listing, u64)>),
    /// Above the runs: the names of directories.
    Namespace(Vec<OsString>),
}

/// All open files and directories.
#[derive(Default)]
pub(super) struct Handles {
    inner: Mutex<OpenFiles>,
}

#[derive(Default)]
struct OpenFiles {
    next: u64,
    files: HashMap<u64, Arc<OpenFile>>,
    directories: HashMap<u64, Arc<OpenDirectory>>,
    /// The open files of each node, for requests without a handle on a file without a name.
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

    /// An open file of a node; one that is open for writing, if there is one.
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
        drop(file); // outside the lock, because closing can take long
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

    /// The files of a run that are open for writing: the path of each, and the process that opened it.
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
