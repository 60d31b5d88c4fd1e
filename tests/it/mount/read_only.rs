//! Every change is EROFS, for root too.

use super::support::*;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn check(rc: i32) -> io::Result<()> {
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn every_kind_of_change_is_erofs_for_root() {
    let place = Location::new();
    let version = things([
        (b"f", file("text")),
        (b"d/x", file("x")),
        (b"hollow", Thing::Dir),
        (b"l", Thing::Link(b"f".to_vec())),
    ]);
    let mounted = place.mount(place.version(&version));
    let (f, d) = (mounted.at("f"), mounted.at("d"));
    let new = mounted.at("new");
    let outside = place.path("outside");
    fs::write(&outside, "x").unwrap();
    // SAFETY: valid C strings and buffers for the length of each call.
    let raw: Vec<(&str, io::Result<()>)> = unsafe {
        vec![
            ("setxattr", check(libc::setxattr(c(&f).as_ptr(), c"user.x".as_ptr(), b"1".as_ptr().cast(), 1, 0))),
            ("removexattr", check(libc::removexattr(c(&f).as_ptr(), c"user.x".as_ptr()))),
            ("mknod", check(libc::mknod(c(&new).as_ptr(), libc::S_IFIFO | 0o644, 0))),
            ("chown", check(libc::chown(c(&f).as_ptr(), 1, 1))),
            ("lchown", check(libc::lchown(c(&mounted.at("l")).as_ptr(), 1, 1))),
            ("utimes", check(libc::utimes(c(&f).as_ptr(), std::ptr::null()))),
            ("access W_OK", check(libc::access(c(&f).as_ptr(), libc::W_OK))),
            ("O_TMPFILE", OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(mounted.path()).map(drop)),
        ]
    };
    let through_std: Vec<(&str, io::Result<()>)> = vec![
        ("open O_RDWR", OpenOptions::new().read(true).write(true).open(&f).map(drop)),
        ("open O_WRONLY", OpenOptions::new().write(true).open(&f).map(drop)),
        ("open O_APPEND", OpenOptions::new().append(true).open(&f).map(drop)),
        ("open O_TRUNC", OpenOptions::new().write(true).truncate(true).open(&f).map(drop)),
        ("create", File::create(&new).map(drop)),
        ("mkdir", fs::create_dir(&new)),
        ("unlink", fs::remove_file(&f)),
        ("unlink of a symlink", fs::remove_file(mounted.at("l"))),
        ("rmdir", fs::remove_dir(mounted.at("hollow"))),
        ("rename", fs::rename(&f, &new)),
        ("rename of a directory", fs::rename(&d, &new)),
        ("link", fs::hard_link(&f, &new)),
        ("symlink", std::os::unix::fs::symlink("x", &new)),
        ("chmod", fs::set_permissions(&f, fs::Permissions::from_mode(0o600))),
        ("chmod of a directory", fs::set_permissions(&d, fs::Permissions::from_mode(0o700))),
    ];
    for (what, result) in raw.into_iter().chain(through_std) {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EROFS), "{what}");
    }
    // These change nothing but need a descriptor open for writing, which no user gets.
    let open = File::open(&f).unwrap();
    assert!(open.set_len(0).is_err());
    open.sync_all().unwrap();
    // SAFETY: open descriptors.
    let lock = |file: &File| unsafe { check(libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB)) };
    lock(&open).expect("locks are local");
    assert!(lock(&File::open(&f).unwrap()).is_err(), "and hold");
    assert_eq!(seen(mounted.path()), expected(&version));
}

#[test]
fn even_a_mount_made_writable_by_root_refuses_changes() {
    let place = Location::new();
    let version = things([(b"f", file("text")), (b"d/x", file("x"))]);
    let mounted = place.mount(place.version(&version));
    // SAFETY: valid C strings.
    let rc = unsafe {
        libc::mount(
            std::ptr::null(),
            c(mounted.path()).as_ptr(),
            std::ptr::null(),
            libc::MS_REMOUNT | libc::MS_NODEV | libc::MS_NOSUID,
            std::ptr::null(),
        )
    };
    if rc != 0 {
        return;
    }
    // The daemon is not asked for opens: what it is asked for it refuses.
    let writable = OpenOptions::new().read(true).write(true).open(mounted.at("f")).unwrap();
    for result in [
        writable.write_at(b"TEXT", 0).map(drop),
        writable.set_len(1),
        OpenOptions::new().write(true).truncate(true).open(mounted.at("f")).map(drop),
        File::create(mounted.at("new")).map(drop),
        fs::remove_file(mounted.at("f")),
        fs::create_dir(mounted.at("new")),
        fs::rename(mounted.at("f"), mounted.at("g")),
        fs::set_permissions(mounted.at("f"), fs::Permissions::from_mode(0o600)),
    ] {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EROFS));
    }
    drop(writable);
    assert_eq!(seen(mounted.path()), expected(&version));
}

#[test]
fn extended_attributes_are_not_supported_and_copying_tools_live_with_it() {
    let place = Location::new();
    let version = things([(b"f", file("text")), (b"d/x", Thing::Exec(b"x".to_vec()))]);
    let mounted = place.mount(place.version(&version));
    let name = c(&mounted.at("f"));
    for _ in 0..2 {
        // SAFETY: a size of 0 asks for the length only.
        let (get, list) = unsafe {
            let get = libc::getxattr(name.as_ptr(), c"user.x".as_ptr(), std::ptr::null_mut(), 0);
            let get = (get, io::Error::last_os_error().raw_os_error());
            let list = libc::listxattr(name.as_ptr(), std::ptr::null_mut(), 0);
            (get, (list, io::Error::last_os_error().raw_os_error()))
        };
        assert_eq!(get, (-1, Some(libc::ENOTSUP)));
        assert_eq!(list, (-1, Some(libc::ENOTSUP)));
    }
    let copy = place.path("copy");
    let cp = std::process::Command::new("cp").arg("-a").arg(mounted.path()).arg(&copy).output().unwrap();
    assert!(cp.status.success(), "{}", stderr_of(&cp));
    assert_eq!(expected(&version).len(), walkdir::WalkDir::new(&copy).min_depth(1).into_iter().count());
}
