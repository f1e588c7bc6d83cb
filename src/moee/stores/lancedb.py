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

from moee.errors import MissingExtraError, MoEEError, OutputError, StoreError
from moee.stores.base import Store, chunks, new_folder, not_written
from moee.stores.filters import INTEGERS, Dialect, Filter, quoted
from moee.stores.fulltext import Found, stored_terms
from moee.stores.locking import WriterLock
from moee.stores.quantize import Codec
from moee.stores.records import columns_of, describe_layout
from moee.stores.store import Candidates, Layout, Record, Value
from moee.types import Array

INDEXED_FROM = 1000
"""Records from which an approximate index is built; fewer are searched exactly in no time."""
REFINE_FACTOR = 4
"""Candidates of the approximate index for each record asked for, scored with the stored vectors."""

_TABLE = "records"
_LAYOUT_KEY = b"moee"
_TERMS = "_terms"  # no field's column begins so
_CHUNK = 1000
_NUM_ATTEMPTS = 5
# What lancedb raises for trouble of its own and of the disk; it has no classes for them.
_ERRORS = (OSError, RuntimeError, ValueError)


def _literal(value: Value) -> str:
    """Return a value as a literal of DataFusion's SQL, which LanceDB filters are written in."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return quoted(value, "'")
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if value == INTEGERS[0]:
        return f"({INTEGERS[1]} - 1)"  # read as a negated literal, it would not fit
    return repr(value)


class LanceStore(Store):
    """Records in a LanceDB table; see `moee.stores.base.Store`.

    Any number of processes may search while one writes: each call sees the last whole commit.
    """

    dialect = Dialect(placeholder=None, quote=lambda name: quoted(name, "`"), literal=_literal)

    @staticmethod
    def _make(place: Path, layout: Layout, codec: Codec | None, *, approximate: bool) -> None:
        lancedb = _import_lancedb()
        with new_folder(place) as temporary:
            try:
                table = lancedb.connect(str(temporary)).create_table(_TABLE, schema=_schema(layout))
                if layout.hybrid:
                    table.create_index(_TERMS, config=_full_text())
            except _ERRORS as error:
                raise OutputError(f"Cannot write the index in {str(place)!r}: {error}.") from error

    def _open(self, place: Path) -> None:
        lancedb = _import_lancedb()
        if not (place / f"{_TABLE}.lance").is_dir():
            raise StoreError(f"There is no store in {str(place)!r}: {_TABLE}.lance is missing.")
        self._folder = place
        self._lock = WriterLock(place / "writer.lock")
        with self._reading():
            # the interval is how old a view of the table may be: none of another process's commits is missed
            self._database = lancedb.connect(str(place), read_consistency_interval=timedelta(0))
            self._table = self._database.open_table(_TABLE)
            found = (self._table.schema.metadata or {}).get(_LAYOUT_KEY, b"").decode()
        if found != describe_layout(self.layout):
            raise StoreError(
                f"The store in {str(place)!r} has the layout {found}, but {describe_layout(self.layout)} was expected. "
                "The folder does not belong to this index."
            )

    def __len__(self) -> int:
        return int(self._read(self._table.count_rows))

    def _write(self, records: Sequence[Record], vectors: Array) -> None:
        import pyarrow as pa

        columns: dict[str, Any] = {
            "id": [record.id for record in records],
            "text": [record.text for record in records],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.layout.dim),
        }
        if self.layout.hybrid:
            columns[_TERMS] = [stored_terms(record.text) for record in records]
        for name, column in self._columns.items():
            columns[column] = [record.fields[name] for record in records]
        schema = _schema(self.layout)
        batch = pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
        with self._writing():
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(batch)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete records, in one commit; return how many there were."""
        with self._writing():
            return int(self._table.delete(_is_one_of(ids)).num_deleted_rows) if ids else 0

    def texts_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the text of every one of `ids` that is stored."""
        found: dict[str, str] = {}
        for chunk in chunks(ids, _CHUNK):
            query = self._table.search().where(_is_one_of(chunk)).select(["id", "text"])
            table = self._read(query.to_arrow)
            found |= zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)
        return found

    def fetch(self, ids: Sequence[str]) -> Candidates:
        """Return those of `ids` that are stored, in that order, with their vectors."""
        records: list[Record] = []
        vectors = [np.empty((0, self.layout.dim), np.float32)]
        for chunk in chunks(ids, _CHUNK):
            found = self._candidates(self._read(self._table.search().where(_is_one_of(chunk)).to_arrow))
            records += found.records
            vectors.append(found.vectors)
        positions = {record.id: position for position, record in enumerate(records)}
        order = [positions[name] for name in dict.fromkeys(ids) if name in positions]
        return Candidates([records[position] for position in order], np.concatenate(vectors)[order])

    def _search(self, vector: Array, k: int, where: Filter | None) -> Candidates:
        query = self._table.search(vector, query_type="vector", vector_column_name="vector")
        query = query.distance_type("dot").limit(k)
        if where is not None:
            query = query.where(where.sql(self.dialect, self._columns)[0], prefilter=True)
        if self._approximate:
            found = self._read(query.refine_factor(REFINE_FACTOR).to_arrow)
            if found.num_rows >= k:  # an approximate index may find fewer than there are
                return self._candidates(found)
        return self._candidates(self._read(query.bypass_vector_index().to_arrow))

    def _search_words(self, terms: Sequence[str], k: int, where: Filter | None) -> Found:
        condition = None if where is None else where.sql(self.dialect, self._columns)[0]
        found = self._match(terms, k, condition)
        return Found(self._candidates(found), found["_score"].to_pylist())

    def _word_scores(self, terms: Sequence[str], ids: Sequence[str]) -> dict[str, float]:
        scores: dict[str, float] = {}
        for chunk in chunks(ids, _CHUNK):
            found = self._match(terms, len(chunk), _is_one_of(chunk))
            scores |= zip(found["id"].to_pylist(), found["_score"].to_pylist(), strict=True)
        return scores

    def _match(self, terms: Sequence[str], k: int, condition: str | None) -> Any:
        """Return rows that hold one of the terms, best first, with their BM25 as `_score`."""

        def run() -> Any:
            query = self._table.search(" ".join(terms), query_type="fts", fts_columns=_TERMS).limit(k)
            return (query if condition is None else query.where(condition, prefilter=True)).to_arrow()

        return self._read(run)

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
            raise not_written(self._folder, error) from error

    def _candidates(self, table: Any) -> Candidates:  # Any: pyarrow ships no types
        names = list(self._columns)
        columns = [table[column].to_pylist() for column in ("id", "text", *self._columns.values())]
        records = [
            Record(key, text, dict(zip(names, values, strict=True)))
            for key, text, *values in zip(*columns, strict=True)
        ]
        chunks = [chunk.flatten().to_numpy() for chunk in table["vector"].chunks]
        values = np.concatenate([np.empty(0, np.float32), *chunks])
        return Candidates(records, values.reshape(-1, self.layout.dim))


def _import_lancedb() -> Any:
    try:
        import lancedb
    except ImportError as error:
        raise MissingExtraError("lancedb", "indexes kept in LanceDB", "lancedb") from error
    return lancedb


def _full_text() -> Any:
    """Return the configuration of an index over terms as they are."""
    from lancedb.index import FTS

    return FTS(
        base_tokenizer="whitespace",
        max_token_length=None,
        lower_case=False,
        stem=False,
        remove_stop_words=False,
        ascii_folding=False,
    )


def _schema(layout: Layout) -> Any:
    import pyarrow as pa

    types = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
    fields = [pa.field("id", pa.string(), nullable=False), pa.field("text", pa.string(), nullable=False)]
    fields += [pa.field(column, types[layout.fields[name]]) for name, column in columns_of(layout.fields).items()]
    if layout.hybrid:
        fields.append(pa.field(_TERMS, pa.string(), nullable=False))
    fields.append(pa.field("vector", pa.list_(pa.float32(), layout.dim), nullable=False))
    return pa.schema(fields, metadata={_LAYOUT_KEY: describe_layout(layout)})


def _is_one_of(ids: Sequence[str]) -> str:
    return f"id IN ({', '.join(map(_literal, ids))})"
