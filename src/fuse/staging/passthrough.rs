//! Passthrough of a staging mount: the kernel reads and writes the stage's files by itself. It requires that all opens
//! of a file are alike, so these are counted.

use super::handles::OpenFile;
use crate::fuse::opens::Opens;
use crate::mount::passes_through;
use fuser::{BackingId, FopenFlags, INodeNo, InitFlags, KernelConfig, Notifier};
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

/// The state of passthrough on a connection.
#[derive(Default)]
pub(super) struct Passthrough {
    /// Whether the kernel supports it.
    is_supported: OnceLock<bool>,
    /// Set if it is used.
    notifier: OnceLock<Notifier>,
    opens: Opens<BackingId>,
}

impl Passthrough {
    /// Asks the kernel for what the connection uses, passthrough among it.
    pub(super) fn negotiate(&self, config: &mut KernelConfig) {
        // Without WRITEBACK_CACHE: when write(2) returns, the bytes are in the stage's file. With HANDLE_KILLPRIV_V2
        // the kernel need not read security.capability before each write.
        let wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_MAX_PAGES
            | InitFlags::FUSE_BIG_WRITES
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_HAS_IOCTL_DIR
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2;
        // The kernel does without the flags that it does not know.
        let _ = config.add_capabilities(wanted).or_else(|unknown| config.add_capabilities(wanted - unknown));
        let is_supported =
            config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok() && config.set_max_stack_depth(1).is_ok();
        let _ = self.is_supported.set(is_supported); // it is set only once
    }

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
