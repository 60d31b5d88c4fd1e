//! The connection of a read-only mount with the kernel.

use super::Io;
use super::adapter::Adapter;
use super::open_mode::Negotiated;
use super::pool::Pool;
use super::readahead::Readahead;
use super::reply::BUFFER;
use super::tree::ReadTree;
use crate::error::{Error, Result};
use crate::mount::forget_entry;
use fuser::{Config, INodeNo, Session, SessionACL};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// A connection that is set up. It answers requests while [`Connection::run`] runs.
pub(super) struct Connection {
    session: Session<Adapter>,
    tree: Arc<ReadTree>,
    readahead: Arc<Readahead>,
}

impl Connection {
    /// Sets up the connection over the descriptor of a mount. `probe` is a file of the store, with which the kernel is
    /// asked whether it permits passthrough. With a `pool`, its threads answer all requests that may read the store.
    pub(super) fn open(
        descriptor: OwnedFd,
        tree: Arc<ReadTree>,
        threads: usize,
        io: Io,
        probe: &File,
        pool: Option<Pool>,
    ) -> Result<Connection> {
        let mut config = Config::default();
        config.n_threads = Some(threads.max(1));
        let negotiated = Arc::new(Negotiated::default());
        let readahead = Arc::new(Readahead::default());
        let adapter = Adapter::new(tree.clone(), negotiated.clone(), pool, readahead.clone());
        // The kernel decides which users may send requests: it knows allow_other and the mounting user.
        let session = Session::from_fd(adapter, descriptor, SessionACL::All, config);
        let session = session.map_err(|e| Error::io_message("the kernel did not answer FUSE_INIT").with_source(e))?;
        let mode = negotiated.open_mode(session.as_fd(), io, probe, &tree);
        let _ = negotiated.open_mode.set(mode); // it is set only once
        Ok(Connection { session, tree, readahead })
    }

    /// A function that tells the kernel to forget a name, and returns true if it knew the name. A thread that answers
    /// requests must not call it.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn forgetter(&self) -> Result<impl Fn(u64, &[u8]) -> bool + Send + use<>> {
        let device = self.session.as_fd().try_clone_to_owned();
        let device = device.map_err(|e| Error::io_message("cannot copy the mount's descriptor").with_source(e))?;
        Ok(move |parent, name: &[u8]| forget_entry(device.as_fd(), parent, name))
    }

    /// A function that gives the kernel files before it asks for them, until [`Connection::run`] ends. It needs a
    /// thread.
    pub(super) fn readahead(&self) -> impl FnOnce() + Send + use<> {
        let (tree, readahead, notifier) = (self.tree.clone(), self.readahead.clone(), self.session.notifier());
        move || {
            readahead.serve(|ino, known| {
                let Some(file) = tree.small(ino) else { return true };
                if !known(file.directory) {
                    return false;
                }
                let mut buffer = BUFFER.take();
                if tree.read_whole(&file, &mut buffer).is_ok() {
                    // The kernel refuses it if it has forgotten the file.
                    drop(notifier.store(INodeNo(ino), 0, &buffer));
                }
                BUFFER.set(buffer);
                true
            });
        }
    }

    /// Answers requests until the mount is gone. An error means that it was not unmounted.
    pub(super) fn run(self) -> Result<()> {
        let ran = self.session.run();
        self.readahead.end();
        ran.map_err(|e| Error::io_message("the connection to the kernel broke").with_source(e))
    }
}
