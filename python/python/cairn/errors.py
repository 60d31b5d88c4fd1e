"""The exceptions. Each says what was done, to what, and what was found; `hint` is the next step."""

from __future__ import annotations

import json
from typing import Any

from ._terms import in_python


class CairnError(Exception):
    """Any error of the store.

    kind: `usage`, `conflict`, `damaged`, `io` or `not_found`.
    message, causes, hint: for people.
    exit_status: what the command `cairn` ends with after such an error.
    detail: data for programs (a dictionary with a `type`), or None.

    >>> try:
    ...     store.version("tuor")
    ... except cairn.CairnError as e:
    ...     e.kind, e.message, e.hint, e.exit_status
    ('not_found', 'there is no artifact tuor', 'did you mean tour?', 6)
    """

    kind: str = ""
    message: str = ""
    hint: str | None = None
    exit_status: int = 1
    detail: dict[str, Any] | None = None
    errno: int | None = None

    def __init__(
        self,
        message: str = "",
        causes: list[str] | None = None,
        hint: str | None = None,
        detail: dict[str, Any] | None = None,
        errno: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.causes = causes or []
        self.hint = hint
        self.detail = detail
        if errno is not None:
            self.errno = errno

    def __str__(self) -> str:
        lines = [": ".join([self.message, *self.causes])]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self):
        arguments = (self.message, self.causes, self.hint, self.detail, getattr(self, "errno", None))
        return (type(self), arguments)


class UsageError(CairnError, ValueError):
    """The request is wrong."""

    kind = "usage"
    exit_status = 2


class RefusedError(CairnError):
    """Something is in the way: a conflict, a lock, a file that differs."""

    kind = "conflict"
    exit_status = 3


class ConflictError(RefusedError):
    """Two changes disagree at `conflicts`."""

    @property
    def conflicts(self) -> list[str]:
        """The paths, sorted; of very many the first."""
        return list((self.detail or {}).get("paths", []))


class FinishedError(RefusedError):
    """The collaborative version was finished: it takes no more contributions."""


class DamagedError(CairnError):
    """The store is damaged; `cairn verify` lists where."""

    kind = "damaged"
    exit_status = 4


class StoreIOError(CairnError, OSError):  # type: ignore[misc]
    """The system failed. `errno` says how, if a system call did."""

    kind = "io"
    exit_status = 5

    def __str__(self) -> str:
        return CairnError.__str__(self)


class NotFoundError(CairnError, LookupError):
    """The store, artifact, version or path does not exist."""

    kind = "not_found"
    exit_status = 6


_BY_KIND: dict[str, type[CairnError]] = {
    "usage": UsageError,
    "conflict": RefusedError,
    "damaged": DamagedError,
    "io": StoreIOError,
    "not_found": NotFoundError,
}
_BY_DETAIL: dict[str, type[CairnError]] = {"conflict": ConflictError, "finished": FinishedError}


def _of_library(
    kind: str,
    message: str,
    causes: list[str],
    hint: str | None,
    exit_status: int,
    errno: int | None,
    detail: str | None,
) -> CairnError:
    data = json.loads(detail) if detail else None
    made = _BY_KIND.get(kind, CairnError)
    if kind == "conflict" and data:
        made = _BY_DETAIL.get(data["type"], made)
    error = made(message, causes, hint and in_python(hint), data, errno)
    error.exit_status = exit_status
    return error
