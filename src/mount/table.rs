//! The mount table: what is mounted at a path, according to `/proc/self/mountinfo`.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const TABLE: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) at: PathBuf,
    /// `major:minor` of its device, as text: its name in `/sys/class/bdi`.
    pub(super) device: String,
    pub(super) kind: String,
    /// The store, for a cairn mount.
    pub(super) source: PathBuf,
}

impl Mount {
    pub(super) fn is_ours(&self) -> bool {
        self.kind == super::TYPE
    }
}

/// The topmost mount at exactly `path`, which must be canonical.
pub(super) fn top_at(path: &Path) -> Result<Option<Mount>> {
    let text = std::fs::read(TABLE).map_err(|e| Error::io("read", Path::new(TABLE), e))?;
    Ok(mounts(&text).filter(|m| m.at == path).last())
}

/// The cairn mount that contains `path`, for a hint.
pub(super) fn ours_above(path: &Path) -> Option<PathBuf> {
    let text = std::fs::read(TABLE).ok()?;
    mounts(&text).filter(|m| m.is_ours() && path.starts_with(&m.at)).map(|m| m.at).max_by_key(|at| at.as_os_str().len())
}

/// The cairn mounts in the mount namespace of a process (`self` is this one), lowest first; none if this user may not
/// read its mount table.
pub(super) fn ours_of(process: &str) -> Vec<Mount> {
    let text = std::fs::read(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    mounts(&text).filter(Mount::is_ours).collect()
}

fn mounts(text: &[u8]) -> impl Iterator<Item = Mount> {
    text.split(|b| *b == b'\n').filter_map(parse_line)
}

/// `id parent major:minor root point options [optional…] - type source superoptions`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let device = String::from_utf8_lossy(fields.nth(2)?).into_owned();
    let at = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    fields.find(|f| *f == b"-")?;
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
    Some(Mount { at, device, kind, source })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'\\' && after.len() >= 3 && after[..3].iter().all(|d| (b'0'..=b'7').contains(d)))
            .then(|| after[..3].iter().fold(0_u32, |n, d| n * 8 + u32::from(d - b'0')));
        match code {
            Some(code) => {
                out.push(code as u8);
                rest = &after[3..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

/// The canonical path of a mount point, also if its daemon is dead: then only the parent's entry can be read.
pub(super) fn canonical(path: &Path) -> Result<PathBuf> {
    let mut path = std::path::absolute(path).map_err(|e| Error::io("resolve", path, e))?;
    for _ in 0..40 {
        match path.canonicalize() {
            Ok(found) => return Ok(found),
            Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) || e.raw_os_error() == Some(libc::EACCES) => {
                // It cannot be read itself, but a link to it can.
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(Error::io("resolve", &path, e));
                };
                let parent = parent.canonicalize().map_err(|e| Error::io("resolve", parent, e))?;
                match std::fs::read_link(parent.join(name)) {
                    Ok(target) => path = parent.join(target),
                    Err(_) => return Ok(parent.join(name)),
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::not_found(format!("{} does not exist", crate::error::show_path(&path))));
            }
            Err(e) => return Err(Error::io("resolve", &path, e)),
        }
    }
    Err(Error::io("resolve", &path, std::io::Error::from_raw_os_error(libc::ELOOP)))
}

/// Whether the daemon of the mount at `path` has ended. Calls statfs, because the kernel always asks the daemon for
/// that; it may have attributes cached.
pub(super) fn is_dead(path: &Path) -> bool {
    matches!(crate::disk::space(path), Err(e) if matches!(e.errno(), Some(libc::ENOTCONN | libc::ECONNABORTED)))
}

/// A path for fusermount3's option parser: commas and backslashes are escaped.
pub(super) fn escape_option(path: &Path) -> Vec<u8> {
    path.as_os_str()
        .as_bytes()
        .iter()
        .flat_map(|b| if matches!(b, b',' | b'\\') { vec![b'\\', *b] } else { vec![*b] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_mount_table_is_read_with_its_escapes_and_optional_fields() {
        let line = b"36 35 98:0 / /mnt/a\\040b\\134c\\012 rw,noatime master:1 shared:2 - fuse.cairnfs /x\\040y rw,errors=continue";
        let m = parse_line(line).unwrap();
        assert_eq!(m.at, Path::new("/mnt/a b\\c\n"));
        assert_eq!(
            (m.device.as_str(), m.kind.as_str(), m.source.as_path()),
            ("98:0", "fuse.cairnfs", Path::new("/x y"))
        );
        assert!(m.is_ours());
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b"36 35 98:0 / /mnt rw"), None);
        assert_eq!(unescape(b"\\9\\04"), b"\\9\\04");
    }

    #[test]
    fn the_topmost_mount_at_a_path_is_found_and_a_plain_directory_is_none() {
        assert!(top_at(Path::new("/proc")).unwrap().is_some_and(|m| !m.is_ours()));
        assert_eq!(top_at(Path::new("/proc/self")).unwrap(), None);
    }
}
