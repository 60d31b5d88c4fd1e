//! Errors of changes to the disk, with what a person asks next: whose the directory is, how much space is free.

use super::{Space, confine, lstat, names, space};
use crate::error::{Error, show_path};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A step that changes the disk failed while doing `action` to `path`.
pub(super) fn failed(action: &str, path: &Path, e: io::Error) -> Error {
    failed_with(action, path, e, None)
}

/// [`failed`], for a step that needs this many bytes.
pub(super) fn failed_with(action: &str, path: &Path, e: io::Error, needed: Option<u64>) -> Error {
    let code = e.raw_os_error();
    let error = Error::io(action, path, e);
    let Some(directory) = path.parent() else { return error };
    match code {
        Some(libc::EACCES | libc::EPERM) => explain_refusal(error, directory),
        Some(libc::ENOSPC | libc::EDQUOT) => explain_space(error, directory, code == Some(libc::EDQUOT), needed),
        _ => error,
    }
}

fn explain_refusal(e: Error, directory: &Path) -> Error {
    let Some(access) = names::show_access(directory) else { return e };
    let e = e.with_cause(format!("you may not write to {} ({access})", show_path(directory)));
    match confine::root_of(directory) {
        Some(_) => e.with_hint(
            "`cairn access --check` lists what is closed in this store; `cairn access --fix`, run by its owner or \
             root, opens it again",
        ),
        None => e,
    }
}

fn explain_space(e: Error, directory: &Path, is_quota: bool, needed: Option<u64>) -> Error {
    let needed = needed.map(|n| format!("{n} bytes needed, ")).unwrap_or_default();
    let found = space(directory);
    let is_projects = found.as_ref().is_ok_and(|found| is_limited(directory, found));
    let free = match found {
        Ok(found) if found.files > 0 && found.files_free == 0 => {
            format!("no inodes are left on the file system of {}", show_path(directory))
        }
        Ok(found) if is_projects => {
            format!("{needed}{} bytes free for the project of {}", found.available_bytes(), show_path(directory))
        }
        Ok(found) => {
            format!("{needed}{} bytes free on the file system of {}", found.available_bytes(), show_path(directory))
        }
        Err(_) => return e,
    };
    let e = match is_quota || is_projects {
        true => e.with_cause(format!("a quota is used up: {free}")),
        false => e.with_cause(free),
    };
    match confine::root_of(directory) {
        Some(_) => e.with_hint(
            "`cairn rm` and `cairn gc --min-age 0` free space in the store, also when the disk is full; \
             then run the command again",
        ),
        None => e,
    }
}

/// Whether statvfs counts less for a directory than for the root of its file system: a project quota holds there. XFS
/// reports a project quota that is used up as ENOSPC.
fn is_limited(directory: &Path, found: &Space) -> bool {
    let device = |path: &Path| lstat(path).ok().flatten().map(|meta| meta.dev());
    let own = device(directory);
    let root = directory.ancestors().take_while(|above| own.is_some() && device(above) == own).last();
    let whole = root.and_then(|root| space(root).ok());
    whole.is_some_and(|whole| whole.blocks > found.blocks || whole.files_free > 0 && found.files_free == 0)
}
