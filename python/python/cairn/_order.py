"""In which order the files of a version are read in one epoch: by arithmetic, without a list.

>>> order = Order(1_000_000, seed=1, epoch=0, shuffle=True)
>>> len({order[position] for position in range(1000)})
1000
>>> order[7] == Order(1_000_000, seed=1, epoch=0, shuffle=True)[7]
True
"""

from __future__ import annotations

import hashlib
import math
import struct
from typing import Literal

Shuffle = bool | Literal["packs"]

# With shuffle="packs": how many files are next to each other, and how many such blocks are mixed.
BLOCK = 256
MIXED = 16

_MASK = (1 << 64) - 1


def _mixed(number: int) -> int:
    """The bits of a number of 64 bits, mixed."""
    number = (number ^ number >> 32) * 0xD6E8FEB86659FD93 & _MASK
    number = (number ^ number >> 32) * 0xD6E8FEB86659FD93 & _MASK
    return number ^ number >> 32


class Permutation:
    """The numbers below `count` in an order that the key decides, the same on each machine.

    A Feistel network on a grid that has `count` cells or a few more. A result outside `count` is permuted again.
    """

    def __init__(self, count: int, *key: object) -> None:
        self.count = count
        self.columns = math.isqrt(max(count - 1, 0)) + 1
        self.rows = max(-(-count // self.columns), 1)
        self.keys = struct.unpack("<8Q", hashlib.sha512(repr(key).encode()).digest())

    def __getitem__(self, number: int) -> int:
        if not 0 <= number < self.count:
            raise IndexError(f"there is no position {number}: there are {self.count}")
        a, b, c, d, e, f, _, _ = self.keys
        rows, columns = self.rows, self.columns
        while True:
            row, column = divmod(number, columns)
            for of_row, of_column in ((a, b), (c, d), (e, f)):
                row = (row + _mixed(column ^ of_row)) % rows
                column = (column + _mixed(row ^ of_column)) % columns
            number = row * columns + column
            if number < self.count:
                return number


class Order:
    """The number of the file at each position of an epoch."""

    def __init__(self, count: int, seed: int, epoch: int, shuffle: Shuffle) -> None:
        if shuffle not in (True, False, "packs"):
            raise ValueError(f"shuffle is {shuffle!r}: expected True, False or 'packs'")
        self.count, self.seed, self.epoch, self.shuffle = count, seed, epoch, shuffle
        self._all = Permutation(count, seed, epoch)
        # Blocks begin elsewhere in each epoch. The last one, which may be short, stays last.
        self._begin = self._all.keys[6] % max(count, 1)
        self._blocks = Permutation(count // BLOCK, seed, epoch, "blocks")
        self._window: tuple[int, Permutation] = (-1, self._all)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> int:
        if self.shuffle is True:
            return self._all[position]
        if not 0 <= position < self.count:
            raise IndexError(f"there is no position {position}: there are {self.count}")
        return self._of_blocks(position) if self.shuffle else position

    def _of_blocks(self, position: int) -> int:
        number, inside = divmod(position, BLOCK * MIXED)
        first = number * BLOCK * MIXED
        of, window = self._window
        if of != number:
            window = Permutation(min(BLOCK * MIXED, self.count - first), self.seed, self.epoch, number)
            self._window = (number, window)
        block, inside = divmod(first + window[inside], BLOCK)
        if block < self._blocks.count:
            block = self._blocks[block]
        return (self._begin + block * BLOCK + inside) % self.count
