//! Requests of commands to the daemon of a staging mount, which come as ioctls: which run is this, seal it.

use super::admission::Requester;
use super::permissions::Permissions;
use super::request::{ANNOTATIONS_MAX, StageReply, StageRequest};
use super::tree::StagingTree;
use crate::error::Error;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Answers requests of commands.
pub(super) struct SealRequests {
    tree: Arc<StagingTree>,
    permissions: Arc<Permissions>,
    /// Annotations that were sent over an open directory, for the seal.
    annotations: Mutex<HashMap<u64, String>>,
}

impl SealRequests {
    pub(super) fn new(tree: Arc<StagingTree>, permissions: Arc<Permissions>) -> SealRequests {
        SealRequests { tree, permissions, annotations: Mutex::default() }
    }

    /// A file or directory was closed.
    pub(super) fn close(&self, handle: u64) {
        self.annotations.lock().remove(&handle);
    }

    /// Answers a request that came over an open file or directory. Sealing takes long, so a thread does it and other
    /// requests are answered meanwhile. `reply` gets the answer, or `None` if `data` is not a request.
    pub(super) fn answer(
        &self,
        requester: Requester,
        (node, handle): (u64, u64),
        data: &[u8],
        reply: impl FnOnce(Option<Vec<u8>>) + Send + 'static,
    ) {
        let asked = StageRequest::decode(data);
        if !matches!(asked, Some(StageRequest::Which))
            && let Err(e) = self.permissions.check_may_seal(requester, node)
        {
            return reply(Some(StageReply::of_error(&e).encode()));
        }
        match asked {
            Some(StageRequest::Keep(part)) => reply(Some(self.keep(handle, &part).encode())),
            Some(StageRequest::Which) => reply(Some(self.tree.which(node).encode())),
            Some(StageRequest::Seal { stage, replace }) => {
                let annotations = self.annotations.lock().remove(&handle);
                let tree = self.tree.clone();
                let work = move || {
                    let seal = || tree.seal_as_asked(node, stage.as_deref(), annotations.as_deref(), replace);
                    let panicked = || StageReply::of_error(&Error::io_message("sealing panicked: please report this"));
                    let sealed = catch_unwind(AssertUnwindSafe(seal)).unwrap_or_else(|_| panicked());
                    reply(Some(sealed.encode()));
                };
                // If no thread can be started, the request is dropped, which answers it with EIO.
                drop(std::thread::Builder::new().name("seal".into()).spawn(work));
            }
            None => reply(None),
        }
    }

    /// Keeps a part of the annotations for a seal.
    fn keep(&self, handle: u64, part: &str) -> StageReply {
        let mut kept = self.annotations.lock();
        let text = kept.entry(handle).or_default();
        if text.len() + part.len() > ANNOTATIONS_MAX {
            kept.remove(&handle);
            return StageReply::of_error(&Error::usage("the annotations are too long"));
        }
        text.push_str(part);
        StageReply::Kept
    }
}
