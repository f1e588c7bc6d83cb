from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee.errors import InputError, StoreError, TextTypeError, UnknownNameError
from moee.stores.base import MARGIN, MAX_CANDIDATES, Store, search
from moee.stores.filters import Filter
from moee.stores.registry import StoreSpec, create_store, open_store
from moee.stores.store import Layout, Query, Record
from tests.stores.records import (
    DIMS,
    LAYOUT,
    everything,
    ids,
    is_accepted,
    query_of,
    some_records,
    unit_blocks,
)

VECTORS = unit_blocks(300)
RECORDS = some_records(300)


@pytest.fixture
def filled(store: Store) -> Store:
    """300 records, written in three calls."""
    for start in (0, 100, 200):
        store.upsert(RECORDS[start : start + 100], VECTORS[start : start + 100])
    return store


def test_an_empty_store_answers_everything_with_nothing(store: Store) -> None:
    assert len(store) == 0
    assert store.texts_of(["a"]) == {}
    assert store.delete(["a"]) == 0
    assert list(store.scan()) == []
    for found in (store.fetch(["a"]), store.fetch([]), store.search(VECTORS[0], 3)):
        assert (list(found.records), found.vectors.shape, found.vectors.dtype) == ([], (0, LAYOUT.dim), "float32")
    assert search(store, query_of(VECTORS[0]), 3) == []
    store.upsert([], np.empty((0, LAYOUT.dim), dtype=np.float32))
    store.compact()
    assert len(store) == 0


def test_records_come_back_as_they_were_written(filled: Store) -> None:
    assert len(filled) == 300
    found = filled.fetch(["id-250", "nowhere", "id-7", "id-250"])
    assert found.records == [RECORDS[250], RECORDS[7]]
    assert np.array_equal(found.vectors, VECTORS[[250, 7]])
    assert filled.texts_of(["id-1", "nowhere"]) == {"id-1": RECORDS[1].text}
    assert [type(value) for value in found.records[0].fields.values()] == [int, float, str, bool, str]


def test_a_scan_yields_every_record_once_and_always_in_the_same_order(filled: Store) -> None:
    batches = list(filled.scan(batch_size=64))
    assert max(len(batch.records) for batch in batches) <= 64
    assert [name for batch in batches for name in ids(batch)] == [
        name for batch in filled.scan() for name in ids(batch)
    ]
    found = everything(batches)
    assert {name: record for name, (record, _) in found.items()} == {record.id: record for record in RECORDS}
    assert all(np.array_equal(found[record.id][1], VECTORS[row]) for row, record in enumerate(RECORDS))


def test_an_upsert_replaces_a_record_whole(filled: Store) -> None:
    edited = Record("id-5", "another text", {"year": 1900})
    added = Record("id-new", "", {})
    vectors = unit_blocks(2, seed=9)
    filled.upsert([edited, added], vectors)
    missing = dict.fromkeys(LAYOUT.fields)
    assert len(filled) == 301
    found = filled.fetch(["id-5", "id-new"])
    assert found.records == [replace(edited, fields=missing | {"year": 1900}), replace(added, fields=missing)]
    assert np.array_equal(found.vectors, vectors)
    assert search(filled, query_of(vectors[0]), 1)[0].record.text == "another text"
    assert search(filled, query_of(VECTORS[5]), 1)[0].score < 0.99, "the former vector is gone"


def test_deleted_records_are_gone_and_counted(filled: Store) -> None:
    assert filled.delete(["id-3", "id-4", "id-3", "nowhere", 'it\'s "quoted" \\ %s']) == 2
    assert len(filled) == 298
    assert filled.texts_of(["id-3", "id-4", "id-5"]) == {"id-5": RECORDS[5].text}
    assert "id-3" not in {hit.record.id for hit in search(filled, query_of(VECTORS[3]), 300)}
    filled.upsert(RECORDS[3:4], VECTORS[3:4])
    assert search(filled, query_of(VECTORS[3]), 1)[0].record == RECORDS[3]


def test_more_ids_than_a_statement_holds(filled: Store) -> None:
    many = [f"id-{number}" for number in range(5000)]
    assert len(filled.texts_of(many)) == len(filled.fetch(many).records) == 300
    assert filled.delete(many) == 300
    assert len(filled) == 0


@pytest.mark.parametrize(
    "name", ["", "it's", 'say "hi"', "back\\slash", "100 % %s", "日本 é 🙂", "a\nb", "--x; DROP", "`b`"]
)
def test_ids_and_texts_may_be_any_string(store: Store, name: str) -> None:
    record = Record(name, name, {"lang": name})
    store.upsert([record, Record("other", "x")], VECTORS[:2])
    store.upsert([replace(record, text="edited " + name)], VECTORS[:1])
    assert store.texts_of([name]) == {name: "edited " + name}
    condition = Filter.parse(f"lang == {name!r}")
    assert ids(store.search(VECTORS[0], 5, condition)) == ids(store.fetch([name])) == [name]
    assert store.delete([name]) == 1
    assert len(store) == 1


