//! The system calls of mounting, with all of the module's `unsafe` code.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;

/// The ioctl that each directory of a cairn mount answers with eight bytes: the daemon's process id (u32, native byte
/// order) and four zero bytes.
pub const INFO_COMMAND: u32 = (2 << 30) | (8 << 16) | ((b'c' as u32) << 8) | 1;

fn check(rc: libc::c_int) -> io::Result<libc::c_int> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

fn cstring(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// mount(2) of a FUSE connection.
pub(super) fn mount_fuse(source: &[u8], target: &Path, data: &str, no_exec: bool, read_only: bool) -> io::Result<()> {
    let (source, target) = (cstring(source)?, cstring(target.as_os_str().as_bytes())?);
    let (kind, data) = (cstring(super::TYPE.as_bytes())?, cstring(data.as_bytes())?);
    let flags = if read_only { libc::MS_RDONLY } else { 0 }
        | libc::MS_NODEV
        | libc::MS_NOSUID
        | libc::MS_NOATIME
        | if no_exec { libc::MS_NOEXEC } else { 0 };
    // SAFETY: four valid C strings that live across the call.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) })
        .map(drop)
}

/// Whether to detach a mount that is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Detach {
    /// Fails with EBUSY if it is in use.
    IfIdle,
    /// Detaches it at once; processes keep what they have open.
    Lazily,
}

/// umount2(2), which does not follow a symlink here.
pub(super) fn unmount(target: &Path, how: Detach) -> io::Result<()> {
    let target = cstring(target.as_os_str().as_bytes())?;
    let flags = libc::UMOUNT_NOFOLLOW | if how == Detach::Lazily { libc::MNT_DETACH } else { 0 };
    // SAFETY: a valid C string.
    check(unsafe { libc::umount2(target.as_ptr(), flags) }).map(drop)
}

/// Which side of a fork this is.
pub(super) enum Fork {
    Parent(libc::pid_t),
    Child,
}

/// fork(2). The process must have only one thread: the caller has checked [`thread_count`].
pub(super) fn fork() -> io::Result<Fork> {
    // SAFETY: with a single thread no lock can be held by another one in the child's copy.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Ends this process at once, without the clean-up that belongs to its parent.
pub(super) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit does not return.
    unsafe { libc::_exit(status) }
}

/// Waits for a child process to end.
pub(super) fn wait_for(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: `status` lives across the call.
    while unsafe { libc::waitpid(pid, &mut status, 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// How many threads this process has; 0 if that is unknown.
pub(super) fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(0)
}

/// Starts a new session, without a terminal that could send SIGHUP.
pub(super) fn new_session() -> io::Result<()> {
    // SAFETY: no memory effects.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Replaces descriptor `at` with a copy of `file`.
pub(super) fn replace_descriptor(file: &File, at: RawFd) -> io::Result<()> {
    // SAFETY: both are descriptors; dup2 replaces `at` atomically.
    check(unsafe { libc::dup2(file.as_raw_fd(), at) }).map(drop)
}

/// Closes the descriptors that this process inherited: those above 2 that are not close-on-exec. What Rust's library
/// opens is close-on-exec and stays. A daemon that kept a caller's pipe or lock open would make the caller wait
/// forever.
pub(super) fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // SAFETY: reading the flags of a closed descriptor only fails. What is closed does not belong to a Rust object:
        // those are close-on-exec.
        unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFD);
            if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
                libc::close(fd);
            }
        }
    }
}

/// The descriptor that `/dev/fd/N` names, if `path` has that form; it becomes close-on-exec.
pub(super) fn handed_over(path: &Path) -> Option<io::Result<OwnedFd>> {
    let fd: RawFd = path.to_str()?.strip_prefix("/dev/fd/")?.parse().ok()?;
    let is_fuse = std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|to| to == Path::new("/dev/fuse"));
    if fd <= 2 || !is_fuse {
        return Some(Err(io::Error::from_raw_os_error(libc::EBADF)));
    }
    // SAFETY: it is open and was inherited, so no object of this program owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: changes one descriptor flag.
    Some(check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(|_| owned))
}

/// Lets a child process that is about to start inherit `fd`.
pub(super) fn inherit(fd: RawFd) -> io::Result<()> {
    // SAFETY: changes one descriptor flag.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop)
}

/// Receives one descriptor over a socket (SCM_RIGHTS), as fusermount3 sends it. `None` if the other side closed the
/// socket without sending one.
pub(super) fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0_u8; 1];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0_u64; 8];
    // SAFETY: zeros are a valid msghdr; every pointer put into it is valid across recvmsg, for the length given.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let n = loop {
        // SAFETY: as above.
        let n = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
        if n >= 0 {
            break n;
        }
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    };
    if n == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel filled the control buffer and its length; a SCM_RIGHTS header of this length carries at least
    // one descriptor, which is ours.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        if header.is_null()
            || (*header).cmsg_level != libc::SOL_SOCKET
            || (*header).cmsg_type != libc::SCM_RIGHTS
            || (*header).cmsg_len < libc::CMSG_LEN(size_of::<RawFd>() as _) as _
        {
            return Ok(None);
        }
        let fd = libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned();
        Ok((fd >= 0).then(|| OwnedFd::from_raw_fd(fd)))
    }
}

/// SIGTERM, SIGINT and SIGHUP.
fn termination_signals() -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set before sigaddset.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

