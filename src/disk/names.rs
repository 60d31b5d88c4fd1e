//! Users and groups of this host: their names and numbers, from the system's databases (files, LDAP, …).

use super::lstat;
use crate::locks::Mutex;
use std::ffi::{CStr, CString};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The longest record that is asked for: a group lists its members.
const MAX_RECORD: usize = 1 << 20;

/// The user who started this process.
pub fn own_uid() -> u32 {
    // SAFETY: getuid cannot fail.
    unsafe { libc::getuid() }
}

/// The name that this host has for the user of this process. The databases are asked once.
pub fn own_name() -> Option<String> {
    static ASKED: Mutex<Option<(u32, Option<String>)>> = Mutex::of_process(None, || None);
    let uid = own_uid();
    let mut asked = ASKED.lock();
    match &*asked {
        Some((of, name)) if *of == uid => name.clone(),
        _ => asked.insert((uid, name_of_user(uid))).1.clone(),
    }
}

/// The name that this host has for a user.
pub fn name_of_user(uid: u32) -> Option<String> {
    with_buffer(|buffer| {
        let mut found = std::ptr::null_mut();
        // SAFETY: an all-zero passwd is valid; the buffer is given with its length. What `found` points to is in
        // `entry` and in the buffer, and is copied before they go.
        unsafe {
            let mut entry: libc::passwd = std::mem::zeroed();
            let status = libc::getpwuid_r(uid, &mut entry, buffer.as_mut_ptr().cast(), buffer.len(), &mut found);
            (status, (!found.is_null()).then(|| copy(entry.pw_name)).flatten())
        }
    })
}

/// The name that this host has for a group.
pub fn name_of_group(gid: u32) -> Option<String> {
    with_buffer(|buffer| {
        let mut found = std::ptr::null_mut();
        // SAFETY: as in `name_of_user`.
        unsafe {
            let mut entry: libc::group = std::mem::zeroed();
            let status = libc::getgrgid_r(gid, &mut entry, buffer.as_mut_ptr().cast(), buffer.len(), &mut found);
            (status, (!found.is_null()).then(|| copy(entry.gr_name)).flatten())
        }
    })
}

/// The number of a group that is given by its name or its number.
pub fn group_id(name: &str) -> Option<u32> {
    let text = CString::new(name).ok()?;
    let by_name = with_buffer(|buffer| {
        let mut found = std::ptr::null_mut();
        // SAFETY: as in `name_of_user`; the name is a C string.
        unsafe {
            let mut entry: libc::group = std::mem::zeroed();
            let (to, length) = (buffer.as_mut_ptr().cast(), buffer.len());
            let status = libc::getgrnam_r(text.as_ptr(), &mut entry, to, length, &mut found);
            (status, (!found.is_null()).then_some(entry.gr_gid))
        }
    });
    by_name.or_else(|| name.parse().ok())
}

/// A user's name, or its number.
pub fn show_user(uid: u32) -> String {
    name_of_user(uid).unwrap_or_else(|| uid.to_string())
}

/// A group's name, or its number.
pub fn show_group(gid: u32) -> String {
    name_of_group(gid).unwrap_or_else(|| gid.to_string())
}

/// Owner, group and mode, for messages; `None` if that cannot be found out.
pub fn show_access(path: &Path) -> Option<String> {
    let meta = lstat(path).ok()??;
    let mode = meta.mode() & 0o7777;
    Some(format!("owner {}, group {}, mode {mode:04o}", show_user(meta.uid()), show_group(meta.gid())))
}

/// Asks with buffers of growing size, until the answer fits.
fn with_buffer<T>(mut ask: impl FnMut(&mut [u8]) -> (libc::c_int, Option<T>)) -> Option<T> {
    let mut buffer = vec![0_u8; 4096];
    loop {
        match ask(&mut buffer) {
            (libc::ERANGE, _) if buffer.len() < MAX_RECORD => buffer.resize(buffer.len() * 4, 0),
            (0, found) => return found,
            _ => return None,
        }
    }
}

/// # Safety
/// `text` is null or a C string.
unsafe fn copy(text: *const libc::c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_have_names_and_numbers() {
        assert_eq!((show_user(0), show_group(0)), ("root".to_owned(), "root".to_owned()));
        assert_eq!((group_id("root"), group_id("0"), group_id("4000000000")), (Some(0), Some(0), Some(4_000_000_000)));
        assert_eq!(group_id("no such group"), None);
        assert_eq!(show_user(4_000_000_001), "4000000001");
        assert_eq!(own_name(), name_of_user(own_uid()));
        assert_eq!(own_name(), name_of_user(own_uid()), "the second time from memory");
        assert!(show_access(Path::new("/")).unwrap().starts_with("owner root, group root, mode 0"));
    }
}