def test_a_search_is_exact(filled: Store) -> None:
    query = query_of(VECTORS[11] + 0.3 * VECTORS[12], alpha=0.7)
    expected = np.argsort(-(VECTORS.astype(np.float64) @ query.vector.astype(np.float64)))[:20]
    hits = search(filled, query, 20)
    assert [hit.record.id for hit in hits] == [f"id-{row}" for row in expected]
    for hit, row in zip(hits, expected, strict=True):
        cosines = {view: block @ query.blocks[view] for view, block in LAYOUT.split(VECTORS[row]).items()}
        assert hit.cosines == pytest.approx(cosines, abs=1e-6)
        score = (cosines["hs"] + 0.7 * cosines["rw"] + 0.25 * cosines["tokens"]) / 1.95
        assert hit.score == pytest.approx(score, abs=1e-6)


def test_a_search_for_more_than_there_is_returns_all(filled: Store) -> None:
    assert len(filled.search(VECTORS[0], 1000).records) == 300
    assert len(search(filled, query_of(VECTORS[0]), 1000)) == 300


@pytest.mark.parametrize(
    "text",
    [
        "year >= 2010",
        "year != 2010",
        "not year == 2010",
        "year is None",
        "year is not None and is_draft",
        "is_draft == False or lang == '日本語'",
        "lang in ('en', \"de\") and not (year < 2020 or is_draft)",
        "lang >= 'e'",
        "10 <= field('Page count') < 20.25",
        "field('id') not in ('isbn 3', 'isbn 4')",
        "year == 1",
    ],
)
def test_a_filter_leaves_the_same_records_in_every_store(filled: Store, text: str) -> None:
    condition = Filter.parse(text)
    expected = {record.id for record in RECORDS if is_accepted(condition, record.fields)}
    assert set(ids(filled.search(VECTORS[0], 300, condition))) == expected
    hits = search(filled, query_of(VECTORS[0]), 5, condition)
    scores = {row: VECTORS[row] @ query_of(VECTORS[0]).vector for row in range(300) if RECORDS[row].id in expected}
    assert [hit.record.id for hit in hits] == [f"id-{row}" for row in sorted(scores, key=lambda row: -scores[row])[:5]]


def test_repeated_texts_come_in_the_order_of_their_ids(store: Store) -> None:
    """A store may return any of equal vectors; a search looks on until it knows them all."""
    repeated = np.repeat(VECTORS[:1], 500, axis=0)
    names = [f"copy-{number:03}" for number in np.random.default_rng(1).permutation(500)]
    store.upsert([Record(name, "again") for name in names], repeated)
    store.upsert(RECORDS[1:200], VECTORS[1:200])
    assert MAX_CANDIDATES > 500
    hits = search(store, query_of(VECTORS[0]), 10)
    assert [hit.record.id for hit in hits] == [f"copy-{number:03}" for number in range(10)]
    assert {round(hit.score, 6) for hit in hits} == {1.0}


def test_each_view_alone_can_be_searched(filled: Store) -> None:
    """A query of blocks of three texts finds each by its own view; the others are told beside the score."""
    blocks = {view: LAYOUT.split(VECTORS[row])[view] for row, view in enumerate(DIMS)}
    for row, view in enumerate(DIMS):
        hit = search(filled, Query(blocks, {view: 1.0}), 1)[0]
        assert hit.record.id == f"id-{row}"
        assert hit.score == hit.cosines[view] == pytest.approx(1, abs=1e-6)
        assert list(hit.cosines) == list(DIMS)


def test_a_store_opens_as_it_was_left(spec: StoreSpec, tmp_path: Path) -> None:
    first = create_store(spec, tmp_path, LAYOUT)
    first.upsert(RECORDS, VECTORS)
    first.delete(["id-0"])
    first.close()
    written = json.loads(json.dumps(asdict(spec)))
    opened = open_store(StoreSpec(**written), tmp_path, LAYOUT)
    assert len(opened) == 299
    assert opened.layout == LAYOUT
    assert search(opened, query_of(VECTORS[9]), 1)[0].record == RECORDS[9]
    opened.upsert(RECORDS[:1], VECTORS[:1])
    assert len(opened) == 300
    opened.close()


def test_the_order_of_the_fields_does_not_matter(spec: StoreSpec, tmp_path: Path) -> None:
    create_store(spec, tmp_path, LAYOUT).close()
    turned = replace(LAYOUT, fields=dict(reversed(LAYOUT.fields.items())))
    opened = open_store(spec, tmp_path, turned)
    opened.upsert(RECORDS[:3], VECTORS[:3])
    assert opened.fetch(["id-1"]).records == [RECORDS[1]]
    assert list(opened.fetch(["id-1"]).records[0].fields) == list(turned.fields)
    assert ids(opened.search(VECTORS[0], 3, Filter.parse("lang == 'de' and field('id') == 'isbn 1'"))) == ["id-1"]
    opened.close()


