"""Versioned artifacts on plain disk, without a server.

>>> import cairn, tempfile
>>> store = cairn.Store.init(tempfile.mkdtemp() + "/store")
>>> images = cairn.Artifact("images", "dataset")
>>> images.add_bytes("a.txt", "hello")
>>> version = images.save(store)
>>> version
Version("images:v0")
>>> version.open("a.txt", "r").read()
'hello'

The examples in docstrings use a `store` that has a version `tour:v0` with the files `a.txt` and `sub/b.txt`.
"""

from ._cairn import (
    Artifact,
    Change,
    Classes,
    Draft,
    Entry,
    Finding,
    Html,
    Image,
    Preview,
    Run,
    Store,
    Table,
    Version,
    __version__,
)
from ._progress import Progress
from .errors import (
    CairnError,
    ConflictError,
    DamagedError,
    FinishedError,
    NotFoundError,
    RefusedError,
    StoreIOError,
    UsageError,
)

__all__ = [
    "Artifact",
    "CairnError",
    "Change",
    "Classes",
    "ConflictError",
    "DamagedError",
    "Draft",
    "Entry",
    "Finding",
    "FinishedError",
    "Html",
    "Image",
    "NotFoundError",
    "Preview",
    "Progress",
    "RefusedError",
    "Run",
    "Store",
    "StoreIOError",
    "Table",
    "UsageError",
    "Version",
    "__version__",
]
