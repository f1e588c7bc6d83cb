"""Connections to PostgreSQL, and the tables that indexes are kept in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, LiteralString, cast

from moee.errors import InputError, MissingExtraError, OutputError, StoreError
from moee.stores import postgres_words
from moee.stores.records import columns_of, describe_layout, is_layout
from moee.stores.store import FieldType, Layout

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Identifier

MAX_DIM = 16_000
"""Longest vector that pgvector keeps."""
MAX_INDEXED_DIM = 2_000
"""Longest vector that its HNSW index takes in float32."""
MAX_HALF_DIM = 4_000
"""Longest vector that its HNSW index takes in half precision."""
PASSWORD_VARIABLE = "MOEE_STORE_PASSWORD"  # noqa: S105
"""Variable read if the url has no password; what libpq reads itself (PGPASSWORD, a password file) comes after it."""
LOCK_CLASS = 0x6D6F6565
LOCK_KEY: LiteralString = "(%s::bigint << 32) | to_regclass(%s)::oid::bigint"
"""The advisory lock of a table's one writer, from `LOCK_CLASS` and the table's quoted name."""

# Sorted by bytes: as in the other stores, and whatever the database's locale.
_TEXT = 'text COLLATE "C"'
_SQL_TYPES: dict[FieldType, LiteralString] = {
    "string": _TEXT,
    "integer": "bigint",
    "number": "double precision",
    "boolean": "boolean",
}
_MAX_TABLE = 55  # bytes; PostgreSQL cuts names at 63, and an index adds a few
_CONNECT_TIMEOUT_S = 10
_PAGE_BYTES = 8160  # that a row may take
_MOVED_BYTES = 32  # that a value takes in its row at most, when its content is elsewhere


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a database, written in messages without its secrets.

    Attributes:
        url: Where the database is, without a password.
        name: The table's name.
        secrets: `password` and the like, if they were given.
    """

    url: str
    name: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{self.name!r} in {self.url}"


def connect(table: Table, *, make_extension: bool = False) -> psycopg.Connection[Any]:
    """Open a connection that knows vectors, in which each statement is a transaction of its own.

    Raises:
        StoreError: If the database cannot be reached, or has no vector extension.
        MissingExtraError: If psycopg or pgvector is not installed.
    """
    try:
        import psycopg
        from pgvector.psycopg import register_vector
    except ImportError as error:
        raise MissingExtraError("psycopg", "indexes kept in PostgreSQL", "pgvector") from error
    from psycopg.conninfo import conninfo_to_dict

    password = os.environ.get(PASSWORD_VARIABLE)
    defaults: dict[str, Any] = {"application_name": "moee", "connect_timeout": _CONNECT_TIMEOUT_S}
    defaults |= {"password": password} if password else {}
    try:
        connection = psycopg.connect(**(defaults | conninfo_to_dict(table.url) | dict(table.secrets)), autocommit=True)
    except psycopg.Error as error:
        raise StoreError(
            f"Cannot connect to {table.url}: {reason(error)} Check that PostgreSQL runs there and lets this user in; a "
            f"password is taken from the url given to the command, from {PASSWORD_VARIABLE}, or from ~/.pgpass."
        ) from error
    try:
        if make_extension:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(connection)
    except psycopg.Error as error:
        connection.close()
        raise StoreError(
            f"The vector extension of {table.url} cannot be used: {reason(error)} Install pgvector "
            "0.8 or newer for the server, and let its administrator run: CREATE EXTENSION vector"
        ) from error
    return connection


