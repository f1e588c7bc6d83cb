"""The three stores, empty or with records, for tests that hold for all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moee.stores.base import Store
from moee.stores.registry import STORES, StoreSpec, create_store
from tests.stores.records import LAYOUT

_NUMBERS = itertools.count()


@pytest.fixture(params=STORES)
def spec(request: pytest.FixtureRequest) -> Iterator[StoreSpec]:
    """Each kind of store; the one in PostgreSQL in a table of its own."""
    if request.param != "pgvector":
        yield StoreSpec(request.param)
        return
    with new_table(request.getfixturevalue("postgres")) as made:
        yield made


@pytest.fixture
def store(spec: StoreSpec, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind, with fields of every type."""
    made = create_store(spec, tmp_path, LAYOUT)
    yield made
    made.close()


@contextmanager
def new_table(url: str, *, approximate: bool = False) -> Iterator[StoreSpec]:
    """Name a table that does not exist; drop it if it was made."""
    import psycopg
    from psycopg.sql import SQL, Identifier

    table = f"moee_test_{next(_NUMBERS)}"
    yield StoreSpec("pgvector", url, table, approximate)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(table)))
