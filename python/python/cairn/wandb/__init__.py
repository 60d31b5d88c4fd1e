"""W&B's artifact calls on a store of cairn: `import cairn.wandb as wandb`.

Scripts that log and use artifacts run with only the import changed. The store is the one that CAIRN_STORE names, else
the nearest `.cairn`; if there is none, `.cairn` is made in the working directory.

Names have W&B's form `[ENTITY/[PROJECT/]]NAME[:ALIAS]`; one store has one name space, so an entity or project that
differs from that of `init` is an error. What needs W&B's server (curves, reports, sweeps) is not here: `Run.log` and
`Run.config` are kept in the metadata of the artifacts that the run logs.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Iterator
from typing import Any

import cairn

from ._attach import AttachedRun, attach
from ._cairn import Classes, Run as _Run, Store, Version
from ._import import import_artifacts
from ._wandb_objects import Html, Image, Table
from .errors import CairnError, NotFoundError, UsageError

__all__ = [
    "Api",
    "Artifact",
    "AttachedRun",
    "Classes",
    "CommError",
    "Html",
    "Image",
    "Run",
    "Table",
    "attach",
    "finish",
    "import_artifacts",
    "init",
    "log",
    "log_artifact",
    "log_model",
    "login",
    "run",
    "use_artifact",
    "use_model",
]

CommError = CairnError
"""What W&B raises when its server refuses: here any error of the store."""

run: Run | None = None
"""The run that `init` began last."""


def _open_store() -> Store:
    try:
        return Store()
    except NotFoundError:
        if os.environ.get("CAIRN_STORE"):
            raise
        print("cairn: made a store in .cairn", file=sys.stderr)
        return Store.init(".cairn", exist_ok=True)


@functools.cache
def _warn_once(text: str) -> None:
    print(f"cairn: warning: {text}", file=sys.stderr)


class Artifact:
    """What will become a version, or a version: as W&B's class is both.

    `add_file` keeps the bytes as they are at that moment, as W&B does: a script may overwrite the file afterwards. With
    `policy="immutable"` nothing is copied; the file must stay as it is until the artifact is logged.
    """

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        metadata: dict[str, Any] | None = None,
        incremental: bool = False,
        use_as: str | None = None,
        storage_region: str | None = None,
    ) -> None:
        self._draft: cairn.Artifact | None = cairn.Artifact(name, type, description, metadata)
        self._draft.overwrite()
        self._version: Version | None = None
        self._name, self._type = name, type
        self._description, self._metadata = description, dict(metadata or {})
        if incremental and self._store.exists(name):
            self._begin_draft(self._store.version(name))

    @classmethod
    def _of(cls, version: Version) -> Artifact:
        self = cls.__new__(cls)
        self._draft, self._version = None, version
        self._name, self._type = version.name, version.type
        self._description, self._metadata = version.description, version.metadata
        return self

    @functools.cached_property
    def _store(self) -> Store:
        return _open_store()

    def _begin_draft(self, base: Version) -> None:
        self._draft = base.new_draft()
        self._draft.annotate(self._description, self._metadata or None)

    def _to_change(self) -> cairn.Artifact:
        if self._draft is None:
            raise UsageError(f"{self.name} is logged: it does not change", hint="new_draft begins the next version")
        return self._draft

    def _logged(self) -> Version:
        if self._version is None:
            raise UsageError(f"{self._name} is not logged yet", hint="run.log_artifact logs it")
        return self._version

    def _finish(self, version: Version) -> Artifact:
        self._version, self._draft = version, None
        return self

    # What it is.

    @property
    def name(self) -> str:
        return self._version.qualified_name if self._version else self._name

    @property
    def type(self) -> str:
        return self._type

    @property
    def version(self) -> str:
        return self._logged().version

    @property
    def digest(self) -> str:
        return self._logged().digest

    @property
    def size(self) -> int:
        return self._logged().size

    @property
    def file_count(self) -> int:
        return self._logged().file_count

    @property
    def created_at(self) -> str:
        return self._logged().created_at

    @property
    def aliases(self) -> list[str]:
        """The aliases. Set the list and call `save` to change them."""
        if not hasattr(self, "_aliases"):
            self._aliases = self._version.aliases if self._version else []
        return self._aliases

    @aliases.setter
    def aliases(self, aliases: list[str]) -> None:
        self._aliases = list(aliases)

    @property
    def tags(self) -> list[str]:
        if not hasattr(self, "_tags"):
            self._tags = self._version.tags if self._version else []
        return self._tags

    @tags.setter
    def tags(self, tags: list[str]) -> None:
        self._tags = list(tags)

    @property
    def description(self) -> str | None:
        return self._description

    @description.setter
    def description(self, text: str | None) -> None:
        self._description = text

    @property
    def metadata(self) -> dict[str, Any]:
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: dict[str, Any]) -> None:
        self._metadata = dict(metadata)

    # Adding.

    def add_file(
        self,
        local_path: str | os.PathLike[str],
        name: str | None = None,
        is_tmp: bool = False,
        skip_cache: bool = False,
        policy: str = "mutable",
        overwrite: bool = False,
    ) -> None:
        draft, name = self._to_change(), name or os.path.basename(local_path)
        if not os.path.isfile(local_path):
            raise ValueError(f"Path is not a file: {os.fspath(local_path)!r}")
        if policy == "immutable":
            draft.add_file(local_path, name)
        else:
            draft.add_copy(local_path, name, self._store)

    def add_dir(
        self,
        local_path: str | os.PathLike[str],
        name: str | None = None,
        skip_cache: bool = False,
        policy: str = "mutable",
        merge: bool = False,
    ) -> None:
        if not os.path.isdir(local_path):
            raise ValueError(f"Path is not a directory: {os.fspath(local_path)!r}")
        self._to_change().add_dir(local_path, name)

    def add_reference(
        self, uri: str, name: str | None = None, checksum: bool = True, max_objects: int | None = None
    ) -> None:
        store = self._store if uri.startswith("cairn://") else None
        self._to_change().add_reference(uri, name, checksum, max_objects, store=store)

    def add(self, obj: Any, name: str, overwrite: bool = False) -> str:
        return self._to_change().add(obj, name)

    def new_file(self, name: str, mode: str = "w", encoding: str | None = None) -> Any:
        return self._to_change().new_file(name, mode, encoding)

    def remove(self, item: str | os.PathLike[str]) -> None:
        self._to_change().remove(item)

    def new_draft(self) -> Artifact:
        draft = Artifact(self._logged().name, self._type, self._description, self._metadata)
        draft._begin_draft(self._logged())
        return draft

    def save(self) -> None:
        """Logs it; of a logged one, saves description, metadata, tags and aliases."""
        if self._version is None:
            _current().log_artifact(self)
            return
        version, tags, aliases = self._version, self._version.tags, set(self._version.aliases)
        version.annotate(
            self._description,
            self._metadata,
            add_tags=[t for t in self.tags if t not in tags],
            remove_tags=[t for t in tags if t not in self.tags],
        )
        for alias in aliases - set(self.aliases) - {"latest"}:
            version.remove_alias(alias)
        for alias in set(self.aliases) - aliases - {"latest"}:
            version.add_alias(alias)

    def wait(self, timeout: float | None = None) -> Artifact:
        """Logging is not done in the background: there is nothing to wait for."""
        self._logged()
        return self

    # Reading.

    def download(
        self,
        root: str | os.PathLike[str] | None = None,
        allow_missing_references: bool = False,
        skip_cache: bool | None = None,
        path_prefix: str | os.PathLike[str] | None = None,
    ) -> str:
        return os.fspath(self._logged().download(root, path_prefix).absolute())

    def checkout(self, root: str | os.PathLike[str] | None = None) -> str:
        return os.fspath(self._logged().download(root, force=True, prune=True).absolute())

    def verify(self, root: str | os.PathLike[str] | None = None) -> None:
        """Raises ValueError if a directory, by default the one that `download` writes, does not have what this has.

        References are not compared.
        """
        directory = os.fspath(root or os.path.join("artifacts", self._logged().qualified_name))
        for change in self._logged().diff(directory):
            entry = change.old or change.new
            if entry is not None and entry.kind not in ("directory", "reference"):
                raise ValueError(f"{change.path} in {directory} is {change.status}: expected what {self.name} has")

    def file(self, root: str | os.PathLike[str] | None = None) -> str:
        if self.file_count != 1:
            raise ValueError(f"{self.name} has {self.file_count} files, not one")
        return os.path.join(self.download(root), self._logged().file_at(0).path)

    def files(self, names: list[str] | None = None) -> Iterator[cairn.Entry]:
        version = self._logged()
        return iter([version.entry(name) for name in names]) if names else version.files()

    def get(self, name: str) -> Any:
        return self._logged().get(name)

    def get_entry(self, name: str) -> Entry:
        self._logged().entry(name)
        return Entry(self._logged(), name)

    get_path = get_entry
    __getitem__ = get


class Entry:
    """A file of a logged artifact."""

    def __init__(self, version: Version, path: str) -> None:
        self._version, self.path = version, path

    @property
    def size(self) -> int | None:
        return self._version.entry(self.path).size

    @property
    def digest(self) -> str | None:
        return self._version.entry(self.path).digest

    def ref_target(self) -> str:
        uri = self._version.entry(self.path).uri
        if uri is None:
            raise ValueError("Only reference entries support ref_target().")
        return uri

    def download(self, root: str | os.PathLike[str] | None = None) -> str:
        return os.fspath((self._version.download(root, self.path) / self.path).absolute())


class Config(dict[str, Any]):
    """A run's config: a dictionary whose keys are attributes too."""

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError:
            raise AttributeError(f"the config has no key {key!r}") from None

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def update(self, values: Any = (), allow_val_change: bool | None = None, **more: Any) -> None:  # type: ignore[override]
        """Takes also what has attributes instead of keys, such as the result of argparse."""
        super().update(_mapping(values), **more)

    def setdefaults(self, values: Any) -> None:
        for key, value in _mapping(values).items():
            self.setdefault(key, value)


