from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from moee.errors import MissingExtraError, StoreError
from moee.stores.base import search
from moee.stores.filters import Filter
from moee.stores.lancedb import INDEXED_FROM, LanceStore
from moee.stores.registry import StoreSpec, create_store
from moee.stores.store import Layout, Record
from tests.stores.records import LAYOUT, ids, query_of, some_records, unit_blocks

VECTORS = unit_blocks(100)
RECORDS = some_records(100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lancedb"


@pytest.fixture
def store(folder: Path) -> Iterator[LanceStore]:
    made = LanceStore.create(folder, LAYOUT)
    yield made
    made.close()


def test_the_table_is_one_that_others_can_open(store: LanceStore, folder: Path) -> None:
    import lancedb
    import pyarrow as pa

    store.upsert(RECORDS, VECTORS)
    table = lancedb.connect(str(folder)).open_table("records")
    assert {field.name: field.type for field in table.schema} == {
        "id": pa.string(),
        "text": pa.string(),
        "year": pa.int64(),
        "field_0": pa.float64(),
        "lang": pa.string(),
        "is_draft": pa.bool_(),
        "field_1": pa.string(),
        "vector": pa.list_(pa.float32(), 34),
    }
    assert table.count_rows() == 100


def test_compaction_leaves_one_copy_of_everything(store: LanceStore, folder: Path) -> None:
    for edition in range(5):
        store.upsert(some_records(100, edition=edition), VECTORS)
    files = list((folder / "records.lance" / "data").iterdir())
    store.compact()
    assert len(list((folder / "records.lance" / "data").iterdir())) == 1 < len(files)
    assert store.texts_of(["id-9"]) == {"id-9": "text 9 of edition 4"}


def test_a_table_that_vanished_is_said(store: LanceStore, folder: Path) -> None:
    store.upsert(RECORDS, VECTORS)
    for path in (folder / "records.lance" / "data").iterdir():
        path.unlink()
    with pytest.raises(StoreError, match="Cannot read the index in"):
        store.fetch(["id-1"])


def test_an_approximate_index_finds_what_is_near_and_scores_it_exactly(folder: Path) -> None:
    rng = np.random.default_rng(0)
    num_records = INDEXED_FROM + 500
    vectors = unit_blocks(20)[rng.integers(0, 20, num_records)] + 0.05 * rng.standard_normal((num_records, 34))
    vectors = vectors.astype(np.float32)
    records = [Record(str(row), "", {"year": row}) for row in range(num_records)]
    store = LanceStore.create(folder, LAYOUT, approximate=True)
    store.upsert(records[: INDEXED_FROM - 1], vectors[: INDEXED_FROM - 1])
    store.compact()
    assert store._table.list_indices() == [], "few records are searched exactly"
    store.upsert(records[INDEXED_FROM - 1 : -100], vectors[INDEXED_FROM - 1 : -100])
    store.compact()
    (index,) = store._table.list_indices()
    assert (index.index_type, index.columns) == ("IvfHnswSq", ["vector"])
    store.upsert(records[-100:], vectors[-100:])
    for row in (5, num_records - 1):  # in the index, and not yet in it
        query = query_of(vectors[row])
        scores = vectors.astype(np.float64) @ query.vector.astype(np.float64)
        hits = search(store, query, 10)
        assert len({hit.record.id for hit in hits} & {str(row) for row in np.argsort(-scores)[:10]}) >= 9
        for hit in hits:
            assert hit.score == pytest.approx(scores[int(hit.record.id)] / 1.75, abs=1e-6)
    store.compact()
    assert store._table.index_stats(index.name).num_unindexed_rows == 0
    rare = store.search(vectors[0], 10, Filter.parse("year in (1, 2, 3)"))
    assert sorted(ids(rare)) == ["1", "2", "3"], "a filter that leaves few finds them all"
    assert len(store.search(vectors[0], num_records).records) == num_records
    store.close()


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'moee\[lancedb\]'"):
        create_store(StoreSpec("lancedb"), tmp_path, Layout({"hs": 2, "rw": 2}, {}))
