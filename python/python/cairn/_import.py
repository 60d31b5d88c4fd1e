"""Imports artifacts of W&B: `cairn.wandb.import_artifacts`, and the command `cairn-import-wandb`."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cairn

from ._cairn import Run, Store, Version
from .errors import CairnError, DamagedError, UsageError

# W&B's server is asked for this many files at once.
THREADS = 16


class Contents(NamedTuple):
    """What each file is, equal for equal content (None: unknown), and the URIs of references; both by path."""

    files: dict[str, Any]
    references: dict[str, str]


@dataclass
class Source:
    """One version as W&B has it."""

    name: str
    type: str
    origin: str
    """Where it comes from: `ENTITY/PROJECT/NAME:vN`, or a directory."""
    description: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    _contents: Contents | None = None

    def contents(self) -> Contents:
        raise NotImplementedError

    def fetch(self, paths: list[str], scratch: Path) -> Path:
        """Brings the files at these paths, and says below which directory they are."""
        raise NotImplementedError

    def made_by(self) -> dict[str, Any] | None:
        return None

    def used_by(self) -> list[str]:
        return []


def import_artifacts(
    source: Any,
    store: Store | str | os.PathLike[str] | None = None,
    *,
    project: str | None = None,
    names: Iterable[str] = (),
    types: Iterable[str] = (),
    lineage: bool = True,
    report: Callable[[str], object] | None = None,
) -> dict[str, Version]:
    """Imports artifacts of W&B into a store, oldest versions first. Returns the versions by where they come from.

    source: the Api object of the package wandb (with `project="ENTITY/PROJECT"`), or a directory with one directory
    `NAME:vN` for each version, as `artifact.download()` makes them in `artifacts`. Next to a directory, `NAME:vN.json`
    may have `type`, `description`, `metadata`, `aliases`, `tags`, `references` (URIs by path), `run` and `used_by`.

    Only files that the version before does not have are downloaded, and each is compared with its MD5 of W&B. Aliases,
    tags, description, metadata, the run that logged it and the runs that used it come along. A version's metadata says
    where it comes from (`metadata["wandb"]["source"]`); what was imported before is not imported again. Numbers are
    cairn's own: they differ where W&B's have gaps.
    """
    from .wandb._store import open_store

    if not isinstance(store, Store):
        store = open_store() if store is None else Store(store)
    names, types, done = set(names), set(types), {}
    if isinstance(source, (str, os.PathLike)):
        found = _of_directory(Path(source), names, types)
    else:
        found = _of_api(source, project, names, types, lineage)
    previous: tuple[Source, Version] | None = None
    known: dict[str, Version] = {}
    for one in found:
        if any(uri.startswith("cairn://") for uri in one.contents().references.values()):
            continue  # `attach` logged it: its bytes are in a store already
        if previous is None or previous[0].name != one.name:
            previous, known = None, _imported(store, one.name)
        version = known.get(one.origin)
        if version is None:
            version = _save(store, one, previous)
            (report or _ignore)(f"{one.origin} is {version.qualified_name}")
        previous = (one, version)
        done[one.origin] = version
    return done


def _ignore(_: str) -> None:
    pass


def _imported(store: Store, name: str) -> dict[str, Version]:
    versions = store.versions(name) if name in store.artifacts() else []
    found = {_source(version): version for version in versions}
    return {source: version for source, version in found.items() if source}


def _source(version: Version) -> str | None:
    about = version.metadata.get("wandb")
    return about.get("source") if isinstance(about, dict) else None


def _save(store: Store, one: Source, previous: tuple[Source, Version] | None) -> Version:
    """Makes the version: of the one before and what differs, if there is one."""
    contents, has = one.contents(), Contents({}, {})
    if previous is None:
        draft = cairn.Artifact(one.name, one.type)
    else:
        draft, has = previous[1].new_draft(), previous[0].contents()
    for path in (has.files.keys() | has.references.keys()) - (contents.files.keys() | contents.references.keys()):
        draft.remove(path)
    about = one.metadata.get("wandb")
    about = {**(about if isinstance(about, dict) else {}), "source": one.origin, **one.about}
    draft.annotate(one.description, {**one.metadata, "wandb": about}, one.tags)
    for path, uri in contents.references.items():
        if has.references.get(path) != uri:
            draft.add_reference(uri, path, checksum=False)
    new = [path for path, what in contents.files.items() if what is None or has.files.get(path) != what]
    with tempfile.TemporaryDirectory(prefix="cairn-import-") as scratch:
        below = one.fetch(new, Path(scratch))
        for path in new:
            draft.add_file(below / path, path)
        made_by = one.made_by()
        run = made_by and Run(store, made_by["id"], made_by.get("group"), made_by.get("job_type"))
        version = run.log_artifact(draft) if run else draft.save(store)
    _annotate(store, one, version)
    return version


def _annotate(store: Store, one: Source, version: Version) -> None:
    for alias in one.aliases:
        try:
            if alias != "latest":
                version.add_alias(alias)
        except UsageError as e:
            print(f"cairn: warning: {one.origin}: alias {alias!r} is omitted: {e.message}", file=sys.stderr)
    for run in one.used_by():
        Run(store, run).use_artifact(version)


# From W&B's server.


def _of_api(api: Any, project: str | None, names: set[str], types: set[str], lineage: bool) -> Iterator[Source]:
    for kind in api.artifact_types(project):
        if types and kind.name not in types:
            continue
        for collection in kind.collections():
            if names and collection.name not in names:
                continue
            # A portfolio has links to versions of other collections.
            if not names and not getattr(collection, "is_sequence", lambda: True)():
                continue
            for artifact in sorted(collection.artifacts(), key=_number):
                yield _OfApi(artifact, collection.name, lineage)


def _number(artifact: Any) -> int:
    return int(artifact.version.lstrip("v"))


class _OfApi(Source):
    """Asks the server for the manifest and the lineage when they are needed."""

    def __init__(self, artifact: Any, name: str, lineage: bool) -> None:
        about = {"digest": artifact.digest, "created_at": artifact.created_at}
        super().__init__(
            name=name,
            type=artifact.type,
            origin=f"{artifact.entity}/{artifact.project}/{name}:{artifact.version}",
            description=artifact.description,
            metadata=dict(artifact.metadata or {}),
            aliases=list(artifact.aliases),
            tags=list(getattr(artifact, "tags", None) or []),
            about={key: value for key, value in about.items() if value},
        )
        self._artifact, self._lineage = artifact, lineage

    def contents(self) -> Contents:
        if self._contents is None:
            entries = self._artifact.manifest.entries
            # A reference to another artifact is content, which W&B's client downloads.
            far = {p: str(e.ref) for p, e in entries.items() if e.ref and not str(e.ref).startswith("wandb-artifact:")}
            files = {path: (entry.digest, entry.size) for path, entry in entries.items() if path not in far}
            self._contents = Contents(files, far)
        return self._contents

    def fetch(self, paths: list[str], scratch: Path) -> Path:
        return _download(self._artifact.manifest.entries, paths, scratch)

    def made_by(self) -> dict[str, Any] | None:
        run = self._artifact.logged_by() if self._lineage else None
        return None if run is None else _run(run)

    def used_by(self) -> list[str]:
        return [run.id for run in self._artifact.used_by()] if self._lineage else []


def _run(run: Any) -> dict[str, Any]:
    return {"id": run.id, "group": getattr(run, "group", None), "job_type": getattr(run, "job_type", None)}


def _download(entries: dict[str, Any], paths: list[str], root: Path) -> Path:
    def one(path: str) -> None:
        entries[path].download(root=str(root))
        _check(entries[path], root / path)

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(one, paths):
            pass
    return root


def _check(entry: Any, path: Path) -> None:
    """Compares what was downloaded with W&B's digest, if that is an MD5."""
    if entry.ref or len(entry.digest) != 24 or (getattr(entry, "extra", None) or {}).get("alg"):
        return
    with open(path, "rb") as file:
        digest = hashlib.md5(usedforsecurity=False)
        while data := file.read(1 << 20):
            digest.update(data)
    found = base64.b64encode(digest.digest()).decode()
    if found != entry.digest:
        raise DamagedError(f"{entry.path} was downloaded with MD5 {found}, but W&B has {entry.digest}")