def test_compaction_changes_no_record(filled: Store) -> None:
    filled.delete([f"id-{number}" for number in range(0, 300, 3)])
    filled.upsert(some_records(50, start=100, edition=1), VECTORS[100:150])
    before = everything(list(filled.scan()))
    filled.compact()
    after = everything(list(filled.scan()))
    assert {name: record for name, (record, _) in after.items()} == {
        name: record for name, (record, _) in before.items()
    }
    assert all(np.array_equal(after[name][1], before[name][1]) for name in before)
    filled.upsert(RECORDS, VECTORS)
    assert search(filled, query_of(VECTORS[3]), 1)[0].record == RECORDS[3]


def test_a_reader_sees_what_another_writes(spec: StoreSpec, tmp_path: Path) -> None:
    writer = create_store(spec, tmp_path, LAYOUT)
    reader = open_store(spec, tmp_path, LAYOUT)
    writer.upsert(RECORDS[:10], VECTORS[:10])
    assert len(reader) == 10
    assert search(reader, query_of(VECTORS[3]), 1)[0].record == RECORDS[3]
    writer.delete(["id-3"])
    writer.compact()
    assert search(reader, query_of(VECTORS[3]), 1)[0].record != RECORDS[3]
    assert reader.fetch(["id-4"]).records == [RECORDS[4]]
    writer.close()
    reader.close()


def test_a_second_writer_is_refused_until_the_first_is_done(spec: StoreSpec, tmp_path: Path) -> None:
    first = create_store(spec, tmp_path, LAYOUT)
    second = open_store(spec, tmp_path, LAYOUT)
    first.upsert(RECORDS[:2], VECTORS[:2])
    with pytest.raises(StoreError, match=r"Another writer has .* open. One may write at a time"):
        second.delete(["id-0"])
    assert len(second) == 2
    first.close()
    assert second.delete(["id-0"]) == 1
    second.close()


BAD_BATCHES: list[tuple[list[Record], Any, type[Exception], str]] = [
    ([Record("a", "x", {"yaer": 1})], VECTORS[:1], UnknownNameError, r"Unknown field 'yaer'.*Did you mean 'year'.*'a'"),
    ([Record("a", "x", {"year": "1999"})], VECTORS[:1], InputError, r"'year' of record 'a' is '1999'; .* whole number"),
    ([Record("a", "x", {"year": True})], VECTORS[:1], InputError, r"is True; it must be a whole number"),
    ([Record("a", "x", {"year": 2**63})], VECTORS[:1], InputError, r"at most 64 bits"),
    ([Record("a", "x", {"year": 1.0})], VECTORS[:1], InputError, r"whole number"),
    ([Record("a", "x", {"Page count": float("nan")})], VECTORS[:1], InputError, r"is nan; it must be a finite number"),
    ([Record("a", "x", {"Page count": 2**53 + 1})], VECTORS[:1], InputError, r"64-bit float holds exactly"),
    ([Record("a", "x", {"is_draft": 1})], VECTORS[:1], InputError, r"must be True or False, or missing"),
    ([Record("a", "x", {"lang": 3})], VECTORS[:1], InputError, r"must be a string"),
    ([Record("a", "x", {"lang": "\ud800"})], VECTORS[:1], InputError, r"half of a surrogate pair"),
    ([Record("a", None)], VECTORS[:1], TextTypeError, r"text of record 'a' is no string but null"),  # type: ignore[arg-type]
    ([Record(7, "x")], VECTORS[:1], TextTypeError, r"record's id is no string but a number"),  # type: ignore[arg-type]
    ([Record("a", "x"), Record("a", "y")], VECTORS[:2], InputError, r"id 'a' comes twice"),
    ([Record("a", "x")], VECTORS[:2], InputError, r"shape \(2, 34\); 1 records of this index need \(1, 34\)"),
    ([Record("a", "x")], VECTORS[:1, :-1], InputError, r"shape \(1, 33\)"),
    ([Record("a", "x"), Record("b", "x")], np.vstack([VECTORS[0], VECTORS[1] * np.nan]), InputError, r"'b' holds NaN"),
    ([Record("a", "x")], VECTORS[:1] * np.inf, InputError, r"'a' holds NaN or infinity"),
]


def test_what_cannot_be_stored_is_refused_and_changes_nothing(store: Store) -> None:
    store.upsert(RECORDS[:3], VECTORS[:3])
    for records, vectors, error, words in BAD_BATCHES:
        with pytest.raises(error, match=words):
            store.upsert(records, vectors)
    assert len(store) == 3
    assert store.fetch(["a", "b"]).records == []


