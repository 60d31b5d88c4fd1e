"""Versions as a read-only file system of fsspec: `cairn://NAME:V/PATH`.

pandas, pyarrow, zarr, Hugging Face datasets and others read such URLs. The store is `storage_options={"store": PATH}`,
else the one that `cairn.Store()` opens. `cairn://NAME/PATH` is the newest version: an instance finds out once which one
that is, and keeps to it until `invalidate_cache()`.

>>> import fsspec
>>> fs = fsspec.filesystem("cairn", store="store")
>>> fs.ls("tour:v0", detail=False)
['tour:v0/a.txt', 'tour:v0/sub']
>>> fs.cat("cairn://tour:v0/a.txt")
b'hello'
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from datetime import datetime
from typing import Any

from fsspec import AbstractFileSystem  # type: ignore[import-untyped]
from fsspec.spec import AbstractBufferedFile  # type: ignore[import-untyped]

from ._cairn import Entry, Store, Version
from .errors import NotFoundError

# Versions never change, so all instances of a process share them.
_versions: dict[tuple[str, str], Version] = {}


class PathNotFoundError(NotFoundError, FileNotFoundError):  # type: ignore[misc]
    """The version or the path does not exist."""

    def __str__(self) -> str:
        return NotFoundError.__str__(self)


def _found(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except NotFoundError as e:
        raise PathNotFoundError(e.message, e.causes, e.hint, e.detail, errno.ENOENT) from None


class CairnFileSystem(AbstractFileSystem):
    """See `cairn.fs`."""

    protocol = "cairn"
    root_marker = ""
    cachable = False  # an instance knows which versions it reads; the next one may read newer ones

    def __init__(self, store: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        super().__init__(store=store, **kwargs)
        self.store = Store(store)
        self._chosen: dict[str, str] = {}  # what `images` and `images:prod` are

    # A pickle reads the same versions as the original.
    def __reduce__(self) -> Any:
        return _unpickle, (os.fspath(self.store.root), dict(self._chosen))

    def invalidate_cache(self, path: str | None = None) -> None:
        self._chosen.clear()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        path = super()._strip_protocol(path)
        return [p.lstrip("/") for p in path] if isinstance(path, list) else path.lstrip("/")

    @property
    def fsid(self) -> str:
        return f"cairn-{self.store.root}"

    def _version(self, spec: str) -> Version:
        root = os.fspath(self.store.root)
        found = _versions.get((root, self._chosen.get(spec, spec)))
        if found is None:
            found = _found(lambda: self.store.version(self._chosen.get(spec, spec)))
            found = _versions.setdefault((root, found.qualified_name), found)
            self._chosen[spec] = found.qualified_name
        return found

    def _split(self, path: str) -> tuple[Version, str]:
        spec, _, inside = self._strip_protocol(path).partition("/")
        if not spec:
            raise IsADirectoryError(errno.EISDIR, "this is the whole store; expected cairn://NAME:V/PATH", path)
        return self._version(spec), inside

    def _entry(self, path: str) -> tuple[Version, Entry]:
        version, inside = self._split(path)
        return version, _found(lambda: version.entry(inside))

    def _info(self, version: Version, entry: Entry, name: str) -> dict[str, Any]:
        made = _time(version).timestamp()
        info = {
            "name": name,
            "size": entry.size if entry.kind != "directory" else 0,
            "type": "directory" if entry.kind == "directory" else "file",
            "digest": entry.digest,
            "created": made,
            "mtime": made,
        }
        if entry.kind == "symbolic link":
            info |= {"type": "other", "islink": True, "destination": entry.target}
        if entry.kind == "reference":
            info |= {"uri": entry.uri}
        return info

    def _directory(self, name: str) -> dict[str, Any]:
        return {"name": name, "size": 0, "type": "directory"}

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if "/" not in path:
            if path:
                self._version(path)
            return self._directory(path)
        return self._info(*self._entry(path), path)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if not path:
            out = [self._directory(name) for name in self.store.artifacts()]
        else:
            version, inside = self._split(path)
            spec = path.partition("/")[0]
            entries = _found(lambda: version.ls(inside))
            out = [self._info(version, entry, f"{spec}/{entry.path}") for entry in entries]
        return out if detail else [info["name"] for info in out]

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **kwargs: Any
    ) -> Any:
        path = self._strip_protocol(path)
        if not path or maxdepth is not None:
            return super().find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail, **kwargs)
        version, inside = self._split(path)
        spec = path.partition("/")[0]
        top = version.entry(inside) if inside and inside in version else None
        out = {}
        if not inside or (top and top.kind == "directory"):
            if withdirs:
                out[path] = self.info(path)
            entries = version.entries(below=inside) if withdirs else version.files(below=inside)
            for entry in entries:
                name = f"{spec}/{entry.path}"
                out[name] = self._info(version, entry, name) if detail else {}
        elif top:
            out[path] = self._info(version, top, path)
        return out if detail else list(out)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: Any = None,
        autocommit: bool = True,
        cache_options: Any = None,
        cache_type: str | None = None,
        **kwargs: Any,
    ) -> Any:
        if mode not in ("rb", "r"):
            raise _read_only(path)
        version, inside = self._split(path)
        file = _found(lambda: version.open(inside))
        if cache_type is None:
            return file
        return _BlockFile(self, path, file, mode, block_size or "default", cache_type=cache_type, size=file.size)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        version, inside = self._split(path)
        if start is None and end is None:
            return _found(lambda: version.read_bytes(inside))
        return _range(_found(lambda: version.open(inside)), start, end)

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any) -> Any:
        paths = self.expand_path(path, recursive=recursive)
        if len(paths) < 2 or on_error != "raise":
            return super().cat(path, recursive=recursive, on_error=on_error, **kwargs)
        if recursive:
            paths = [p for p in paths if not self.isdir(p)]
        split = [self._split(p) for p in paths]
        out: dict[str, bytes] = {}
        for version in {id(version): version for version, _ in split}.values():
            own = [(p, inside) for p, (v, inside) in zip(paths, split) if v is version]
            read = _found(lambda: version.read_many([inside for _, inside in own]))
            out |= zip((p for p, _ in own), read)
        return {p: out[p] for p in paths}

    def cat_ranges(
        self, paths: Any, starts: Any, ends: Any, max_gap: Any = None, on_error: str = "return", **kwargs: Any
    ) -> list[Any]:
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        if len(starts) != len(paths) or len(ends) != len(paths):
            raise ValueError("starts and ends must be as many as paths")
        files: dict[str, Any] = {}
        out: list[Any] = []
        for path, start, end in zip(paths, starts, ends):
            try:
                if path not in files:
                    files[path] = self._open(path)
                out.append(_range(files[path], start, end))
            except Exception as e:
                if on_error != "return":
                    raise
                out.append(e)
        return out

    def _get_file(self, rpath: str, lpath: Any, callback: Any = None, **kwargs: Any) -> None:
        if hasattr(lpath, "write"):
            lpath.write(self.cat_file(rpath))
        elif self.isdir(rpath):
            os.makedirs(lpath, exist_ok=True)
        else:
            with self._open(rpath) as file, open(lpath, "wb") as out:
                while data := file.read(1 << 20):
                    out.write(data)

    get_file = _get_file

    def ukey(self, path: str) -> str:
        """The SHA-256 of the content: equal for equal content, so caches of fsspec are exact."""
        return self._entry(path)[1].digest or ""

    def checksum(self, path: str) -> str:
        return self.ukey(path)

    def created(self, path: str) -> datetime:
        return _time(self._split(path)[0])

    modified = created

    def _refuse(self, path: Any = "", *args: Any, **kwargs: Any) -> Any:
        raise _read_only(path)

    mkdir = makedirs = rmdir = rm = rm_file = _rm = cp_file = copy = mv = put = put_file = pipe = pipe_file = _refuse
    touch = move = rename = delete = upload = _refuse


class _BlockFile(AbstractBufferedFile):
    """For `blockcache::` and callers that ask for a cache of fsspec."""

    def __init__(self, fs: Any, path: str, file: Any, mode: str, block_size: Any, **kwargs: Any) -> None:
        self._file = file
        super().__init__(fs, path, mode, block_size, **kwargs)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return _range(self._file, start, end)


def _range(file: Any, start: int | None, end: int | None) -> bytes:
    start, end, _ = slice(start, end).indices(file.size)
    file.seek(start)
    return file.read(max(end - start, 0))


def _time(version: Version) -> datetime:
    return datetime.fromisoformat(version.created_at.replace("Z", "+00:00"))


def _read_only(path: Any) -> OSError:
    return OSError(errno.EROFS, "versions are read-only: cairn.Artifact makes a new one", str(path))


def _unpickle(store: str, chosen: dict[str, str]) -> CairnFileSystem:
    made = CairnFileSystem(store=store)
    made._chosen.update(chosen)
    return made