# From a directory.


def _of_directory(root: Path, names: set[str], types: set[str]) -> Iterator[Source]:
    """Colons are not allowed on some systems: there W&B's client writes `NAME-vN`."""
    found = []
    for child in root.iterdir():
        matched = re.fullmatch(r"(.+)[:-]v(\d+)", child.name)
        if matched and child.is_dir() and (not names or matched[1] in names):
            found.append((matched[1], int(matched[2]), child))
    if not found:
        raise UsageError(
            f"{root} has no directory NAME:vN of an artifact that is wanted",
            hint="artifact.download() makes such directories in ./artifacts",
        )
    for name, number, directory in sorted(found):
        one = _OfDirectory(name, number, directory)
        if not types or one.type in types:
            yield one


class _OfDirectory(Source):
    """The directory of one version, and the file next to it that describes it."""

    def __init__(self, name: str, number: int, directory: Path) -> None:
        sidecar = directory.with_name(directory.name + ".json")
        self._directory, self._about = directory, json.loads(sidecar.read_text()) if sidecar.exists() else {}
        about = self._about
        super().__init__(
            name=name,
            type=about.get("type", "unspecified"),
            origin=f"{directory.parent.name}/{name}:v{number}",
            description=about.get("description"),
            metadata=dict(about.get("metadata") or {}),
            aliases=list(about.get("aliases", [])),
            tags=list(about.get("tags", [])),
            about={"created_at": about["created_at"]} if "created_at" in about else {},
        )

    def contents(self) -> Contents:
        found = (os.path.join(above, file) for above, _, files in os.walk(self._directory) for file in files)
        files = {os.path.relpath(path, self._directory): None for path in found}
        return Contents(files, dict(self._about.get("references", {})))

    def fetch(self, paths: list[str], scratch: Path) -> Path:
        return self._directory

    def made_by(self) -> dict[str, Any] | None:
        run = self._about.get("run")
        return {"id": run} if isinstance(run, str) else run

    def used_by(self) -> list[str]:
        return list(self._about.get("used_by", []))


