"""W&B's `Run` on a store."""

from __future__ import annotations

import errno
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import cairn

from .._cairn import Classes, Run as _Run, Version
from ..errors import CairnError
from ._artifact import Artifact
from ._config import Config, plain
from ._objects import Html, Image, Table
from ._store import local, moved, open_store, warn_once

_Path = str | os.PathLike[str]


class Run:
    """A run. Use it as a context manager, or call `finish`."""

    def __init__(self, **named: Any) -> None:
        self.store = open_store()
        self.entity: str | None = named.get("entity")
        self.project: str | None = named.get("project")
        self.name: str | None = named.get("name")
        self.notes: str | None = named.get("notes")
        self.tags: tuple[str, ...] = tuple(named.get("tags") or ())
        self.config = Config()
        self.config.update(named.get("config") or {})
        self.summary = Config()
        self._used: list[Artifact] = []
        self._logged: list[Artifact] = []
        self._run = _Run(
            self.store,
            named.get("id") or os.environ.get("WANDB_RUN_ID"),
            named.get("group") or os.environ.get("WANDB_RUN_GROUP"),
            named.get("job_type") or os.environ.get("WANDB_JOB_TYPE"),
        )

    @property
    def id(self) -> str:
        return self._run.id

    @property
    def group(self) -> str | None:
        return self._run.group

    @property
    def job_type(self) -> str | None:
        return self._run.job_type

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: Any) -> None:
        self.finish()

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        from cairn import wandb

        if wandb.run is self:
            wandb.run = None

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        """Keeps the last value of each key; there are no curves. Images, tables and other objects are ignored."""
        for key, value in data.items():
            if isinstance(value, (Table, Image, Classes, Html)):
                warn_once("log keeps no images and tables: add them to an artifact")
            else:
                self.summary[key] = value

    def define_metric(self, *_: Any, **__: Any) -> None:
        """Ignored: it concerns curves."""

    def watch(self, *_: Any, **__: Any) -> None:
        """Ignored: it concerns curves."""

    unwatch = watch

    def _described(self, artifact: Artifact) -> cairn.Artifact:
        """The draft, with its metadata, and with what is known of the run under the key `wandb`."""
        about = {
            "entity": self.entity,
            "project": self.project,
            "name": self.name,
            "notes": self.notes,
            "tags": list(self.tags),
            "config": plain(self.config),
            "summary": plain(self.summary),
        }
        about = {key: value for key, value in about.items() if value}
        metadata = artifact.metadata | ({"wandb": about} if about else {})
        draft = artifact._to_change()
        draft.annotate(artifact.description, metadata or None, artifact.tags, artifact.aliases)
        return draft

    def _artifact(self, given: Artifact | _Path, name: str | None, type: str | None) -> Artifact:
        if isinstance(given, Artifact):
            return given
        if not isinstance(given, (str, os.PathLike)):
            raise TypeError("You must pass an instance of wandb.Artifact or a valid file path to log_artifact")
        artifact = Artifact(name or f"run-{self.id}-{os.path.basename(given)}", type or "unspecified")
        if os.path.isfile(given):
            artifact.add_file(given)
        elif os.path.isdir(given):
            artifact.add_dir(given)
        elif "://" in str(given):
            artifact.add_reference(str(given))
        else:
            raise ValueError("path must be a file, directory or external reference like s3://bucket/path")
        return artifact

    def _publish(self, artifact: Artifact, publish: Callable[[], Version]) -> Version:
        """With W&B's error for a type that an artifact of this name does not have."""
        try:
            return publish()
        except CairnError as e:
            name = artifact._name
            if e.kind != "conflict" or not self.store.exists(name) or self.store.version(name).type == artifact.type:
                raise
            raise ValueError(
                f"Artifact {name} already exists with type '{self.store.version(name).type}'; "
                f"cannot create another with type '{artifact.type}'"
            ) from e

    def log_artifact(
        self,
        artifact_or_path: Artifact | _Path,
        name: str | None = None,
        type: str | None = None,
        aliases: list[str] | None = None,
        tags: list[str] | None = None,
    ) -> Artifact:
        artifact = self._artifact(artifact_or_path, name, type)
        if artifact._version is not None:
            for alias in moved(aliases):
                artifact._version.add_alias(alias)
            return artifact
        draft = self._described(artifact)
        version = self._publish(artifact, lambda: self._run.log_artifact(draft, moved(aliases), list(tags or [])))
        self._logged.append(artifact._finish(version))
        return artifact

    def log_model(
        self, path: _Path, name: str | None = None, aliases: list[str] | None = None
    ) -> Artifact:
        """Logs a file or a directory as an artifact of the type `model`."""
        return self.log_artifact(path, name, "model", aliases)

    def use_model(self, name: str) -> str:
        """Downloads a model. Returns the path of its file, or of its directory if it has several files."""
        used = self.use_artifact(name)
        if "model" not in used.type:
            raise ValueError(f"{used.name} is of type {used.type}, not a model")
        return used.file() if used.file_count == 1 else used.download()

    def link_artifact(self, artifact: Artifact, target_path: str, aliases: list[str] | None = None) -> Artifact:
        """Makes a version of another artifact with the same content: see `Artifact.link`."""
        if artifact.is_draft():
            artifact = self.log_artifact(artifact)
        return artifact.link(target_path, aliases)

    def link_model(
        self, path: _Path, registered_model_name: str, name: str | None = None, aliases: list[str] | None = None
    ) -> Artifact:
        """Logs a model, and links it to `registered_model_name`."""
        return self.log_model(path, name).link(registered_model_name, aliases)

    def log_code(
        self,
        root: str | None = ".",
        name: str | None = None,
        include_fn: Callable[..., bool] | None = None,
        exclude_fn: Callable[..., bool] | None = None,
    ) -> Artifact | None:
        """Logs the Python files, requirements and Dockerfiles below `root` as an artifact of the type `code`."""
        if name is None:
            program = os.path.relpath(sys.argv[0]) if sys.argv[0] else "none"
            name = re.sub(r"[^a-zA-Z0-9_.-]", "_", f"source-{self.project or 'uncategorized'}-{program}")[:128]
        artifact = Artifact(name, "code")
        for path in _code_below(os.path.abspath(root), include_fn, exclude_fn) if root is not None else ():
            artifact.add_file(path, os.path.relpath(path, root))
        return self.log_artifact(artifact) if artifact._added else None

    def logged_artifacts(self) -> list[Artifact]:
        """What this process logged with this run."""
        return list(self._logged)

    def upsert_artifact(
        self,
        artifact_or_path: Artifact | _Path,
        name: str | None = None,
        type: str | None = None,
        aliases: list[str] | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        artifact = self._artifact(artifact_or_path, name, type)
        draft = self._described(artifact)
        draft.annotate(aliases=moved(aliases))
        self._run.upsert_artifact(draft, distributed_id)
        artifact.distributed_id = distributed_id or self.group
        return artifact

    def finish_artifact(
        self,
        artifact_or_path: Artifact | _Path,
        name: str | None = None,
        type: str | None = None,
        aliases: list[str] | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        artifact = self._artifact(artifact_or_path, name, type)
        draft = self._described(artifact)
        draft.annotate(aliases=moved(aliases))
        artifact.distributed_id = distributed_id or self.group
        self._logged.append(artifact._finish(self._run.finish_artifact(draft, distributed_id)))
        return artifact

    def use_artifact(
        self, artifact_or_name: str | Artifact, type: str | None = None, aliases: Any = None, use_as: str | None = None
    ) -> Artifact:
        if isinstance(artifact_or_name, Artifact):
            used = artifact_or_name if artifact_or_name._version else self.log_artifact(artifact_or_name, aliases=aliases)
        else:
            used = Artifact._of(self.store.version(local(artifact_or_name, self)))
        if type is not None and used.type != type:
            raise ValueError(f"Supplied type {type} does not match type {used.type} of artifact {used.name}")
        self._record_use(used._logged("use"))
        self._used.append(used)
        return used

    def _record_use(self, version: Version) -> None:
        try:
            self._run.use_artifact(version)
        except CairnError as e:
            if e.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            warn_once(f"this user cannot write to {version.store.root}: what runs use is not recorded")

    def used_artifacts(self) -> list[Artifact]:
        """What this process used with this run."""
        return list(self._used)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a run of cairn.wandb has no {name}: it has what concerns artifacts (docs/python.md)")


def _is_code(path: str) -> bool:
    base = os.path.basename(path)
    return path.endswith(".py") or base.startswith("Dockerfile") or (base.startswith("requirements") and path.endswith(".txt"))


def _is_not_code(path: str, root: str) -> bool:
    return os.path.relpath(path, root).split(os.sep)[0] in (".wandb", "wandb", ".cairn", "artifacts")


def _code_below(
    root: str, include_fn: Callable[..., bool] | None, exclude_fn: Callable[..., bool] | None
) -> Iterator[str]:
    def ask(function: Callable[..., bool], path: str) -> bool:
        return function(path, root) if len(inspect.signature(function).parameters) > 1 else function(path)

    for directory, _, names in os.walk(root):
        for path in (os.path.join(directory, name) for name in sorted(names)):
            if ask(include_fn or _is_code, path) and not ask(exclude_fn or _is_not_code, path):
                yield path