def _mapping(values: Any) -> dict[str, Any]:
    return vars(values) if hasattr(values, "__dict__") and not hasattr(values, "keys") else dict(values)


def _plain(value: Any) -> Any:
    """A value as JSON can have it: numbers of NumPy and tensors as Python's, what JSON cannot have as a text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value)


class Run:
    """A run. Use it as a context manager, or call `finish`."""

    def __init__(self, **named: Any) -> None:
        self.store = _open_store()
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
        global run
        if run is self:
            run = None

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        """Keeps the last value of each key; there are no curves. Images, tables and other objects are ignored."""
        for key, value in data.items():
            if isinstance(value, (Table, Image, Classes, Html)):
                _warn_once("log keeps no images and tables: add them to an artifact")
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
            "config": _plain(self.config),
            "summary": _plain(self.summary),
        }
        about = {key: value for key, value in about.items() if value}
        metadata = artifact.metadata | ({"wandb": about} if about else {})
        draft = artifact._to_change()
        draft.annotate(artifact.description, metadata or None, artifact.tags, artifact.aliases)
        return draft

    def _artifact(self, given: Artifact | str | os.PathLike[str], name: str | None, type: str | None) -> Artifact:
        if isinstance(given, Artifact):
            return given
        artifact = Artifact(name or f"run-{self.id}-{os.path.basename(given)}", type or "unspecified")
        if os.path.isdir(given):
            artifact.add_dir(given)
        else:
            artifact.add_file(given)
        return artifact

    def log_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: list[str] | None = None,
        tags: list[str] | None = None,
    ) -> Artifact:
        artifact = self._artifact(artifact_or_path, name, type)
        if artifact._version is not None:
            for alias in _moved(aliases):
                artifact._version.add_alias(alias)
            return artifact
        version = self._run.log_artifact(self._described(artifact), _moved(aliases), list(tags or []))
        self._logged.append(artifact._finish(version))
        return artifact

    def log_model(
        self, path: str | os.PathLike[str], name: str | None = None, aliases: list[str] | None = None
    ) -> Artifact:
        """Logs a file or a directory as an artifact of the type `model`."""
        return self.log_artifact(path, name, "model", aliases)

    def use_model(self, name: str) -> str:
        """Downloads a model. Returns the path of its file, or of its directory if it has several files."""
        used = self.use_artifact(name)
        if "model" not in used.type:
            raise ValueError(f"{used.name} is of type {used.type}, not a model")
        return used.file() if used.file_count == 1 else used.download()

    def logged_artifacts(self) -> list[Artifact]:
        """What this process logged with this run."""
        return list(self._logged)

    def upsert_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: list[str] | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        artifact = self._artifact(artifact_or_path, name, type)
        draft = self._described(artifact)
        draft.annotate(aliases=_moved(aliases))
        self._run.upsert_artifact(draft, distributed_id)
        return artifact

    def finish_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: list[str] | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        artifact = self._artifact(artifact_or_path, name, type)
        draft = self._described(artifact)
        draft.annotate(aliases=_moved(aliases))
        return artifact._finish(self._run.finish_artifact(draft, distributed_id))

    def use_artifact(
        self, artifact_or_name: str | Artifact, type: str | None = None, aliases: Any = None, use_as: str | None = None
    ) -> Artifact:
        if isinstance(artifact_or_name, Artifact):
            used = artifact_or_name if artifact_or_name._version else self.log_artifact(artifact_or_name)
        else:
            used = Artifact._of(self.store.version(_local(artifact_or_name, self)))
        if type is not None and used.type != type:
            raise ValueError(f"Supplied type {type} does not match type {used.type} of artifact {used.name}")
        self._record_use(used._logged())
        self._used.append(used)
        return used

    def _record_use(self, version: Version) -> None:
        try:
            self._run.use_artifact(version)
        except CairnError as e:
            if e.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            _warn_once(f"this user cannot write to {version.store.root}: what runs use is not recorded")

    def used_artifacts(self) -> list[Artifact]:
        """What this process used with this run."""
        return list(self._used)


def _moved(aliases: list[str] | None) -> list[str]:
    """Without `latest`, which moves by itself."""
    return [alias for alias in aliases or [] if alias != "latest"]


def _local(name: str, run: Run | None) -> str:
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


def init(
    entity: str | None = None,
    project: str | None = None,
    dir: Any = None,
    id: str | None = None,
    name: str | None = None,
    notes: str | None = None,
    tags: Any = None,
    config: dict[str, Any] | None = None,
    group: str | None = None,
    job_type: str | None = None,
    **others: Any,
) -> Run:
    """Begins a run. Arguments that concern W&B's server are ignored."""
    global run
    run = Run(
        entity=entity,
        project=project,
        id=id,
        name=name,
        notes=notes,
        tags=tags,
        config=config,
        group=group,
        job_type=job_type,
    )
    return run


