"""W&B's artifact calls on a store of cairn: `import cairn.wandb as wandb`.

Scripts that log and use artifacts run with only the import changed. The store is the one that CAIRN_STORE names, else
the nearest `.cairn`; if there is none, `.cairn` is made in the working directory.

Names have W&B's form `[ENTITY/[PROJECT/]]NAME[:ALIAS]`; one store has one name space, so an entity or project that
differs from that of `init` is an error. What needs W&B's server (curves, reports, sweeps) is not here: `Run.log` and
`Run.config` are kept in the metadata of the artifacts that the run logs.
"""

from __future__ import annotations

from typing import Any

from .._attach import AttachedRun, attach
from .._cairn import Classes
from .._import import import_artifacts
from . import errors
from ._api import Api
from ._artifact import Artifact, ArtifactTTL
from ._objects import Html, Image, Table
from ._run import Run
from ._store import warn_once
from .errors import CommError, Error, UsageError

__all__ = [
    "Api",
    "Artifact",
    "ArtifactTTL",
    "AttachedRun",
    "Classes",
    "CommError",
    "Error",
    "Html",
    "Image",
    "Run",
    "Table",
    "UsageError",
    "attach",
    "errors",
    "finish",
    "finish_artifact",
    "import_artifacts",
    "init",
    "link_model",
    "log",
    "log_artifact",
    "log_code",
    "log_model",
    "login",
    "run",
    "upsert_artifact",
    "use_artifact",
    "use_model",
]

# Arguments of W&B's init without a meaning here. `dir` is one, too: a run writes no files.
_IGNORED = set(
    "allow_val_change anonymous config_exclude_keys config_include_keys force fork_from magic mode monitor_gym reinit "
    "resume resume_from save_code settings sync_tensorboard tensorboard".split()
)

run: Run | None = None
"""The run that `init` began last."""


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
    """Begins a run. Other arguments of W&B's concern its server; that they are ignored is said once."""
    if unknown := sorted(others.keys() - _IGNORED):
        raise TypeError(f"init() got an unexpected keyword argument {unknown[0]!r}")
    if ignored := sorted(name for name, value in others.items() if value is not None):
        warn_once(f"init ignores what only W&B's server has: {', '.join(ignored)}")
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


def link_model(*args: Any, **named: Any) -> Artifact:
    return _current().link_model(*args, **named)


def log_code(*args: Any, **named: Any) -> Artifact | None:
    return _current().log_code(*args, **named)


def upsert_artifact(*args: Any, **named: Any) -> Artifact:
    return _current().upsert_artifact(*args, **named)


def finish_artifact(*args: Any, **named: Any) -> Artifact:
    return _current().finish_artifact(*args, **named)


def log_artifact(*args: Any, **named: Any) -> Artifact:
    return _current().log_artifact(*args, **named)


def use_artifact(*args: Any, **named: Any) -> Artifact:
    return _current().use_artifact(*args, **named)
