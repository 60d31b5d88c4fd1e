"""Files of versions and artifacts as Python's file objects."""

from __future__ import annotations

import atexit
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from ._cairn import Artifact, Store, Version, _LocalFiles, _Reader

_BUFFER = 128 << 10
# A new file below this size is held in memory until the artifact is saved.
_SMALL = 1 << 20


class _Raw(io.RawIOBase):
    """A file of a version, without a buffer. It has `size` and can be read at any position."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._at = 0
        self.size: int = reader.size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("the position would be before the file's start")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        data = self._reader.read_at(len(buffer), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        data = self._reader.read_at(max(self.size - self._at, 0), self._at)
        self._at += len(data)
        return data


class File(io.BufferedReader):
    """A file of a version, open for reading."""

    @property
    def size(self) -> int:
        return self.raw.size  # type: ignore[attr-defined]


def open_file(reader: _Reader, mode: str, encoding: str | None) -> Any:
    if mode not in ("rb", "r", "rt"):
        raise ValueError(f"mode is {mode!r}: a version is only read, with 'rb' or 'r'")
    file = File(_Raw(reader), min(_BUFFER, max(reader.size, 1)))
    return file if mode == "rb" else io.TextIOWrapper(file, encoding=encoding or "utf-8")


class _NewFile:
    """Writes a temporary file, which is added to the artifact at the end of the `with` block."""

    def __init__(self, artifact: Artifact, name: Any, mode: str, encoding: str | None) -> None:
        if mode not in ("w", "wt", "wb"):
            raise ValueError(f"mode is {mode!r}: expected 'w' or 'wb'")
        self._artifact, self._name = artifact, name
        self._bytes = tempfile.NamedTemporaryFile(prefix="cairn-")
        self._file: Any = self._bytes
        if mode != "wb":
            self._file = open(self._bytes.name, "w", encoding=encoding or "utf-8", newline="")

    def __enter__(self) -> Any:
        return self._file

    def __exit__(self, failed: Any, *_: Any) -> None:
        self._file.flush()
        if self._file is not self._bytes:
            self._file.close()
        if failed is None and os.path.getsize(self._bytes.name) < _SMALL:
            with open(self._bytes.name, "rb") as written:
                self._artifact.add_bytes(self._name, written.read())
        elif failed is None:
            self._artifact.add_file(self._bytes.name, self._name)
            self._artifact._keep(self._bytes)  # removed when the artifact is


def new_file(artifact: Artifact, name: Any, mode: str, encoding: str | None) -> _NewFile:
    return _NewFile(artifact, name, mode, encoding)


def pixels(image: Any) -> tuple[int, int, int, bytes]:
    """Width, height, channels and bytes of a NumPy array, a tensor (channels first) or a PIL image."""
    if hasattr(image, "getbands"):  # PIL
        if image.mode not in ("L", "RGB", "RGBA"):
            image = image.convert("RGBA" if "transparency" in image.info or image.mode in ("PA", "LA", "La") else "RGB")
        return image.width, image.height, len(image.getbands()), image.tobytes()
    if hasattr(image, "permute"):  # torch
        image = image.detach().cpu()
        image = (image.permute(1, 2, 0) if image.ndim == 3 else image).numpy()
    elif hasattr(image, "numpy"):
        image = image.numpy()
    if not hasattr(image, "astype"):
        raise TypeError(f"an image is a path, bytes, an array, a tensor or a PIL image, not {type(image).__name__}")
    if image.ndim > 2:
        image = image.squeeze()
    if image.ndim not in (2, 3):
        raise TypeError(f"an image has two or three dimensions, not {image.ndim}")
    channels = image.shape[2] if image.ndim == 3 else 1
    return image.shape[1], image.shape[0], channels, image.astype("uint8").tobytes()


def _version(store: Store, name: str) -> Version:
    """The version of a pickle."""
    return store.version(name)


# By process, store and version: a child does not rely on the pins of its parent, which may end before it.
_pinned: dict[tuple[int, str, str], _LocalFiles] = {}
atexit.register(_pinned.clear)


def local_path(version: Version, path: str) -> Path:
    """The pin lasts until the process ends: a path does not show when it is no longer used."""
    key = (os.getpid(), os.fspath(version.store.root), version.qualified_name)
    files = _pinned.get(key)
    if files is None:
        files = _pinned[key] = _LocalFiles(version)
        if "multiprocessing.util" in sys.modules:  # its workers end without atexit
            sys.modules["multiprocessing.util"].Finalize(None, _pinned.clear, exitpriority=0)
    return files.path(path)
