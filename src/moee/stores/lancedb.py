"""The embedded store for larger corpora: a Lance table on disk, with typed columns.

A write is one commit of the table, which a kill leaves done or undone. Search reads every vector that passes the filter
unless an approximate index was asked for; what that finds is scored again with the stored vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from moee.errors import InputError, MissingExtraError, MoEEError, OutputError, StoreError
from moee.files.atomic import atomic_folder
from moee.stores.filters import Filter, quote_lance
from moee.stores.locking import WriterLock
from moee.stores.records import check_batch, check_layout, check_query, columns_of, describe_layout
from moee.stores.store import Candidates, Layout, Record
from moee.types import Array

INDEXED_FROM = 1000
"""Records from which an approximate index is built; fewer are searched exactly in no time."""
REFINE_FACTOR = 4
"""Candidates of the approximate index for each record asked for, scored with the stored vectors."""

_TABLE = "records"
_LAYOUT_KEY = b"moee"
_CHUNK = 1000
_NUM_ATTEMPTS = 5
# What lancedb raises for trouble of its own and of the disk; it has no classes for them.
_ERRORS = (OSError, RuntimeError, ValueError)


class LanceStore:
    """Records in a LanceDB table; see `moee.stores.store.Store`.

    Any number of processes may search while one writes: each call sees the last whole commit.
    """

    def __init__(self, folder: Path, layout: Layout, *, approximate: bool = False) -> None:
        """Open the store in `folder`.

        Raises:
            StoreError: If there is none, or it was made with another layout.
            MissingExtraError: If lancedb is not installed.
        """
        lancedb = _import_lancedb()
        if not (folder / f"{_TABLE}.lance").is_dir():
            raise StoreError(f"There is no store in {str(folder)!r}: {_TABLE}.lance is missing.")
        self._folder = folder
        self._layout = layout
        self._approximate = approximate
        self._columns = columns_of(layout.fields)
        self._lock = WriterLock(folder / "writer.lock")
        with self._reading():
            # the interval is how old a view of the table may be: none of another process's commits is missed
            self._database = lancedb.connect(str(folder), read_consistency_interval=timedelta(0))
            self._table = self._database.open_table(_TABLE)
            found = (self._table.schema.metadata or {}).get(_LAYOUT_KEY, b"").decode()
        if found != describe_layout(layout):
            raise StoreError(
                f"The store in {str(folder)!r} has the layout {found}, but {describe_layout(layout)} was expected. "
                "The folder does not belong to this index."
            )

    @classmethod
    def create(cls, folder: Path, layout: Layout, *, approximate: bool = False) -> LanceStore:
        """Make an empty store in a new `folder`.

        Raises:
            InputError: If the folder holds a store already, or the layout cannot be stored.
            OutputError: If it cannot be written.
            MissingExtraError: If lancedb is not installed.
        """
        lancedb = _import_lancedb()
        check_layout(layout)
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{str(folder)!r} is not empty. Open the store that it holds, or choose another folder.")
        with atomic_folder(folder) as temporary:
            try:
                lancedb.connect(str(temporary)).create_table(_TABLE, schema=_schema(layout))
            except _ERRORS as error:
                raise OutputError(f"Cannot write the index in {str(folder)!r}: {error}.") from error
        return cls(folder, layout, approximate=approximate)

    @property
    def layout(self) -> Layout:
        """The shape that the store was made with."""
        return self._layout

    def __len__(self) -> int:
        return int(self._read(self._table.count_rows))

    def upsert(self, records: Sequence[Record], vectors: Array) -> None:
        """Add records, or replace those of a known id, in one commit; see `Store.upsert`."""
        import pyarrow as pa

        checked, vectors = check_batch(self._layout, records, vectors)
        if not checked:
            return
        columns: dict[str, Any] = {
            "id": [record.id for record in checked],
            "text": [record.text for record in checked],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self._layout.dim),
        }
        for name, column in self._columns.items():
            columns[column] = [record.fields[name] for record in checked]
        schema = _schema(self._layout)
        batch = pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
        with self._writing():
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(batch)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete records, in one commit; return how many there were; see `Store.delete`."""
        with self._writing():
            return int(self._table.delete(_is_one_of(ids)).num_deleted_rows) if ids else 0

    def texts_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the text of every one of `ids` that is stored."""
        found: dict[str, str] = {}
        for chunk in _chunks(ids):
            query = self._table.search().where(_is_one_of(chunk)).select(["id", "text"])
            table = self._read(query.to_arrow)
            found |= zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)
        return found

    def fetch(self, ids: Sequence[str]) -> Candidates:
        """Return those of `ids` that are stored, in that order, with their vectors."""
        records: list[Record] = []
        vectors = [np.empty((0, self._layout.dim), np.float32)]
        for chunk in _chunks(ids):
            found = self._candidates(self._read(self._table.search().where(_is_one_of(chunk)).to_arrow))
            records += found.records
            vectors.append(found.vectors)
        positions = {record.id: position for position, record in enumerate(records)}
        order = [positions[name] for name in dict.fromkeys(ids) if name in positions]
        return Candidates([records[position] for position in order], np.concatenate(vectors)[order])

    def search(self, vector: Array, k: int, where: Filter | None = None) -> Candidates:
        """Return the `k` best records; see `Store.search`."""
        vector = check_query(self._layout, vector, k)
        if where is not None:
            where.check(self._layout.fields)
        query = self._table.search(vector, query_type="vector", vector_column_name="vector")
        query = query.distance_type("dot").limit(k)
        if where is not None:
            query = query.where(where.sql("lance", self._columns)[0], prefilter=True)
        if self._approximate:
            found = self._read(query.refine_factor(REFINE_FACTOR).to_arrow)
            if found.num_rows >= k:  # an approximate index may find fewer than there are
                return self._candidates(found)
        return self._candidates(self._read(query.bypass_vector_index().to_arrow))

    def scan(self, batch_size: int = 4096) -> Iterator[Candidates]:
        """Yield all records in the order they lie in, as they are when the scan begins.

        Raises:
            StoreError: If the files that hold them are dropped meanwhile, by `compact`.
        """
        import pyarrow as pa

        with self._reading():
            batches = self._table.search().to_batches(batch_size)
        while True:
            with self._reading():
                batch = next(batches, None)
            if batch is None:
                return
            if batch.num_rows:
                yield self._candidates(pa.Table.from_batches([batch]))

    def compact(self) -> None:
        """Merge the small files that writes leave, drop former versions, and bring an approximate index up to date."""
        with self._writing():
            # The lock is ours, so what no version names is of a killed writer. An age of nothing is warned of, because
            # readers may be at a former version; ours try again with the newest.
            self._table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)
            if self._approximate and self._table.count_rows() >= INDEXED_FROM and not self._table.list_indices():
                from lancedb.index import HnswSq

                self._table.create_index("vector", config=HnswSq(distance_type="dot"))

    def close(self) -> None:
        """Let others write."""
        self._lock.release()

    def _read(self, run: Callable[[], Any]) -> Any:  # Any: lancedb returns values of pyarrow, which ships no types
        """Call `run`; again if the version it looked at was dropped meanwhile, for each call begins with the newest."""
        for attempt in range(1, _NUM_ATTEMPTS + 1):
            try:
                with self._reading():
                    return run()
            except StoreError as error:
                if attempt == _NUM_ATTEMPTS or "Not found" not in str(error):
                    raise
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except MoEEError:
            raise
        except _ERRORS as error:
            raise StoreError(f"Cannot read the index in {str(self._folder)!r}: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._lock.acquire()
        try:
            yield
        except MoEEError:
            raise
        except _ERRORS as error:
            raise OutputError(
                f"Cannot write the index in {str(self._folder)!r}: {error}. Nothing of this call was stored. "
                "Check that the folder is writable and the disk has room."
            ) from error

    def _candidates(self, table: Any) -> Candidates:  # Any: pyarrow ships no types
        names = list(self._columns)
        columns = [table[column].to_pylist() for column in ("id", "text", *self._columns.values())]
        records = [
            Record(key, text, dict(zip(names, values, strict=True)))
            for key, text, *values in zip(*columns, strict=True)
        ]
        chunks = [chunk.flatten().to_numpy() for chunk in table["vector"].chunks]
        values = np.concatenate([np.empty(0, np.float32), *chunks])
        return Candidates(records, values.reshape(-1, self._layout.dim))


def _import_lancedb() -> Any:
    try:
        import lancedb
    except ImportError as error:
        raise MissingExtraError("lancedb", "indexes kept in LanceDB", "lancedb") from error
    return lancedb


def _schema(layout: Layout) -> Any:
    import pyarrow as pa

    types = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
    fields = [pa.field("id", pa.string(), nullable=False), pa.field("text", pa.string(), nullable=False)]
    fields += [pa.field(column, types[layout.fields[name]]) for name, column in columns_of(layout.fields).items()]
    fields.append(pa.field("vector", pa.list_(pa.float32(), layout.dim), nullable=False))
    return pa.schema(fields, metadata={_LAYOUT_KEY: describe_layout(layout)})


def _is_one_of(ids: Sequence[str]) -> str:
    return f"id IN ({', '.join(map(quote_lance, ids))})"


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]
