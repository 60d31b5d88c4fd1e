"""Workers: forked while threads read, and spawned."""

import multiprocessing
import os
import pickle
import threading
import time

import cairn
import pytest

FILES = 500
CHILDREN = int(os.environ.get("CAIRN_FORKS", "300"))


@pytest.fixture
def version(store):
    artifact = cairn.Artifact("numbers")
    for n in range(FILES):
        artifact.add_bytes(f"{n:04}", f"{n} " * (n + 1))
    artifact.add_bytes("large", b"x" * (2 << 20))
    return artifact.save(store)


def right(version, n):
    return version.read_bytes(n) == (f"{n} " * (n + 1)).encode()


def end_of(pid):
    """A child's status; None if it hangs."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.001)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return None


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_children_that_are_forked_while_threads_read_do_not_hang(version):
    stop, wrong = threading.Event(), []

    def read(first):
        n = first
        while not stop.is_set():
            n = (n * 31 + 7) % FILES
            if not right(version, n):
                wrong.append(n)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    descriptors = len(os.listdir("/proc/self/fd"))
    statuses = []
    for child in range(CHILDREN):
        pid = os.fork()
        if pid == 0:
            try:
                ok = all(right(version, (child + i * 97) % FILES) for i in range(5))
                ok = ok and len(version.read_many(range(child % 400, child % 400 + 20), threads=2)) == 20
                os._exit(0 if ok else 1)
            finally:
                os._exit(2)
        statuses.append(end_of(pid))
        if statuses[-1] is None:
            break
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong and statuses == [0] * CHILDREN
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 5


def work(arguments):
    version, n = arguments
    return version.read_bytes(n)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_pool_of_workers_reads_a_version(version, method):
    with multiprocessing.get_context(method).Pool(4) as pool:
        read = pool.map(work, [(version, n) for n in range(100)])
    assert read == [(f"{n} " * (n + 1)).encode() for n in range(100)]
    assert not os.listdir(version.store.root / "locks")
