"""Tables, images and pages with the arguments that W&B's classes take. What they make are `cairn`'s own objects."""

from __future__ import annotations

import io
import os
from typing import Any

import cairn

from .._cairn import Classes


class _Makes(type):
    """A class whose instances are those of another, `made`, which cannot be subclassed."""

    made: type

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.made)


class Table(metaclass=_Makes):
    """`wandb.Table`: of rows, an array or a DataFrame."""

    made = cairn.Table

    def __new__(  # type: ignore[misc]
        cls,
        columns: list[str] | None = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        dtype: Any = None,
        optional: Any = True,
        allow_mixed_types: bool = False,
        log_mode: str | None = None,
    ) -> cairn.Table:
        data = rows if data is None else data
        if dataframe is None and hasattr(data, "iloc"):
            dataframe = data
        if dataframe is not None:
            columns = [str(column) for column in dataframe.columns]
            data = [[_scalar(cell) for cell in row] for row in dataframe.itertuples(index=False, name=None)]
        elif columns is None:
            columns = ["Input", "Output", "Expected"]
        rows = [list(row) for row in data] if data is not None else []
        return cairn.Table([str(column) for column in columns], rows, mixed=allow_mixed_types)


def _scalar(cell: Any) -> Any:
    """A cell of a DataFrame: pandas has two values of its own for what is missing."""
    return None if type(cell).__name__ in ("NAType", "NaTType") else cell


class Image(metaclass=_Makes):
    """`wandb.Image`: of a path, an array, a tensor, a PIL image or a figure of matplotlib."""

    made = cairn.Image

    def __new__(  # type: ignore[misc]
        cls,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        grouping: int | None = None,
        classes: Any = None,
        boxes: dict[str, dict[str, Any]] | None = None,
        masks: dict[str, dict[str, Any]] | None = None,
        file_type: str | None = None,
        normalize: bool = True,
    ) -> cairn.Image:
        if isinstance(data_or_path, cairn.Image):
            data_or_path = data_or_path.bytes()
        if hasattr(data_or_path, "savefig"):
            shown = io.BytesIO()
            data_or_path.savefig(shown, format="png")
            data_or_path = shown.getvalue()
        if mode is not None and hasattr(data_or_path, "convert"):
            data_or_path = data_or_path.convert(mode)
        if classes is not None and not isinstance(classes, Classes):
            classes = Classes(classes)
        return cairn.Image(
            data_or_path, caption, classes=classes, boxes=boxes or None, masks=masks or None, grouping=grouping
        )


class Html(metaclass=_Makes):
    """`wandb.Html`: of a text, a file that is open, or a path that ends in `.html`. No stylesheet is added."""

    made = cairn.Html

    def __new__(cls, data: Any, inject: bool = True, data_is_not_path: bool = False) -> cairn.Html:  # type: ignore[misc]
        if hasattr(data, "read"):
            data = data.read()
        elif not data_is_not_path and os.fspath(data).endswith(".html"):
            with open(data, encoding="utf-8") as file:
                data = file.read()
        return cairn.Html(data)