def _current() -> Run:
    return run or init()


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    if run is not None:
        run.finish(exit_code, quiet)


def log(data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
    _current().log(data, step, commit)


def login(*_: Any, **__: Any) -> bool:
    """Nothing to do: a store has no accounts."""
    return True


def define_metric(*_: Any, **__: Any) -> None:
    """Ignored: it concerns curves."""


watch = unwatch = define_metric


def __getattr__(name: str) -> Any:
    """`wandb.config` and `wandb.summary` are those of the run."""
    if name in ("config", "summary"):
        return getattr(_current(), name)
    raise AttributeError(f"cairn.wandb has no {name}: it has what concerns artifacts (docs/python.md)")


def log_model(*args: Any, **named: Any) -> Artifact:
    return _current().log_model(*args, **named)


def use_model(*args: Any, **named: Any) -> str:
    return _current().use_model(*args, **named)


def log_artifact(*args: Any, **named: Any) -> Artifact:
    return _current().log_artifact(*args, **named)


def use_artifact(*args: Any, **named: Any) -> Artifact:
    return _current().use_artifact(*args, **named)


class Api:
    """W&B's public API, as far as it concerns artifacts."""

    def __init__(self, overrides: dict[str, Any] | None = None, **others: Any) -> None:
        self.store = _open_store()

    def artifact(self, name: str, type: str | None = None) -> Artifact:
        found = Artifact._of(self.store.version(_local(name, None)))
        if type is not None and found.type != type:
            raise ValueError(f"type {type} specified but this artifact is of type {found.type}")
        return found

    def artifacts(self, type_name: str, name: str, per_page: int = 50, tags: list[str] | None = None) -> list[Artifact]:
        """The versions of an artifact, newest first."""
        found = [Artifact._of(v) for v in reversed(self.store.versions(_local(name, None))) if v.type == type_name]
        return [a for a in found if not tags or set(tags) <= set(a.tags)]

    artifact_versions = artifacts

    def artifact_types(self, project: str | None = None) -> list[ArtifactType]:
        """The types of the artifacts, sorted."""
        found: dict[str, list[str]] = {}
        for name in self.store.artifacts():
            versions = self.store.versions(name)
            if versions:
                found.setdefault(versions[-1].type, []).append(name)
        return [ArtifactType(self, type_name, found[type_name]) for type_name in sorted(found)]

    def artifact_collections(self, project_name: str, type_name: str, per_page: int = 50) -> list[ArtifactCollection]:
        """The artifacts of a type."""
        return [c for type_ in self.artifact_types() if type_.name == type_name for c in type_.collections()]

    def artifact_exists(self, name: str, type: str | None = None) -> bool:
        try:
            found = self.artifact(name)
        except NotFoundError:
            return False
        return type is None or found.type == type

    def artifact_collection_exists(self, name: str, type: str) -> bool:
        return self.artifact_exists(name, type)


class ArtifactType:
    """A type, and the artifacts that have it."""

    def __init__(self, api: Api, name: str, names: list[str]) -> None:
        self._api, self.name, self._names = api, name, names

    def collections(self) -> list[ArtifactCollection]:
        return [ArtifactCollection(self._api, name, self.name) for name in self._names]


class ArtifactCollection:
    """An artifact: all its versions."""

    def __init__(self, api: Api, name: str, type: str) -> None:
        self._api, self.name, self.type = api, name, type

    def artifacts(self, per_page: int = 50) -> list[Artifact]:
        """The versions, newest first."""
        return self._api.artifacts(self.type, self.name)

    versions = artifacts

    @property
    def aliases(self) -> list[str]:
        return sorted({alias for artifact in self.artifacts() for alias in artifact.aliases})
