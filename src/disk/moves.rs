//! Moving many files between two directories of a store. Both are opened once, so that no path is walked and checked
//! for symlinks again for each file.

use super::confine;
use super::dir::Dir;
use crate::error::Result;
use std::ffi::CString;
use std::io;
use std::path::Path;

impl Dir {
    /// Opens a directory of a store, to change entries in it.
    ///
    /// # Errors
    /// Damaged: the path leads through a symlink. I/O.
    pub fn open_in_store(path: &Path) -> Result<Dir> {
        confine::check(&path.join("any"))?;
        Dir::open(path)
    }

    /// Gives the file `name` a second name in another directory.
    ///
    /// # Errors
    /// I/O, an existing file of that name included.
    pub fn link_to(&self, name: &[u8], to: &Dir, new: &[u8]) -> Result<()> {
        self.step("link", name)?;
        self.two_names(name, new, |old, new| {
            // SAFETY: open descriptors and valid C strings.
            unsafe { libc::linkat(self.handle().raw(), old.as_ptr(), to.handle().raw(), new.as_ptr(), 0) }
        })
        .map_err(|e| to.failed("link", new, e))
    }

    /// Renames the file `name` into another directory, where nothing may have the name `new`.
    ///
    /// # Errors
    /// I/O: something has that name, or the file system cannot rename so.
    pub fn rename_to(&self, name: &[u8], to: &Dir, new: &[u8]) -> Result<()> {
        self.step("rename", name)?;
        self.two_names(name, new, |old, new| {
            let (from, to) = (self.handle().raw(), to.handle().raw());
            // SAFETY: open descriptors and valid C strings.
            unsafe { libc::renameat2(from, old.as_ptr(), to, new.as_ptr(), libc::RENAME_NOREPLACE) }
        })
        .map_err(|e| to.failed("rename", new, e))
    }

    fn two_names(&self, old: &[u8], new: &[u8], act: impl Fn(&CString, &CString) -> libc::c_int) -> io::Result<()> {
        if act(&CString::new(old)?, &CString::new(new)?) < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
