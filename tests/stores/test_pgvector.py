from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import psycopg
import pytest

from moee.errors import InputError, MissingExtraError, OutputError, StoreError
from moee.stores.base import Store, search
from moee.stores.filters import Filter
from moee.stores.pgvector import PgVectorStore
from moee.stores.postgres import PASSWORD_VARIABLE
from moee.stores.registry import StoreSpec, create_store, open_store
from moee.stores.store import Layout, Record
from moee.types import View
from tests.stores.conftest import new_table
from tests.stores.records import LAYOUT, ids, query_of, some_records, unit_blocks

VECTORS = unit_blocks(50)
RECORDS = some_records(50)
SECRET = "s3/cr@t"


def with_user(url: str, user: str) -> str:
    return urlunsplit(urlsplit(url)._replace(netloc=f"{user}@"))


@pytest.fixture
def table(postgres: str) -> Iterator[StoreSpec]:
    with new_table(postgres) as spec:
        yield spec


@pytest.fixture
def store(table: StoreSpec, tmp_path: Path) -> Iterator[Store]:
    made = create_store(table, tmp_path, LAYOUT)
    made.upsert(RECORDS, VECTORS)
    yield made
    made.close()


@pytest.fixture
def guarded(database: str) -> Iterator[str]:
    """A database with a user who needs a password, as servers have it."""
    with psycopg.connect(database, autocommit=True) as connection:
        (path,) = connection.execute("SHOW hba_file").fetchone() or ("",)
        rules = Path(path).read_text(encoding="utf-8")
        Path(path).write_text(f"local all guarded scram-sha-256\n{rules}", encoding="utf-8")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'")
        connection.execute("CREATE EXTENSION vector")
        connection.execute("GRANT CREATE ON SCHEMA public TO guarded")
        yield with_user(database, "guarded")
        connection.execute("DROP OWNED BY guarded")
        connection.execute("DROP ROLE guarded")
        Path(path).write_text(rules, encoding="utf-8")
        connection.execute("SELECT pg_reload_conf()")


def test_the_table_has_typed_columns(store: Store, table: StoreSpec) -> None:
    with psycopg.connect(table.url or "") as connection:
        rows = connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
            [table.table],
        ).fetchall()
    assert dict(rows) == {
        "id": "text",
        "text": "text",
        "vector": "vector(34)",
        "year": "bigint",
        "field_0": "double precision",
        "lang": "text",
        "is_draft": "boolean",
        "field_1": "text",
    }


def test_a_password_opens_the_database_and_is_kept_nowhere(
    guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    with_password = StoreSpec.parse(guarded.replace("guarded@", "guarded:s3%2Fcr%40t@"), "Index")
    create_store(with_password, tmp_path, LAYOUT).close()
    kept = StoreSpec(**asdict(with_password))
    with pytest.raises(StoreError, match=rf"Cannot connect to .*guarded@.*{PASSWORD_VARIABLE}"):
        open_store(kept, tmp_path, LAYOUT)
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        open_store(kept, tmp_path, LAYOUT)
    assert "wrong" not in str(caught.value)
    monkeypatch.setenv(PASSWORD_VARIABLE, SECRET)
    open_store(kept, tmp_path, LAYOUT).close()
    monkeypatch.delenv(PASSWORD_VARIABLE)
    monkeypatch.setenv("PGPASSWORD", SECRET)  # libpq's own
    open_store(kept, tmp_path, LAYOUT).close()


def test_a_database_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # bound, and never listening
        url = f"postgresql://me:secret@127.0.0.1:{listener.getsockname()[1]}/db"
        with pytest.raises(
            StoreError, match=r"Cannot connect to postgresql://me@127.0.0.1.*refused.*Check that"
        ) as caught:
            create_store(StoreSpec.parse(url, "x"), tmp_path, LAYOUT)
    assert "secret" not in str(caught.value)


def test_a_database_without_the_extension_is_told_from_one_that_does_not_answer(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE ROLE modest LOGIN")
        with pytest.raises(
            StoreError, match=r"The vector extension of .* cannot be used: permission denied.*CREATE EXTENSION vector"
        ):
            create_store(StoreSpec("pgvector", with_user(database, "modest"), "t"), tmp_path, LAYOUT)
        connection.execute("DROP ROLE modest")


def test_reading_goes_on_after_the_connection_was_lost(store: Store, postgres: str) -> None:
    end_all = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'moee' AND pid <> pg_backend_pid()"
    )
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(end_all)
        assert search(store, query_of(VECTORS[3]), 1)[0].record == RECORDS[3]
        connection.execute(end_all)
        with pytest.raises(OutputError, match="Nothing of this call was stored"):
            store.upsert([Record("new", "x")], VECTORS[:1])
        assert len(store) == 50
        store.upsert([Record("new", "x")], VECTORS[:1])
    assert len(store) == 51


@pytest.mark.parametrize("name", ['we"ird; DROP TABLE x', "Größe", "select"])
def test_a_table_may_have_any_name(postgres: str, tmp_path: Path, name: str) -> None:
    spec = StoreSpec("pgvector", postgres, name, approximate=True)
    made = create_store(spec, tmp_path, LAYOUT)
    made.upsert(RECORDS, VECTORS)
    made.compact()
    assert search(made, query_of(VECTORS[3]), 1, Filter.parse("lang != '%s'"))[0].record == RECORDS[3]
    assert made.delete(["id-0"]) == 1
    made.close()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("DROP TABLE {}").format(psycopg.sql.Identifier(name)))


