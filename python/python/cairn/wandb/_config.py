"""The configuration and the summary of a run."""

from __future__ import annotations

from typing import Any


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


def plain(value: Any) -> Any:
    """A value as JSON can have it: numbers of NumPy and tensors as Python's, what JSON cannot have as a text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)
