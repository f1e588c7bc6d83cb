"""The words of the PostgreSQL store: a column of type `tsvector` under a GIN index, ranked by BM25.

PostgreSQL's own ranks (`ts_rank`, `ts_rank_cd`) do not know how rare a word is. Counts of rows that hold a word come
from the index instead, and BM25 is computed in the query: first for a word counted once, which reads no positions, then
in full for the best of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, LiteralString, cast

from moee.stores.fulltext import K1, B, term_counts

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composed

COLUMNS = ("_terms", "_num_terms")
"""Columns of the words; no field's column begins so."""
DEFINITIONS: LiteralString = ", _terms tsvector NOT NULL, _num_terms integer NOT NULL"
_REFINED = 4
"""Rows ranked in full for each one that is asked for, and 100 more."""
_MOST = 255  # positions that a tsvector keeps of one word


_STATISTICS: LiteralString = (
    "SELECT terms.term, ln(1 + (total.n - found.n + 0.5) / (found.n + 0.5)), total.mean "
    "FROM unnest(%s::text[]) AS terms(term), "
    "LATERAL (SELECT count(*)::float8 AS n FROM {table} WHERE _terms @@ terms.term::tsquery) AS found, "
    "(SELECT count(*)::float8 AS n, greatest(avg(_num_terms), 1)::float8 AS mean FROM {table}) AS total"
)
_FULL: LiteralString = (
    "SELECT id, sum(idf * tf * {k} / (tf + {norm})) AS score FROM candidates, "
    "LATERAL (SELECT lexeme, cardinality(positions)::float8 AS tf FROM unnest(_terms)) AS held "
    "JOIN unnest(%s::text[], %s::float8[]) AS asked(term, idf) ON held.lexeme = asked.term "
    "GROUP BY id ORDER BY score DESC, id LIMIT %s"
)


def values_of(text: str) -> tuple[str, int]:
    """Return the values of the columns for a text: its words as a tsvector is written, and how many they are."""
    counts = term_counts(text)
    # only their number matters
    held = (f"'{term}':{','.join(map(str, range(1, min(count, _MOST) + 1)))}" for term, count in counts.items())
    return " ".join(held), sum(counts.values())


def index_statement(table: str) -> Composed:
    """Return the statement that makes the index."""
    from psycopg.sql import SQL, Identifier

    return SQL("CREATE INDEX {} ON {} USING gin (_terms)").format(Identifier(f"{table}_gin"), Identifier(table))


def search(
    cursor: psycopg.Cursor[Any],
    table: str,
    terms: Sequence[str],
    k: int,
    condition: str | None,
    values: Sequence[Any],
) -> dict[str, float]:
    """Return the `k` ids of the largest BM25 with it, best first.

    Args:
        cursor: In a transaction.
        table: Name of the table.
        terms: One or more.
        k: How many at most.
        condition: An expression over the columns; None for all.
        values: Values of its placeholders.
    """
    weights, mean = _statistics(cursor, table, terms)
    once = (
        "SELECT * FROM {table} WHERE _terms @@ %s::tsquery AND "  # noqa: S608 - our own text, or a filter's
        + ("TRUE" if condition is None else f"({condition})")
        + " ORDER BY (SELECT sum(idf) FROM unnest(%s::text[], %s::float8[]) AS asked(term, idf) "
        "WHERE {table}._terms @@ asked.term::tsquery) / (1 + {norm}) DESC LIMIT %s"
    )
    first = (_any_of(terms), *values, [_quoted(term) for term in weights], list(weights.values()), _REFINED * k + 100)
    return _ranked(cursor, table, once, first, weights, mean, k)


def scores(cursor: psycopg.Cursor[Any], table: str, terms: Sequence[str], ids: Sequence[str]) -> dict[str, float]:
    """Return BM25 of those of some ids that hold a term."""
    weights, mean = _statistics(cursor, table, terms)
    return _ranked(cursor, table, "SELECT * FROM {table} WHERE id = ANY(%s)", (list(ids),), weights, mean, len(ids))


def _statistics(cursor: psycopg.Cursor[Any], table: str, terms: Sequence[str]) -> tuple[dict[str, float], float]:
    """Return how much each term weighs, and the mean number of words in a row."""
    rows = cursor.execute(_sql(_STATISTICS, table, 1.0), [[_quoted(term) for term in terms]]).fetchall()
    return {term: row[1] for term, row in zip(terms, rows, strict=True)}, rows[0][2]


def _ranked(
    cursor: psycopg.Cursor[Any],
    table: str,
    candidates: str,
    first: Sequence[Any],
    weights: dict[str, float],
    mean: float,
    k: int,
) -> dict[str, float]:
    statement = _sql(f"WITH candidates AS MATERIALIZED ({candidates}) {_FULL}", table, mean)
    return dict(cursor.execute(statement, [*first, list(weights), list(weights.values()), k]).fetchall())


def _sql(text: str, table: str, mean: float) -> Composed:
    from psycopg.sql import SQL, Identifier, Literal

    norm = SQL("({} + {} * _num_terms / {}::float8)").format(Literal(K1 * (1 - B)), Literal(K1 * B), Literal(mean))
    return SQL(cast("Any", text)).format(table=Identifier(table), norm=norm, k=Literal(K1 + 1))


def _quoted(term: str) -> str:
    return f"'{term}'"


def _any_of(terms: Sequence[str]) -> str:
    return " | ".join(map(_quoted, terms))
