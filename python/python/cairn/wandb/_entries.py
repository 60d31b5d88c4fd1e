"""Files of artifacts as W&B's classes show them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

from .errors import ArtifactNotLoggedError

if TYPE_CHECKING:
    import cairn

    from ._artifact import Artifact


class Entry:
    """A file or a reference of an artifact: W&B's `ArtifactManifestEntry`. `digest` is SHA-256 in hexadecimal."""

    def __init__(
        self,
        artifact: Artifact,
        path: str,
        size: int | None = None,
        digest: str | None = None,
        ref: str | None = None,
        local_path: str | None = None,
    ) -> None:
        self._artifact, self._digest = artifact, digest
        self.path, self.size, self.ref, self.local_path = path, size, ref, local_path

    @classmethod
    def _of(cls, artifact: Artifact, entry: cairn.Entry) -> Any:
        return cls(artifact, entry.path, entry.size, entry.digest, entry.uri)

    @property
    def name(self) -> str:
        return self.path

    @property
    def digest(self) -> str | None:
        """Of an entry that is not logged yet, all files of the artifact are hashed for it."""
        if self._digest is None and self.ref is None:
            self._digest = self._artifact.manifest.entries[self.path]._digest
        return self._digest

    def parent_artifact(self) -> Artifact:
        return self._artifact

    def ref_target(self) -> str:
        if self.ref is None:
            raise ValueError("Only reference entries support ref_target().")
        return self.ref

    def ref_url(self) -> str:
        """`cairn://NAME:vN/PATH`, which `add_reference` takes: the other artifact shares the content."""
        return f"cairn://{self._artifact._logged('ref_url').qualified_name}/{self.path}"

    def download(self, root: str | os.PathLike[str] | None = None, skip_cache: bool | None = None, **_: Any) -> str:
        """Writes it below `root`, by default where `Artifact.download` writes, and returns its path."""
        root = self._artifact._root(root)
        return os.path.abspath(self._artifact._logged("download").download(root, self.path, force=True) / self.path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and (self.path, self.ref, self.digest) == (other.path, other.ref, other.digest)

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"


class File(Entry):
    """A file that `Artifact.files` gives."""

    def download(  # type: ignore[override]
        self, root: str | os.PathLike[str] = ".", replace: bool = False, exist_ok: bool = False, **_: Any
    ) -> IO[str]:
        """Writes it below `root` and opens it."""
        path = os.path.join(root, self.path)
        if os.path.exists(path) and not replace:
            if exist_ok:
                return open(path)
            raise ValueError("File already exists, pass replace=True to overwrite or exist_ok=True to leave it as is")
        super().download(root)
        return open(path)


class Files:
    """What `Artifact.files` returns: it is iterated, has a length, and takes numbers."""

    def __init__(self, artifact: Artifact, names: list[str] | None) -> None:
        self._artifact, self._names = artifact, names
        self._version = artifact._logged("files")
        self._next: Iterator[File] | None = None

    def __iter__(self) -> Iterator[File]:
        entries: Iterable[cairn.Entry] = self._version.files()
        if self._names is not None:
            entries = [self._version.entry(name) for name in self._names]
        return (File._of(self._artifact, entry) for entry in entries)

    def __next__(self) -> File:
        self._next = self._next or iter(self)
        return next(self._next)

    def __len__(self) -> int:
        return len(self._version) if self._names is None else len(self._names)

    def __getitem__(self, n: int) -> File:
        count = len(self)
        if not -count <= n < count:
            raise IndexError(f"there are {count} files")
        n %= count
        entry = self._version.file_at(n) if self._names is None else self._version.entry(self._names[n])
        return File._of(self._artifact, entry)


class Manifest:
    """The entries of an artifact: W&B's `ArtifactManifest`."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        has = artifact._version or artifact._preview()
        self._digest, self._size = has.digest, has.size
        self.entries: dict[str, Entry] = {entry.path: Entry._of(artifact, entry) for entry in has.files()}

    def digest(self) -> str:
        return self._digest

    def size(self) -> int:
        return self._size

    def __len__(self) -> int:
        return len(self.entries)

    def get_entry_by_path(self, path: str) -> Entry | None:
        return self.entries.get(path)

    def get_entries_in_directory(self, directory: str) -> list[Entry]:
        return [entry for path, entry in self.entries.items() if path.startswith(f"{directory}/")]

    def to_manifest_json(self) -> dict[str, Any]:
        """The manifest in W&B's form, with its MD5 digests: every file is read."""
        if self._artifact._version is None:
            raise ArtifactNotLoggedError("W&B's manifest is made of a logged artifact", hint="log it first")
        text, _ = self._artifact._version._wandb_manifest()
        return dict(json.loads(text))
