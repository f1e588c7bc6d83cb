"""The table of a map: every column, and what embedding-atlas asks of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from moee.errors import MissingExtraError, OutputError
from moee.index.map_file import CorpusMap, MapOrigin
from moee.maps.layout import nearest
from moee.maps.pipeline import MadeMap
from moee.maps.points import Points
from moee.maps.table import write_table
from moee.maps.topics import describe_topics
from moee.method.fusion import unit
from moee.stores.store import FieldType, Record

FIELDS: dict[str, FieldType] = {"year": "integer", "x": "number", "is_draft": "boolean", "field_x": "string"}


def made() -> MadeMap:
    rng = np.random.default_rng(0)
    records = [
        Record(f"id{number}", "ein Text " * 100, {"year": number, "x": number / 2, "is_draft": None, "field_x": "é"})
        for number in range(8)
    ]
    vectors = unit(rng.standard_normal((8, 6)))
    places = rng.standard_normal((8, 2)).astype(np.float32)
    groups = np.array([0, 0, 0, 0, 0, 1, 1, -1])
    corpus_map = CorpusMap(
        ids=[record.id for record in records],
        texts=[record.text[:200] for record in records],
        x=places[:, 0],
        y=places[:, 1],
        topic=groups,
        topics=describe_topics([record.text for record in records], places, groups),
        origin=MapOrigin(8, "state", {"hs": 1.0, "rw": 0.5}, 0),
    )
    return MadeMap(Points(records, vectors, 8, {"hs": 1.0, "rw": 0.5}), nearest(vectors, 4), corpus_map)


def test_the_table_has_places_topics_fields_neighbours_and_vectors(tmp_path: Path) -> None:
    expected = made()
    write_table(expected, FIELDS, tmp_path / "map.parquet")
    table = pq.read_table(tmp_path / "map.parquet")
    assert table.column_names == [
        *("id", "text", "x", "y", "topic", "label"),
        *("year", "field_x", "is_draft", "field_field_x"),  # an index may have fields of any name
        *("neighbors", "vector"),
    ]
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == expected.corpus_map.ids
    assert rows[0]["text"] == "ein Text " * 100  # the whole, not the part that is shown
    np.testing.assert_array_equal([row["x"] for row in rows], expected.corpus_map.x)
    assert [row["topic"] for row in rows] == expected.corpus_map.topic.tolist()
    assert [row["label"] for row in rows] == [*["ein, text"] * 7, None]
    assert (rows[3]["year"], rows[3]["field_x"], rows[3]["is_draft"], rows[3]["field_field_x"]) == (3, 1.5, None, "é")
    np.testing.assert_array_equal([row["vector"] for row in rows], expected.points.vectors)
    assert json.loads(table.schema.metadata[b"moee_map"])["num_records"] == 8


def test_neighbours_are_numbers_of_rows_without_the_row_itself(tmp_path: Path) -> None:
    expected = made()
    write_table(expected, FIELDS, tmp_path / "map.parquet")
    rows = pq.read_table(tmp_path / "map.parquet").to_pylist()
    vectors = expected.points.vectors
    for number, row in enumerate(rows):
        assert set(row["neighbors"]) == {"ids", "distances"}
        assert len(row["neighbors"]["ids"]) == 3
        assert number not in row["neighbors"]["ids"]
        for other, distance in zip(row["neighbors"]["ids"], row["neighbors"]["distances"], strict=True):
            assert distance == pytest.approx(1 - float(vectors[number] @ vectors[other]), abs=1e-6)


def test_a_table_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="Cannot write"):
        write_table(made(), FIELDS, tmp_path / "missing" / "map.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'moee\[map\]'"):
        write_table(made(), FIELDS, tmp_path / "map.parquet")
    assert list(tmp_path.iterdir()) == []
