//! How long this host's mount of a shared file system may cache directories, as `/proc/self/mountinfo` shows it.

use crate::disk::{MOUNT_TABLE, MountEntry, mount_entries};
use std::path::Path;

/// How many seconds the mount that holds `path` may cache directory entries, if its options set that.
pub(super) fn seconds(path: &Path) -> Option<u64> {
    let text = std::fs::read(MOUNT_TABLE).ok()?;
    from_mountinfo(&text, path)
}

fn from_mountinfo(text: &[u8], path: &Path) -> Option<u64> {
    let above = mount_entries(text).filter(|mount| path.starts_with(&mount.at));
    longest(&above.max_by_key(|mount| mount.at.as_os_str().len())?)
}

/// The longest directory cache among NFS's options. Without any, NFS caches directories for up to 60 s.
fn longest(mount: &MountEntry) -> Option<u64> {
    mount.values("acdirmax").chain(mount.values("actimeo")).filter_map(|value| value.parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_and_its_longest_cache_count() {
        let text = b"1 0 8:1 / / rw - ext4 /dev/a rw\n\
            2 1 0:5 / /mnt/a\\040b rw - nfs4 h:/x rw,acdirmax=600,acregmax=3\n\
            3 2 0:6 / /mnt/a\\040b/c rw - nfs4 h:/y rw,vers=4.2\n";
        assert_eq!(from_mountinfo(text, Path::new("/mnt/a b/store")), Some(600));
        assert_eq!(from_mountinfo(text, Path::new("/mnt/a b/c/store")), None);
        assert_eq!(from_mountinfo(text, Path::new("/home")), None);
    }
}
