"""The store that needs nothing but numpy: exact search over vectors in a file, records in SQLite beside it.

`records.sqlite` decides what exists. Vectors are appended and synchronised to the disk first, then one transaction
names their rows: what lies behind the rows it counts is left of a killed writer, and is overwritten. A deleted or
replaced record leaves a hole in the file; when more than half is holes, the rest moves to a new file.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moee.errors import MoEEError, OutputError, StoreError
from moee.files.atomic import sync_folder
from moee.stores import flat_words
from moee.stores.base import Store, chunks, new_folder, not_written
from moee.stores.filters import Dialect, Filter, quoted
from moee.stores.fulltext import Found
from moee.stores.locking import WriterLock
from moee.stores.quantize import Codec
from moee.stores.records import columns_of, describe_layout
from moee.stores.store import Candidates, FieldType, Layout, Record, Value
from moee.stores.vector_file import Rows, VectorFile
from moee.types import Array

FORMAT_VERSION = 1

_DATABASE = "records.sqlite"
_SQL_TYPES: dict[FieldType, str] = {"string": "TEXT", "integer": "INTEGER", "number": "REAL", "boolean": "INTEGER"}
# Readers hold the database for the length of one search, a writer for that of a commit.
_BUSY_TIMEOUT_S = 60.0
# SQLite takes 999 parameters in its oldest versions.
_CHUNK = 900


@dataclass(frozen=True, slots=True)
class _State:
    """What the database says about the vectors.

    Attributes:
        num_rows: Rows of the file that exist, holes included.
        num_records: Rows in use.
        generation: Number of the file; a file with a new number is written when holes are dropped.
        revision: Grows with every transaction.
    """

    num_rows: int
    num_records: int
    generation: int
    revision: int


class FlatStore(Store):
    """Records in a folder, with exact search; see `moee.stores.base.Store`.

    Any number of processes may search while one writes: each call sees the last whole transaction.
    """

    dialect = Dialect(placeholder="?")
    keeps_codes = True
    can_approximate = False

    @staticmethod
    def _make(place: Path, layout: Layout, codec: Codec | None, *, approximate: bool) -> None:
        with new_folder(place) as temporary:
            database = sqlite3.connect(temporary / _DATABASE, isolation_level=None)
            try:
                _create_tables(database, layout, codec)
            except sqlite3.Error as error:
                raise OutputError(f"Cannot write the index in {str(place)!r}: {error}.") from error
            finally:
                database.close()
            _vector_path(temporary, 0, codec).touch()
            sync_folder(temporary)
        sync_folder(place.parent)

    def _open(self, place: Path) -> None:
        self._folder = place
        self._lock = WriterLock(place / "writer.lock")
        self._database = _connect(place)
        self._vectors: VectorFile | None = None
        self._generation = -1
        self._selected: tuple[tuple[int, str], Rows] = ((-1, ""), np.empty(0, np.int64))
        try:
            self._check_description()
            with self._reading():
                pass  # maps the vectors, and so finds out whether they are there
        except BaseException:
            self._database.close()
            raise

    def __len__(self) -> int:
        with self._reading() as state:
            return state.num_records

    def _write(self, records: Sequence[Record], vectors: Array) -> None:
        with self._writing() as state:
            self._file.append(state.num_rows, vectors)
            replaced = self._forget([record.id for record in records])
            if self.layout.hybrid:
                flat_words.add(self._database, ((row, each.text) for row, each in enumerate(records, state.num_rows)))
            names = self._names
            self._database.executemany(
                f"INSERT INTO records ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",  # noqa: S608
                (
                    (row, record.id, record.text, *record.fields.values())
                    for row, record in enumerate(records, start=state.num_rows)
                ),
            )
            self._advance(state.num_rows + len(records), state.num_records + len(records) - replaced)
        self._compact_if_hollow()

    def delete(self, ids: Sequence[str]) -> int:
        """Delete records, in one transaction; return how many there were."""
        with self._writing() as state:
            deleted = self._forget(ids)
            self._advance(state.num_rows, state.num_records - deleted)
        self._compact_if_hollow()
        return deleted

    def texts_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the text of every one of `ids` that is stored."""
        with self._reading():
            return dict(self._select("id, text", "id", ids))

    def fetch(self, ids: Sequence[str]) -> Candidates:
        """Return those of `ids` that are stored, in that order, with their vectors."""
        with self._reading():
            found = dict(self._select("id, row", "id", ids))
            rows = [found[name] for name in dict.fromkeys(ids) if name in found]
            return self._candidates(np.array(rows, np.int64))

    def _search(self, vector: Array, k: int, where: Filter | None) -> Candidates:
        with self._reading() as state:
            return self._candidates(self._file.search(vector, k, self._rows_to_search(state, where)))

    def _search_words(self, terms: Sequence[str], k: int, where: Filter | None) -> Found:
        condition, values = where.sql(self.dialect, self._columns) if where else (None, ())
        with self._reading():
            found = flat_words.search(self._database, terms, k, condition, values)
            return Found(self._candidates(np.array([row for row, _ in found], np.int64)), [each for _, each in found])

    def _word_scores(self, terms: Sequence[str], ids: Sequence[str]) -> dict[str, float]:
        with self._reading():
            rows = {row: name for name, row in self._select("id, row", "id", ids)}
            return {rows[row]: score for row, score in flat_words.scores(self._database, terms, list(rows))}

    def scan(self, batch_size: int = 4096) -> Iterator[Candidates]:
        """Yield all records in the order they were written in.

        Raises:
            StoreError: If holes are dropped meanwhile, which renumbers the rows.
        """
        last, generation = -1, None
        while True:
            with self._reading() as state:
                generation = state.generation if generation is None else generation
                if state.generation != generation:
                    raise StoreError("The index was compacted while its records were being read. Read them again.")
                query = "SELECT row FROM records WHERE row > ? ORDER BY row LIMIT ?"
                rows = self._rows(query, [last, batch_size])
                batch = self._candidates(rows)
            if not len(rows):
                return
            last = int(rows[-1])
            yield batch

    def compact(self) -> None:
        """Move the vectors in use to a new file, if there are holes; see `Store.compact`."""
        with self._writing() as state:
            if state.num_rows == state.num_records:
                return
            rows = self._rows("SELECT row FROM records ORDER BY row")
            target = self._open_file(state.generation + 1)
            target.append_rows(0, self._file.batches_of(rows))
            # ascending, and never upward: no row is taken before its holder has moved
            moves = ((new, int(old)) for new, old in enumerate(rows) if new != old)
            self._database.executemany("UPDATE records SET row = ? WHERE row = ?", moves)
            if self.layout.hybrid:
                flat_words.rebuild(self._database)
            self._database.execute("UPDATE state SET generation = generation + 1")
            self._advance(len(rows), len(rows))
        with self._reading():  # looks at the new file
            self._remove_old_files()

    def close(self) -> None:
        """Release files, and let others write."""
        self._file.unmap()
        self._database.close()
        self._lock.release()

    @property
    def _names(self) -> list[str]:
        return ["row", "id", "text", *map(quoted, self._columns.values())]

    @property
    def _file(self) -> VectorFile:
        assert self._vectors is not None  # set by the first transaction, which opening is
        return self._vectors

    def _open_file(self, generation: int) -> VectorFile:
        return VectorFile(_vector_path(self._folder, generation, self._codec), self.layout.dim, self._codec)

    def _check_description(self) -> None:
        try:
            found = self._database.execute("SELECT format_version, layout, codec FROM description").fetchone()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        wanted = (FORMAT_VERSION, describe_layout(self.layout), self._codec.name if self._codec else None)
        for what, has, wants in zip(("format", "layout", "codec"), found, wanted, strict=True):
            if has != wants:
                raise StoreError(
                    f"The store in {str(self._folder)!r} has the {what} {has}, but {wants} was expected. "
                    "The folder does not belong to this index, or is of another version of moee."
                )

    def _unreadable(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"Cannot read the index in {str(self._folder)!r}: {error}.")

    @contextmanager
    def _reading(self) -> Iterator[_State]:
        """See one state of the store from beginning to end."""
        try:
            self._database.execute("BEGIN")
            yield self._refresh()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        finally:
            self._end()

    @contextmanager
    def _writing(self) -> Iterator[_State]:
        """Change everything or nothing."""
        self._lock.acquire()
        try:
            self._database.execute("BEGIN IMMEDIATE")
            state = self._refresh()
            self._remove_old_files()
            yield state
            self._database.execute("COMMIT")
        except MoEEError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise not_written(self._folder, error) from error
        finally:
            self._end()

    def _end(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def _refresh(self) -> _State:
        query = "SELECT num_rows, num_records, generation, revision FROM state"
        state = _State(*self._database.execute(query).fetchone())
        if state.generation != self._generation:
            self._vectors = self._open_file(state.generation)
            self._generation = state.generation
        self._file.map(state.num_rows)
        return state

    def _advance(self, num_rows: int, num_records: int) -> None:
        query = "UPDATE state SET num_rows = ?, num_records = ?, revision = revision + 1"
        self._database.execute(query, (num_rows, num_records))

    def _forget(self, ids: Sequence[str]) -> int:
        if self.layout.hybrid:
            flat_words.remove(self._database, list(self._select("row, text", "id", ids)))
        cursor = self._database.executemany("DELETE FROM records WHERE id = ?", ((name,) for name in ids))
        return max(cursor.rowcount, 0)

    def _compact_if_hollow(self) -> None:
        with self._reading() as state:
            is_hollow = state.num_rows > 2 * state.num_records
        if is_hollow:
            with suppress(OutputError):  # what was asked for is done; the next write tries again
                self.compact()

    def _remove_old_files(self) -> None:
        current = self._file.path
        for path in self._folder.glob(f"vectors-*{current.suffix}"):
            if path != current:
                with suppress(OSError):  # mapped by a reader, on a system that minds
                    path.unlink()

    def _rows_to_search(self, state: _State, where: Filter | None) -> Rows | None:
        """Return the rows that pass, or None if all do; those of the last call are kept for one like it."""
        if where is None and state.num_rows == state.num_records:
            return None
        key = (state.revision, where.text if where else "")
        if self._selected[0] != key:
            condition, values = where.sql(self.dialect, self._columns) if where else ("TRUE", [])
            rows = self._rows(f"SELECT row FROM records WHERE {condition} ORDER BY row", values)  # noqa: S608
            self._selected = (key, rows)
        return self._selected[1]

    def _rows(self, query: str, values: Sequence[Value] = ()) -> Rows:
        return np.fromiter(itertools.chain.from_iterable(self._database.execute(query, values)), np.int64)

    def _select(self, columns: str, key: str, values: Sequence[str] | Sequence[int]) -> Iterator[Any]:
        for chunk in chunks(values, _CHUNK):
            query = f"SELECT {columns} FROM records WHERE {key} IN ({', '.join('?' * len(chunk))})"  # noqa: S608
            yield from self._database.execute(query, chunk)

    def _candidates(self, rows: Rows) -> Candidates:
        records = {
            row: Record(key, text, self._fields(values))
            for row, key, text, *values in self._select(", ".join(self._names), "row", rows.tolist())
        }
        return Candidates([records[row] for row in rows.tolist()], self._file.take(rows))

    def _fields(self, values: Sequence[Value]) -> dict[str, Value]:
        return {
            name: bool(value) if kind == "boolean" and value is not None else value
            for (name, kind), value in zip(self.layout.fields.items(), values, strict=True)
        }


def _connect(folder: Path) -> sqlite3.Connection:
    path = folder / _DATABASE
    if not path.is_file():
        raise StoreError(f"There is no store in {str(folder)!r}: {_DATABASE} is missing.")
    # A reader may have to undo the transaction of a killed writer; a folder on a read-only disk has none to undo.
    mode = "rw" if os.access(folder, os.W_OK) else "ro"
    try:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise StoreError(f"Cannot open the index in {str(folder)!r}: {error}.") from error


def _create_tables(database: sqlite3.Connection, layout: Layout, codec: Codec | None) -> None:
    fields = "".join(
        f", {quoted(column)} {_SQL_TYPES[layout.fields[name]]}" for name, column in columns_of(layout.fields).items()
    )
    database.execute("BEGIN")
    database.execute(
        f"CREATE TABLE records (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL{fields})"
    )
    database.execute("CREATE TABLE description (format_version INTEGER, layout TEXT, codec TEXT)")
    database.execute("CREATE TABLE state (num_rows INTEGER, num_records INTEGER, generation INTEGER, revision INTEGER)")
    description = (FORMAT_VERSION, describe_layout(layout), codec.name if codec else None)
    database.execute("INSERT INTO description VALUES (?, ?, ?)", description)
    database.execute("INSERT INTO state VALUES (0, 0, 0, 0)")
    if layout.hybrid:
        flat_words.create(database)
    database.execute("COMMIT")


def _vector_path(folder: Path, generation: int, codec: Codec | None) -> Path:
    return folder / f"vectors-{generation}.{codec.name if codec else 'f32'}"
