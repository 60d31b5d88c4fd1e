//! How files are opened and read on a connection: what the kernel supports, and what is chosen.

use super::Io;
use super::tree::ReadTree;
use crate::mount::passes_through;
use fuser::InitFlags;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

/// How files are opened on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OpenMode {
    /// Without requests: the first open gets ENOSYS, and from then on the kernel opens, flushes and closes by itself.
    NoOpen,
    /// The kernel reads object files by itself; the daemon reads the rest.
    Passthrough,
    /// The daemon gets all opens and reads.
    Plain,
}

/// What kernel and daemon agreed on.
#[derive(Default)]
pub(super) struct Negotiated {
    pub(super) kernel_has: OnceLock<InitFlags>,
    pub(super) open_mode: OnceLock<OpenMode>,
}

impl Negotiated {
    /// Whether the kernel has a feature.
    pub(super) fn kernel_has(&self, flag: InitFlags) -> bool {
        self.kernel_has.get().is_some_and(|have| have.contains(flag))
    }

    /// Decides how files are opened. With `probe`, a file of the store, the kernel is asked whether it permits
    /// passthrough.
    pub(super) fn open_mode(&self, device: BorrowedFd<'_>, io: Io, probe: &File, tree: &ReadTree) -> OpenMode {
        let no_open = if self.kernel_has(InitFlags::FUSE_NO_OPEN_SUPPORT) { OpenMode::NoOpen } else { OpenMode::Plain };
        match io {
            Io::Plain => OpenMode::Plain,
            Io::Auto | Io::NoOpen => no_open,
            Io::Passthrough if !self.kernel_has(InitFlags::FUSE_PASSTHROUGH) => {
                tree.say(
                    "this kernel does not support passthrough (Linux 6.9 does): files are read through the \
                          daemon, without opens",
                );
                no_open
            }
            Io::Passthrough => match passes_through(device, probe) {
                Ok(()) => OpenMode::Passthrough,
                Err(e) => {
                    tree.say(&format!(
                        "the kernel refuses passthrough here ({e}): files are read through the daemon, without opens"
                    ));
                    no_open
                }
            },
        }
    }
}