def test_what_cannot_be_searched_is_refused(filled: Store) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown field 'langg'.*Did you mean 'lang'"):
        filled.search(VECTORS[0], 3, Filter.parse("langg == 'en'"))
    with pytest.raises(InputError, match=r"compares the field 'year' with '2000'; it must be a whole number"):
        filled.search(VECTORS[0], 3, Filter.parse("year > '2000'"))
    with pytest.raises(InputError, match=r"query has shape \(33,\); this index needs \(34,\)"):
        filled.search(VECTORS[0, :-1], 3)
    with pytest.raises(InputError, match="NaN"):
        filled.search(VECTORS[0] * np.nan, 3)
    with pytest.raises(InputError, match="k is 0"):
        filled.search(VECTORS[0], 0)
    with pytest.raises(InputError, match="k is -1"):
        search(filled, query_of(VECTORS[0]), -1)
    with pytest.raises(InputError, match=r"hs 23 \+ rw 8 \+ tokens 3, the index of hs 24 \+ rw 7 \+ tokens 3"):
        search(filled, query_of(VECTORS[0], dims={"hs": 23, "rw": 8, "tokens": 3}), 3)


def test_another_layout_is_refused(spec: StoreSpec, tmp_path: Path) -> None:
    create_store(spec, tmp_path, LAYOUT).close()
    for other in (
        replace(LAYOUT, dims={"hs": 23, "rw": 8, "tokens": 3}),
        replace(LAYOUT, dims={"hs": 24, "rw": 7, "lexical": 3}),
        replace(LAYOUT, dims={"rw": 7, "hs": 24, "tokens": 3}),
        replace(LAYOUT, fields={**LAYOUT.fields, "year": "number"}),
        replace(LAYOUT, fields={}),
    ):
        with pytest.raises(StoreError, match=r"layout .* was expected"):
            open_store(spec, tmp_path, other)


def test_a_store_is_neither_made_twice_nor_opened_unmade(spec: StoreSpec, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no"):
        open_store(spec, tmp_path, LAYOUT)
    made = create_store(spec, tmp_path, LAYOUT)
    made.upsert(RECORDS[:1], VECTORS[:1])
    made.close()
    with pytest.raises(InputError, match=r"not empty|already"):
        create_store(spec, tmp_path, LAYOUT)
    opened = open_store(spec, tmp_path, LAYOUT)
    assert len(opened) == 1
    opened.close()


def test_a_layout_that_cannot_be_stored_is_refused(spec: StoreSpec, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="each must have 1 or more"):
        create_store(spec, tmp_path, Layout({"hs": 8, "rw": 0}, {}))
    with pytest.raises(InputError, match="there must be a block"):
        create_store(spec, tmp_path, Layout({}, {}))
    with pytest.raises(UnknownNameError, match="Unknown field type 'date'"):
        create_store(spec, tmp_path, Layout({"hs": 8, "rw": 8}, {"day": "date"}))  # type: ignore[dict-item]


def test_the_spec_of_a_store_holds_no_password() -> None:
    spec = StoreSpec.parse("postgresql://me:s%40cret@host:5433/db?sslmode=require&sslpassword=k%26y", "My Index!")
    assert spec.url == "postgresql://me@host:5433/db?sslmode=require"
    assert spec.secrets == {"password": "s@cret", "sslpassword": "k&y"}
    assert spec.table == "moee_my_index"
    for shown in (repr(spec), json.dumps(asdict(spec))):
        assert "cret" not in shown
        assert "k&y" not in shown
    assert StoreSpec(**asdict(spec)) == spec
    assert StoreSpec(**asdict(spec)).secrets == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("faiss", r"Unknown store 'faiss'. Choose flat, lancedb, or the url"),
        ("pgvector", r"Unknown store 'pgvector'"),
        ("mysql://me:secret@host/db", r"'mysql://...@host/db'"),
        ("postgresql://me:p@ss/word@host/db", r"cannot be read; it must have the form"),
    ],
)
def test_an_unknown_store_is_said_without_its_password(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        StoreSpec.parse(text, "index")
    assert "secret" not in str(caught.value)
    assert "word" not in str(caught.value).replace("password", "")


def test_parts_of_a_spec_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Unknown store 'qdrant'"):
        StoreSpec("qdrant")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'pgvector' needs both"):
        StoreSpec("pgvector")
    with pytest.raises(InputError, match="other stores take neither"):
        StoreSpec("flat", "postgresql://host/db", "t")
    with pytest.raises(InputError, match="searches exactly alone"):
        StoreSpec("flat", approximate=True)


def test_a_margin_is_asked_for(filled: Store) -> None:
    assert len(filled.search(query_of(VECTORS[0]).vector, 10 + MARGIN).records) >= 10 + MARGIN
