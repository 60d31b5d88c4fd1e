//! Listing: big directories, positions in them, inode numbers.

use super::support::*;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A directory stream of libc's, which knows positions.
struct Stream(*mut libc::DIR);

impl Stream {
    fn open(path: &Path) -> Stream {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: a valid C string.
        let dir = unsafe { libc::opendir(path.as_ptr()) };
        assert!(!dir.is_null());
        Stream(dir)
    }

    fn next(&self) -> Option<(Vec<u8>, u64)> {
        // SAFETY: the stream is open; the entry is copied before the next call.
        unsafe {
            let entry = libc::readdir(self.0);
            (!entry.is_null()).then(|| (CStr::from_ptr((*entry).d_name.as_ptr()).to_bytes().to_vec(), (*entry).d_ino))
        }
    }

    fn tell(&self) -> i64 {
        // SAFETY: the stream is open.
        unsafe { libc::telldir(self.0) }
    }

    fn seek(&self, to: i64) {
        // SAFETY: the stream is open, `to` came from telldir.
        unsafe { libc::seekdir(self.0, to) }
    }

    fn rewind(&self) {
        // SAFETY: the stream is open.
        unsafe { libc::rewinddir(self.0) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: open, and closed once.
        unsafe { libc::closedir(self.0) };
    }
}

fn nested() -> Things {
    things([
        (b"a/b/c/f", file("1")),
        (b"a/b/g", file("2")),
        (b"a/z", file("3")),
        (b"b/x", file("4")),
        (b"c", file("5")),
        (b"d", Thing::Link(b"a/b".to_vec())),
    ])
}

#[test]
fn dot_and_dot_dot_have_the_inodes_of_the_directory_and_its_parent() {
    let place = Location::new();
    let mounted = place.mount(place.version(&nested()));
    let ino = |path: &str| fs::symlink_metadata(mounted.at(path)).unwrap().ino();
    for (dir, parent) in [("a", ""), ("a/b", "a"), ("a/b/c", "a/b"), ("b", "")] {
        let listed: BTreeMap<_, _> = {
            let stream = Stream::open(&mounted.at(dir));
            std::iter::from_fn(|| stream.next()).collect()
        };
        assert_eq!(listed[&b"."[..]], ino(dir), "{dir}/.");
        assert_eq!(listed[&b".."[..]], if parent.is_empty() { 1 } else { ino(parent) }, "{dir}/..");
        assert_eq!(ino(&format!("{dir}/..")), if parent.is_empty() { 1 } else { ino(parent) });
    }
}

#[test]
fn an_inode_number_is_the_pre_order_rank_plus_one_in_every_mount() {
    let place = Location::new();
    let tree = place.version(&nested());
    let want = ["", "a", "a/b", "a/b/c", "a/b/c/f", "a/b/g", "a/z", "b", "b/x", "c", "d"];
    for _ in 0..2 {
        let mounted = place.mount(tree);
        for (rank, path) in want.iter().enumerate() {
            assert_eq!(fs::symlink_metadata(mounted.at(path)).unwrap().ino(), rank as u64 + 1, "{path}");
        }
    }
}

#[test]
fn a_directory_of_100000_entries_is_listed_whole_and_from_any_position() {
    const N: usize = 100_000;
    let place = Location::new();
    let mut all: Things = (0..N).map(|i| (format!("d/file-{i:06}").into_bytes(), file(""))).collect();
    all.insert(b"d/file-050000".to_vec(), Thing::Dir);
    all.insert(b"d/file-050000/inner".to_vec(), file(""));
    let mounted = place.mount(place.version(&all));
    let stream = Stream::open(&mounted.at("d"));
    let mut listed = Vec::with_capacity(N);
    let mut marks = Vec::new();
    loop {
        let at = stream.tell();
        let Some(entry) = stream.next() else { break };
        if listed.len() % 9_973 == 0 {
            marks.push((at, listed.len()));
        }
        listed.push(entry);
    }
    assert_eq!(listed.len(), N + 2);
    let names: Vec<&[u8]> = listed[2..].iter().map(|(name, _)| name.as_slice()).collect();
    assert!(
        names.iter().enumerate().all(|(i, name)| *name == format!("file-{i:06}").as_bytes()),
        "in byte order, none twice, none missing"
    );
    assert_eq!(listed[2].1 + 50_000, listed[50_002].1);
    assert_eq!(listed[50_002].1 + 2, listed[50_003].1, "what is inside a directory is counted");
    for (at, i) in marks.iter().rev().chain(&marks) {
        stream.seek(*at);
        for want in listed[*i..].iter().take(3) {
            assert_eq!(stream.next().as_ref(), Some(want));
        }
    }
    stream.rewind();
    assert_eq!(stream.next().as_ref(), Some(&listed[0]));
    // Another stream, uncached positions first.
    let other = Stream::open(&mounted.at("d"));
    other.seek(marks[5].0);
    assert_eq!(other.next().as_ref(), Some(&listed[marks[5].1]));
    assert_eq!(fs::symlink_metadata(mounted.at("d/file-099999")).unwrap().ino(), listed[N + 1].1);
    assert_eq!(
        walkdir::WalkDir::new(mounted.path())
            .into_iter()
            .map(|e| e.unwrap().metadata().unwrap().ino())
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        N + 3
    );
}

/// A file handle, as NFS servers keep it.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}

impl Handle {
    fn of(path: &Path) -> Handle {
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
        let mut mount_id = 0;
        // SAFETY: the struct has the layout of file_handle with room for its longest handle.
        let rc = unsafe {
            libc::name_to_handle_at(libc::AT_FDCWD, name.as_ptr(), (&raw mut handle).cast(), &mut mount_id, 0)
        };
        assert_eq!(rc, 0, "{}", io::Error::last_os_error());
        handle
    }

    fn open(&mut self, mnt: &Path) -> io::Result<fs::File> {
        let mnt = fs::File::open(mnt)?;
        // SAFETY: the handle was filled before; the descriptor that comes back is ours.
        unsafe {
            match libc::open_by_handle_at(mnt.as_raw_fd(), (&raw mut *self).cast(), libc::O_RDONLY) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(fs::File::from_raw_fd(fd)),
            }
        }
    }
}

#[test]
fn a_handle_opens_the_same_file_again_also_from_a_cold_cache() {
    let place = Location::new();
    let mounted = place.mount(place.version(&nested()));
    let mut handle = Handle::of(&mounted.at("a/b/c/f"));
    drop(fs::write("/proc/sys/vm/drop_caches", "2"));
    assert_eq!(io::read_to_string(handle.open(mounted.path()).unwrap()).unwrap(), "1");
}

#[test]
fn a_handle_of_another_versions_mount_is_estale() {
    let place = Location::new();
    let old = place.mount(place.version(&nested()));
    let mut handle = Handle::of(&old.at("a/b/c/f"));
    let mut changed = nested();
    changed.insert(b"a/b/c/f".to_vec(), file("another"));
    let new = place.mount(place.version(&changed));
    assert_eq!(handle.open(new.path()).unwrap_err().raw_os_error(), Some(libc::ESTALE));
    let mut far = Handle::of(&old.at("d"));
    let small = place.mount(place.version(&Things::new()));
    assert_eq!(far.open(small.path()).unwrap_err().raw_os_error(), Some(libc::ESTALE), "no such inode there");
}
