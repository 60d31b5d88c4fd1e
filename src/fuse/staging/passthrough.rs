//! Passthrough of a staging mount: the kernel reads and writes the stage's files by itself. It requires that all opens
//! of a file are alike, so these are counted.

use super::handles::OpenFile;
use crate::fuse::opens::Opens;
use crate::mount::passes_through;
use fuser::{BackingId, FopenFlags, INodeNo, Notifier};
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

/// The state of passthrough on a connection.
#[derive(Default)]
pub(super) struct Passthrough {
    /// Whether the kernel supports it.
    pub(super) is_supported: OnceLock<bool>,
    /// Set if it is used.
    notifier: OnceLock<Notifier>,
    opens: Opens<BackingId>,
}

impl Passthrough {
    /// Uses passthrough on a connection if the kernel accepts `probe`, a file on the file system of the stages.
    pub(super) fn begin(&self, device: BorrowedFd<'_>, probe: Option<&File>, notifier: Notifier) {
        let is_supported = *self.is_supported.get().unwrap_or(&false);
        if is_supported && probe.is_some_and(|probe| passes_through(device, probe).is_ok()) {
            let _ = self.notifier.set(notifier); // it is set only once
        }
    }

    /// A file was closed.
    pub(super) fn close(&self, node: u64, was_writable: bool) {
        let Some(notifier) = self.notifier.get() else { return };
        self.opens.end(node);
        if was_writable {
            // A write through a map changed times that the kernel has not seen. If the kernel does not know the file,
            // it has nothing to forget.
            drop(notifier.inval_inode(INodeNo(node), -1, 0));
        }
    }

    /// How the kernel reads and writes an open file: by itself if there is a backing, else through the daemon. With
    /// passthrough, pages that were cached otherwise are not kept.
    pub(super) fn open(
        &self,
        node: u64,
        file: impl FnOnce() -> Option<Arc<OpenFile>>,
        back: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> (Arc<Option<BackingId>>, FopenFlags) {
        if self.notifier.get().is_none() {
            return (Arc::new(None), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
        }
        let shared = self.opens.join(node).unwrap_or_else(|| {
            let backing = file().and_then(|open| back(open.disk_file()?).ok());
            self.opens.begin(node, backing)
        });
        (shared, FopenFlags::FOPEN_NOFLUSH)
    }
}
