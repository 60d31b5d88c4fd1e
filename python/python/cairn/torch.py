"""Datasets for PyTorch that read a version's files, without a mount and without a list of paths.

`Files` is map-style; `IterableFiles` shuffles by itself and divides the files among ranks and workers. Both are safe
with workers that are forked, spawned or started by a fork server. An item is `(path, bytes)`, or what
`transform(path, bytes)` returns.

    from torch.utils.data import DataLoader
    from cairn.torch import Files

    photos = Files(cairn.Store().version("photos:v3"), "train", transform=decode)
    for batch in DataLoader(photos, batch_size=64, shuffle=True, num_workers=8):
        ...
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import context
from multiprocessing.sharedctypes import RawArray
from typing import Any

from torch.utils.data import Dataset, IterableDataset, get_worker_info

from ._cairn import Version
from ._order import Order, Shuffle

Transform = Callable[[str, bytes], Any]


class _OfVersion:
    """The numbers of the files of a version, below a directory."""

    def __init__(self, version: Version, prefix: str, transform: Transform | None) -> None:
        self.version, self.prefix, self.transform = version, prefix, transform
        self._numbers = version.file_numbers(prefix.strip("/") or None)

    def _read(self, indices: Sequence[int]) -> list[Any]:
        # Each worker is one process among many, so it reads with one thread.
        threads = None if get_worker_info() is None else 1
        read = self.version.read_files([self._numbers[i] for i in indices], threads)
        transform = self.transform
        return read if transform is None else [transform(path, data) for path, data in read]


class Files(_OfVersion, Dataset):
    """The files and references below the directory `prefix`, by index, in path order."""

    def __init__(self, version: Version, prefix: str = "", transform: Transform | None = None) -> None:
        super().__init__(version, prefix, transform)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Any:
        return self._read([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """What a DataLoader asks for: one call for a batch."""
        return self._read(indices)

    def path(self, index: int) -> str:
        """The path of a file, without reading the file."""
        return self.version.file_at(self._numbers[index]).path


class IterableFiles(_OfVersion, IterableDataset):
    """The files and references below the directory `prefix`, in an order that `seed` and `epoch` decide.

    The order is computed, not stored, and does not depend on the number of ranks and workers. Each file comes once.
    Position `p` of the epoch belongs to rank `p % world`. `rank` and `world` are by default those of
    `torch.distributed`, else of the variables `RANK` and `WORLD_SIZE`, else 0 and 1.

    `shuffle`: `True` takes every order alike. `"packs"` mixes 16 blocks of 256 neighbours at a time, which keeps reads
    nearly sequential. `False` is path order.

    `batch`: how many files of the rank a worker takes in turn. With the loader's `batch_size`, the batches are the same
    for any number of workers, and in order.

    `drop_last`: all ranks get the same number of files; up to `world - 1` of the last ones are omitted.

    Before each epoch, call `set_epoch`. To resume, call `set_epoch(epoch, position)`, where `position` is the number of
    files that all ranks have read in that epoch.
    """

    def __init__(
        self,
        version: Version,
        prefix: str = "",
        transform: Transform | None = None,
        *,
        seed: int = 0,
        epoch: int = 0,
        position: int = 0,
        rank: int | None = None,
        world: int | None = None,
        shuffle: Shuffle = True,
        batch: int = 1,
        drop_last: bool = False,
    ) -> None:
        super().__init__(version, prefix, transform)
        default_rank, default_world = _distributed()
        self.rank = default_rank if rank is None else rank
        self.world = default_world if world is None else world
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank is {self.rank} and world is {self.world}: expected 0 <= rank < world")
        if batch < 1:
            raise ValueError(f"batch is {batch}: expected 1 or more")
        self.seed, self.shuffle, self.batch, self.drop_last = seed, shuffle, batch, drop_last
        Order(0, seed, epoch, shuffle)  # checks them now, not in a worker
        # In memory that workers share, so that `set_epoch` reaches workers that live for several epochs.
        self._now = RawArray("q", 2)
        self.set_epoch(epoch, position)

    def set_epoch(self, epoch: int, position: int = 0) -> None:
        """The next iteration is of this epoch, from this position on."""
        if epoch < 0 or position < 0:
            raise ValueError("an epoch and a position are not negative")
        self._now[:] = [epoch, position]

    @property
    def epoch(self) -> int:
        return int(self._now[0])

    @property
    def position(self) -> int:
        return int(self._now[1])

    def _positions(self) -> range:
        """The positions of this rank."""
        count = len(self._numbers)
        if self.drop_last:
            count -= count % self.world
        first = self.position + (self.rank - self.position) % self.world
        return range(first, max(count, first), self.world)

    def __len__(self) -> int:
        return len(self._positions())

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        own, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        order = Order(len(self._numbers), self.seed, self.epoch, self.shuffle)
        positions = self._positions()
        for first in range(own * self.batch, len(positions), workers * self.batch):
            yield from self._read([order[p] for p in positions[first : first + self.batch]])

    # The shared memory goes to a process that is being started; any other pickle gets the values.
    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if context.get_spawning_popen() is None:
            state["_now"] = list(self._now)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self._now, list):
            now, self._now = self._now, RawArray("q", 2)
            self._now[:] = now


def _distributed() -> tuple[int, int]:
    try:
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
    except ImportError:
        pass
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
