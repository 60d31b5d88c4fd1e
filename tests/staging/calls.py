"""System calls in a directory, each checked for its result:  calls.py DIRECTORY WORK"""

import errno, fcntl, mmap, os, pwd, random, shutil, subprocess, sys, threading

d, w = sys.argv[1:3]
at = lambda name: os.path.join(d, name)
rnd = random.Random(7)


def refuses(number, call):
    try:
        call()
    except OSError as e:
        assert e.errno == number, e
    else:
        raise AssertionError(f"no {errno.errorcode[number]}")


def mmap_writers():
    size = 1 << 20
    want = bytearray(size)
    with open(at("map"), "w+b") as f:
        f.truncate(size)
        maps = [mmap.mmap(f.fileno(), size) for _ in range(4)]
    for i in range(2000):  # the descriptor is closed
        o, b = rnd.randrange(size), rnd.randrange(256)
        maps[i % 4][o] = b
        want[o] = b
    for m in maps:
        m.flush()
        m.close()
    assert open(at("map"), "rb").read() == bytes(want)
    # Two processes, one file.
    code = "import mmap,sys;f=open(sys.argv[1],'r+b');m=mmap.mmap(f.fileno(),0);s=int(sys.argv[2])\n"
    code += "for i in range(s,len(m),2): m[i]=s+1\nm.flush()"
    kids = [subprocess.Popen([sys.executable, "-c", code, at("map"), str(s)]) for s in (0, 1)]
    assert [k.wait() for k in kids] == [0, 0]
    assert open(at("map"), "rb").read() == b"\1\2" * (size // 2)


def locks():
    f = open(at("lock"), "w")
    for take, word in (
        (lambda: fcntl.flock(f, fcntl.LOCK_EX), "flock"),
        (lambda: fcntl.lockf(f, fcntl.LOCK_EX), "lockf"),
    ):
        take()
        code = f"import fcntl,sys;f=open(sys.argv[1],'w');fcntl.{word}(f,fcntl.LOCK_EX|fcntl.LOCK_NB)"
        assert subprocess.run([sys.executable, "-c", code, at("lock")], stderr=subprocess.DEVNULL).returncode == 1, word
        fcntl.flock(f, fcntl.LOCK_UN) if word == "flock" else fcntl.lockf(f, fcntl.LOCK_UN)
        assert subprocess.run([sys.executable, "-c", code, at("lock")]).returncode == 0, word


def appenders():
    code = "import os,sys;f=os.open(sys.argv[1],os.O_WRONLY|os.O_APPEND|os.O_CREAT)\n"
    code += "for i in range(500): os.write(f,(sys.argv[2]*99+'\\n').encode())"
    kids = [subprocess.Popen([sys.executable, "-c", code, at("append"), c]) for c in "abcd"]
    assert [k.wait() for k in kids] == [0] * 4
    lines = open(at("append")).read().split("\n")[:-1]
    assert len(lines) == 2000 and all(len(l) == 99 and len(set(l)) == 1 for l in lines)
    assert all(sum(l[0] == c for l in lines) == 500 for c in "abcd")


def names():
    open(at("one"), "w").write("one")
    open(at("two"), "w").write("two")
    two = open(at("two"), "r+")
    os.rename(at("one"), at("two"))
    assert open(at("two")).read() == "one" and two.read() == "two"
    two.seek(0), two.write("2wo"), two.flush(), two.seek(0)
    assert two.read() == "2wo" and os.fstat(two.fileno()).st_nlink == 0
    gone = open(at("gone"), "w+")
    os.unlink(at("gone"))
    gone.write("still"), gone.flush(), gone.seek(0)
    assert gone.read() == "still" and not os.path.exists(at("gone"))
    os.ftruncate(gone.fileno(), 2)
    os.fchmod(gone.fileno(), 0o600)
    st = os.fstat(gone.fileno())
    assert (st.st_size, st.st_mode & 0o777, st.st_nlink) == (2, 0o600, 0)
    os.link(at("two"), at("hard"))
    a, b = os.stat(at("two")), os.stat(at("hard"))
    assert a.st_ino == b.st_ino and a.st_nlink == b.st_nlink == 2
    open(at("hard"), "a").write("!")
    assert open(at("two")).read() == "one!"
    os.symlink("two", at("soft"))
    assert os.readlink(at("soft")) == "two" and open(at("soft")).read() == "one!"
    os.makedirs(at("deep/er"))
    open(at("deep/er/f"), "w").write("f")
    os.rename(at("deep"), at("moved"))
    assert open(at("moved/er/f")).read() == "f"
    refuses(errno.ENOTEMPTY, lambda: os.rmdir(at("moved")))
    refuses(errno.EINVAL, lambda: os.rename(at("moved"), at("moved/er/x")))
    refuses(errno.ENAMETOOLONG, lambda: open(at("x" * 256), "w"))
    for name in ("new\nline", "ü", "x" * 255):
        open(at(name), "w").close()
    open(os.path.join(d.encode(), b"\xff\xfe"), "w").close()
    assert b"\xff\xfe" in os.listdir(d.encode())


def attributes():
    open(at("x"), "w").close()
    os.setxattr(at("x"), "user.one", b"1" * 1000)
    os.setxattr(at("x"), "user.two", b"")
    assert (
        sorted(n for n in os.listxattr(at("x")) if n.startswith("user.")) == ["user.one", "user.two"]
        and os.getxattr(at("x"), "user.one") == b"1" * 1000
    )
    os.removexattr(at("x"), "user.one")
    refuses(errno.ENODATA, lambda: os.getxattr(at("x"), "user.one"))
    refuses(errno.EEXIST, lambda: os.setxattr(at("x"), "user.two", b"", os.XATTR_CREATE))
    os.utime(at("x"), ns=(1_000_000_007, 2_000_000_000_123_456_789))
    st = os.stat(at("x"))
    assert (st.st_atime_ns, st.st_mtime_ns) == (1_000_000_007, 2_000_000_000_123_456_789)


def space():
    fd = os.open(at("space"), os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 1 << 20)
    st = os.fstat(fd)
    assert st.st_size == 1 << 20 and st.st_blocks * 512 >= 1 << 20
    os.ftruncate(fd, 0), os.ftruncate(fd, 8 << 20)
    os.pwrite(fd, b"data", 4 << 20)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 4 << 20 and os.lseek(fd, 4 << 20, os.SEEK_HOLE) == (4 << 20) + 4096
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 0 and os.fstat(fd).st_blocks * 512 <= 64 << 10
    subprocess.check_call(["fallocate", "-p", "-o", "4194304", "-l", "4096", at("space")])
    assert os.pread(fd, 4, 4 << 20) == b"\0" * 4
    refuses(errno.ENXIO, lambda: os.lseek(fd, 0, os.SEEK_DATA))
    src = os.open(at("src"), os.O_RDWR | os.O_CREAT)
    os.write(src, bytes(range(256)) * 4096)
    assert os.copy_file_range(src, fd, 5000, 100, 7) == 5000
    assert os.pread(fd, 5000, 7) == (bytes(range(256)) * 4096)[100:5100]
    assert os.statvfs(d).f_blocks == os.statvfs(os.environ["CAIRN_STORE"]).f_blocks


def users():
    nobody = pwd.getpwnam("nobody")
    os.mkdir(at("shared"))
    os.chmod(at("shared"), 0o777)
    open(at("roots"), "w").close()
    os.chmod(at("roots"), 0o600)
    code = f"""
import os, sys
os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid}); os.umask(0o027)
os.chdir(sys.argv[1])
open('shared/own', 'w').write('mine'); os.mkdir('shared/dir'); os.symlink('own', 'shared/link')
os.mkfifo('shared/fifo')
for call in (lambda: open('roots'), lambda: open('new', 'w'), lambda: os.chown('shared/own', 0, 0)):
    try: call()
    except PermissionError: pass
    else: sys.exit(9)
os.chmod('shared/own', 0o604)
"""
    subprocess.check_call([sys.executable, "-c", code, d])
    for name, mode in (("own", 0o604), ("dir", 0o750), ("fifo", 0o640)):
        st = os.lstat(at("shared/" + name))
        assert (st.st_uid, st.st_gid, st.st_mode & 0o777) == (nobody.pw_uid, nobody.pw_gid, mode), (
            name,
            oct(st.st_mode),
            st.st_uid,
        )
    assert os.lstat(at("shared/link")).st_uid == nobody.pw_uid


def many():
    os.mkdir(at("many"))

    def work(n):
        for i in range(300):
            p = at(f"many/{n}-{i}")
            with open(p + ".tmp", "w") as f:
                f.write(p)
            os.rename(p + ".tmp", p)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    [t.start() for t in threads], [t.join() for t in threads]
    found = os.listdir(at("many"))
    assert (
        len(found) == 2400
        and len(set(found)) == 2400
        and all(open(at("many/" + f)).read() == at("many/" + f) for f in found)
    )
    fd = os.open(at("many"), os.O_RDONLY)
    os.fsync(fd)
    shutil.rmtree(at("many"))


for check in (mmap_writers, locks, appenders, names, attributes, space, users, many):
    check()
    print("ok", check.__name__)
