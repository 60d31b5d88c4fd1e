"""Datasets for PyTorch's DataLoader: with torch where it is installed, else with `standin`, which has its protocol.

CAIRN_TEST_BATCHES sets how many batches the load test reads (10,000 for the long form).
"""

import collections
import gc
import importlib.util
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import cairn
import pytest

STANDIN = str(Path(__file__).parent / "standin")
HAS_TORCH = importlib.util.find_spec("torch") is not None
if not HAS_TORCH:
    sys.path.insert(0, STANDIN)

from cairn._order import BLOCK, MIXED, Order, Permutation  # noqa: E402
from cairn.torch import Files, IterableFiles  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

if not HAS_TORCH:  # other tests do not see it
    sys.path.remove(STANDIN)
    OF_STANDIN = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "torch"}

METHODS = ["fork", "forkserver", "spawn"]
WORKERS = 8
BATCHES = int(os.environ.get("CAIRN_TEST_BATCHES", "400"))
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:Length of IterableDataset:UserWarning"),
]


@pytest.fixture(autouse=not HAS_TORCH)
def standin(monkeypatch):
    monkeypatch.syspath_prepend(STANDIN)
    for name, module in OF_STANDIN.items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def version(store):
    artifact = cairn.Artifact("numbers")
    for n in range(500):
        artifact.add_bytes(f"train/{n % 7}/{n:04}", content(n))
    artifact.add_bytes("train/large", bytes(300_000))
    artifact.add_bytes("README", "not below train")
    artifact.add_bytes("z", "last")
    return artifact.save(store)


def content(n):
    return f"{n} ".encode() * (n % 90 + 1)


def numbers(read):
    return [int(path.rsplit("/")[-1]) for path, _ in read]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 255, 256, 257, 5000])
@pytest.mark.parametrize("shuffle", [True, False, "packs"])
def test_an_order_has_each_number_once(count, shuffle):
    order = Order(count, seed=3, epoch=4, shuffle=shuffle)
    assert sorted(order[p] for p in range(count)) == list(range(count))
    for outside in (-1, count):
        with pytest.raises(IndexError):
            order[outside]


def test_an_order_depends_on_seed_and_epoch_only():
    first = [Order(5000, 1, 0, "packs")[p] for p in range(5000)]
    assert first == [Order(5000, 1, 0, "packs")[p] for p in reversed(range(5000))][::-1]
    for seed, epoch in ((1, 1), (2, 0)):
        for shuffle in (True, "packs"):
            one, other = Order(5000, 1, 0, shuffle), Order(5000, seed, epoch, shuffle)
            assert sum(one[p] == other[p] for p in range(5000)) < 30
    # These values must stay: a run that is resumed with another release continues in the same order.
    assert [Order(1000, 1, 2, True)[p] for p in range(6)] == GOLDEN_ALL
    assert [Order(100_000, 1, 2, "packs")[p] for p in range(6)] == GOLDEN_PACKS


GOLDEN_ALL = [674, 515, 477, 886, 648, 875]
GOLDEN_PACKS = [28767, 41659, 8189, 44614, 5527, 8082]


def test_every_place_is_about_equally_likely():
    places = collections.Counter(Permutation(20, seed)[7] for seed in range(4000))
    assert len(places) == 20 and 130 < min(places.values()) and max(places.values()) < 280
    followed = sum(Permutation(1000, seed)[1] == Permutation(1000, seed)[0] + 1 for seed in range(3000))
    assert followed < 15


