from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from moee.errors import InputError, StoreError
from moee.stores.base import search
from moee.stores.filters import Filter
from moee.stores.flat import FlatStore
from moee.stores.quantize import CODECS, fit_codec
from moee.stores.registry import StoreSpec, create_store, open_store
from moee.stores.store import Layout, Record
from moee.stores.vector_file import COPIED_BYTES
from tests.stores.records import DIMS, LAYOUT, ids, is_accepted, query_of, some_records, unit_blocks

REPOSITORY = Path(__file__).parents[2]
VECTORS = unit_blocks(200)
RECORDS = some_records(200)
ROW_BYTES = 4 * VECTORS.shape[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "flat"


@pytest.fixture
def store(folder: Path) -> Iterator[FlatStore]:
    made = FlatStore.create(folder, LAYOUT)
    made.upsert(RECORDS, VECTORS)
    yield made
    made.close()


def vector_file(folder: Path) -> Path:
    (path,) = folder.glob("vectors-*")
    return path


def test_bytes_behind_the_last_transaction_are_ignored_and_overwritten(store: FlatStore, folder: Path) -> None:
    """What a writer leaves that is killed between its vectors and its transaction."""
    store.close()
    path = vector_file(folder)
    with path.open("ab") as stream:
        stream.write(b"\xff" * (3 * ROW_BYTES + 7))
    again = FlatStore(folder, LAYOUT)
    assert len(again) == 200
    assert len(again.search(VECTORS[0], 1000).records) == 200
    again.upsert([Record("new", "text")], VECTORS[:1])
    assert path.stat().st_size == 201 * ROW_BYTES
    assert np.array_equal(again.fetch(["new"]).vectors, VECTORS[:1])
    again.close()


def test_holes_are_dropped_when_they_are_more_than_half(store: FlatStore, folder: Path) -> None:
    store.delete([f"id-{number}" for number in range(100)])
    assert vector_file(folder).stat().st_size == 200 * ROW_BYTES, "half is not more than half"
    store.delete(["id-100"])
    assert vector_file(folder).stat().st_size == 99 * ROW_BYTES
    found = store.fetch([f"id-{number}" for number in range(200)])
    assert ids(found) == [f"id-{number}" for number in range(101, 200)]
    assert np.array_equal(found.vectors, VECTORS[101:])
    assert search(store, query_of(VECTORS[150]), 1)[0].record == RECORDS[150]


def test_replacing_everything_again_and_again_does_not_grow_the_file(store: FlatStore, folder: Path) -> None:
    for edition in range(1, 8):
        store.upsert(some_records(200, edition=edition), VECTORS)
        assert vector_file(folder).stat().st_size <= 400 * ROW_BYTES
    assert store.texts_of(["id-9"]) == {"id-9": "text 9 of edition 7"}


def test_a_reader_follows_a_compaction(store: FlatStore, folder: Path) -> None:
    reader = FlatStore(folder, LAYOUT)
    batches = reader.scan(batch_size=10)
    assert ids(next(batches))[0] == "id-0"
    store.delete(["id-0"])
    store.compact()
    with pytest.raises(StoreError, match=r"compacted while its records were being read. Read them again"):
        next(batches)
    assert [name for batch in reader.scan(64) for name in ids(batch)] == [f"id-{number}" for number in range(1, 200)]
    assert np.array_equal(reader.fetch(["id-199"]).vectors, VECTORS[199:])
    reader.close()


@pytest.mark.parametrize("name", [None, "int8"])
def test_a_search_over_many_blocks_is_exact_with_any_filter(folder: Path, name: Literal["int8"] | None) -> None:
    num_records, dim = 3 * COPIED_BYTES // 4 // 512 + 17, 512
    vectors = np.random.default_rng(0).standard_normal((num_records, dim)).astype(np.float32)
    codec = None if name is None else fit_codec(name, vectors[:1000], (500, 12))
    store = FlatStore.create(folder, Layout({"hs": 500, "rw": 12}, {"number": "integer", "rest": "integer"}), codec)
    fields = [{"number": number, "rest": number % 100} for number in range(num_records)]
    store.upsert([Record(str(number), "", fields[number]) for number in range(num_records)], vectors)
    store.delete([str(number) for number in range(0, num_records, 7)])
    stored = vectors if codec is None else codec.decode(codec.encode(vectors))
    scores = stored.astype(np.float64) @ vectors[1].astype(np.float64)
    for text in (
        None,
        "rest == 3",
        "rest < 60",
        "number in (1, 5, 16000)",
        f"number > {num_records - 40}",
        "number < 0",
    ):
        condition = None if text is None else Filter.parse(text)
        allowed = [
            number
            for number in range(num_records)
            if number % 7 and (condition is None or is_accepted(condition, fields[number]))
        ]
        expected = sorted(allowed, key=lambda number: -scores[number])[:30]
        assert sorted(ids(store.search(vectors[1], 30, condition))) == sorted(map(str, expected))
    store.close()


@pytest.mark.parametrize("name", CODECS)
def test_codes_are_stored_and_searched_as_what_they_decode_to(name: str, tmp_path: Path) -> None:
    codec = fit_codec(name, VECTORS, DIMS.values())
    decoded = codec.decode(codec.encode(VECTORS))
    store = create_store(StoreSpec("flat"), tmp_path, LAYOUT, codec)
    store.upsert(RECORDS, VECTORS)
    assert vector_file(tmp_path / "flat").stat().st_size == 200 * codec.width < 200 * ROW_BYTES / 3
    store.delete([f"id-{number}" for number in range(120)])  # moves the rest to a new file
    store.close()
    store = open_store(StoreSpec("flat"), tmp_path, LAYOUT, codec)
    assert np.array_equal(store.fetch(["id-130"]).vectors, decoded[130:131])
    query = query_of(VECTORS[130])
    best = np.argsort(-(decoded[120:].astype(np.float64) @ query.vector))[:10] + 120
    assert [hit.record.id for hit in search(store, query, 10)] == [f"id-{row}" for row in best]
    store.close()
    with pytest.raises(StoreError, match=f"has the codec {name}, but None was expected"):
        open_store(StoreSpec("flat"), tmp_path, LAYOUT)


@pytest.mark.parametrize("kind", ["lancedb", "pgvector"])
def test_other_stores_refuse_a_codec(kind: str, tmp_path: Path) -> None:
    spec = StoreSpec("lancedb") if kind == "lancedb" else StoreSpec("pgvector", "postgresql://localhost/nowhere", "t")
    codec = fit_codec("int8", VECTORS, DIMS.values())
    with pytest.raises(InputError, match=rf"'{kind}' keeps float32 vectors alone, not int8.*--dims"):
        create_store(spec, tmp_path, LAYOUT, codec)


def test_a_damaged_store_is_said_to_be_damaged(store: FlatStore, folder: Path) -> None:
    store.close()
    path = vector_file(folder)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(StoreError, match=r"holds 27,199 bytes, but 200 vectors of 136 bytes were stored.*damaged"):
        FlatStore(folder, LAYOUT)
    path.unlink()
    with pytest.raises(StoreError, match=r"Cannot read .*vectors-0.f32.*No such file"):
        FlatStore(folder, LAYOUT)
    path.write_bytes(whole)
    FlatStore(folder, LAYOUT).close()
    (folder / "records.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match=r"Cannot read the index in .*not a database"):
        FlatStore(folder, LAYOUT)


WRITE_WITHOUT_ROOM = """
import json, resource, signal, sys
from pathlib import Path
from moee.errors import OutputError
from moee.stores.flat import FlatStore
from tests.stores.records import LAYOUT, some_records, unit_blocks

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = FlatStore(Path(sys.argv[1]), LAYOUT)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    store.upsert(some_records(2000, start=100), unit_blocks(2000, seed=5))
except OutputError as error:
    print(json.dumps([str(error), len(store), len(store.search(unit_blocks(1)[0], 5000).records)]))
"""


@pytest.mark.parametrize("what", ["vectors", "records"])
def test_a_write_that_the_disk_refuses_changes_nothing(store: FlatStore, folder: Path, what: str) -> None:
    """The limit on a file's size, as a full disk would: first it stops the vectors, then the records behind them."""
    store.close()
    limit = 210 * ROW_BYTES if what == "vectors" else 2300 * ROW_BYTES
    if what == "records":  # make the database the larger file of the two
        path = folder / "records.sqlite"
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("CREATE TABLE filler (content BLOB)")
            database.execute("INSERT INTO filler VALUES (zeroblob(?))", (limit - path.stat().st_size,))
    done = subprocess.run(
        [sys.executable, "-c", WRITE_WITHOUT_ROOM, str(folder), str(limit)],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    message, length, num_found = json.loads(done.stdout)
    assert "Nothing of this call was stored. Check that the folder is writable and the disk has room." in message
    assert (length, num_found) == (200, 200)
    again = FlatStore(folder, LAYOUT)
    assert again.fetch(["id-150"]).records == [RECORDS[150]]
    again.upsert(some_records(2000, start=100), unit_blocks(2000, seed=5))
    assert len(again) == 2100
    again.close()
