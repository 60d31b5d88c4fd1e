//! Damaged bytes are EIO, never wrong and never fewer; a repair shows at the next read.

use super::build;
use super::support::*;
use cairn::types::Digest;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

fn eio(path: &Path) {
    match fs::read(path) {
        Ok(bytes) => panic!("{} bytes were read", bytes.len()),
        Err(e) => assert_eq!(e.raw_os_error(), Some(libc::EIO)),
    }
}

#[test]
fn a_flipped_byte_of_a_small_file_is_eio_with_a_log_line_and_right_after_its_repair() {
    let place = Location::new();
    let bytes = random_bytes(1, 20_000);
    let tree = place
        .version(&things([(b"d/bad", Thing::File(bytes.clone())), (b"d/good", Thing::File(random_bytes(2, 20_000)))]));
    let held = build::flip_small(&place.store(), &bytes);
    let mounted = place.mount(tree);
    eio(&mounted.at("d/bad"));
    eio(&mounted.at("d/bad"));
    assert_eq!(fs::read(mounted.at("d/good")).unwrap(), random_bytes(2, 20_000));
    assert_eq!(fs::metadata(mounted.at("d/bad")).unwrap().len(), 20_000, "its entry is whole");
    let log = place.logged();
    assert!(log.contains("cannot read /d/bad: "), "{log}");
    assert_eq!(log.lines().count(), 1, "one line, not one for every read: {log}");
    held.undo();
    assert_eq!(fs::read(mounted.at("d/bad")).unwrap(), bytes);
}

#[test]
fn damage_amid_files_that_are_read_in_order_is_eio_for_the_one_file_and_right_after_its_repair() {
    let place = Location::new();
    let name = |i: u64| format!("d{}/{i:04}", i / 200);
    let bytes = |i: u64| random_bytes(i, 1000 + (i as usize * 997) % 30_000);
    let tree = place.version(&(0..1000).map(|i| (name(i).into_bytes(), Thing::File(bytes(i)))).collect());
    let held = build::flip_small(&place.store(), &bytes(517));
    let mounted = place.mount(tree);
    for again in 0..2 {
        for d in 0..5 {
            // Listed, then read in order: what comes next is given to the kernel before it asks.
            assert_eq!(fs::read_dir(mounted.at(format!("d{d}"))).unwrap().count(), 200);
            for i in d * 200..(d + 1) * 200 {
                if i == 517 {
                    eio(&mounted.at(name(i)));
                } else {
                    assert!(fs::read(mounted.at(name(i))).unwrap() == bytes(i), "{again}: {i}");
                }
            }
        }
    }
    held.undo();
    assert!(fs::read(mounted.at(name(517))).unwrap() == bytes(517));
}

#[test]
fn a_truncated_or_missing_large_object_is_eio_and_right_after_its_repair() {
    let place = Location::new();
    let bytes = random_bytes(3, 1_000_000);
    let tree = place.version(&things([(b"f", Thing::File(bytes.clone()))]));
    let object = cairn::internals::layout::Layout::new(place.store()).object(&Digest::of(&bytes));
    let mounted = place.mount(tree);
    build::truncate(&object, 500_000);
    eio(&mounted.at("f"));
    let file = File::open(mounted.at("f")).expect("opening looks at nothing yet");
    assert_eq!(file.read_at(&mut [0; 10], 700_000).unwrap_err().raw_os_error(), Some(libc::EIO), "never a short read");
    fs::rename(&object, place.path("aside")).unwrap();
    eio(&mounted.at("f"));
    build::replace(&object, &bytes);
    assert_eq!(fs::read(mounted.at("f")).unwrap(), bytes);
    let mut got = [0; 10];
    file.read_exact_at(&mut got, 700_000).expect("the handle that failed sees the repair too");
    assert_eq!(got, bytes[700_000..700_010]);
}

