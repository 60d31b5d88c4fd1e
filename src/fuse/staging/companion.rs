//! The writable mount beside one of a whole store: outside it, served by the same daemon, with all runs' staging
//! directories, `NAME/ID/RUN`. It stands as long as the other; what is open in it then is served until it is closed.

use super::adapter::Connection;
use super::daemon::{StagingOptions, connect};
use super::run_namespace::RunNamespace;
use super::tree::StagingTree;
use crate::error::{Error, Result};
use crate::fuse::MountOptions;
use crate::fuse::log::Log;
use crate::mount::{self, MountPoint, Reach, Standing};
use crate::store::Store;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A staging mount that belongs to another.
pub(in crate::fuse) struct Companion {
    standing: Standing,
    /// Until it is served.
    connection: Mutex<Option<Connection>>,
    serves: Mutex<Option<JoinHandle<()>>>,
    /// Until somebody unmounted it.
    stands: AtomicBool,
}

impl Companion {
    /// Mounts it for the mount at `point`.
    ///
    /// # Errors
    /// Refused where this process may not write to the store; I/O.
    pub(in crate::fuse) fn mount(
        store: &Store,
        point: &MountPoint,
        options: &MountOptions,
        log: Log,
        refusals: Log,
    ) -> Result<Companion> {
        store.check_writable()?;
        if !mount::may_write(&store.layout().staging()) {
            return Err(Error::conflict("this user may not write to the store"));
        }
        mount::clear_dead(point.path());
        let reach = if options.allow_other { Reach::Everyone } else { Reach::Mounter };
        let mut place = point.aside(store.root(), &store.config().store_id, reach)?;
        let staging = StagingOptions {
            allow_other: options.allow_other,
            execution: options.execution,
            threads: options.threads,
            ..StagingOptions::default()
        };
        let tree = StagingTree::all(
            RunNamespace::new(store.clone(), place.path().to_path_buf(), log, options.allow_other),
            mount::who(),
        );
        let connected = connect(tree, store.root(), &mut place, &staging, Some(refusals));
        let standing = Standing::at(place); // takes the directory away after an error
        let (connection, _) = connected?;
        Ok(Companion {
            standing,
            connection: Mutex::new(Some(connection)),
            serves: Mutex::default(),
            stands: AtomicBool::new(true),
        })
    }

    /// Where it is, while it stands.
    pub(in crate::fuse) fn path(&self) -> Option<&Path> {
        self.stands.load(Ordering::Relaxed).then(|| self.standing.path())
    }

    /// Answers from a thread of its own from here on.
    ///
    /// # Errors
    /// I/O: no thread.
    pub(in crate::fuse) fn serve(self: &Arc<Self>) -> Result<()> {
        let Some(connection) = self.connection.lock().take() else { return Ok(()) };
        let beside = self.clone();
        let serve = move || {
            drop(connection.run()); // an aborted connection ends this mount, not the other
            beside.stands.store(false, Ordering::Relaxed);
            beside.standing.take_away();
        };
        let thread = std::thread::Builder::new().name("staging".into()).spawn(serve);
        *self.serves.lock() = Some(thread.map_err(|e| Error::io_message("cannot start a thread").with_source(e))?);
        Ok(())
    }

    /// Takes it away, at once; who has something open keeps that.
    pub(in crate::fuse) fn take_away(&self) {
        self.standing.take_away();
    }

    /// Takes it away and serves until nobody has anything open in it.
    pub(in crate::fuse) fn end(&self) {
        self.take_away();
        let serves = self.serves.lock().take();
        drop(serves.map(JoinHandle::join)); // a panic in it has been told
    }
}
