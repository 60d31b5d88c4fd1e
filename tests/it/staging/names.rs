//! Names that go while others use them: what a local file system answers, and never ESTALE.

use super::support::{Staged, stage, stage_with};
use crate::support::{TestStore, text};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Runs a Python script in a directory; what it prints.
fn python(directory: &Path, code: &str) -> String {
    let output = Command::new("python3").arg("-c").arg(code).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// Once with the kernel reading and writing by itself, once through the daemon.
fn in_both_ways(work: impl Fn(&TestStore, &Staged<'_>)) {
    for io in ["auto", "no-open"] {
        let test_store = TestStore::new();
        let staged = stage_with(&test_store, "r", &["--io", io]);
        work(&test_store, &staged);
        staged.sealed();
    }
}

#[test]
fn a_call_by_name_during_a_replacement_meets_the_old_file_or_the_new_one() {
    in_both_ways(|_, staged| {
        let seen = python(
            &staged.mnt,
            "
import collections, errno, multiprocessing as mp, os
def write(path, byte):
    with open(path, 'wb') as f: f.write(byte * 20000)
def read():
    with open('now', 'rb') as f: b = f.read()
    assert len(b) == 20000 and len(set(b)) == 1, 'torn'
def append(): os.close(os.open('grown', os.O_WRONLY | os.O_APPEND))
calls = [read, append, lambda: os.chmod('now', 0o640), lambda: os.utime('now'), lambda: os.truncate('grown', 0),
  lambda: os.readlink('link'), lambda: os.stat('now'),
  lambda: os.listxattr('now'), lambda: os.setxattr('grown', 'user.x', b'1')]
def user(call, stop, out):
    seen = collections.Counter()
    while not stop.is_set():
        try: call()
        except OSError as e: seen[errno.errorcode[e.errno]] += 1
    out.put(dict(seen))
mp.set_start_method('fork')
write('now', b'0'), write('grown', b'0'), os.symlink('0', 'link')
stop, out = mp.Event(), mp.Queue()
users = [mp.Process(target=user, args=(call, stop, out)) for call in calls]
[u.start() for u in users]
for i in range(400):
    for name in ('now', 'grown'): write('t', b'%d' % (i % 10)), os.rename('t', name)
    os.symlink(str(i), 's'), os.rename('s', 'link')
stop.set()
print(*[seen for seen in [out.get() for _ in users] if seen])
[u.join() for u in users]",
        );
        assert_eq!(seen, "");
    });
}

#[test]
fn in_a_directory_or_file_that_was_removed_calls_answer_as_in_a_local_one() {
    let code = "
import errno, os, stat
os.mkdir('gone'); dir = os.open('gone', os.O_RDONLY | os.O_DIRECTORY); os.mkdir('cwd')
open('f', 'w').write('content'); path = os.open('f', os.O_PATH)
os.link('f', 'other'); many = os.open('other', os.O_PATH)
os.symlink('to', 'l'); link = os.open('l', os.O_PATH | os.O_NOFOLLOW)
os.chdir('cwd')
if os.fork() == 0:
    os.rmdir('../gone'), os.unlink('../f'), os.unlink('../l'), os.rmdir('../cwd')
    os._exit(0)
os.wait()
by = f'/proc/self/fd/{path}'
def name(call):
    try: return call()
    except OSError as e: return errno.errorcode[e.errno]
calls = dict(
  create=lambda: os.open('f', os.O_CREAT | os.O_WRONLY, dir_fd=dir), mkdir=lambda: os.mkdir('d', dir_fd=dir),
  stat=lambda: os.stat('f', dir_fd=dir), unlink=lambda: os.unlink('f', dir_fd=dir),
  rmdir=lambda: os.rmdir('f', dir_fd=dir), symlink=lambda: os.symlink('x', 'l', dir_fd=dir),
  fifo=lambda: os.mkfifo('p', dir_fd=dir), link=lambda: os.link('../other', 'x', dst_dir_fd=dir),
  rename=lambda: os.rename('x', 'y', src_dir_fd=dir, dst_dir_fd=dir), list=lambda: os.listdir(dir),
  sync=lambda: os.fsync(dir), itself=lambda: oct(os.fstat(dir).st_mode),
  cwd=lambda: os.getcwd(), here=lambda: os.listdir('.'), below=lambda: open('x', 'w'),
  links=lambda: (os.fstat(path).st_nlink, os.fstat(many).st_nlink), size=lambda: os.fstat(path).st_size,
  read=lambda: open(by).read(), mode=lambda: os.chmod(by, 0o604), length=lambda: os.truncate(by, 3),
  times=lambda: os.utime(by, (1, 2)), attribute=lambda: os.setxattr(by, 'user.x', b'1'),
  attributes=lambda: os.getxattr(by, 'user.x'), target=lambda: os.readlink('', dir_fd=link),
  again=lambda: os.stat('../f'),
  after=lambda: (oct(os.fstat(path).st_mode), os.fstat(path).st_mtime, os.fstat(path).st_size))
print(*(f'{k}={name(call)}' for k, call in calls.items()))";
    let plain = tempfile::tempdir().unwrap();
    let local = python(plain.path(), code);
    in_both_ways(|_, staged| assert_eq!(python(&staged.mnt, code), local));
}

#[test]
fn one_tree_is_removed_by_four_at_once() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    let script = "
        for k in 1 2 3; do
            for i in $(seq 40); do mkdir -p t/d$i/e; touch t/d$i/a t/d$i/e/b; ln t/d$i/a t/d$i/e/c; done
            for p in 1 2 3 4; do rm -rf t 2>> ../message & done; wait
            rm -rf t; test ! -e t
        done";
    let done = Command::new("bash").args(["-euc", script]).current_dir(&staged.mnt).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    let message = std::fs::read_to_string(test_store.path("message")).unwrap();
    assert!(!message.contains("Stale"), "{message}");
}

#[test]
fn a_name_that_was_missing_is_seen_as_soon_as_it_is_made_however_it_is_made() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    python(
        &staged.mnt,
        "
import os
os.mkdir('d'); open('d/file', 'w').close()
makes = [lambda n: open(n, 'w').close(), os.mkdir, os.mkfifo, lambda n: os.symlink('x', n),
  lambda n: os.link('d/file', n), lambda n: os.rename('d', n)]
for i, make in enumerate(makes):
    for _ in range(2): assert not os.path.lexists(f'n{i}')
    make(f'n{i}')
    assert os.path.lexists(f'n{i}'), i
assert os.path.exists('n5/file') and not os.path.exists('d/file')
os.rename('n5', 'd'); assert not os.path.exists('n5/file') and os.path.exists('d/file')
os.unlink('n2')",
    );
    staged.sealed();
}

