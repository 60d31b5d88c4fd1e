"""Mounts, by the command `cairn`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ._cairn import Version
from .errors import CairnError, UsageError, _of_library


def find_command() -> str | None:
    """The command of `CAIRN_COMMAND`, else the one that was installed with this package, else the one on PATH."""
    installed = os.path.join(sysconfig.get_path("scripts"), "cairn")
    return os.environ.get("CAIRN_COMMAND") or shutil.which(installed) or shutil.which("cairn")


def _cairn(*args: str) -> None:
    command = find_command()
    if not command:
        raise UsageError(
            "a mount needs the command cairn, and there is none",
            hint="install it (`cargo install --path .`), or set CAIRN_COMMAND to its path",
        )
    done = subprocess.run([command, "--json", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise _error_of(args[0], done.stderr)


def _error_of(action: str, said: str) -> CairnError:
    """The error that the command reported, as the library's."""
    try:
        e = json.loads(said.strip().splitlines()[-1])
        return _of_library(e["kind"], e["error"], e["causes"], e["hint"], e["exit"], None, json.dumps(e["detail"]))
    except (ValueError, LookupError, TypeError):
        return CairnError(f"`cairn {action}` failed", causes=[said.strip()])


@contextlib.contextmanager
def mounted(version: Version, point: Path | None) -> Iterator[Path]:
    made = None if point is not None else tempfile.mkdtemp(prefix="cairn-")
    at = Path(made or point or "")
    store = os.fspath(version.store.root)
    try:
        _cairn("mount", "--store", store, str(at), version.qualified_name)
        try:
            yield at
        finally:
            _cairn("umount", str(at))
    finally:
        if made:
            os.rmdir(made)