#[test]
fn an_object_truncated_while_open_is_eio_past_its_end() {
    let place = Location::new();
    let bytes = random_bytes(4, 8_000_000);
    let tree = place.version(&things([(b"f", Thing::File(bytes.clone()))]));
    let object = cairn::internals::layout::Layout::new(place.store()).object(&Digest::of(&bytes));
    let mounted = place.mount_with(tree, ",io=no-open");
    let file = File::open(mounted.at("f")).unwrap();
    let mut got = [0; 4096];
    file.read_exact_at(&mut got, 0).unwrap();
    assert_eq!(got[..], bytes[..4096]);
    build::truncate(&object, 7_900_000);
    assert_eq!(file.read_at(&mut got, 7_950_000).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(fs::metadata(mounted.at("f")).unwrap().size(), 8_000_000);
}

#[test]
fn a_large_object_with_another_mtime_is_hashed_before_its_first_byte() {
    let place = Location::new();
    let (good, bad) = (random_bytes(5, 300_000), random_bytes(6, 300_000));
    let tree = place.version(&things([(b"good", Thing::File(good.clone())), (b"bad", Thing::File(bad.clone()))]));
    let layout = cairn::internals::layout::Layout::new(place.store());
    let now = std::time::SystemTime::now();
    build::set_mtime(&layout.object(&Digest::of(&good)), now);
    build::flip(&layout.object(&Digest::of(&bad)), 299_999);
    build::set_mtime(&layout.object(&Digest::of(&bad)), now);
    let mounted = place.mount(tree);
    assert_eq!(fs::read(mounted.at("good")).unwrap(), good);
    let file = File::open(mounted.at("bad")).unwrap();
    assert_eq!(
        file.read_at(&mut [0; 10], 0).unwrap_err().raw_os_error(),
        Some(libc::EIO),
        "the first bytes are right, the last is not"
    );
}

#[test]
fn rot_that_leaves_size_and_mtime_alone_is_found_with_verify_all() {
    let place = Location::new();
    let bytes = random_bytes(7, 300_000);
    let tree =
        place.version(&things([(b"f", Thing::File(bytes.clone())), (b"g", Thing::File(random_bytes(8, 300_000)))]));
    let object = cairn::internals::layout::Layout::new(place.store()).object(&Digest::of(&bytes));
    build::flip(&object, 299_999);
    build::set_mtime(&object, std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000));
    let mounted = place.mount_with(tree, ",verify=all");
    eio(&mounted.at("f"));
    assert_eq!(fs::read(mounted.at("g")).unwrap(), random_bytes(8, 300_000));
    build::replace(&object, &bytes);
    assert_eq!(fs::read(mounted.at("f")).unwrap(), bytes);
}

#[test]
fn a_damaged_manifest_node_is_eio_for_what_it_holds_and_the_rest_is_there() {
    let place = Location::new();
    let version: Things = (0..3000).map(|i| (format!("f{i:04}").into_bytes(), file("x"))).collect();
    let tree = place.version(&version);
    let last = build::last_child(&place.store(), tree);
    let mounted = place.mount(tree);
    let held = build::flip_small(&place.store(), &last);
    assert_eq!(fs::read(mounted.at("f0000")).unwrap(), b"x");
    for _ in 0..2 {
        assert_eq!(fs::metadata(mounted.at("f2999")).unwrap_err().raw_os_error(), Some(libc::EIO));
    }
    let listed =
        fs::read_dir(mounted.path()).unwrap().find_map(Result::err).expect("the listing ends with an error, not early");
    assert_eq!(listed.raw_os_error(), Some(libc::EIO));
    assert!(place.logged().contains("manifest node"), "{}", place.logged());
    held.undo();
    assert_eq!(fs::read(mounted.at("f2999")).unwrap(), b"x");
    assert_eq!(fs::read_dir(mounted.path()).unwrap().map(Result::unwrap).count(), 3000);
}

/// In a mount namespace with a `/dev/log` of its own, on which a program listens as syslogd does.
#[test]
fn without_a_log_file_why_a_file_is_eio_is_in_the_systems_log() {
    let place = Location::new();
    let bytes = random_bytes(1, 20_000);
    let tree = place.version(&things([(b"d/bad", Thing::File(bytes.clone()))]));
    build::flip_small(&place.store(), &bytes);
    let script = "import socket,subprocess,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n\
        s.bind('/dev/log')\ns.settimeout(20)\n\
        subprocess.run(sys.argv[1:6],check=True)\n\
        subprocess.run(['cat',sys.argv[3]+'/d/bad'],stderr=subprocess.DEVNULL)\n\
        print(s.recv(4096))\nsubprocess.run(['umount',sys.argv[3]],check=True)";
    let set_up = "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/fuse c 10 229 && exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command
        .args(["-m", "sh", "-ec", set_up, "sh", "python3", "-c", script, env!("CARGO_BIN_EXE_cairnfs")])
        .arg(place.store())
        .arg(place.empty("mnt"));
    let output = command.arg("-o").arg(format!("tree={tree},time={TIME}")).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    let logged = stderr_of(&output);
    assert!(logged.contains("cairnfs[") && logged.contains("cannot read /d/bad: "), "{logged}");
}

#[test]
fn in_the_foreground_the_service_manager_is_notified_when_the_mount_answers() {
    let place = Location::new();
    let tree = place.version(&things([(b"f", file("text"))]));
    let mounted = Mounted(place.empty("mnt"));
    let socket = std::os::unix::net::UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut served =
        place.cairnfs(tree, mounted.path(), ",foreground").env("NOTIFY_SOCKET", place.path("notify")).spawn().unwrap();
    let mut heard = [0; 100];
    let n = socket.recv(&mut heard).unwrap();
    assert_eq!(&heard[..n], b"READY=1");
    assert_eq!(fs::read(mounted.at("f")).unwrap(), b"text");
    cairn::fuse::unmount(mounted.path()).unwrap();
    assert!(served.wait().unwrap().success());
}
