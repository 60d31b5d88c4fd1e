"""What Python costs: against the command, the mount and native files, in one run.

    python python/benches/python.py [LINE…]        LINE: import wheel add_dir read order

It needs an installed release build (`pip install ./python`). `CAIRN_BENCH_DIR` is where data and store are made (a
temporary directory by default), `CAIRN_BENCH_SCALE` (1) makes them smaller, `CAIRN_BENCH_ROUNDS` (3). The sides of a
comparison run in turn; the medians are printed.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import files
from pathlib import Path

import cairn
from cairn._order import Order, Shuffle

SCALE = float(os.environ.get("CAIRN_BENCH_SCALE", "1"))
ROUNDS = int(os.environ.get("CAIRN_BENCH_ROUNDS", "3"))
COUNT = int(100_000 * SCALE)
SIZE = 4096


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def command(*arguments: object) -> None:
    subprocess.run([shutil.which("cairn") or "cairn", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def medians(sides: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The seconds of each side, which run in turn."""
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, work in sides.items():
            took[name].append(seconds(work))
    return {name: statistics.median(times) for name, times in took.items()}


def row(name: str, value: float, unit: str, target: str = "") -> None:
    print(f"| {name:44} | {value:10,.1f} {unit:8} | {target:12} |", flush=True)


def bench_import() -> None:
    """Against an interpreter that imports nothing."""
    run = [sys.executable, "-I", "-c"]
    code = {"with": "import cairn", "without": "pass"}
    sides = {name: (lambda c=c: subprocess.run([*run, c], check=True)) for name, c in code.items()}
    took = {name: statistics.median(seconds(work) for _ in range(20)) for name, work in sides.items()}
    row("import cairn", (took["with"] - took["without"]) * 1000, "ms", "<= 50 ms")


def bench_wheel() -> None:
    for file in files("cairnfs") or []:
        size = Path(file.locate()).stat().st_size
        if size > 1 << 20:
            row(f"installed: {file.name}", size / (1 << 20), "MiB")


def tree(root: Path) -> Path:
    """Files of 4 KiB, 500 in a directory."""
    if not root.exists():
        draw = random.Random(1)
        for n in range(COUNT):
            at = root / f"{n // 500:03}"
            at.mkdir(parents=True, exist_ok=n % 500 != 0)
            (at / f"{n:06}.bin").write_bytes(draw.randbytes(SIZE))
    return root


def put(data: Path, store: cairn.Store) -> cairn.Version:
    artifact = cairn.Artifact("data")
    artifact.add_dir(data)
    return artifact.save(store)


def stored(work: Path) -> tuple[Path, cairn.Store, cairn.Version]:
    """The files, a store, and a version of them in it."""
    data = tree(work / "data")
    store = cairn.Store.init(work / "store", exist_ok=True)
    return data, store, put(data, store)


def bench_add_dir(work: Path) -> None:
    """Each put goes into a store of its own, without the stat cache: every file is read and stored."""
    data = tree(work / "data")
    os.environ["CAIRN_STAT_CACHE"] = "off"

    def fresh() -> Path:
        shutil.rmtree(work / "put", ignore_errors=True)
        os.sync()
        return work / "put"

    def by_python() -> float:
        store = cairn.Store.init(fresh())
        return seconds(lambda: put(data, store))

    def by_command() -> float:
        cairn.Store.init(fresh())
        return seconds(lambda: command("put", "--store", work / "put", "data", data))

    sides: dict[str, list[float]] = {"command": [], "python": []}
    for n in range(ROUNDS):
        turn = [("command", by_command), ("python", by_python)]
        for side, work_of in turn if n % 2 == 0 else reversed(turn):
            sides[side].append(work_of())
    print("seconds:", {side: [round(took, 2) for took in times] for side, times in sides.items()}, flush=True)
    of_command, of_python = (statistics.median(times) for times in sides.values())
    row(f"cairn put of {COUNT:,} files", of_command, "s")
    row("add_dir and save of the same", of_python, "s", "<= 1.1 x")
    row("add_dir / put", of_python / of_command, "x", "<= 1.1 x")
    shutil.rmtree(work / "put")


