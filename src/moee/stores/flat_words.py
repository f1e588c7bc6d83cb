"""The words of the flat store: an FTS5 table in its SQLite database, so that they change in the same transactions.

The table keeps which terms stand where and no text: what is taken out is told it once more. Its rows have the numbers
of the records'. SQLite comes with Python, and nearly always with FTS5.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from moee.errors import StoreError
from moee.stores.fulltext import stored_terms
from moee.stores.store import Value

# Letters, marks, numbers: whatever `words` returns stays whole. Nothing is folded any more.
_TOKENIZER = "unicode61 remove_diacritics 0 categories 'L* M* N* Co'"
_MODULE = "fts5"
_CHUNK = 500


def create(database: sqlite3.Connection) -> None:
    """Make the empty table.

    Raises:
        StoreError: If this SQLite has no full-text search.
    """
    try:
        database.execute(f"CREATE VIRTUAL TABLE words USING {_MODULE}(terms, content='', tokenize=\"{_TOKENIZER}\")")
    except sqlite3.OperationalError as error:
        if "no such module" not in str(error):
            raise
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version} of this Python was built without full-text search (FTS5). Build the "
            "index with --no-hybrid, or in another store (--store lancedb)."
        ) from error


def add(database: sqlite3.Connection, texts: Iterable[tuple[int, str]]) -> None:
    """Put in the words of new rows: pairs of row and text."""
    rows = ((row, stored_terms(text)) for row, text in texts)
    database.executemany("INSERT INTO words (rowid, terms) VALUES (?, ?)", rows)


def remove(database: sqlite3.Connection, texts: Iterable[tuple[int, str]]) -> None:
    """Take out the words of rows: pairs of row and the text that was put in."""
    rows = ((row, stored_terms(text)) for row, text in texts)
    database.executemany("INSERT INTO words (words, rowid, terms) VALUES ('delete', ?, ?)", rows)


def rebuild(database: sqlite3.Connection) -> None:
    """Put in the words of all records again, after their rows were renumbered."""
    database.execute("INSERT INTO words (words) VALUES ('delete-all')")
    add(database, database.execute("SELECT row, text FROM records ORDER BY row"))


def search(
    database: sqlite3.Connection, terms: Sequence[str], k: int, condition: str | None, values: Sequence[Value]
) -> list[tuple[int, float]]:
    """Return the `k` rows of the largest BM25 with it, best first.

    Args:
        database: The store's.
        terms: One or more.
        k: How many at most.
        condition: An expression over the columns of `records`; None for all.
        values: Values of its placeholders.
    """
    where = "" if condition is None else f" AND rowid IN (SELECT row FROM records WHERE {condition})"  # noqa: S608
    query = f"SELECT rowid, -rank FROM words WHERE words MATCH ?{where} ORDER BY rank LIMIT ?"  # noqa: S608
    return database.execute(query, (_any_of(terms), *values, k)).fetchall()


def scores(database: sqlite3.Connection, terms: Sequence[str], rows: Sequence[int]) -> Iterator[tuple[int, float]]:
    """Yield BM25 of those of some rows that hold a term."""
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        query = f"SELECT rowid, -rank FROM words WHERE words MATCH ? AND rowid IN ({', '.join('?' * len(chunk))})"  # noqa: S608
        yield from database.execute(query, (_any_of(terms), *chunk))


def _any_of(terms: Sequence[str]) -> str:
    # quoted: no term is an operator
    return " OR ".join(f'"{term}"' for term in terms)
