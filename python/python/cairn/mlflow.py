"""MLflow's artifacts in a store of cairn: the artifact repository for URIs `cairn:///STORE/NAME`.

With cairn installed, MLflow finds it by itself. The artifact location of an experiment, or `--default-artifact-root` of
a server, is a store and a name in it:

    mlflow.create_experiment("vision", artifact_location="cairn:///data/store/vision")

Each run then has an artifact of its own, `vision.RUN`, whose type is `mlflow`. Each call that logs or deletes artifacts
makes a version, at the cost of what it changes; MLflow shows the newest. Several processes may log to one run.
"""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository

import cairn

from ._cairn import Artifact, Run, Store, Version
from .errors import ConflictError, NotFoundError, UsageError

# How often a change is made again because another process changed the same path meanwhile.
TRIES = 50


class CairnArtifactRepository(ArtifactRepository):
    """See `cairn.mlflow`."""

    def __init__(self, artifact_uri: str, *others: Any, **named: Any) -> None:
        super().__init__(artifact_uri, *others, **named)
        self.store, self.name, self.run, self.below = _parse(artifact_uri)

    def _newest(self) -> Version | None:
        try:
            return self.store.version(self.name)
        except NotFoundError:
            return None

    def _at(self, *parts: str | None) -> str:
        return posixpath.join("", *(part.strip("/") for part in (self.below, *parts) if part))

    def _change(self, change: Callable[[Artifact], object]) -> None:
        for tries in range(TRIES):
            base = self._newest()
            draft = cairn.Artifact(self.name, "mlflow") if base is None else base.new_draft()
            change(draft)
            try:
                version = Run(self.store, self.run).log_artifact(draft, progress=False)
            except ConflictError:
                if tries + 1 == TRIES:
                    raise
                continue
            if base is None and version.number > 0:
                self._add_what_was_before(version)
            return

    def _add_what_was_before(self, version: Version) -> None:
        """Two processes made the first version at once: the later one gets what the other has, too."""
        before = self.store.version(f"{self.name}:v{version.number - 1}")
        draft = version.new_draft()
        for change in version.diff(before):
            if change.status == "added" and change.new is not None and change.new.kind == "file":
                uri = f"cairn://{before.qualified_name}/{change.path}"
                draft.add_reference(uri, change.path, store=self.store)
        draft.save(self.store, progress=False)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        name = self._at(artifact_path, os.path.basename(local_file))
        self._change(lambda draft: draft.add_file(local_file, name))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        name = self._at(artifact_path)
        self._change(lambda draft: draft.add_dir(local_dir, name or None))

    def list_artifacts(self, path: str | None = None) -> list[Any]:
        version, at = self._newest(), self._at(path)
        if version is None or (at and (at not in version or version.entry(at).kind != "directory")):
            return []
        entries = version.ls(at or None)
        return [
            FileInfo(posixpath.relpath(entry.path, self.below or "."), is_directory, None if is_directory else entry.size)
            for entry in entries
            for is_directory in [entry.kind == "directory"]
        ]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        version = self.store.version(self.name)
        with version.open(self._at(remote_file_path)) as file, open(local_path, "wb") as out:
            shutil.copyfileobj(file, out, 1 << 20)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        version, at = self._newest(), self._at(artifact_path)
        if version is None or (at and at not in version):
            return
        paths = [at] if at else [entry.path for entry in version.ls()]

        def remove(draft: Artifact) -> None:
            for path in paths:
                draft.remove(path)

        self._change(remove)


def _parse(uri: str) -> tuple[Store, str, str | None, str]:
    """The store, the artifact's name, the run, and the directory in the artifact.

    `/STORE/NAME/RUN/artifacts/DIRECTORY`: what is before `artifacts` makes the name.
    """
    parsed = urlparse(uri)
    path = Path(unquote(parsed.path))
    root = next((above for above in [*reversed(path.parents), path] if (above / "cairn.json").is_file()), None)
    if parsed.netloc or root is None or root == path:
        raise UsageError(
            f"{uri} names no artifact of a store", hint="expected cairn:///STORE/NAME; `cairn init STORE` makes a store"
        )
    parts = list(path.relative_to(root).parts)
    inside = parts.index("artifacts", 1) if "artifacts" in parts[1:] else len(parts)
    names, below = parts[:inside], parts[inside + 1 :]
    is_run = inside < len(parts) and len(names) > 1 and names[-2] != "models"
    return Store(root), ".".join(names), names[-1] if is_run else None, "/".join(below)
