//! The writable companion of a whole-store mount: a mount outside it, served by the same daemon, with the staging
//! directories of all runs, `NAME/ID/RUN`. It exists as long as the main mount. Files that are open in it at the end
//! are served until they are closed.

use super::connection::StagingConnection;
use super::daemon::{StagingOptions, connect};
use super::run_namespace::RunNamespace;
use super::tree::StagingTree;
use crate::error::{Error, Result};
use crate::fuse::MountOptions;
use crate::fuse::log::Log;
use crate::mount::{self, Audience, CompanionPoint, MountPoint};
use crate::store::Store;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A staging mount that belongs to a mount of the whole store.
pub(in crate::fuse) struct Companion {
    mount_point: CompanionPoint,
    /// Taken when serving begins.
    connection: Mutex<Option<StagingConnection>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// False once it was unmounted.
    is_mounted: AtomicBool,
}

impl Companion {
    /// Mounts it for the mount at `point`.
    ///
    /// # Errors
    /// Refused if this process may not write to the store; I/O.
    pub(in crate::fuse) fn mount(
        store: &Store,
        point: &MountPoint,
        options: &MountOptions,
        log: Log,
        refusals: Log,
    ) -> Result<Companion> {
        store.check_writable()?;
        if !mount::may_write(&store.layout().staging()) {
            return Err(Error::conflict("you may not write to the store"));
        }
        mount::remove_dead_companions(point.path());
        let audience = Audience::of(options.allow_other);
        let mut mount_point = point.companion_point(store.root(), &store.config().store_id, audience)?;
        let staging = StagingOptions {
            allow_other: options.allow_other,
            execution: options.execution,
            threads: options.threads,
            ..StagingOptions::default()
        };
        let tree = StagingTree::all(
            RunNamespace::new(store.clone(), mount_point.path().to_path_buf(), log, options.allow_other),
            mount::effective_ids(),
        );
        let connected = connect(tree, store.root(), &mut mount_point, &staging, Some(refusals));
        let mount_point = CompanionPoint::at(mount_point); // removes the directory after an error
        let (connection, _) = connected?;
        Ok(Companion {
            mount_point,
            connection: Mutex::new(Some(connection)),
            thread: Mutex::default(),
            is_mounted: AtomicBool::new(true),
        })
    }

    /// Where it is, while it is mounted.
    pub(in crate::fuse) fn path(&self) -> Option<&Path> {
        self.is_mounted.load(Ordering::Relaxed).then(|| self.mount_point.path())
    }

    /// Begins to answer requests, in a thread.
    ///
    /// # Errors
    /// I/O: no thread.
    pub(in crate::fuse) fn serve(self: &Arc<Self>) -> Result<()> {
        let Some(connection) = self.connection.lock().take() else { return Ok(()) };
        let companion = self.clone();
        let serve = move || {
            drop(connection.run()); // an aborted connection ends this mount only
            companion.is_mounted.store(false, Ordering::Relaxed);
            companion.mount_point.detach();
        };
        let thread = std::thread::Builder::new().name("staging".into()).spawn(serve);
        *self.thread.lock() = Some(thread.map_err(|e| Error::io_message("cannot start a thread").with_source(e))?);
        Ok(())
    }

    /// Detaches it at once. Processes keep what they have open.
    pub(in crate::fuse) fn detach(&self) {
        self.mount_point.detach();
    }

    /// Detaches it and serves until nothing in it is open.
    pub(in crate::fuse) fn end(&self) {
        self.detach();
        let thread = self.thread.lock().take();
        drop(thread.map(JoinHandle::join)); // a panic in it was reported
    }
}