/// Blocks the signals that end a daemon, in this thread and those it starts, so that `wait_for_termination_signal` gets
/// them.
pub fn block_termination_signals() {
    let set = termination_signals();
    // SAFETY: the set is initialised; SIGPIPE ignored is what Rust programs have anyway.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// Unblocks these signals for a program that is about to start. For `pre_exec`: async-signal-safe.
pub(super) fn unblock_termination_signals() {
    let set = termination_signals();
    // SAFETY: the set is initialised.
    unsafe {
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
    }
}

/// Writes a line to the system's log (syslog, or systemd's journal), as `cairnfs` with this process's id. Without a log
/// nothing happens.
pub fn log_to_system(text: &str) {
    let Ok(text) = cstring(text.replace('\0', " ").as_bytes()) else { return };
    // SAFETY: C strings; the name is static, as openlog(3) keeps its address.
    unsafe {
        libc::openlog(c"cairnfs".as_ptr(), libc::LOG_PID, libc::LOG_DAEMON);
        libc::syslog(libc::LOG_WARNING, c"%s".as_ptr(), text.as_ptr());
    }
}

/// Notifies the service manager that this process is ready (`sd_notify`), if NOTIFY_SOCKET is set.
pub(super) fn notify_manager() {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&socket),
    };
    // If it does not arrive, the service manager reports a timeout.
    drop(address.and_then(|at| UnixDatagram::unbound()?.send_to_addr(b"READY=1", &at)));
}

/// Waits for one of the blocked signals.
pub(super) fn wait_for_termination_signal() {
    let set = termination_signals();
    let mut signal = 0;
    // SAFETY: the set is initialised, `signal` lives across the call.
    while unsafe { libc::sigwait(&set, &mut signal) } != 0 {}
}

/// Raises this process's limit of open files to its hard limit: every reader of a large file needs one.
pub fn raise_open_files() {
    crate::disk::raise_open_files_limit(1 << 20);
}

/// A descriptor of a process, which becomes readable when the process ends. `None` if the process does not exist, or
/// the kernel is too old.
pub(super) fn process(pid: u32) -> Option<OwnedFd> {
    // SAFETY: pidfd_open has no memory effects and returns a new descriptor.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// `struct fuse_backing_map` of linux/fuse.h.
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// FUSE_DEV_IOC_BACKING_OPEN and _CLOSE.
const BACKING_OPEN: u32 = (1 << 30) | (16 << 16) | (229 << 8) | 1;
const BACKING_CLOSE: u32 = (1 << 30) | (4 << 16) | (229 << 8) | 2;

/// Asks the kernel whether it would read `file` by itself (passthrough) for the connection `device`, after FUSE_INIT.
///
/// # Errors
/// The system call's: EPERM for users other than root, ELOOP for a file on a stacked file system.
pub fn passes_through(device: BorrowedFd<'_>, file: &File) -> io::Result<()> {
    let map = BackingMap { fd: file.as_raw_fd(), flags: 0, padding: 0 };
    // SAFETY: both descriptors are open; the kernel reads the struct, whose size the command states, and returns an id,
    // which is released.
    unsafe {
        let id = check(libc::ioctl(device.as_raw_fd(), BACKING_OPEN as _, &map))? as u32;
        check(libc::ioctl(device.as_raw_fd(), BACKING_CLOSE as _, &id)).map(drop)
    }
}

/// FUSE_NOTIFY_INVAL_ENTRY.
const INVALIDATE_ENTRY: u32 = 3;

/// Tells the kernel, over the connection `device`, to forget a name in the directory with inode `parent`, and
/// everything below it that is not in use. Returns true if the kernel knew the name. What is in use loses its name, and
/// is forgotten after its last use.
pub fn forget_entry(device: BorrowedFd<'_>, parent: u64, name: &[u8]) -> bool {
    // `struct fuse_out_header`, `struct fuse_notify_inval_entry_out`, the name and a zero.
    let length = (16 + 16 + name.len() + 1) as u32;
    let mut message = Vec::with_capacity(length as usize);
    message.extend(length.to_ne_bytes());
    message.extend(INVALIDATE_ENTRY.to_ne_bytes());
    message.extend(0_u64.to_ne_bytes());
    message.extend(parent.to_ne_bytes());
    message.extend((name.len() as u32).to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(name);
    message.push(0);
    // SAFETY: an open descriptor; the buffer is valid for its length. The kernel answers ENOENT for an unknown name.
    unsafe { libc::write(device.as_raw_fd(), message.as_ptr().cast(), message.len()) >= 0 }
}

/// Waits until the process behind a [`process`] descriptor has ended; false if it has not within `milliseconds`.
pub(super) fn ends_within(process: &OwnedFd, milliseconds: i32) -> bool {
    let mut wait = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: one valid pollfd.
        let n = unsafe { libc::poll(&mut wait, 1, milliseconds) };
        if n >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return n > 0;
        }
    }
}

/// The process id of the daemon that serves an open directory of a cairn mount.
pub(super) fn daemon_pid(dir: &File) -> Option<u32> {
    let mut answer = [0_u32; 2];
    // SAFETY: the command's size field says eight bytes, which is the size of the buffer.
    let rc = unsafe { libc::ioctl(dir.as_raw_fd(), INFO_COMMAND as _, answer.as_mut_ptr()) };
    (rc == 0 && answer[0] > 1).then_some(answer[0])
}

/// Whether this process may make files in a directory.
pub fn may_write(directory: &Path) -> bool {
    let Ok(path) = cstring(directory.as_os_str().as_bytes()) else { return false };
    // SAFETY: a valid C string.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS) == 0 }
}

/// Whether user ids mean the same here as in the initial user namespace.
pub fn users_are_the_hosts() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The effective user and group of this process.
pub fn effective_ids() -> (u32, u32) {
    // SAFETY: no memory effects.
    unsafe { (libc::geteuid(), libc::getegid()) }
}
