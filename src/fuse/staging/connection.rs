//! The connection of a staging mount with the kernel.

use super::adapter::StagingAdapter;
use super::admission::Admission;
use super::passthrough::Passthrough;
use super::tree::StagingTree;
use super::watch::RunWatch;
use crate::error::{Error, Result};
use fuser::{Config, Session, SessionACL};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// A connection that is set up. It answers requests while [`StagingConnection::run`] runs.
pub(crate) struct StagingConnection {
    session: Session<StagingAdapter>,
    watch: RunWatch,
}

impl StagingConnection {
    /// Sets up the connection over the descriptor of a mount. `probe` is a file on the file system of the stages: if
    /// the kernel permits passthrough for it, the kernel reads and writes files by itself.
    pub(super) fn open(
        descriptor: OwnedFd,
        tree: Arc<StagingTree>,
        admission: Admission,
        threads: usize,
        probe: Option<&File>,
    ) -> Result<StagingConnection> {
        let mut config = Config::default();
        config.n_threads = Some(threads.max(1));
        let passthrough = Arc::new(Passthrough::default());
        let watch = RunWatch::begin(&tree)?;
        let adapter = StagingAdapter::new(tree, admission, passthrough.clone());
        let session = Session::from_fd(adapter, descriptor, SessionACL::All, config);
        let session = session.map_err(|e| Error::io_message("the kernel did not answer FUSE_INIT").with_source(e))?;
        passthrough.begin(session.as_fd(), probe, session.notifier());
        Ok(StagingConnection { session, watch })
    }

    /// Answers requests until the mount is gone. An error means that it was not unmounted.
    pub(super) fn run(self) -> Result<()> {
        let StagingConnection { session, watch } = self;
        let ran = session.run();
        drop(watch); // it may hold references to the runs
        ran.map_err(|e| Error::io_message("the connection to the kernel broke").with_source(e))
    }
}
