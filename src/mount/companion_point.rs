//! The mount point of a companion mount: made for it, and removed with it.

use super::companion::{bases, mark};
use super::detach::detach_own;
use super::options::Audience;
use super::point::MountPoint;
use crate::disk::{create_mount_place, remove_mount_place};
use crate::error::{Error, Result};
use crate::types::Token;
use std::path::Path;

impl MountPoint {
    /// Makes an empty directory for the companion of the mount here.
    ///
    /// # Errors
    /// Usage: another program made the mount. I/O: no directory can be used.
    pub fn companion_point(&self, store: &Path, store_id: &str, audience: Audience) -> Result<MountPoint> {
        if self.is_handed_over() {
            return Err(Error::usage("another program made the mount, and its path is not known"));
        }
        let name =
            format!("{}-{}-{}", &store_id[..store_id.len().min(12)], mark(self.path()), &Token::fresh().as_str()[..8]);
        let mut failed = Error::io_message("cannot make a directory for the staging mount");
        for (base, begin) in bases(audience) {
            let path = base.join(format!("{begin}{name}"));
            if path.starts_with(self.path()) {
                continue; // the mount would hide it
            }
            let made = create_mount_place(&path)
                .map_err(|e| Error::io("make", &path, e))
                .and_then(|()| MountPoint::check(&path, store));
            match made {
                Ok(point) => return Ok(point),
                Err(e) => {
                    drop(remove_mount_place(&path));
                    failed = failed.with_cause(e.message()).with_cause(e.causes().join(", "));
                }
            }
        }
        Err(failed)
    }
}

/// A companion mount that exists; it is detached when this value is dropped.
#[derive(Debug)]
pub struct CompanionPoint {
    point: MountPoint,
    device: Option<String>,
}

impl CompanionPoint {
    /// The mount that was just made at `point`.
    pub fn at(point: MountPoint) -> CompanionPoint {
        let device = point.device();
        CompanionPoint { point, device }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.point.path()
    }

    /// Detaches it and removes its directory. Processes keep what they have open in it. A second call does nothing.
    pub fn detach(&self) {
        if let Some(device) = &self.device {
            detach_own(self.point.path(), device);
        }
        // If something else was mounted there meanwhile, the directory stays.
        drop(remove_mount_place(self.point.path()));
    }
}

impl Drop for CompanionPoint {
    fn drop(&mut self) {
        self.detach();
    }
}
