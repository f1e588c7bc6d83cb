"""The store in a PostgreSQL database with the vector extension: a table for each index, with typed columns.

Vectors are kept in float32, and searched by reading all that pass the filter, unless an approximate index (HNSW) was
asked for. That index holds half precision above the length it takes in full; what it finds is scored again with the
stored vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar, cast

import numpy as np

from moee.errors import InputError, MoEEError, OutputError, StoreError
from moee.stores import postgres_words
from moee.stores.base import Store
from moee.stores.filters import Dialect, Filter, quoted
from moee.stores.fulltext import Found
from moee.stores.postgres import (
    LOCK_CLASS,
    LOCK_KEY,
    MAX_INDEXED_DIM,
    Table,
    check_dim,
    check_table,
    connect,
    create_table,
    literal,
    reason,
)
from moee.stores.quantize import Codec
from moee.stores.records import describe_layout
from moee.stores.store import Candidates, Layout, Record
from moee.types import Array

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composed

REFINE_FACTOR = 4
"""Candidates of the approximate index for each record asked for, scored with the stored vectors."""

# A killed writer's connection takes a moment to be noticed.
_LOCK_TIMEOUT_MS = 1000
_MAX_EF_SEARCH = 1000

_Result = TypeVar("_Result")


class PgVectorStore(Store):
    """Records in a table of a PostgreSQL database; see `moee.stores.base.Store`.

    A connection that was lost is opened again: at once when reading, at the next call when writing.
    """

    dialect = Dialect(placeholder="%s", quote=lambda name: quoted(name).replace("%", "%%"))
    url_prefixes = ("postgresql://", "postgres://")

    @staticmethod
    def _make(place: Table, layout: Layout, codec: Codec | None, *, approximate: bool) -> None:
        check_table(place.name, layout, approximate=approximate)
        with connect(place, make_extension=True) as connection:
            create_table(connection, place, layout)

    def _open(self, place: Table) -> None:
        self._table = place
        self._is_writer = False
        self._connection = connect(place)
        try:
            self._read(self._check_table)
        except BaseException:
            self._connection.close()
            raise

    def __len__(self) -> int:
        query = self._sql("SELECT count(*) FROM {table}")
        ((count,),) = self._read(lambda cursor: cursor.execute(query).fetchall())
        return int(count)

    def _write(self, records: Sequence[Record], vectors: Array) -> None:
        for record in records:
            _refuse_nul(record)
        from psycopg.sql import SQL, Identifier, Placeholder

        names = [
            "id",
            "text",
            "vector",
            *self._columns.values(),
            *(postgres_words.COLUMNS if self.layout.hybrid else ()),
        ]
        values = [Placeholder(format=cast("Any", "b" if name == "vector" else "s")) for name in names]
        statement = self._sql(
            "INSERT INTO {table} ({names}) VALUES ({values}) ON CONFLICT (id) DO UPDATE SET {updates}",
            names=SQL(", ").join(map(Identifier, names)),
            values=SQL(", ").join(values),
            updates=SQL(", ").join(SQL("{0} = excluded.{0}").format(Identifier(name)) for name in names[1:]),
        )
        rows = (
            (record.id, record.text, vector, *record.fields.values(), *self._kept_words(record))
            for record, vector in zip(records, vectors, strict=True)
        )
        with self._writing() as cursor:
            cursor.executemany(statement, rows)

    def _kept_words(self, record: Record) -> tuple[Any, ...]:
        return postgres_words.values_of(record.text) if self.layout.hybrid else ()

    def _search_words(self, terms: Sequence[str], k: int, where: Filter | None) -> Found:
        condition, values = (None, list[Any]()) if where is None else where.sql(self.dialect, self._columns)

        def run(cursor: psycopg.Cursor[Any]) -> dict[str, float]:
            return postgres_words.search(cursor, self._table.name, terms, k, condition, values)

        scores = self._read(run)
        return Found(self.fetch(list(scores)), list(scores.values()))

    def _word_scores(self, terms: Sequence[str], ids: Sequence[str]) -> dict[str, float]:
        names = _without_nul(ids)
        return self._read(lambda cursor: postgres_words.scores(cursor, self._table.name, terms, names))

    def delete(self, ids: Sequence[str]) -> int:
        """Delete records, in one transaction; return how many there were."""
        with self._writing() as cursor:
            return cursor.execute(self._sql("DELETE FROM {table} WHERE id = ANY(%s)"), [_without_nul(ids)]).rowcount

    def texts_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the text of every one of `ids` that is stored."""
        query = self._sql("SELECT id, text FROM {table} WHERE id = ANY(%s)")
        return self._read(lambda cursor: dict(cursor.execute(query, [_without_nul(ids)]).fetchall()))

    def fetch(self, ids: Sequence[str]) -> Candidates:
        """Return those of `ids` that are stored, in that order, with their vectors."""
        query = self._sql("SELECT {columns} FROM {table} WHERE id = ANY(%s) ORDER BY array_position(%s, id)")
        names = _without_nul(ids)
        return self._select(query, [names, names])

    def _search(self, vector: Array, k: int, where: Filter | None) -> Candidates:
        condition, values = ("TRUE", list[Any]()) if where is None else where.sql(self.dialect, self._columns)
        if self._approximate:
            found = self._read(lambda cursor: self._search_index(cursor, vector, k, condition, values))
            if len(found.records) >= k:  # an approximate index may find fewer than there are
                return found
        return self._read(lambda cursor: self._search_all(cursor, vector, k, condition, values))

    def scan(self, batch_size: int = 4096) -> Iterator[Candidates]:
        """Yield all records in the order of their ids, in batches; each batch is as the table is by then."""
        query = self._sql("SELECT {columns} FROM {table} WHERE %s OR id > %s ORDER BY id LIMIT %s")
        page: list[Any] = [True, "", batch_size]
        while True:
            batch = self._select(query, page)
            if not batch.records:
                return
            page = [False, batch.records[-1].id, batch_size]
            yield batch

    def compact(self) -> None:
        """Build the approximate index if one was asked for, drop dead rows, and bring the planner's statistics up."""
        if self._approximate:
            check_dim(self.layout.dim, approximate=True)
            with self._writing() as cursor:
                cursor.execute(
                    self._sql(
                        "CREATE INDEX IF NOT EXISTS {index} ON {table} USING hnsw (({key}) {operators})",
                        operators=literal(f"{self._key_type}_ip_ops"),
                    )
                )
        with self._writing(in_transaction=False) as cursor:
            cursor.execute(self._sql("VACUUM (ANALYZE) {table}"))

    def close(self) -> None:
        """Close the connection, which lets others write."""
        self._connection.close()

    @property
    def _key_type(self) -> str:
        return "vector" if self.layout.dim <= MAX_INDEXED_DIM else "halfvec"

    def _sql(self, text: LiteralString, **parts: Any) -> Composed:
        """Compose a statement; names are quoted, and `{key}` is what the approximate index holds."""
        from psycopg.sql import SQL, Identifier

        names = ["id", "text", "vector", *self._columns.values()]
        key = "vector" if self._key_type == "vector" else f"vector::halfvec({self.layout.dim})"
        return SQL(text).format(
            table=Identifier(self._table.name),
            index=Identifier(f"{self._table.name}_hnsw"),
            columns=SQL(", ").join(map(Identifier, names)),
            key=literal(key),
            **parts,
        )

    def _select(self, query: Composed, values: Sequence[Any]) -> Candidates:
        return self._read(lambda cursor: self._candidates(cursor.execute(query, values).fetchall()))

    def _search_all(
        self, cursor: psycopg.Cursor[Any], vector: Array, k: int, condition: str, values: Sequence[Any]
    ) -> Candidates:
        # somebody may have made an approximate index by hand
        cursor.execute("SELECT set_config('enable_indexscan', 'off', true)")
        query = self._sql(
            "SELECT {columns} FROM {table} WHERE {condition} ORDER BY vector <#> %b LIMIT %s",
            condition=literal(condition),
        )
        return self._candidates(cursor.execute(query, [*values, vector, k]).fetchall())

    def _search_index(
        self, cursor: psycopg.Cursor[Any], vector: Array, k: int, condition: str, values: Sequence[Any]
    ) -> Candidates:
        num_candidates = REFINE_FACTOR * k
        settings = "SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', %s, true)"
        cursor.execute(settings, [str(min(max(num_candidates, 40), _MAX_EF_SEARCH)), "relaxed_order"])
        query = self._sql(
            "SELECT {columns} FROM (SELECT * FROM {table} WHERE {condition} ORDER BY {key} <#> %b::{type} LIMIT %s) "
            "AS candidates ORDER BY vector <#> %b LIMIT %s",
            condition=literal(condition),
            type=literal(self._key_type),
        )
        return self._candidates(cursor.execute(query, [*values, vector, num_candidates, vector, k]).fetchall())

    def _check_table(self, cursor: psycopg.Cursor[Any]) -> None:
        query = "SELECT obj_description(to_regclass(%s), 'pg_class'), to_regclass(%s) IS NULL"
        name = self._sql("{table}").as_string(cursor)
        found, is_missing = cursor.execute(query, [name, name]).fetchone() or (None, True)
        if is_missing:
            raise StoreError(f"There is no table {self._table}.")
        if found != describe_layout(self.layout):
            raise StoreError(
                f"The table {self._table} has the layout {found}, but {describe_layout(self.layout)} "
                "was expected. The table does not belong to this index."
            )

    def _read(self, run: Callable[[psycopg.Cursor[Any]], _Result]) -> _Result:
        """Call `run` in a transaction; once more on a new connection if the old one is gone."""
        import psycopg

        for attempt in range(2):
            try:
                self._reconnect_if_closed()
                with self._connection.transaction(), self._connection.cursor(binary=True) as cursor:
                    return run(cursor)
            except psycopg.Error as error:
                if not (attempt == 0 and self._connection.closed):
                    raise StoreError(f"Cannot read the table {self._table}: {reason(error)}") from error
        raise AssertionError("the second attempt returns or raises")

    @contextmanager
    def _writing(self, *, in_transaction: bool = True) -> Iterator[psycopg.Cursor[Any]]:
        import psycopg

        try:
            self._reconnect_if_closed()
            self._lock()
            with self._connection.cursor() as cursor:
                if not in_transaction:
                    yield cursor
                    return
                with self._connection.transaction():
                    yield cursor
        except MoEEError:
            raise
        except psycopg.Error as error:
            raise OutputError(
                f"Cannot write the table {self._table}: {reason(error)} Nothing of this call was stored."
            ) from error

    def _lock(self) -> None:
        """Become the one writer; PostgreSQL lets go of the lock when the connection ends."""
        if self._is_writer:
            return
        import psycopg

        query = f"SELECT pg_advisory_lock({LOCK_KEY})"
        name = self._sql("{table}").as_string(self._connection)
        try:
            with self._connection.transaction():
                self._connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{_LOCK_TIMEOUT_MS}ms"])
                self._connection.execute(query, [LOCK_CLASS, name])
        except psycopg.errors.LockNotAvailable as error:
            raise StoreError(
                f"Another writer has the table {self._table} open. One may write at a time, any "
                "number may search. Wait until it is done, or stop it; what it has written in whole is kept."
            ) from error
        self._is_writer = True

    def _reconnect_if_closed(self) -> None:
        if self._connection.closed:
            self._is_writer = False
            self._connection = connect(self._table)

    def _candidates(self, rows: Sequence[Sequence[Any]]) -> Candidates:
        names = list(self._columns)
        records = [Record(key, text, dict(zip(names, fields, strict=True))) for key, text, _, *fields in rows]
        vectors = [row[2].to_numpy() for row in rows]
        return Candidates(records, np.stack(vectors) if rows else np.empty((0, self.layout.dim), np.float32))


def _refuse_nul(record: Record) -> None:
    texts = (record.id, record.text, *record.fields.values())
    if any(isinstance(text, str) and "\0" in text for text in texts):
        raise InputError(
            f"Record {record.id!r} holds a NUL character, which PostgreSQL cannot store. Remove it, or use another "
            "store."
        )


def _without_nul(ids: Sequence[str]) -> list[str]:
    return [name for name in ids if "\0" not in name]
