#!/usr/bin/env python3
"""Sources on a shared file system whose clients cache attributes: attributes.py CAIRN HOST1 HOST2 [ROUNDS]

HOST1 and HOST2 are two mounts of one file system. Host 1 puts directories of it until the stat cache remembers their
files. Then host 2 changes a file without changing its size and closes it, and at once host 1 puts the directory
again: the new version must have the new bytes, and `diff` must say before that they differ. A program on host 1 may
have the file open or mapped meanwhile, or change it itself. While host 1 has a file open for writing, its kernel may
show its own programs the old bytes: then a put may store these, but not remember them. After two minutes, and after
the file is closed, the new version must have the new bytes.
Prints a count for each kind of change; exit status 1 on any violation, also if the stat cache remembered nothing.
"""

import contextlib, mmap, os, shutil, subprocess, sys, tempfile, threading, time

cairn, host1, host2 = sys.argv[1:4]
rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 20
SIZE = 9000  # three pages; it goes into a pack
LARGE = 300_000  # every third file: an object
REMEMBERED = 125  # on a network file system, files are remembered that were not changed for two minutes
RECORD, FRAME = 72, 40  # of the stat cache's files
caches = tempfile.mkdtemp(prefix="cairn-attributes-")
store = host1 + "/attributes-store"
env = {k: v for k, v in os.environ.items() if not k.startswith("CAIRN_")}
env.update(CAIRN_STORE=store, CAIRN_CACHE_DIR=caches)
wrong = []


def run(*args):
    done = subprocess.run([cairn, *args], env=env, capture_output=True, timeout=300)
    return done.returncode, done.stdout, done.stderr.decode()


def need(*args):
    status, out, err = run(*args)
    if status != 0:
        sys.exit("%s: status %s %s" % (" ".join(args), status, err))
    return out.decode().strip(), err


def size(i):
    return LARGE if i % 3 == 2 else SIZE


def content(text, i):
    return (text * size(i))[: size(i)].encode()


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data, flags=os.O_WRONLY):
    fd = os.open(path, flags, 0o644)
    os.write(fd, data)
    os.close(fd)


@contextlib.contextmanager
def opened(path, flags):
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def mapped(path, access):
    with opened(path, os.O_RDONLY if access == mmap.ACCESS_READ else os.O_RDWR) as fd:
        with mmap.mmap(fd, 0, access=access) as found:
            assert len(bytes(found)) == len(found)  # its pages are in this host's cache
            yield found


def changed(here, there, new):
    write(there, new)


