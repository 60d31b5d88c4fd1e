"""How far a long call is: reported to a function, or shown as a bar."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple


class Progress(NamedTuple):
    """How far a call is. Long calls take `progress=`:

    a function: it is called with a `Progress` about ten times a second and at the end; what it raises ends the call.
    True: a bar of tqdm. False: nothing.
    None, the default: a bar if tqdm is installed and stderr is a terminal.

    >>> seen = []
    >>> artifact = cairn.Artifact("numbers")
    >>> artifact.add_bytes("a", "12345")
    >>> _ = artifact.save(store, progress=seen.append)
    >>> seen[-1].files_done, seen[-1].bytes_done
    (1, 5)
    """

    activity: str
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int


class _Callback:
    def __init__(self, call: Callable[[Progress], object]) -> None:
        self._call = call

    def update(self, *values: Any) -> None:
        self._call(Progress(*values))

    def close(self) -> None:
        pass


class _Bar:
    def __init__(self, tqdm: Any, title: str) -> None:
        self._bar = tqdm(desc=title, unit="B", unit_scale=True, unit_divisor=1024, leave=False)

    def update(self, *values: Any) -> None:
        now = Progress(*values)
        bar = self._bar
        bar.total = now.bytes_total or None
        files = f"{now.files_done}/{now.files_total} files"
        bar.set_postfix_str(f"{files}, {now.activity}" if now.activity else files, refresh=False)
        bar.update(now.bytes_done - bar.n)

    def close(self) -> None:
        self._bar.close()


def reporter(progress: Any, title: str) -> _Callback | _Bar | None:
    """What the compiled part calls; None: no report is wanted."""
    if callable(progress):
        return _Callback(progress)
    if progress is False or (progress is None and not (sys.stderr and sys.stderr.isatty())):
        return None
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError:
        return None
    return _Bar(tqdm, title)
