//! How long this host's mount of a shared file system may cache directories, from `/proc/self/mountinfo`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Seconds that the mount holding `path` may cache directory entries, where its options say so.
pub(super) fn seconds(path: &Path) -> Option<u64> {
    let text = std::fs::read("/proc/self/mountinfo").ok()?;
    from_mountinfo(&text, path)
}

fn from_mountinfo(text: &[u8], path: &Path) -> Option<u64> {
    let mut best: Option<(usize, Option<u64>)> = None;
    for line in text.split(|b| *b == b'\n') {
        let mut fields = line.split(|b| *b == b' ');
        let Some(point) = fields.nth(4).map(unescape) else { continue };
        if !path.starts_with(std::ffi::OsStr::from_bytes(&point))
            || best.as_ref().is_some_and(|(len, _)| *len > point.len())
        {
            continue;
        }
        let options = line.rsplit(|b| *b == b' ').next().unwrap_or_default();
        best = Some((point.len(), longest(options)));
    }
    best?.1
}

/// The longest directory cache among NFS's words. Without any, NFS caches directories for up to 60 s.
fn longest(options: &[u8]) -> Option<u64> {
    let options = std::str::from_utf8(options).ok()?;
    let value = |key: &str| {
        options.split(',').filter_map(|o| o.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok()).max()
    };
    value("acdirmax").max(value("actimeo"))
}

/// mountinfo writes blanks and backslashes as octal.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| tail.get(..3).and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok()))
            .flatten();
        match octal {
            Some(byte) => (out.push(byte), rest = &tail[3..]).1,
            None => (out.push(*first), rest = tail).1,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_and_its_longest_cache_count() {
        let text = b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /mnt/a\\040b rw - nfs4 h:/x rw,acdirmax=600,acregmax=3\n3 2 0:6 / /mnt/a\\040b/c rw - nfs4 h:/y rw,vers=4.2\n";
        assert_eq!(from_mountinfo(text, Path::new("/mnt/a b/store")), Some(600));
        assert_eq!(from_mountinfo(text, Path::new("/mnt/a b/c/store")), None);
        assert_eq!(from_mountinfo(text, Path::new("/home")), None);
    }
}
