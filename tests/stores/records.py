"""Records and vectors that the tests of stores write."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from moee.method.fusion import split_blocks, unit
from moee.stores.filters import Filter
from moee.stores.store import Candidates, Layout, Query, Record, Value
from moee.types import Array, View

DIMS: dict[View, int] = {"hs": 24, "rw": 7, "tokens": 3}
"""Views of a text, and the lengths of their blocks."""
LAYOUT = Layout(
    DIMS,
    {"year": "integer", "Page count": "number", "lang": "string", "is_draft": "boolean", "id": "string"},
)
"""A field of every type; a name that no database takes as it is, and one that is a store's own."""


def unit_blocks(num_texts: int, seed: int = 0, dims: Mapping[View, int] = DIMS) -> Array:
    """Random stored vectors: unit blocks side by side."""
    rng = np.random.default_rng(seed)
    return np.concatenate([unit(rng.standard_normal((num_texts, dim))) for dim in dims.values()], axis=1)


def query_of(vector: Array, alpha: float = 0.5, dims: Mapping[View, int] = DIMS) -> Query:
    """Ask for what is near a stored vector; `tokens` counts a quarter where it is."""
    weights: dict[View, float] = {"hs": 1.0, "rw": alpha, "tokens": 0.25}
    return Query(split_blocks(vector, dims), {view: weights[view] for view in dims})


def some_records(num_records: int, start: int = 0, edition: int = 0) -> list[Record]:
    """Records with values in most fields."""
    return [
        Record(
            f"id-{number}",
            f"text {number} of edition {edition}",
            {
                "year": 2000 + number % 30 if number % 7 else None,
                "Page count": number / 4,
                "lang": ("en", "de", "日本語")[number % 3],
                "is_draft": number % 2 == 0,
                "id": f"isbn {number}",
            },
        )
        for number in range(start, start + num_records)
    ]


def ids(candidates: Candidates) -> list[str]:
    """The ids of what a store returned."""
    return [record.id for record in candidates.records]


def everything(batches: list[Candidates]) -> dict[str, tuple[Record, Array]]:
    """Every record with its vector, by id."""
    return {
        record.id: (record, vector)
        for batch in batches
        for record, vector in zip(batch.records, batch.vectors, strict=True)
    }


_APPLY: Mapping[str, Callable[..., bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, values: value in values,
    "not in": lambda value, values: value not in values,
}


def is_accepted(condition: Filter, fields: Mapping[str, Value]) -> bool:
    """Whether a record passes a filter, worked out in Python: what every store's SQL must agree with."""
    return _holds(condition.root, fields) is True


def _holds(node: Any, fields: Mapping[str, Value]) -> bool | None:
    """Evaluate in the three values of SQL; None is unknown."""
    kind = type(node).__name__
    if kind == "_Not":
        inner = _holds(node.part, fields)
        return None if inner is None else not inner
    if kind == "_Junction":
        results = {_holds(part, fields) for part in node.parts}
        decisive = node.word == "or"
        if decisive in results:
            return decisive
        return None if None in results else not decisive
    value = fields.get(node.field)
    if kind == "_Missing":
        return (value is None) != node.is_negated
    return None if value is None else _APPLY[node.operator](value, node.value)
