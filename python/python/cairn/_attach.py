"""A run of W&B whose artifacts are in a store of cairn: `cairn.wandb.attach`."""

from __future__ import annotations

import os
from typing import Any

import cairn

from ._cairn import Run as _Run, Store, Version
from .errors import NotFoundError, UsageError

SCHEME = "cairn://"


def reference_of(version: Version) -> str:
    """`cairn://STORE/NAME:vN@DIGEST`, as W&B keeps it."""
    return f"{SCHEME}{version.store.root}/{version.qualified_name}@{version.digest}"


def version_of(uri: str, store: Store) -> Version:
    """The version that such a reference names, if `store` has it with that digest."""
    spec, _, digest = uri.removeprefix(SCHEME).rpartition("@")
    version = store.version(spec.rpartition("/")[2])
    if version.digest != digest:
        raise NotFoundError(
            f"W&B refers to {uri}, but {version.qualified_name} of {store.root} has the digest {version.digest}",
            hint="open the store that W&B refers to: attach(run, store=…)",
        )
    return version


class AttachedRun:
    """A run of W&B, but for its artifacts: their bytes are in `store`, and W&B gets a reference.

    Everything else (`log`, `config`, `summary`, `finish`) is the run's own.
    """

    def __init__(self, run: Any, store: Store) -> None:
        self.wandb_run, self.store = run, store
        self._run = _Run(store, run.id, run.group or None, run.job_type or None)
        self._references: dict[str, Any] = {}  # what W&B got, by version

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wandb_run, name)

    def __enter__(self) -> AttachedRun:
        self.wandb_run.__enter__()
        return self

    def __exit__(self, *failed: Any) -> Any:
        return self.wandb_run.__exit__(*failed)

    def log_artifact(
        self,
        artifact_or_path: Any,
        name: str | None = None,
        type: str | None = None,
        aliases: list[str] | None = None,
        tags: list[str] | None = None,
    ) -> Any:
        """Publishes an artifact of W&B, one of `cairn.wandb`, or a path in the store, and logs a reference to it."""
        draft = self._draft(artifact_or_path, name, type)
        version = self._run.log_artifact(draft, _own(aliases), list(tags or []))
        self._log(version, aliases=aliases, tags=tags)
        return _logged(artifact_or_path, version)

    def _draft(self, given: Any, name: str | None, type: str | None) -> cairn.Artifact:
        return _draft(given, name or f"run-{self._run.id}-{_base_name(given)}", type)

    def _log(self, version: Version, **more: Any) -> None:
        reference = self._references[version.qualified_name] = _reference(version)
        self.wandb_run.log_artifact(reference, **more)

    def upsert_artifact(
        self,
        artifact_or_path: Any,
        name: str | None = None,
        type: str | None = None,
        aliases: list[str] | None = None,
        distributed_id: str | None = None,
    ) -> Any:
        """Contributes to a version that several runs make together. W&B gets a reference when it is finished."""
        draft = self._draft(artifact_or_path, name, type)
        draft.annotate(aliases=_own(aliases))
        self._run.upsert_artifact(draft, distributed_id)
        return artifact_or_path

    def finish_artifact(
        self,
        artifact_or_path: Any,
        name: str | None = None,
        type: str | None = None,
        aliases: list[str] | None = None,
        distributed_id: str | None = None,
    ) -> Any:
        """Makes one version of all contributions, and logs a reference to it."""
        draft = self._draft(artifact_or_path, name, type)
        draft.annotate(aliases=_own(aliases))
        version = self._run.finish_artifact(draft, distributed_id)
        self._log(version, aliases=aliases)
        return _logged(artifact_or_path, version)

    def log_version(self, version: Version, aliases: list[str] | None = None) -> None:
        """Logs a reference to a version that exists in the store."""
        self._log(version, aliases=aliases)

    def link_artifact(self, artifact: Any, target_path: str, aliases: list[str] | None = None) -> Any:
        """Links the reference in W&B, where the registries are. An artifact that is not logged is logged first."""
        from .wandb import Artifact

        if not isinstance(artifact, Artifact) or artifact.is_draft():
            artifact = self.log_artifact(artifact)
        version = artifact._logged("link")
        if version.qualified_name not in self._references:
            self.log_version(version)
        return self.wandb_run.link_artifact(self._references[version.qualified_name], target_path, aliases)

    def use_artifact(
        self, artifact_or_name: Any, type: str | None = None, aliases: Any = None, use_as: str | None = None
    ) -> Any:
        """The version that W&B's reference names. An offline run cannot ask W&B: then the store's own `NAME:ALIAS`."""
        from .wandb import Artifact

        if isinstance(artifact_or_name, Artifact):
            version = artifact_or_name._logged("use")
        elif getattr(self.wandb_run, "offline", False):
            version = self.store.version(str(artifact_or_name).rpartition("/")[2])
        else:
            used = self.wandb_run.use_artifact(artifact_or_name, type=type)
            version = version_of(_uri_in(used), self.store)
        if type is not None and version.type != type:
            raise ValueError(f"Supplied type {type} does not match type {version.type} of artifact {version.name}")
        return Artifact._of(self._run.use_artifact(version))


