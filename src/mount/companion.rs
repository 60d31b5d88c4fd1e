//! Companion mounts: what is writable of a whole store is mounted outside the mount that shows its versions, which has
//! links to it.
//!
//! The directory of a companion mount is called `STORE-MARK-TOKEN`: the store's id; a mark, which is a hash of the main
//! mount's path, by which a later command finds what a killed daemon left; and a token, so that no two names are equal.

use super::detach::detach;
use super::options::Audience;
use super::sys::{self, Detach};
use super::table;
use crate::disk::remove_mount_place;
use crate::types::Digest;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The link in the root of a whole-store mount that leads to its companion mount.
pub const COMPANION_LINK: &str = ".staging";

/// The directories where companion mounts may go, best first, each with the prefix of names there.
pub(super) fn bases(audience: Audience) -> Vec<(PathBuf, &'static str)> {
    let mut out = Vec::new();
    if sys::effective_ids().0 == 0 {
        out.push((PathBuf::from("/run/cairn"), ""));
    }
    // No other user can enter a user's own runtime directory.
    if audience == Audience::MountingUser
        && let Some(own) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute())
    {
        out.push((own.join("cairn"), ""));
    }
    out.push((PathBuf::from("/tmp"), "cairn-"));
    out
}

/// The mark of companions of a mount at `main`.
pub(super) fn mark(main: &Path) -> String {
    Digest::of(main.as_os_str().as_bytes()).hex()[..8].to_owned()
}

/// Where the companion of the mount at `mnt` is, and its store, if it has one and answers.
pub fn companion_of(mnt: &Path) -> Option<(PathBuf, PathBuf)> {
    let at = std::fs::read_link(table::canonical(mnt).ok()?.join(COMPANION_LINK)).ok()?;
    let companion = table::top_at(&at).ok()??;
    companion.is_ours().then_some((at, companion.source))
}

/// The mount whose companion is at `companion`, by the mark in its name.
pub(super) fn main_of(companion: &Path) -> Option<PathBuf> {
    let name = companion.file_name()?.to_str()?;
    let own = table::ours_of("self").into_iter().map(|m| m.at);
    own.into_iter().find(|at| at != companion && name.contains(&format!("-{}-", mark(at))))
}

/// The directories of companion mounts that killed daemons of a mount at `main` left.
pub fn dead_companions(main: &Path) -> Vec<PathBuf> {
    let mut found = all_companions(main);
    found.retain(|path| !table::top_at(path).ok().flatten().is_some_and(|m| m.is_ours()) || table::is_dead(path));
    found
}

fn all_companions(main: &Path) -> Vec<PathBuf> {
    let mark = format!("-{}-", mark(main));
    let mut found = Vec::new();
    for (base, begin) in bases(Audience::MountingUser) {
        let Ok(entries) = std::fs::read_dir(&base) else { continue };
        let is_ours = |name: &str| name.starts_with(begin) && name.contains(&mark);
        found.extend(entries.flatten().filter(|e| e.file_name().to_str().is_some_and(is_ours)).map(|e| e.path()));
    }
    found
}

/// Removes the companion mounts that killed daemons of a mount at `main` left.
pub fn remove_dead_companions(main: &Path) {
    for path in dead_companions(main) {
        let mounted = table::top_at(&path).ok().flatten().is_some_and(|m| m.is_ours());
        if !mounted || detach(&path, Detach::Lazily).is_ok() {
            drop(remove_mount_place(&path));
        }
    }
}
