"""W&B's `Artifact` on a store."""

from __future__ import annotations

import contextlib
import datetime
import enum
import functools
import hashlib
import os
import posixpath
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import cairn

from .._cairn import Classes, Html, Image, Store, Table, Version
from ..errors import CairnError, NotFoundError
from ._entries import Entry, Files, Manifest
from ._store import local, moved, open_store, warn_once
from .errors import ArtifactFinalizedError, ArtifactNotLoggedError, UnsupportedError

if TYPE_CHECKING:
    from ._api import ArtifactCollection, LoggedRun

_Path = str | os.PathLike[str]
_SUFFIXES = {Table: "table", Image: "image-file", Classes: "classes", Html: "html-file"}


class ArtifactTTL(enum.Enum):
    """`INHERIT`: the time that W&B's team has. A store has none."""

    INHERIT = 0


def _logical(path: Any) -> str:
    """A path in an artifact in its canonical form."""
    return posixpath.normpath(os.fspath(path))


def _below(path: str, directory: str) -> bool:
    return directory in ("", ".") or path == directory or path.startswith(directory + "/")


def _absent(name: str, instead: str) -> Any:
    def get(self: Artifact) -> Any:
        raise UnsupportedError(f"a store has no {name}", hint=instead)

    return property(get)


class Artifact:
    """What will become a version, or a version: as W&B's class is both.

    `add_file` keeps the bytes as they are at that moment, as W&B does: a script may overwrite the file afterwards. With
    `policy="immutable"` nothing is copied; the file must stay as it is until the artifact is logged. `add_dir` reads
    when the artifact is logged.
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
        digest_algorithm: str | None = None,
    ) -> None:
        self._draft: cairn.Artifact | None = cairn.Artifact(name, type, description, metadata)
        self._version: Version | None = None
        self._name, self._type = name, type
        self._description, self._metadata = description, dict(metadata or {})
        self._begin()
        if incremental and self._store.exists(name):
            self._begin_draft(self._store.version(name))

    def _begin(self) -> None:
        self._base: Version | None = None
        self._added: dict[str, Entry] = {}
        self._dirs: list[tuple[str, str]] = []
        self._removed: list[str] = []
        self._ttl: datetime.timedelta | ArtifactTTL | None = ArtifactTTL.INHERIT
        self._is_deleted = False
        self.distributed_id: str | None = None

    @classmethod
    def _of(cls, version: Version) -> Artifact:
        self = cls.__new__(cls)
        self._draft, self._version = None, version
        self._name, self._type = version.name, version.type
        self._description, self._metadata = version.description, version.metadata
        self._begin()
        return self

    @functools.cached_property
    def _store(self) -> Store:
        return self._version.store if self._version else open_store()

    def _begin_draft(self, base: Version) -> None:
        self._draft, self._base = base.new_draft(), base
        self._draft.annotate(self._description, self._metadata or None)

    def _to_change(self, what: str = "a change") -> cairn.Artifact:
        if self._draft is None:
            raise ArtifactFinalizedError(
                f"{what} was asked of {self.name}, which is logged: it does not change",
                hint="new_draft begins the next version",
            )
        return self._draft

    def _logged(self, what: str) -> Version:
        if self._version is None:
            raise ArtifactNotLoggedError(f"{self._name} is not logged yet: it has no {what}", hint="log_artifact logs it")
        return self._version

    def _preview(self) -> cairn.Preview:
        return self._to_change().preview(self._store)

    def _finish(self, version: Version) -> Artifact:
        self._version, self._draft = version, None
        self._save_ttl(version)
        return self

    def _save_ttl(self, version: Version) -> None:
        if not isinstance(self._ttl, ArtifactTTL) and version.ttl != self._ttl:
            version.ttl = self._ttl

    # What it is.

    @property
    def id(self) -> str | None:
        return self._version.qualified_name if self._version else None

    @property
    def name(self) -> str:
        return self._version.qualified_name if self._version else self._name

    @property
    def type(self) -> str:
        return self._type

    def _about_run(self, key: str) -> str | None:
        about = self._logged(key).metadata.get("wandb")
        return about.get(key) if isinstance(about, dict) else None

    @property
    def entity(self) -> str | None:
        """What the run that logged it was given."""
        return self._about_run("entity")

    @property
    def project(self) -> str | None:
        return self._about_run("project")

    @property
    def qualified_name(self) -> str:
        """`ENTITY/PROJECT/NAME:vN`, without what the run was not given."""
        return "/".join(part for part in (self.entity, self.project, self.name) if part)

    @property
    def version(self) -> str:
        return self._logged("version").version

    @property
    def collection(self) -> ArtifactCollection:
        from ._api import Api, ArtifactCollection

        return ArtifactCollection(Api._of(self._store), self._logged("collection").name, self._type)

    @property
    def digest(self) -> str:
        """The store's digest of all that it has. Before it is logged, its files are hashed for it."""
        return self._version.digest if self._version else self._preview().digest

    @property
    def size(self) -> int:
        return self._version.size if self._version else self._preview().size

    @property
    def file_count(self) -> int:
        return self._logged("file_count").file_count

    @property
    def manifest(self) -> Manifest:
        return Manifest(self)

    @property
    def created_at(self) -> str:
        return self._logged("created_at").created_at

    @property
    def state(self) -> str:
        return "DELETED" if self._is_deleted else "COMMITTED" if self._version else "PENDING"

    @property
    def url(self) -> str:
        """Empty: there is no page."""
        return ""

    updated_at = _absent("updated_at", "`cairn log NAME` lists what changed, and when")
    commit_hash = _absent("commit_hash", "digest identifies the content")
    history_step = _absent("history_step", "there are no curves; cairn.wandb.attach keeps those of W&B")

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

    @property
    def ttl(self) -> datetime.timedelta | None:
        """How long after it was made it expires. Nothing removes it then but `cairn rm NAME --expired`."""
        if not isinstance(self._ttl, ArtifactTTL):
            return self._ttl
        return self._logged("ttl").ttl

    @ttl.setter
    def ttl(self, ttl: datetime.timedelta | ArtifactTTL | None) -> None:
        if isinstance(ttl, datetime.timedelta) and ttl.total_seconds() <= 0:
            raise ValueError(f"Artifact TTL Duration has to be positive. ttl: {ttl.total_seconds()}")
        if isinstance(ttl, ArtifactTTL):
            raise UnsupportedError("a store has no default ttl to inherit", hint="None: it does not expire")
        if ttl is not None and not isinstance(ttl, datetime.timedelta):
            raise TypeError(f"ttl is a datetime.timedelta or None, not {ttl!r}")
        self._ttl = ttl

    # Adding.

    def _claim(self, name: str, same: bool | None, overwrite: bool) -> bool:
        """Whether a path is free for what is to be added. It must be removed first if something else is there."""
        if name not in self._added:
            return True
        if same:
            return False
        if not overwrite:
            raise ValueError(f"Cannot add the same path twice: {name!r}")
        self._to_change().remove(name)
        return True

    def _keep(self, entry: Entry) -> Entry:
        self._added[entry.path] = entry
        return entry

    def add_file(
        self,
        local_path: _Path,
        name: str | None = None,
        is_tmp: bool | None = False,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        overwrite: bool = False,
    ) -> Entry:
        draft = self._to_change("add_file")
        if not os.path.isfile(local_path):
            raise ValueError(f"Path is not a file: {os.fspath(local_path)!r}")
        if policy not in (None, "mutable", "immutable"):
            raise ValueError(f"Invalid policy {policy!r}. Policy may only be `mutable` or `immutable`.")
        name = _logical(name or os.path.basename(local_path))
        if is_tmp:
            name = _name_by_content(name, local_path)
        same = draft._has_bytes_of(name, local_path) if name in self._added else None
        if self._claim(name, same, overwrite):
            if policy == "immutable":
                draft.add_file(local_path, name)
            else:
                draft.add_copy(local_path, name, self._store)
            self._keep(Entry(self, name, os.path.getsize(local_path), local_path=os.fspath(local_path)))
        return self._added[name]

    def add_dir(
        self,
        local_path: _Path,
        name: str | None = None,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        merge: bool = False,
    ) -> None:
        """Adds a directory, which is read when the artifact is logged. Symbolic links stay links."""
        draft = self._to_change("add_dir")
        if not os.path.isdir(local_path):
            raise ValueError(f"Path is not a directory: {os.fspath(local_path)!r}")
        if merge:
            draft.overwrite()
        draft.add_dir(local_path, name)
        self._dirs.append((os.path.abspath(local_path), _logical(name or ".")))

    def add_reference(
        self, uri: Entry | str, name: _Path | None = None, checksum: bool = True, max_objects: int | None = None
    ) -> list[Entry]:
        """Returns one entry, also if there is one for each object below the URI."""
        draft = self._to_change("add_reference")
        text = uri.ref_url() if isinstance(uri, Entry) else str(uri)
        path = _logical(name or posixpath.basename(text.rstrip("/")))
        same = self._added[path].ref == text if path in self._added else None
        if self._claim(path, same, overwrite=False):
            store = self._store if text.startswith("cairn://") else None
            draft.add_reference(text, name, checksum, max_objects, store=store)
            self._keep(Entry(self, path, ref=text))
        return [self._added[path]]

    def add(self, obj: Any, name: _Path, overwrite: bool = False) -> Entry:
        draft, suffix = self._to_change("add"), _SUFFIXES.get(type(obj))
        path = _logical(name)
        if suffix is not None and not path.endswith(f".{suffix}.json"):
            path = f"{path}.{suffix}.json"
        if self._claim(path, path in self._added and not overwrite, overwrite):
            self._keep(Entry(self, draft.add(obj, _logical(name))))
        return self._added[path]

    def __setitem__(self, name: str, obj: Any) -> None:
        self.add(obj, name)

    @contextlib.contextmanager
    def new_file(
        self, name: str, mode: str = "x", encoding: str | None = None, policy: str | None = "mutable"
    ) -> Iterator[Any]:
        """A file to write to, which is added at the end of the block."""
        draft, path = self._to_change("new_file"), _logical(name)
        if "x" in mode and path in self._added:
            raise ValueError(f"File with name {name!r} already exists")
        with draft.new_file(path, mode.replace("x", "w"), encoding) as file:
            yield file
            file.flush()
            self._claim(path, None, overwrite=True)
        self._keep(Entry(self, path))

    def remove(self, item: _Path | Entry) -> None:
        draft = self._to_change("remove")
        path = _logical(item.path if isinstance(item, Entry) else item)
        if not self._has(path):
            raise FileNotFoundError(f"No such file or directory: {path}")
        draft.remove(path)
        self._removed.append(path)
        self._added = {name: entry for name, entry in self._added.items() if not _below(name, path)}

    def _has(self, path: str) -> bool:
        """Whether something is there to be removed."""
        if any(_below(name, path) for name in self._added):
            return True
        if any(_below(path, gone) for gone in self._removed):
            return False
        in_directories = (
            os.path.lexists(os.path.join(root, os.path.relpath(path, at))) for root, at in self._dirs if _below(path, at)
        )
        return any(in_directories) or (self._base is not None and path in self._base)

    def get_added_local_path_name(self, local_path: _Path) -> str | None:
        """The path in the artifact of a file that was added."""
        given = os.fspath(local_path)
        return next((path for path, entry in self._added.items() if entry.local_path == given), None)

    def finalize(self) -> None:
        """Nothing to do: an artifact does not change once it is logged."""

    def is_draft(self) -> bool:
        return self._version is None

    def new_draft(self) -> Artifact:
        """The next version, which begins with what this one has. A file that is added replaces one of this version."""
        version = self._logged("new_draft")
        draft = Artifact(version.name, self._type, self._description, self._metadata)
        draft._begin_draft(version)
        return draft

    def save(self, project: str | None = None, settings: Any = None) -> None:
        """Logs it, without a run by one of its own; of a logged one, saves description, metadata, tags, aliases, ttl."""
        if self._version is None:
            from cairn import wandb

            if wandb.run is not None:
                wandb.run.log_artifact(self)
                return
            with wandb.init(project=project, job_type="auto") as run:
                run.log_artifact(self)
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
        self._save_ttl(version)

    def wait(self, timeout: float | None = None) -> Artifact:
        """Logging is not done in the background: there is nothing to wait for."""
        self._logged("version to wait for")
        return self

    # Reading.

    def _root(self, root: _Path | None, *, with_version: bool = True) -> str:
        """Where it is downloaded to: W&B's default is below WANDB_ARTIFACT_DIR, else `./artifacts`."""
        if root is not None:
            return os.fspath(root)
        version = self._logged("files")
        directory = os.environ.get("WANDB_ARTIFACT_DIR") or "artifacts"
        return os.path.join(directory, version.qualified_name if with_version else version.name)

    def download(
        self,
        root: _Path | None = None,
        allow_missing_references: bool = False,
        skip_cache: bool | None = None,
        path_prefix: _Path | None = None,
        multipart: bool | None = None,
    ) -> str:
        """Writes it to `root`. Files that differ are replaced, as W&B does; other files stay. `path_prefix` is the
        beginning of paths, not a directory."""
        version, root = self._logged("files"), self._root(root)
        os.makedirs(root, exist_ok=True)
        for path in [None] if path_prefix is None else self._beginning_with(os.fspath(path_prefix)):
            if allow_missing_references:
                version.download(root, path, force=True, references="skip")
                self._download_references(root, path)
            else:
                version.download(root, path, force=True)
        return os.path.abspath(root)

    def _beginning_with(self, prefix: str) -> list[str | None]:
        version = self._logged("files")
        directory = posixpath.dirname(prefix)
        if directory and directory not in version:
            return []
        return [entry.path for entry in version.ls(directory or None) if entry.path.startswith(prefix)]

    def _download_references(self, root: str, path: str | None) -> None:
        version = self._logged("files")
        is_file = path is not None and version.entry(path).kind != "directory"
        for entry in [version.entry(path)] if is_file and path else version.files(below=path):
            if entry.kind == "reference":
                try:
                    version.download(root, entry.path, force=True)
                except CairnError as e:
                    warn_once(f"{entry.path} of {self.name} is omitted: {e.message}")

    def checkout(self, root: _Path | None = None) -> str:
        """As `download`, and removes other files from `root`, by default `artifacts/NAME`."""
        root = self._root(root, with_version=False)
        return os.path.abspath(self._logged("files").download(root, force=True, prune=True))

    def verify(self, root: _Path | None = None) -> None:
        """Raises ValueError if a directory, by default the one that `download` writes, does not have what this has.

        References are not compared.
        """
        version, directory = self._logged("files"), self._root(root)
        for change in version.diff(directory):
            entry = change.old or change.new
            if entry is not None and entry.kind not in ("directory", "reference"):
                raise ValueError(f"{change.path} in {directory} is {change.status}: expected what {self.name} has")

    def file(self, root: _Path | None = None) -> str:
        if self.file_count != 1:
            raise ValueError(
                f"{self.name} has {self.file_count} files, not one: call `.download()` to get all files or "
                '`.get_entry("filename").download()`'
            )
        return os.path.join(self.download(root), self._logged("files").file_at(0).path)

    def files(self, names: list[str] | None = None, per_page: int = 50, start: str | None = None) -> Files:
        return Files(self, names)

    def get(self, name: str) -> Any:
        """The object that was added as `name`; None: there is none."""
        try:
            return self._logged("objects").get(name)
        except NotFoundError:
            return None

    __getitem__ = get

    def get_entry(self, name: _Path) -> Entry:
        version, path = self._logged("entries"), _logical(name)
        for candidate in (path, *(f"{path}.{suffix}.json" for suffix in _SUFFIXES.values())):
            if candidate in version and version.entry(candidate).kind in ("file", "reference"):
                return Entry._of(self, version.entry(candidate))
        raise KeyError(f"Path not contained in artifact: {path}")

    get_path = get_entry

    # Where it came from, and who uses it.

    def logged_by(self) -> LoggedRun | None:
        """The run that logged it first."""
        from ._api import LoggedRun

        run = self._logged("run").run_id
        return None if run is None else LoggedRun(self._store, run)

    def used_by(self) -> list[LoggedRun]:
        """The runs that used it."""
        from ._api import LoggedRun

        return [LoggedRun(self._store, run) for run in self._logged("run").used_by()]

    @property
    def is_link(self) -> bool:
        return self._version is not None and self._version.source is not None

    @property
    def source_artifact(self) -> Artifact:
        """Of a link, what it is a copy of; else this."""
        source = self._logged("source_artifact").source
        return self if source is None else Artifact._of(self._store.version(source))

    @property
    def source_name(self) -> str:
        return (self._version.source if self._version else None) or self.name

    @property
    def source_version(self) -> str:
        self._logged("source_version")
        return self.source_name.rpartition(":")[2]

    @property
    def source_entity(self) -> str | None:
        return self.source_artifact.entity

    @property
    def source_project(self) -> str | None:
        return self.source_artifact.project

    @property
    def source_qualified_name(self) -> str:
        return self.source_artifact.qualified_name

    @property
    def source_collection(self) -> ArtifactCollection:
        return self.source_artifact.collection

    @property
    def linked_artifacts(self) -> list[Artifact]:
        """The links to it. All versions of the store are looked at."""
        own, store = self._logged("links").qualified_name, self._store
        versions = (version for name in store.artifacts() for version in store.versions(name))
        return [] if self.is_link else [Artifact._of(version) for version in versions if version.source == own]

    def link(self, target_path: str, aliases: Iterable[str] | None = None) -> Artifact:
        """Makes a version of another artifact, whose name is the last part of `target_path`, with the same content.

        The content is not copied, and the version knows what it is a copy of. A store has no registries: the parts
        before the name (`wandb-registry-NAME/…`) are not kept.
        """
        if self._version is None:
            self.save()
        source = self.source_artifact._logged("link")
        return Artifact._of(source.copy(local(target_path, None), aliases=moved(list(aliases or []))))

    def unlink(self) -> None:
        if not self.is_link:
            raise ValueError(
                f"Artifact {self.name!r} is not a linked artifact and cannot be unlinked.  "
                "To delete it, use 'delete' instead."
            )
        self.delete(delete_aliases=True)

    def delete(self, delete_aliases: bool = False) -> None:
        """Removes the version. Refused while an alias other than `latest` names it, unless `delete_aliases`."""
        version = self._logged("version to delete")
        for alias in version.aliases if delete_aliases else []:
            if alias != "latest":
                version.remove_alias(alias)
        version.delete()
        self._is_deleted = True

    def json_encode(self) -> dict[str, Any]:
        version = self._logged("json")
        return {
            "_type": "artifactVersion",
            "_version": "v0",
            "id": self.id,
            "version": version.version,
            "sequenceName": version.name,
            "usedAs": None,
        }

    def __repr__(self) -> str:
        return f"<Artifact {self.name}>"


def _name_by_content(name: str, local_path: _Path) -> str:
    """With the content's MD5 in place of the first part of the base name: equal content has one name."""
    directory, base = os.path.split(name)
    with open(local_path, "rb") as file:
        digest = hashlib.md5(usedforsecurity=False)
        while data := file.read(1 << 20):
            digest.update(data)
    return os.path.join(directory, ".".join([digest.hexdigest()[:20], *base.split(".")[1:]]))
