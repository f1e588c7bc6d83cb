"""All known MoE architectures, collected from the files of this folder: one for a family or a way to choose experts.

Adding an architecture is adding a row to one of them (or a new file with a `ROWS` tuple); nothing else changes.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from moee.architectures.spec import ROWS_ATTRIBUTE, Architecture
from moee.errors import UnknownNameError

__all__ = ["Architecture", "all_architectures", "architecture_for", "find_architecture"]


@cache
def all_architectures() -> tuple[Architecture, ...]:
    """Return every row, sorted by its first `model_type`.

    Raises:
        ValueError: If two rows claim the same `model_type`.
    """
    rows: list[Architecture] = []
    for module in pkgutil.iter_modules(__path__):
        if module.name != "spec":
            rows.extend(getattr(importlib.import_module(f"{__name__}.{module.name}"), ROWS_ATTRIBUTE))
    seen: set[str] = set()
    for row in rows:
        for name in (*row.model_types, *row.wrappers):
            if name in seen:
                raise ValueError(f"Two architecture rows claim model_type {name!r}.")
            seen.add(name)
    return tuple(sorted(rows, key=lambda row: row.model_types[0]))


def find_architecture(model_type: str) -> Architecture | None:
    """Return the row that serves `model_type`, as a text model or as a wrapper around one; None if there is none."""
    for row in all_architectures():
        if model_type in row.model_types or model_type in row.wrappers:
            return row
    return None


def architecture_for(model_type: str) -> Architecture:
    """Return the row that serves `model_type`.

    Raises:
        UnknownNameError: If no row does; names close matches.
    """
    row = find_architecture(model_type)
    if row is None:
        known = [name for each in all_architectures() for name in each.model_types]
        raise UnknownNameError("model_type", model_type, known)
    return row