def create_table(connection: psycopg.Connection[Any], table: Table, layout: Layout) -> None:
    """Make an empty table, in place of an empty one that a killed build left.

    Raises:
        InputError: If the table exists.
        OutputError: If it cannot be made.
    """
    import psycopg
    from psycopg.sql import SQL, Identifier, Literal

    name = Identifier(table.name)
    fields = [
        SQL(", {} {}").format(Identifier(column), SQL(_SQL_TYPES[layout.fields[key]]))
        for key, column in columns_of(layout.fields).items()
    ]
    if layout.hybrid:
        fields.append(SQL(postgres_words.DEFINITIONS).format())
    statement = SQL("CREATE TABLE {} (id {} PRIMARY KEY, text {} NOT NULL, vector vector({}) NOT NULL{})").format(
        name, SQL(_TEXT), SQL(_TEXT), Literal(layout.dim), SQL("").join(fields)
    )
    try:
        with connection.transaction():
            if _is_leftover(connection, name):
                connection.execute(SQL("DROP TABLE {}").format(name))
            connection.execute(statement)
            if _fits_page(layout):
                inline = "ALTER TABLE {} ALTER COLUMN vector SET STORAGE PLAIN, SET (toast_tuple_target = {})"
                connection.execute(SQL(inline).format(name, Literal(_PAGE_BYTES)))
            if layout.hybrid:
                connection.execute(postgres_words.index_statement(table.name))
            comment = SQL("COMMENT ON TABLE {} IS {}").format(name, Literal(describe_layout(layout)))
            connection.execute(comment)
    except psycopg.errors.DuplicateTable as error:
        raise InputError(
            f"There is a table {table} already. Open the index that it belongs to, choose another name for "
            "this one, or drop the table."
        ) from error
    except psycopg.Error as error:
        raise OutputError(f"Cannot make the table {table}: {reason(error)}") from error


def _fits_page(layout: Layout) -> bool:
    """Return whether a vector fits a page with whatever else a row holds, once texts have moved elsewhere.

    A vector in the row itself is read five times as fast as one that PostgreSQL cuts into pieces in a table beside it.
    """
    return 8 + 4 * layout.dim + _MOVED_BYTES * (len(layout.fields) + 4) <= _PAGE_BYTES


def _is_leftover(connection: psycopg.Connection[Any], table: Identifier) -> bool:
    """Return whether the table is an index's, empty, and nobody writes to it: its build was killed at the outset."""
    from psycopg.sql import SQL

    name = table.as_string(connection)
    query = f"SELECT obj_description(to_regclass(%s), 'pg_class'), pg_try_advisory_xact_lock({LOCK_KEY})"
    (described, is_free) = connection.execute(query, [name, LOCK_CLASS, name]).fetchone() or (None, False)
    if described is None or not is_free or not is_layout(described):
        return False
    return connection.execute(SQL("SELECT FROM {} LIMIT 1").format(table)).fetchone() is None


def check_table(table: str, layout: Layout, *, approximate: bool) -> None:
    """Refuse what no table can keep, before a database is asked.

    Raises:
        InputError: If the name is none for a table, or the vectors are too long.
    """
    check_dim(layout.dim, approximate=approximate)
    if not table or len(table.encode()) > _MAX_TABLE or "\0" in table or "%" in table:
        raise InputError(f"The table {table!r} needs a name of 1 to {_MAX_TABLE} bytes, without % and NUL.")


def check_dim(dim: int, *, approximate: bool) -> None:
    """Refuse vectors longer than pgvector keeps, or than its HNSW index takes."""
    limit = MAX_HALF_DIM if approximate else MAX_DIM
    if dim > limit:
        what = "index of pgvector" if approximate else "vector type of pgvector"
        raise InputError(
            f"The vectors have {dim:,} dimensions; the {what} takes at most {limit:,}. Reduce them when the index is "
            "built (--dims), or keep them in another store (flat, lancedb)."
        )


def reason(error: Exception) -> str:
    """Return what the server said in one line that ends with a full stop."""
    said = " ".join(str(error).split())
    return said if said.endswith((".", "?")) else f"{said}."


def literal(text: str) -> Any:
    """Return text of our own making, or a filter's with its values taken out, as a part of a statement."""
    from psycopg.sql import SQL

    return SQL(cast("Any", text))