# The command.


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="cairn-import-wandb",
        description="Imports artifacts of W&B, with aliases, tags, metadata and lineage. What was imported before is "
        "not imported again, so an interrupted import can be run again.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="ENTITY/PROJECT on W&B's server, which needs the package wandb and a login; or a directory with a "
        "directory NAME:vN for each version",
    )
    parser.add_argument("--store", metavar="DIR", help="the store (default: CAIRN_STORE, else the nearest .cairn)")
    parser.add_argument("--name", action="append", default=[], help="only this artifact; may be given several times")
    parser.add_argument("--type", action="append", default=[], help="only artifacts of this type; several times")
    parser.add_argument("--no-lineage", action="store_true", help="do not record which runs made and used a version")
    given = parser.parse_args(arguments)
    try:
        source: Any = given.source
        if not os.path.isdir(source):
            source = _api(given.source)
        import_artifacts(
            source,
            Store(given.store),
            project=given.source,
            names=given.name,
            types=given.type,
            lineage=not given.no_lineage,
            report=print,
        )
    except CairnError as e:
        print(f"error: import {given.source}: {e}", file=sys.stderr)
        return e.exit_status
    return 0


def _api(source: str) -> Any:
    if source.count("/") != 1 or source.startswith((".", "/")):
        raise UsageError(f"{source} is neither a directory nor ENTITY/PROJECT")
    try:
        import wandb
    except ImportError:
        raise UsageError("the package wandb is not installed", hint="pip install wandb; wandb login") from None
    return wandb.Api()


if __name__ == "__main__":
    sys.exit(main())