@pytest.mark.parametrize("name", ["", "x" * 56, "nul\0", "%s"])
def test_a_name_that_no_table_can_have_is_refused(postgres: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a name of 1 to 55 bytes"):
        create_store(StoreSpec("pgvector", postgres, name), tmp_path, LAYOUT)


def test_nul_characters_are_refused_before_they_reach_the_server(store: Store) -> None:
    for record in (Record("a\0", "x"), Record("a", "x\0"), Record("a", "x", {"lang": "\0"})):
        with pytest.raises(InputError, match="holds a NUL character, which PostgreSQL cannot store"):
            store.upsert([record], VECTORS[:1])
    assert store.fetch(["a\0", "id-1"]).records == [RECORDS[1]]
    assert store.texts_of(["a\0"]) == {}
    assert store.delete(["a\0"]) == 0


@pytest.mark.parametrize(("dim", "approximate", "limit"), [(16_001, False, "16,000"), (4_001, True, "4,000")])
def test_vectors_that_are_too_long_are_refused_with_the_way_out(
    postgres: str, tmp_path: Path, dim: int, approximate: bool, limit: str
) -> None:
    spec = StoreSpec("pgvector", postgres, "too_long", approximate=approximate)
    with pytest.raises(InputError, match=rf"have {dim:,} dimensions; .* at most {limit}. Reduce them .*--dims"):
        create_store(spec, tmp_path, Layout({"hs": dim - 8, "rw": 8}, {}))


@pytest.mark.parametrize("dim", [2_001, 16_000])
def test_long_vectors_are_kept_to_the_last_bit(table: StoreSpec, tmp_path: Path, dim: int) -> None:
    vectors = unit_blocks(12, dims={"hs": dim - 100, "rw": 100})
    made = create_store(table, tmp_path, Layout({"hs": dim - 100, "rw": 100}, {}))
    made.upsert([Record(str(row), "") for row in range(12)], vectors)
    found = made.fetch([str(row) for row in range(12)])
    assert np.array_equal(found.vectors, vectors)
    assert search(made, query_of(vectors[7], dims={"hs": dim - 100, "rw": 100}), 1)[0].record.id == "7"
    made.close()


@pytest.mark.parametrize("dim", [1_000, 1_910, 1_911])
def test_long_texts_and_many_fields_fit_beside_any_vector(table: StoreSpec, tmp_path: Path, dim: int) -> None:
    """Vectors lie in their rows if the rest can be moved out of them, whatever it is."""
    rng = np.random.default_rng(0)
    names = [f"note{number}" for number in range(12)]
    layout = Layout({"hs": dim - 100, "rw": 100}, dict.fromkeys(names, "string"))
    store = create_store(table, tmp_path, layout)
    letters = rng.integers(0x4E00, 0x9FFF, (20, 3000))  # too random to be compressed
    for length in (5, 8, 12, 40, 3000):
        fields = {name: "".join(map(chr, letters[row][:length])) for row, name in enumerate(names)}
        record = Record(f"{length}-" + "i" * min(length, 300), fields["note1"] * 50, fields)
        vectors = unit_blocks(1, dims={"hs": dim - 100, "rw": 100})
        store.upsert([record], vectors)
        found = store.fetch([record.id])
        assert found.records == [record]
        assert np.array_equal(found.vectors, vectors)
    store.close()


@pytest.mark.parametrize(("hidden", "routing", "key"), [(30, 10, "vector"), (1980, 30, "halfvec")])
def test_an_approximate_index_finds_what_is_near_and_scores_it_exactly(
    postgres: str, tmp_path: Path, hidden: int, routing: int, key: str
) -> None:
    """Above 2,000 dimensions the index holds half precision, the table float32 still."""
    rng = np.random.default_rng(0)
    dims: dict[View, int] = {"hs": hidden, "rw": routing}
    centres = unit_blocks(20, dims=dims)
    vectors = centres[rng.integers(0, 20, 600)] + 0.02 * rng.standard_normal((600, hidden + routing)).astype(np.float32)
    vectors = vectors.astype(np.float32)
    with new_table(postgres, approximate=True) as spec:
        made = create_store(spec, tmp_path, Layout(dims, {"number": "integer"}))
        made.upsert([Record(str(row), "", {"number": row}) for row in range(600)], vectors)
        made.compact()
        made.compact()
        with psycopg.connect(postgres) as connection:
            rows = connection.execute("SELECT indexdef FROM pg_indexes WHERE tablename = %s", [spec.table]).fetchall()
            assert sum(f"{key}_ip_ops" in definition for (definition,) in rows) == 1
        query = query_of(vectors[5], dims=dims)
        scores = vectors.astype(np.float64) @ query.vector.astype(np.float64)
        expected = [str(row) for row in np.argsort(-scores)[:10]]
        hits = search(made, query, 10)
        assert len({hit.record.id for hit in hits} & set(expected)) >= 9
        for hit in hits:
            assert hit.score == pytest.approx(scores[int(hit.record.id)] / 1.5, abs=1e-6)
        rare = made.search(query.vector, 10, Filter.parse("number in (1, 2, 3)"))
        assert sorted(ids(rare)) == ["1", "2", "3"], "a filter that leaves few finds them all"
        assert len(made.search(query.vector, 600).records) == 600
        made.close()


def test_a_search_stays_exact_beside_an_index_that_somebody_made(store: Store, table: StoreSpec) -> None:
    with psycopg.connect(table.url or "", autocommit=True) as connection:
        connection.execute(f"CREATE INDEX ON {table.table} USING hnsw (vector vector_ip_ops)")
        connection.execute("SET enable_seqscan = off")
    assert isinstance(store, PgVectorStore)
    store._connection.execute("SET hnsw.ef_search = 1")
    store._connection.execute("SET enable_seqscan = off")
    assert len(store.search(VECTORS[0], 40).records) == 40


def test_a_table_of_others_is_refused(postgres: str, tmp_path: Path) -> None:
    with new_table(postgres) as spec, psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {spec.table} (id text)")
        with pytest.raises(StoreError, match="The table does not belong to this index"):
            open_store(spec, tmp_path, LAYOUT)
        with pytest.raises(InputError, match=r"There is a table .* already"):
            create_store(spec, tmp_path, LAYOUT)


def test_an_empty_table_that_a_killed_build_left_is_no_obstacle(
    table: StoreSpec, postgres: str, tmp_path: Path
) -> None:
    create_store(table, tmp_path, replace(LAYOUT, dims={"hs": 9, "rw": 2})).close()
    again = create_store(table, tmp_path, LAYOUT)
    again.delete(["nobody"])
    with pytest.raises(InputError, match=r"There is a table .* already"):  # empty, but somebody is about to write
        create_store(table, tmp_path, LAYOUT)
    again.upsert(RECORDS, VECTORS)
    again.close()
    with pytest.raises(InputError, match=r"There is a table .* already"):
        create_store(table, tmp_path, LAYOUT)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {table.table}")
        connection.execute(f"COMMENT ON TABLE {table.table} IS 'of somebody else'")
    with pytest.raises(InputError, match=r"There is a table .* already"):
        create_store(table, tmp_path, LAYOUT)


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'moee\[pgvector\]'"):
        create_store(StoreSpec("pgvector", "postgresql://host/db", "t"), tmp_path, LAYOUT)