def attach(run: Any, store: Store | str | os.PathLike[str] | None = None) -> AttachedRun:
    """A run of the real W&B, whose artifacts go to `store` (default: as for `init`) instead of to W&B's server.

        import wandb, cairn.wandb

        with cairn.wandb.attach(wandb.init(project="vision")) as run:
            run.log({"loss": 0.5})                       # a curve, in W&B
            run.log_artifact("weights.pt", name="model", type="model")   # bytes here, a reference in W&B
    """
    from .wandb._store import open_store

    if store is None:
        store = open_store()
    return AttachedRun(run, store if isinstance(store, Store) else Store(store))


def _base_name(given: Any) -> str:
    return os.path.basename(os.path.normpath(given)) if isinstance(given, (str, os.PathLike)) else ""


def _own(aliases: list[str] | None) -> list[str]:
    return [alias for alias in aliases or [] if alias != "latest"]


def _logged(given: Any, version: Version) -> Any:
    """The artifact that was given, if it is one of `cairn.wandb`; else a new one."""
    from .wandb import Artifact

    return given._finish(version) if isinstance(given, Artifact) else Artifact._of(version)


def _draft(given: Any, name: str, type: str | None) -> cairn.Artifact:
    """What is to be saved."""
    from .wandb import Artifact

    if isinstance(given, Artifact):
        draft = given._to_change()
        draft.annotate(given.description, given.metadata or None, given.tags, given.aliases)
        return draft
    if hasattr(given, "manifest"):
        return _draft_of_real(given)
    draft = cairn.Artifact(name, type)
    if os.path.isdir(given):
        draft.add_dir(given)
    else:
        draft.add_file(given)
    return draft


def _draft_of_real(artifact: Any) -> cairn.Artifact:
    """What was added to an artifact of the package wandb, which is not logged yet."""
    draft = cairn.Artifact(artifact.name.split(":")[0], artifact.type, artifact.description, dict(artifact.metadata))
    for path, entry in artifact.manifest.entries.items():
        if entry.local_path:
            draft.add_file(entry.local_path, path)
        elif entry.ref:
            draft.add_reference(str(entry.ref), path, checksum=False)
        else:
            raise UsageError(
                f"{path} of {artifact.name} is only on W&B's server", hint="cairn.wandb.import_artifacts imports it"
            )
    return draft


def _reference(version: Version) -> Any:
    """An artifact of the package wandb that only refers to a version."""
    import wandb

    metadata = {**version.metadata, "cairn": {"store": str(version.store.root), "version": version.qualified_name}}
    artifact = wandb.Artifact(version.name, version.type, version.description, metadata)
    artifact.add_reference(reference_of(version), name=version.name, checksum=False)
    return artifact


def _uri_in(artifact: Any) -> str:
    uris = [entry.ref for entry in artifact.manifest.entries.values() if str(entry.ref).startswith(SCHEME)]
    if len(uris) != 1:
        raise NotFoundError(
            f"{artifact.name} in W&B refers to no version of cairn",
            hint="cairn.wandb.import_artifacts imports what is on W&B's server",
        )
    return str(uris[0])