#[test]
fn access_lists_are_refused_and_programs_that_copy_them_do_without() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    std::fs::write(staged.at("f"), "f").unwrap();
    let errors = python(
        &staged.mnt,
        "
import errno, os, struct
no = 0xffffffff
entries = [(1, 6, no), (2, 0, 65534), (4, 4, no), (0x10, 4, no), (0x20, 4, no)]
acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in entries)
for name in ('system.posix_acl_access', 'system.posix_acl_default'):
    for call in (lambda: os.setxattr('.', name, acl), lambda: os.getxattr('.', name),
                 lambda: os.removexattr('.', name)):
        try: print(call())
        except OSError as e: print(errno.errorcode[e.errno])
assert not [n for n in os.listxattr('.') if 'acl' in n]",
    );
    assert_eq!(errors.lines().collect::<Vec<_>>(), ["ENOTSUP"; 6]);
    std::fs::write(test_store.path("src"), "src").unwrap();
    std::fs::set_permissions(test_store.path("src"), PermissionsExt::from_mode(0o640)).unwrap();
    let copied = Command::new("cp").arg("-a").arg(test_store.path("src")).arg(staged.at("copy")).output().unwrap();
    assert!(copied.status.success() && copied.stderr.is_empty(), "{}", text(&copied.stderr));
    assert_eq!(std::fs::metadata(staged.at("copy")).unwrap().permissions().mode() & 0o777, 0o640);
    staged.sealed();
}

/// Makes nested directories and a file in the last, by descriptors, so that its path has `length` bytes, and prints
/// its errors.
const DEEP: &str = "
import errno, os
def deep(top, length):
    os.mkdir(top); fd, left = os.open(top, os.O_RDONLY), length - len(top) - 1
    while left > 255:
        os.mkdir('d' * 200, dir_fd=fd); below = os.open('d' * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd); fd, left = below, left - 201
    os.close(os.open('f' * left, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd)); os.close(fd)
def refused(call):
    try: call()
    except OSError as e: assert e.errno == errno.ENAMETOOLONG, e
    else: raise AssertionError('no ENAMETOOLONG')
";

#[test]
fn a_path_is_sealed_up_to_4064_bytes_and_a_longer_one_is_refused_when_it_is_made() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    let code = "
deep('x', 4064)
for n in (4065, 4090): refused(lambda: deep(f'y{n}', n))
os.makedirs('z/z')
refused(lambda: os.rename('x', 'z/z/x'))
os.mkdir('small'); open('small/f', 'w').close(); os.rename('small', 'z/z/small')
os.makedirs('longer'); refused(lambda: os.rename('x', 'longer/x')); os.rename('x', 'w')
fd = os.open('w', os.O_RDONLY)
for _ in range(19): below = os.open('d' * 200, os.O_RDONLY, dir_fd=fd); os.close(fd); fd = below
open('other', 'w').close()
long = 'l' * 255
for call in (lambda: os.mkdir(long, dir_fd=fd), lambda: os.symlink('x', long, dir_fd=fd),
  lambda: os.link('other', long, dst_dir_fd=fd), lambda: os.mkfifo(long, dir_fd=fd),
  lambda: os.rename('other', long, dst_dir_fd=fd)): refused(call)
os.unlink('other')";
    python(&staged.mnt, &[DEEP, code].concat());
    staged.sealed();
    assert_eq!(test_store.ok(&["finish", "a", "--distributed-id", "d"]), "a:v0");
    let listed = test_store.ok(&["ls", "-R", "a:v0"]);
    assert!(listed.lines().any(|line| line.len() >= 4064), "the longest path is in the version");
    super::support::whole(&test_store, "long paths");
}

#[test]
fn a_stage_with_long_paths_is_thrown_away() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    python(&staged.mnt, &[DEEP, "deep('x', 4064)"].concat());
    test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
    let mounted = staged.mount(&["--fresh"]);
    assert!(mounted.status.success(), "{}", text(&mounted.stderr));
    assert_eq!(std::fs::read_dir(&staged.mnt).unwrap().count(), 0);
    test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
}