def time_set_back(here, there, new):
    before = os.stat(there)
    write(there, new)
    os.utime(there, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(here, there, new):
    before = os.stat(there)
    write(there + ".new", new, os.O_WRONLY | os.O_CREAT)
    os.utime(there + ".new", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.rename(there + ".new", there)


def nothing(path):
    return contextlib.nullcontext()


# What host 1 has open meanwhile, and what host 2 does.
ELSEWHERE = {
    "changed": (nothing, changed),
    "changed, its time set back": (nothing, time_set_back),
    "replaced, its time set back": (nothing, replaced),
    "changed, open for reading here": (lambda p: opened(p, os.O_RDONLY), changed),
    "changed, mapped here": (lambda p: mapped(p, mmap.ACCESS_READ), changed),
}
WRITERS = {
    "changed, open for writing here": lambda p: opened(p, os.O_RDWR),
    "changed, mapped for writing here": lambda p: mapped(p, mmap.ACCESS_WRITE),
}


def stored_here(path, compare, new):
    """Host 1 stores into a map of its own, and keeps it."""
    with mapped(path, mmap.ACCESS_WRITE) as here:
        here[:] = new
        compare()


def stored_twice_here(path, compare, new):
    """A put sees the first store; the second goes into a page that may still be dirty."""
    with mapped(path, mmap.ACCESS_WRITE) as here:
        here[:1] = b"!"
        compare(put_only=b"!")
        here[:] = new
        compare()


def stored_during_puts_here(path, compare, new):
    with mapped(path, mmap.ACCESS_WRITE) as here:
        done = threading.Event()

        def store_on():
            n = 0
            while not done.is_set():
                n += 1
                here[:8] = b"%08d" % n
                here[4096:4104] = b"%08d" % n

        writer = threading.Thread(target=store_on)
        writer.start()
        try:
            for _ in range(2):
                compare(put_only=b"")
        finally:
            done.set()
            writer.join()
        here[:] = new
        compare()


HERE = {
    "stored into a map here": stored_here,
    "stored into a map here, put, stored again": stored_twice_here,
    "stored into a map here during puts": stored_during_puts_here,
}
KINDS = [*ELSEWHERE, *WRITERS, *HERE]


def names(kind, i):
    directory = "attributes-data/%s/%d" % (kind.replace(" ", "-").replace(",", ""), i)
    return "a%d-%d" % (KINDS.index(kind), i), host1 + "/" + directory, host2 + "/" + directory


def compare(kind, i, new, look_first=True):
    """Host 1 puts at once; what it stored must be `new`. Every second time, `diff` is asked first."""
    name, here, _ = names(kind, i)
    if look_first and i % 2:
        status, out, err = run("diff", name, here)
        if status != 1:
            wrong.append("%s %d: diff: status %s %s%s" % (kind, i, status, out.decode(), err))
    version, err = need("put", name, here)
    status, got, more = run("cat", version, "f")
    if status != 0 or got != new:
        wrong.append("%s %d: %s has old bytes (put: %s; cat: status %s %s)" % (kind, i, version, err, status, more))


def put_alone(kind, i, begin):
    name, here, _ = names(kind, i)
    status, version, err = run("put", name, here)
    version = version.decode().strip()
    if status == 5 and "changes while it is read" in err and not begin:
        return  # a program stores into it all the time
    if status != 0:
        wrong.append("%s %d: put: status %s %s" % (kind, i, status, err))
    elif begin and run("cat", version, "f")[1][: len(begin)] != begin:
        wrong.append("%s %d: %s has old bytes (put: %s)" % (kind, i, version, err))


def prepare():
    for kind in KINDS:
        for i in range(rounds):
            _, here, _ = names(kind, i)
            os.makedirs(here)
            for file in "fgh":
                write(here + "/" + file, content("old %s %s %d " % (file, kind, i), i), os.O_WRONLY | os.O_CREAT)


def prime():
    """Puts every directory, and again; how many files were then remembered."""
    remembered = 0
    for kind in KINDS:
        for i in range(rounds):
            name, here, _ = names(kind, i)
            first, _ = need("put", name, here)
            again, _ = need("put", name, here)
            if first != again:
                wrong.append("%s %d: nothing changed, and %s follows %s" % (kind, i, again, first))
    for found in os.scandir(caches + "/stat"):
        remembered += (found.stat().st_size - FRAME) // RECORD
    return remembered


def change_under_a_writer(programs, kind, having, i):
    name, here, there = names(kind, i)
    new = content("new %s %d " % (kind, i), i)
    need("put", name, here)
    programs.enter_context(having(here + "/f"))
    changed(here + "/f", there + "/f", new)
    version, err = need("put", name, here)
    if run("cat", version, "f")[1] not in (new, read(here + "/f")):
        wrong.append("%s %d: %s has neither the new bytes nor those that this host shows: %s" % (kind, i, version, err))


def compare_all(kind):
    before = len(wrong)
    for i in range(rounds):
        compare(kind, i, content("new %s %d " % (kind, i), i), look_first=False)
    return len(wrong) - before


def main():
    need("init", store)
    prepare()
    time.sleep(REMEMBERED)
    files = 3 * rounds * len(KINDS)
    remembered = prime()
    if remembered != files:
        wrong.append("the stat cache remembers %d of %d files: nothing is shown" % (remembered, files))
    print("files remembered %d of %d" % (remembered, files), flush=True)
    for kind, (having, change) in ELSEWHERE.items():
        before = len(wrong)
        for i in range(rounds):
            name, here, there = names(kind, i)
            new = content("new %s %d " % (kind, i), i)
            need("put", name, here)  # this host has fresh attributes in its cache
            with having(here + "/f"):
                change(here + "/f", there + "/f", new)
                compare(kind, i, new)
        print("%s: rounds %d, violations %d" % (kind, rounds, len(wrong) - before), flush=True)
    with contextlib.ExitStack() as programs:
        for kind, having in WRITERS.items():
            for i in range(rounds):
                change_under_a_writer(programs, kind, having, i)
        time.sleep(REMEMBERED)
        still_open = {kind: compare_all(kind) for kind in WRITERS}
    for kind in WRITERS:
        closed = compare_all(kind)
        print(
            "%s: rounds %d, violations: two minutes later %d, when it was closed %d"
            % (kind, rounds, still_open[kind], closed),
            flush=True,
        )
    for kind, change in HERE.items():
        before = len(wrong)
        for i in range(rounds):
            new = content("new %s %d " % (kind, i), i)
            name, here, _ = names(kind, i)
            need("put", name, here)

            def after(put_only=None, kind=kind, i=i, new=new):
                if put_only is None:
                    compare(kind, i, new)
                else:
                    put_alone(kind, i, put_only)

            change(here + "/f", after, new)
        print("%s: rounds %d, violations %d" % (kind, rounds, len(wrong) - before), flush=True)
    for w in wrong[:20]:
        print("  VIOLATION: " + w, flush=True)
    print("violations %d" % len(wrong), flush=True)
    sys.exit(1 if wrong else 0)


try:
    main()
finally:
    shutil.rmtree(caches, ignore_errors=True)
