//! The kernel's mount table, `/proc/PID/mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The table of this process's mount namespace.
pub const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// `major:minor` of its device, as text: its name in `/sys/class/bdi`.
    pub device: String,
    /// The directory of the file system that is mounted.
    pub root: PathBuf,
    /// The mount point.
    pub at: PathBuf,
    /// The type of the file system.
    pub kind: String,
    /// What is mounted: a device, `HOST:DIR`, a store.
    pub source: PathBuf,
    /// The options of the file system, separated by commas.
    pub options: String,
}

impl MountEntry {
    /// The values of an option, `KEY=VALUE`.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.options.split(',').filter_map(move |o| o.strip_prefix(key)?.strip_prefix('='))
    }
}

/// The mounts of a table, lowest first.
pub fn mount_entries(text: &[u8]) -> impl Iterator<Item = MountEntry> {
    text.split(|b| *b == b'\n').filter_map(parse_line)
}

/// `id parent major:minor root point options [optional…] - type source superoptions`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ');
    let device = text_of(fields.nth(2)?);
    let (root, at) = (path_of(fields.next()?), path_of(fields.next()?));
    fields.find(|f| *f == b"-")?;
    let (kind, source) = (text_of(fields.next()?), path_of(fields.next()?));
    let options = text_of(fields.next().unwrap_or_default());
    Some(MountEntry { device, root, at, kind, source, options })
}

fn text_of(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

fn path_of(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
pub(super) fn unescape(field: &[u8]) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_line_of_the_mount_table_is_read_with_its_escapes_and_optional_fields() {
        let line = b"36 35 98:0 /r /mnt/a\\040b\\134c\\012 rw,noatime master:1 shared:2 - fuse.cairnfs /x\\040y rw,\
            errors=continue";
        let m = parse_line(line).unwrap();
        assert_eq!((m.at.as_path(), m.root.as_path()), (Path::new("/mnt/a b\\c\n"), Path::new("/r")));
        assert_eq!(
            (m.device.as_str(), m.kind.as_str(), m.source.as_path()),
            ("98:0", "fuse.cairnfs", Path::new("/x y"))
        );
        assert_eq!(m.values("errors").collect::<Vec<_>>(), ["continue"]);
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b"36 35 98:0 / /mnt rw"), None);
        assert_eq!(unescape(b"\\9\\04"), b"\\9\\04");
    }
}
