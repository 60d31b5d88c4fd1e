//! Second mounts: what is writable of a whole store is mounted outside the mount that shows its versions, which has
//! links to it.
//!
//! A place is called `STORE-MARK-TOKEN`: the store's id, a mark made of the first mount's place, by which a later
//! command finds what a killed daemon left, and a token, so that no two are the same.

use super::detach::{busy, detach_own, take_away};
use super::sys::{self, Detach};
use super::{MountPoint, Reach, table, users_of};
use crate::disk::{create_mount_place, remove_mount_place};
use crate::error::{Error, Result};
use crate::types::{Digest, Token};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The link in the root of a whole-store mount that leads to its second mount.
pub const LINK: &str = ".staging";

/// Directories where second mounts go, the first that will do, with how names begin there.
fn bases(reach: Reach) -> Vec<(PathBuf, &'static str)> {
    let mut out = Vec::new();
    if sys::who().0 == 0 {
        out.push((PathBuf::from("/run/cairn"), ""));
    }
    // Nobody else gets into a user's own.
    if reach == Reach::Mounter
        && let Some(own) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute())
    {
        out.push((own.join("cairn"), ""));
    }
    out.push((PathBuf::from("/tmp"), "cairn-"));
    out
}

fn mark(beside: &Path) -> String {
    Digest::of(beside.as_os_str().as_bytes()).hex()[..8].to_owned()
}

impl MountPoint {
    /// An empty directory, made for a mount that belongs to the one here.
    ///
    /// # Errors
    /// I/O: none of the places will do.
    pub fn aside(&self, store: &Path, store_id: &str, reach: Reach) -> Result<MountPoint> {
        if self.is_handed_over() {
            return Err(Error::usage("the mount was made by another program, and where it stands is not known"));
        }
        let name =
            format!("{}-{}-{}", &store_id[..store_id.len().min(12)], mark(self.path()), &Token::fresh().as_str()[..8]);
        let mut failed = Error::io_message("no directory for it can be made");
        for (base, begin) in bases(reach) {
            let place = base.join(format!("{begin}{name}"));
            if place.starts_with(self.path()) {
                continue; // it would be hidden
            }
            let made = create_mount_place(&place)
                .map_err(|e| Error::io("make", &place, e))
                .and_then(|()| MountPoint::check(&place, store));
            match made {
                Ok(point) => return Ok(point),
                Err(e) => {
                    drop(remove_mount_place(&place));
                    failed = failed.with_cause(e.message()).with_cause(e.causes().join(", "));
                }
            }
        }
        Err(failed)
    }
}

/// A second mount that stands; taken away when it goes.
#[derive(Debug)]
pub struct Standing {
    point: MountPoint,
    device: Option<String>,
}

impl Standing {
    /// What was just mounted at `point`.
    pub fn at(point: MountPoint) -> Standing {
        let device = point.device();
        Standing { point, device }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.point.path()
    }

    /// Takes it away; who has something open in it keeps that. Said again it does nothing.
    pub fn take_away(&self) {
        if let Some(device) = &self.device {
            detach_own(self.point.path(), device);
        }
        // Where something else was mounted meanwhile it stays.
        drop(remove_mount_place(self.point.path()));
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.take_away();
    }
}

/// Where the second mount of the one at `mnt` is, and its store, if it has one and answers.
pub fn second_of(mnt: &Path) -> Option<(PathBuf, PathBuf)> {
    let at = std::fs::read_link(table::canonical(mnt).ok()?.join(LINK)).ok()?;
    let second = table::top_at(&at).ok()??;
    second.is_ours().then_some((at, second.source))
}

/// Refuses while somebody uses a second mount.
pub(super) fn refuse_if_used(second: &Path) -> Result<()> {
    if users_of(second).is_empty() { Ok(()) } else { Err(busy(second)) }
}

/// The directories of second mounts that killed daemons of a mount at `beside` have left.
pub fn dead_seconds(beside: &Path) -> Vec<PathBuf> {
    let mut found = left_beside(beside);
    found.retain(|path| !table::top_at(path).ok().flatten().is_some_and(|m| m.is_ours()) || table::is_dead(path));
    found
}

fn left_beside(beside: &Path) -> Vec<PathBuf> {
    let mark = format!("-{}-", mark(beside));
    let mut found = Vec::new();
    for (base, begin) in bases(Reach::Mounter) {
        let Ok(entries) = std::fs::read_dir(&base) else { continue };
        let is_ours = |name: &str| name.starts_with(begin) && name.contains(&mark);
        found.extend(entries.flatten().filter(|e| e.file_name().to_str().is_some_and(is_ours)).map(|e| e.path()));
    }
    found
}

/// Takes away the second mounts that killed daemons of a mount at `beside` have left.
pub fn clear_dead(beside: &Path) {
    for path in dead_seconds(beside) {
        let mounted = table::top_at(&path).ok().flatten().is_some_and(|m| m.is_ours());
        if !mounted || take_away(&path, Detach::Lazily).is_ok() {
            drop(remove_mount_place(&path));
        }
    }
}
