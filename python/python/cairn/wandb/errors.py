"""W&B's exceptions. Each is also one of cairn's, so a script may catch either."""

from __future__ import annotations

from ..errors import CairnError, UsageError

__all__ = [
    "ArtifactFinalizedError",
    "ArtifactNotLoggedError",
    "ArtifactStatusError",
    "CommError",
    "Error",
    "UnsupportedError",
    "UsageError",
]

Error = CommError = CairnError
"""What W&B raises when its server refuses: here any error of the store."""


class UnsupportedError(UsageError):
    """W&B has this, and a store does not."""


class ArtifactStatusError(UsageError, AttributeError):
    """The artifact is logged, or not logged, and this needs the opposite."""


class ArtifactNotLoggedError(ArtifactStatusError):
    """Only a logged artifact has this."""


class ArtifactFinalizedError(ArtifactStatusError):
    """A logged artifact does not change."""
