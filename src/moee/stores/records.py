"""What every store checks before it writes or searches, so that all refuse the same things with the same words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from moee.errors import InputError, UnknownNameError, check_choice
from moee.files.text import check_text
from moee.stores.filters import describe_type, is_of_type
from moee.stores.fulltext import TERMS_VERSION
from moee.stores.store import FieldType, Layout, Record, Value, describe_dims
from moee.types import Array

_OWN_COLUMNS = frozenset({"id", "text", "vector", "row"})
# Names with a meaning of their own in one of the databases.
_SYSTEM_COLUMNS = frozenset({"rowid", "oid", "tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
_PLAIN = re.compile(r"[a-z][a-z0-9_]{0,50}")
_NUMBERED = re.compile(r"field_\d+")


def columns_of(fields: Iterable[str]) -> dict[str, str]:
    """Return the column that holds each field, in the order of `fields`.

    A column is called as its field if every database takes the name as it is. Others (`Year`, `page count`, `id`) are
    numbered by the alphabet: a store must find them again, whatever order the fields are given in.
    """
    names = list(fields)
    numbers = {name: number for number, name in enumerate(sorted(names))}
    return {name: name if _is_column(name) else f"field_{numbers[name]}" for name in names}


def _is_column(name: str) -> bool:
    is_taken = name in _OWN_COLUMNS or name in _SYSTEM_COLUMNS or _NUMBERED.fullmatch(name)
    return _PLAIN.fullmatch(name) is not None and not is_taken


def check_layout(layout: Layout) -> None:
    """Refuse blocks of no dimensions, and fields of unknown types."""
    if not layout.dims or min(layout.dims.values()) < 1:
        raise InputError(
            f"The blocks of a stored vector have the dimensions {describe_dims(layout.dims) or '(none)'}; there must "
            "be a block, and each must have 1 or more."
        )
    for name, kind in layout.fields.items():
        check_text(name, "a field's name")
        check_choice("field type", kind, get_args(FieldType))


def describe_layout(layout: Layout) -> str:
    """Return a layout as text, which a store keeps to tell on opening whether it is the one that was meant."""
    fields = dict(sorted(layout.fields.items()))
    if list(layout.dims) == ["hs", "rw"]:
        # as version 0.1 wrote it, so that its stores are known again
        shape: dict[str, Any] = {"fields": fields, "hidden_dim": layout.dims["hs"], "routing_dim": layout.dims["rw"]}
    else:
        shape = {"dims": dict(layout.dims), "fields": fields}
    if layout.hybrid:
        shape["terms"] = TERMS_VERSION
    return json.dumps(shape, ensure_ascii=False)  # blocks stand in the order of a vector


def is_layout(text: str) -> bool:
    """Return whether a text is one that `describe_layout` wrote, of whatever layout."""
    try:
        shape = json.loads(text)
    except json.JSONDecodeError:
        return False
    if not isinstance(shape, dict):
        return False
    return set(shape) - {"terms"} in ({"hidden_dim", "routing_dim", "fields"}, {"dims", "fields"})


def check_batch(layout: Layout, records: Sequence[Record], vectors: Array) -> tuple[list[Record], Array]:
    """Check records and vectors that are to be stored.

    Returns:
        The records with a value for every field (None if missing; numbers as floats), and the vectors as contiguous
        float32.

    Raises:
        InputError: If a field is unknown or of another type, an id comes twice, the shape does not fit, or a vector is
            not finite.
        TextTypeError: If an id or a text is not a string.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.shape != (len(records), layout.dim):
        raise InputError(
            f"The vectors have shape {vectors.shape}; {len(records)} records of this index need "
            f"({len(records)}, {layout.dim}): blocks of the dimensions {describe_dims(layout.dims)}."
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        record = records[int(np.argmin(finite))]
        raise InputError(f"The vector of record {record.id!r} holds NaN or infinity, which cannot be searched.")
    checked = [_check_record(layout, record) for record in records]
    seen: set[str] = set()
    for record in checked:
        if record.id in seen:
            raise InputError(f"The id {record.id!r} comes twice in one call; every record needs its own.")
        seen.add(record.id)
    return checked, vectors


def check_query(layout: Layout, vector: Array, k: int) -> Array:
    """Return the vector of a query as contiguous float32.

    Raises:
        InputError: If it is of another length or not finite, or `k` is not 1 or larger.
    """
    if k < 1:
        raise InputError(f"k is {k}; it must be 1 or larger.")
    vector = np.ascontiguousarray(vector, dtype=np.float32)
    if vector.shape != (layout.dim,):
        raise InputError(f"The query has shape {vector.shape}; this index needs ({layout.dim},).")
    if not np.isfinite(vector).all():
        raise InputError("The query's vector holds NaN or infinity.")
    return vector


def _check_record(layout: Layout, record: Record) -> Record:
    check_text(record.id, "a record's id")
    check_text(record.text, f"the text of record {record.id!r}")
    for name in record.fields:
        if name not in layout.fields:
            raise _unknown_field(layout.fields, name, record)
    values = {name: _check_value(record, name, kind) for name, kind in layout.fields.items()}
    return Record(record.id, record.text, values)


def _unknown_field(fields: Mapping[str, FieldType], name: str, record: Record) -> InputError:
    if not fields:
        return InputError(f"Record {record.id!r} has the field {name!r}, but the index was made without fields.")
    return UnknownNameError("field", name, fields, hint=f"It is in record {record.id!r}.")


def _check_value(record: Record, name: str, kind: FieldType) -> Value:
    value = record.fields.get(name)
    if value is None:
        return None
    if not is_of_type(value, kind):
        raise InputError(
            f"The field {name!r} of record {record.id!r} is {value!r}; it must be {describe_type(kind)}, or missing."
        )
    if isinstance(value, str):
        return check_text(value, f"the field {name!r} of record {record.id!r}")
    # 0.0 for -0.0: DataFusion tells them apart
    return float(value) + 0.0 if kind == "number" else value
