"""W&B's `Api` on a store, as far as it concerns artifacts."""

from __future__ import annotations

from typing import Any

from .._cairn import Store, Version
from ..errors import NotFoundError
from ._artifact import Artifact
from ._store import local, open_store
from .errors import UnsupportedError


class Api:
    """W&B's public API, as far as it concerns artifacts."""

    def __init__(self, overrides: dict[str, Any] | None = None, **others: Any) -> None:
        self.store = open_store()

    @classmethod
    def _of(cls, store: Store) -> Api:
        self = cls.__new__(cls)
        self.store = store
        return self

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"Api of cairn.wandb has no {name}: it has what concerns artifacts (docs/python.md)")

    def artifact(self, name: str, type: str | None = None) -> Artifact:
        found = Artifact._of(self.store.version(local(name, None)))
        if type is not None and found.type != type:
            raise ValueError(f"type {type} specified but this artifact is of type {found.type}")
        return found

    def artifacts(
        self,
        type_name: str,
        name: str,
        order: str | None = None,
        per_page: int = 50,
        tags: list[str] | str | None = None,
        start: str | None = None,
    ) -> list[Artifact]:
        """The versions of an artifact, newest first; with `order="+createdAt"` oldest first."""
        versions = self.store.versions(local(name, None))
        found = [Artifact._of(v) for v in versions if v.type == type_name]
        wanted = {tags} if isinstance(tags, str) else set(tags or ())
        ordered = found if order and not order.startswith("-") else list(reversed(found))
        return [artifact for artifact in ordered if wanted <= set(artifact.tags)]

    artifact_versions = artifacts

    def artifact_types(self, project: str | None = None) -> list[ArtifactType]:
        """The types of the artifacts, sorted."""
        found: dict[str, list[str]] = {}
        for name in self.store.artifacts():
            versions = self.store.versions(name)
            if versions:
                found.setdefault(versions[-1].type, []).append(name)
        return [ArtifactType(self, type_name, found[type_name]) for type_name in sorted(found)]

    def artifact_type(self, type_name: str, project: str | None = None) -> ArtifactType:
        for found in self.artifact_types():
            if found.name == type_name:
                return found
        raise NotFoundError(f"no artifact has the type {type_name}")

    def artifact_collection(self, type_name: str, name: str) -> ArtifactCollection:
        artifact = self.artifact(f"{local(name, None)}:latest")
        if artifact.type != type_name:
            raise NotFoundError(f"{name} is of the type {artifact.type}, not {type_name}")
        return ArtifactCollection(self, artifact._logged("collection").name, type_name)

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

    def run(self, path: str) -> LoggedRun:
        """A run that logged or used an artifact, by `[[ENTITY/]PROJECT/]ID`."""
        found = LoggedRun(self.store, path.rpartition("/")[2])
        if not found.logged_artifacts() and not found.used_artifacts():
            raise NotFoundError(f"Could not find run {path}: no artifact was logged or used by it")
        return found


class ArtifactType:
    """A type, and the artifacts that have it."""

    def __init__(self, api: Api, name: str, names: list[str]) -> None:
        self._api, self.name, self._names = api, name, names

    def collections(self) -> list[ArtifactCollection]:
        return [ArtifactCollection(self._api, name, self.name) for name in self._names]

    def collection(self, name: str) -> ArtifactCollection:
        return self._api.artifact_collection(self.name, name)


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

    @property
    def created_at(self) -> str:
        """When the oldest version was made."""
        return self._api.store.versions(self.name)[0].created_at

    def is_sequence(self) -> bool:
        return True

    def delete(self) -> None:
        """Removes all versions and their aliases."""
        for artifact in self.artifacts():
            artifact.delete(delete_aliases=True)

    def change_type(self, new_type: str) -> None:
        raise UnsupportedError(
            f"the type of {self.name} does not change", hint="`cairn copy NAME:V NEWNAME --type TYPE` makes another artifact"
        )


class LoggedRun:
    """A run that is known by what it logged and used: W&B's public `Run`, as far as it concerns artifacts."""

    def __init__(self, store: Store, id: str) -> None:
        self._store, self.id = store, id

    def _versions(self) -> list[Version]:
        return [version for name in self._store.artifacts() for version in self._store.versions(name)]

    def logged_artifacts(self, per_page: int = 100) -> list[Artifact]:
        """All versions of the store are looked at."""
        return [Artifact._of(version) for version in self._versions() if self.id in version.made_by()]

    def used_artifacts(self, per_page: int = 100) -> list[Artifact]:
        return [Artifact._of(version) for version in self._versions() if self.id in version.used_by()]

    def _about(self, key: str) -> Any:
        """What `init` was given, as the metadata of an artifact that the run logged first has it."""
        for version in self._versions():
            about = version.metadata.get("wandb") if version.run_id == self.id else None
            if isinstance(about, dict) and key in about:
                return about[key]
        return None

    @property
    def name(self) -> str:
        return self._about("name") or self.id

    @property
    def entity(self) -> str | None:
        return self._about("entity")

    @property
    def project(self) -> str | None:
        return self._about("project")

    @property
    def config(self) -> dict[str, Any]:
        return self._about("config") or {}

    @property
    def summary(self) -> dict[str, Any]:
        return self._about("summary") or {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoggedRun) and (self.id, self._store.root) == (other.id, other._store.root)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Run {self.id}>"