def test_packs_keeps_neighbours_together():
    order = Order(100_000, 1, 1, "packs")
    window = [order[p] for p in range(BLOCK * MIXED)]
    blocks = collections.Counter((n - order._begin) % 100_000 // BLOCK for n in window)
    assert len(blocks) == MIXED and set(blocks.values()) == {BLOCK}
    assert len({(n - order._begin) % 100_000 // BLOCK for n in window[:64]}) > 8, "a batch is of many blocks"


def test_files_are_found_by_index_below_a_directory(version):
    files = Files(version, "train/")
    assert len(files) == 501 and files.path(0) == "train/0/0000" and files.path(-1) == "train/large"
    assert files[1] == ("train/0/0007", content(7)) and files[-1] == ("train/large", bytes(300_000))
    assert files.__getitems__([2, 0]) == [files[2], files[0]]
    with pytest.raises(IndexError):
        files[501]
    assert [path for path, _ in Files(version)][::501] == ["README", "train/large"] and len(Files(version)) == 503
    assert Files(version, "train/large", transform=lambda path, data: len(data))[0] == 300_000
    assert pickle.loads(pickle.dumps(files))[3] == files[3]
    with pytest.raises(cairn.NotFoundError):
        Files(version, "tran")


@pytest.mark.parametrize("method", METHODS)
def test_a_loader_reads_a_map_style_dataset(version, method):
    loader = DataLoader(Files(version, "train/3"), batch_size=8, num_workers=4, multiprocessing_context=method)
    read = [item for paths, contents in loader for item in zip(paths, contents)]
    assert read == [(f"train/3/{n:04}", content(n)) for n in range(3, 500, 7)]
    assert not os.listdir(version.store.root / "locks") and not os.listdir(version.store.root / "pins")


def test_ranks_divide_the_files_in_one_order(version):
    def of(rank, world, **more):
        return numbers(IterableFiles(version, "train/2", seed=5, epoch=1, rank=rank, world=world, **more))

    whole = of(0, 1)
    assert sorted(whole) == list(range(2, 500, 7)) and whole != sorted(whole) and len(whole) == 72
    for world in (2, 3, 5):
        parts = [of(rank, world) for rank in range(world)]
        assert [part[i] for i in range(len(parts[0])) for part in parts if i < len(part)] == whole
    equal = [of(rank, 5, drop_last=True) for rank in range(5)]
    assert [len(part) for part in equal] == [14] * 5
    # Resumed after 30 files with another number of ranks.
    parts = [of(rank, 3, position=30) for rank in range(3)]
    assert [part[i] for i in range(len(parts[0])) for part in parts if i < len(part)] == whole[30:]
    assert of(0, 1, shuffle=False) == sorted(whole)
    for wrong in ({"rank": 2, "world": 2}, {"batch": 0}, {"shuffle": "blocks"}, {"epoch": -1}):
        with pytest.raises(ValueError):
            IterableFiles(version, **wrong)


def test_rank_and_world_come_from_the_environment(version, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    files = IterableFiles(version, "train/2")
    assert (files.rank, files.world, len(files)) == (1, 4, 18)


@pytest.mark.parametrize("method", METHODS)
def test_workers_divide_the_files_of_a_rank_in_order(version, method):
    files = IterableFiles(version, "train", seed=1, batch=16, rank=1, world=2)
    alone = [paths for paths, _ in DataLoader(files, batch_size=16)]
    assert len(alone) == 16 and sum(map(len, alone)) == len(files) == 250
    loader = DataLoader(files, batch_size=16, num_workers=3, multiprocessing_context=method, persistent_workers=True)
    assert [paths for paths, _ in loader] == alone
    # The workers go on to another epoch, and to a position in it.
    files.set_epoch(1, 320)
    rest = [paths for paths, _ in loader]
    again = IterableFiles(version, "train", seed=1, epoch=1, rank=1, world=2)
    assert [path for paths in rest for path in paths] == [path for path, _ in again][160:]
    assert (files.epoch, files.position, len(files)) == (1, 320, 90)
    other = pickle.loads(pickle.dumps(files))
    assert (other.epoch, other.position) == (1, 320) and other.rank == 1


def look(path, data):
    """What a worker has open. As a text: numbers would become tensors, each of which has a descriptor on its way."""
    return f"{os.getpid()} {len(os.listdir('/proc/self/fd'))} {len(data)}"


@pytest.mark.parametrize("method", METHODS)
def test_eight_workers_read_many_batches(version, method):
    """No worker hangs or fails, and neither descriptors nor pins nor locks are left."""
    before = len(os.listdir("/proc/self/fd"))
    wanted = [(n * 7919) % 501 for n in range(BATCHES * 4)]
    files, begun = Files(version, "train", transform=look), time.monotonic()
    loader = DataLoader(
        files, batch_size=4, sampler=wanted, num_workers=WORKERS, multiprocessing_context=method, timeout=60
    )
    opened, batches = collections.defaultdict(list), 0
    for batch in loader:
        batches += 1
        seen = [tuple(map(int, text.split())) for text in batch]
        assert len(seen) == 4 and all(size > 0 for _, _, size in seen)
        opened[seen[0][0]].append(seen[-1][1])
    took = time.monotonic() - begun
    assert batches == BATCHES and len(opened) == WORKERS
    # A worker that has read a quarter of its batches opens nothing more.
    grown = [max(counts[len(counts) // 4 :]) - max(counts[: len(counts) // 4]) for counts in opened.values()]
    assert max(grown) <= 1, grown
    del loader
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 6
    root = version.store.root
    assert not os.listdir(root / "locks") and not os.listdir(root / "pins")
    print(f"{method}: {batches} batches, {took:.1f} s, descriptors {sorted({c[-1] for c in opened.values()})}")


def test_the_package_does_not_need_torch():
    code = "import sys; sys.modules['torch'] = None; import cairn, cairn.wandb; print('torch' in dir(cairn))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