def bench_read(work: Path) -> None:
    """Files per second, each file once in random order, from warm caches."""
    data, store, version = stored(work)
    paths = [entry.path for entry in version.files()]
    order = list(range(COUNT))
    random.Random(2).shuffle(order)
    shuffled = [paths[n] for n in order]

    def check(total: int) -> None:
        assert total == COUNT * SIZE, total

    def of_directory(root: str) -> Callable[[], None]:
        def read() -> None:
            total = 0
            for path in shuffled:
                with open(f"{root}/{path}", "rb") as f:
                    total += len(f.read())
            check(total)

        return read

    def by_open() -> None:
        check(sum(len(version.open(path).read()) for path in shuffled))

    def by_read_many() -> None:
        batches = (order[at : at + 256] for at in range(0, COUNT, 256))
        check(sum(len(data) for batch in batches for data in version.read_many(batch)))

    def by_read_files() -> None:
        batches = (order[at : at + 256] for at in range(0, COUNT, 256))
        check(sum(len(data) for batch in batches for _, data in version.read_files(batch)))

    sides: dict[str, Callable[[], object]] = {
        "native: open(path).read()": of_directory(str(data)),
        "version.open(path).read()": by_open,
        "version.read_bytes(path)": lambda: check(sum(len(version.read_bytes(path)) for path in shuffled)),
        "version.read_bytes(number)": lambda: check(sum(len(version.read_bytes(n)) for n in order)),
        "version.read_many(256 numbers)": by_read_many,
        "version.read_files(256 numbers)": by_read_files,
    }
    try:
        import fsspec

        fs = fsspec.filesystem("cairn", store=str(store.root))
        sides["fsspec: fs.cat_file(path)"] = lambda: check(
            sum(len(fs.cat_file(f"data:v0/{path}")) for path in shuffled)
        )
        urls = [f"data:v0/{path}" for path in shuffled]
        sides["fsspec: fs.cat(all paths)"] = lambda: check(sum(len(data) for data in fs.cat(urls).values()))
    except ImportError:
        print("fsspec is not installed")
    mounted = None
    if os.path.exists("/dev/fuse"):
        mounted = version.mount()
        sides["mount: open(path).read()"] = of_directory(str(mounted.__enter__()))
    try:
        for name, took in medians(sides).items():
            row(name, COUNT / took, "files/s")
    finally:
        if mounted:
            mounted.__exit__(None, None, None)


def bench_order(work: Path) -> None:
    """The orders of `cairn.torch.IterableFiles`, in batches of 64, from a disk: the page cache of the packs is dropped."""
    _, _, version = stored(work)

    def read(shuffle: Shuffle) -> None:
        order = Order(COUNT, 1, 1, shuffle)
        for at in range(0, COUNT, 64):
            version.read_files([order[p] for p in range(at, min(at + 64, COUNT))], threads=1)

    def cold(shuffle: Shuffle) -> float:
        os.sync()
        for pack in (work / "store/packs").rglob("*"):
            if pack.is_file():
                with open(pack, "rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return seconds(lambda: read(shuffle))

    rounds = [{shuffle: cold(shuffle) for shuffle in (False, "packs", True)} for _ in range(ROUNDS)]
    for shuffle, name in ((False, "path order"), ("packs", 'shuffle="packs"'), (True, "shuffle=True")):
        row(f"cold, {name}", COUNT / statistics.median(took[shuffle] for took in rounds), "files/s")


def main() -> None:
    wanted = sys.argv[1:] or ["import", "wheel", "add_dir", "read", "order"]
    made = None if os.environ.get("CAIRN_BENCH_DIR") else tempfile.mkdtemp(prefix="cairn-bench-")
    work = Path(made or os.environ["CAIRN_BENCH_DIR"])
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, {COUNT:,} files of {SIZE} bytes")
    try:
        for name in wanted:
            bench = globals()[f"bench_{name}"]
            bench(work) if name in ("add_dir", "read", "order") else bench()
    finally:
        if made:
            shutil.rmtree(made)


if __name__ == "__main__":
    main()
