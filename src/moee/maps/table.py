"""The map as a Parquet table that embedding-atlas opens, and everything else that reads Parquet.

embedding-atlas takes the places by the names of their columns, and neighbours as `{ids, distances}` where an id is the
number of a row: `embedding-atlas map.parquet --text text --x x --y y --neighbors neighbors`.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from moee.errors import MissingExtraError
from moee.files.atomic import atomic_file
from moee.maps.pipeline import MadeMap
from moee.stores.store import FieldType, Record

COLUMNS = ("id", "text", "x", "y", "topic", "label", "neighbors", "vector")
"""Columns besides the fields of the index; a field of one of these names is called `field_NAME`."""


def write_table(made: MadeMap, fields: Mapping[str, FieldType], path: Path) -> None:
    """Write a map with its vectors and fields.

    Raises:
        MissingExtraError: If pyarrow is not installed.
        OutputError: If it cannot be written; an older file of that name is left as it was.
    """
    pa, parquet = check_table()
    corpus_map, records = made.corpus_map, made.points.records
    labels = {topic.topic: topic.label for topic in corpus_map.topics}
    columns = {
        "id": pa.array(corpus_map.ids, type=pa.string()),
        "text": pa.array([record.text for record in records], type=pa.string()),
        "x": pa.array(corpus_map.x),
        "y": pa.array(corpus_map.y),
        "topic": pa.array(corpus_map.topic),
        "label": pa.array([labels.get(int(topic)) for topic in corpus_map.topic], type=pa.string()),
    }
    for name, kind in fields.items():
        columns[_column_of(name, columns)] = _field(pa, records, name, kind)
    columns["neighbors"] = _neighbours(pa, made)
    flat = pa.array(np.ascontiguousarray(made.points.vectors).reshape(-1))
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, made.points.vectors.shape[1])
    table = pa.table(columns).replace_schema_metadata({"moee_map": json.dumps(asdict(corpus_map.origin))})
    with atomic_file(path) as temporary:
        parquet.write_table(table, temporary)


def check_table() -> tuple[Any, Any]:
    """Return `pyarrow` and `pyarrow.parquet`; untyped upstream."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "the table of a map", "map") from error
    return pa, parquet


def _column_of(field: str, taken: Container[str]) -> str:
    name = field
    while name in COLUMNS or name in taken:
        name = f"field_{name}"
    return name


def _field(pa: Any, records: Sequence[Record], name: str, kind: FieldType) -> Any:
    types = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
    return pa.array([record.fields.get(name) for record in records], type=types[kind])


def _neighbours(pa: Any, made: MadeMap) -> Any:
    """Return a column of `{ids, distances}`, a text itself left out."""
    rows, distances = made.neighbours.rows[:, 1:], made.neighbours.distances[:, 1:]
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1])
    ids, lengths = pa.array(rows.reshape(-1)), pa.array(distances.reshape(-1))
    lists = [pa.ListArray.from_arrays(offsets, each) for each in (ids, lengths)]
    return pa.StructArray.from_arrays(lists, ["ids", "distances"])
