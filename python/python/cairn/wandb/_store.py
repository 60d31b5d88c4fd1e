"""The store of a script, and names in it."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING

from .._cairn import Store
from ..errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from ._run import Run


def open_store() -> Store:
    try:
        return Store()
    except NotFoundError:
        if os.environ.get("CAIRN_STORE"):
            raise
        print("cairn: made a store in .cairn", file=sys.stderr)
        return Store.init(".cairn", exist_ok=True)


@functools.cache
def warn_once(text: str) -> None:
    print(f"cairn: warning: {text}", file=sys.stderr)


def moved(aliases: list[str] | str | None) -> list[str]:
    """Without `latest`, which moves by itself."""
    aliases = [aliases] if isinstance(aliases, str) else aliases or []
    return [alias for alias in aliases if alias != "latest"]


def local(name: str, run: Run | None) -> str:
    """`[ENTITY/[PROJECT/]]NAME[:ALIAS]` without what the store does not have."""
    *above, last = name.split("/")
    if len(above) > 2:
        raise ValueError(f"Invalid artifact name: {name}")
    for given, own in zip(reversed(above), (run and run.project, run and run.entity)):
        if own and given != own:
            raise UsageError(
                f"{name} is of {given}, the run is of {own}: a store has one name space", hint=f"omit it: {last}"
            )
    return last
