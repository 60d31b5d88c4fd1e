//! Listing the directories of a staging mount.

use super::handles::OpenDirectory;
use super::open_stage::OpenStage;
use super::table::{ROOT, ResolvedNode};
use super::tree::{Attr, StagingTree};
use crate::disk::backing::DirStream;
use crate::error::Error;
use crate::fuse::errno::{ErrnoResult, Subject, errno_of, errno_of_io};
use crate::manifest::{Entry, Listing};
use parking_lot::Mutex;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Takes an entry of a listing: its number, the offset after it, `DT_…`, its name. Returns true if there is no room for
/// it.
pub(super) type TakeEntry<'a> = dyn FnMut(u64, i64, u8, &OsStr) -> bool + 'a;

/// As [`TakeEntry`], with the entry's attributes if it was looked up.
pub(super) type TakeKnown<'a> = dyn FnMut(Option<&Attr>, u64, i64, u8, &OsStr) -> bool + 'a;

impl StagingTree {
    pub(super) fn sync_directory(&self, id: u64) -> ErrnoResult<()> {
        let (_table, ResolvedNode::InRun(at)) = self.resolve(id)? else { return Ok(()) };
        if at.run.sealed().is_some() || at.nameless().is_some() {
            return Ok(());
        }
        let directory = at.backing().open_at(at.path(), libc::O_RDONLY | libc::O_DIRECTORY, 0).map_err(errno_of_io)?;
        at.run.store().disk().sync_users_dir(&directory).map_err(errno_of_io)
    }

    pub(super) fn open_directory(&self, id: u64) -> ErrnoResult<u64> {
        let (table, resolved) = self.resolve(id)?;
        let opened = match resolved {
            ResolvedNode::InRun(at) => match at.sealed() {
                Some(sealed) => OpenDirectory::Sealed(Mutex::new((sealed.list(at.path())?, 0))),
                None => {
                    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
                    let directory = at.backing().open_at(at.path(), flags, 0).map_err(errno_of_io)?;
                    OpenDirectory::Stage(Mutex::new(DirStream::of(directory).map_err(errno_of_io)?), at.run)
                }
            },
            ResolvedNode::Namespace(kind) => {
                drop(table);
                let names = self.namespace()?.names(&kind)?;
                OpenDirectory::Namespace(names.into_iter().map(OsString::from).collect())
            }
        };
        Ok(self.handles.open_directory(opened))
    }

    /// As [`StagingTree::list`], with each entry looked up. Above the runs a look-up would read all records for each
    /// name. There each entry has the root's number, which the kernel lists and does not take for a node.
    pub(super) fn list_known(&self, id: u64, handle: u64, offset: i64, take: &mut TakeKnown<'_>) -> ErrnoResult<()> {
        let above = matches!(&*self.handles.directory(handle)?, OpenDirectory::Namespace(_));
        self.list(id, handle, offset, &mut |number, next, kind, name| {
            if above || name == "." || name == ".." {
                return take(None, if above { ROOT } else { number }, next, kind, name);
            }
            let Ok(known) = self.lookup(id, name) else { return false }; // it was removed meanwhile
            let full = take(Some(&known), known.st_ino, next, kind, name);
            if full {
                self.forget(known.st_ino, 1); // the kernel does not get it
            }
            full
        })
    }

    /// Passes the entries from `offset` on to `take`, until that has no more room.
    pub(super) fn list(&self, id: u64, handle: u64, offset: i64, take: &mut TakeEntry<'_>) -> ErrnoResult<()> {
        match &*self.handles.directory(handle)? {
            OpenDirectory::Stage(stream, run) => self.list_stage(&mut stream.lock(), run, id, offset, take),
            OpenDirectory::Sealed(listing) => list_sealed(&mut listing.lock(), offset, take),
            OpenDirectory::Namespace(names) => {
                for (i, name) in names.iter().enumerate().skip(offset as usize) {
                    if take(u64::MAX, i as i64 + 1, libc::DT_DIR, name) {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    fn list_stage(
        &self,
        stream: &mut DirStream,
        run: &OpenStage,
        id: u64,
        offset: i64,
        take: &mut TakeEntry<'_>,
    ) -> ErrnoResult<()> {
        let device = run.backing.stat(Path::new("")).map_err(errno_of_io)?.st_dev;
        let mut at = offset;
        while let Some(entry) = stream.read(at).map_err(errno_of_io)? {
            let number = match entry.name.as_bytes() {
                b"." => id,
                b".." => ROOT,
                _ => self.table.read().listed_number((run.number, device, entry.ino)),
            };
            if take(number, entry.next, entry.kind, &entry.name) {
                break;
            }
            at = entry.next;
        }
        Ok(())
    }
}

fn list_sealed((listing, at): &mut (Listing, u64), offset: i64, take: &mut TakeEntry<'_>) -> ErrnoResult<()> {
    let damaged = |e: Error| errno_of(&e, Subject::Version);
    if *at != offset as u64 {
        listing.seek_index(offset as u64).map_err(damaged)?;
        *at = offset as u64;
    }
    loop {
        let before = listing.clone();
        let Some(entry) = listing.next() else { return Ok(()) };
        let entry = entry.map_err(damaged)?;
        let kind = match entry.entry {
            Entry::Directory(_) => libc::DT_DIR,
            Entry::Symlink { .. } => libc::DT_LNK,
            _ => libc::DT_REG,
        };
        if take(u64::MAX, *at as i64 + 1, kind, OsStr::from_bytes(&entry.name)) {
            *listing = before;
            return Ok(());
        }
        *at += 1;
    }
}
