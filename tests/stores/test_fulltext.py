"""Full text in every store, and the search that joins words and vectors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from moee.data import calibration_texts
from moee.errors import InputError, StoreError
from moee.method.fusion import split_blocks
from moee.method.lexical import words
from moee.stores import base, flat_words
from moee.stores.base import Store, search
from moee.stores.filters import Filter
from moee.stores.fulltext import K1, B, query_terms
from moee.stores.registry import StoreSpec, create_store, open_store
from moee.stores.store import Layout, Query, Record
from moee.types import Array, View
from tests.stores.conftest import new_table
from tests.stores.records import ids, unit_blocks

DIMS: dict[View, int] = {"hs": 6, "tokens": 3}
LAYOUT = Layout(DIMS, {"year": "integer"}, hybrid=True)
TEXTS = (
    "Cells divide by mitosis.",
    "The sea at night is calm.",
    "Dividing cells in the sea: 100% of a cell's life.",
    "東京タワーは高い",
    "?!",
    "Dogs and cats; 'cats' \\ and dogs.",
)
QUERIES = ("dividing cells", "cats at sea", "東京", "life of a dog at night")


@pytest.fixture
def hybrid(spec: StoreSpec, tmp_path: Path) -> Iterator[Store]:
    """A hybrid store of each kind that holds `TEXTS`."""
    store = create_store(spec, tmp_path, LAYOUT)
    write(store, TEXTS)
    store.compact()
    yield store
    store.close()


def write(store: Store, texts: Sequence[str], start: int = 0) -> None:
    records = [Record(f"id-{row}", text, {"year": 2000 + row}) for row, text in enumerate(texts, start)]
    store.upsert(records, unit_blocks(start + len(texts), dims=DIMS)[start:])


def query(text: str, seed: int = 7, **weights: float) -> Query:
    blocks = split_blocks(unit_blocks(1, seed, DIMS)[0], DIMS)
    return Query(blocks, {view: weights.get(view, 0.0) for view in (*DIMS, "lexical")}, text)


def bm25(texts: Sequence[str], asked: str) -> list[float]:
    """BM25 with Lucene's inverse document frequency, as LanceDB and our statements for PostgreSQL have it."""
    counts = [Counter(words(text)) for text in texts]
    mean = sum(each.total() for each in counts) / len(texts)
    scores = [0.0] * len(texts)
    for term in query_terms(asked):
        holding = sum(term in each for each in counts)
        idf = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
        for row, each in enumerate(counts):
            norm = K1 * (1 - B + B * each.total() / mean)
            scores[row] += idf * each[term] * (K1 + 1) / (each[term] + norm)
    return scores


def best_ids(scores: Sequence[float]) -> list[str]:
    return [f"id-{row}" for row in sorted(range(len(scores)), key=lambda row: -scores[row]) if scores[row] > 0]


@pytest.mark.parametrize("asked", QUERIES)
def test_words_find_what_bm25_ranks_first(hybrid: Store, asked: str) -> None:
    found = hybrid.search_words(query_terms(asked), 10)
    assert ids(found.candidates)[:1] == best_ids(bm25(TEXTS, asked))[:1]
    assert set(ids(found.candidates)) == set(best_ids(bm25(TEXTS, asked)))
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert min(found.scores) > 0
    scores = hybrid.word_scores(query_terms(asked), [f"id-{row}" for row in range(len(TEXTS))] + ["unknown"])
    assert scores == pytest.approx(dict(zip(ids(found.candidates), found.scores, strict=True)), rel=1e-5)


def test_scores_in_postgresql_are_those_of_the_formula(postgres: str, tmp_path: Path) -> None:
    with new_table(postgres) as spec:
        store = create_store(spec, tmp_path, LAYOUT)
        write(store, TEXTS)
        for asked in QUERIES:
            found = store.search_words(query_terms(asked), 10)
            expected = {f"id-{row}": score for row, score in enumerate(bm25(TEXTS, asked)) if score > 0}
            assert dict(zip(ids(found.candidates), found.scores, strict=True)) == pytest.approx(expected)
        store.close()


def test_a_hit_has_every_score_whichever_side_found_it(hybrid: Store) -> None:
    hits = search(hybrid, query("dividing cells", hs=1.0, lexical=1.0), len(TEXTS))
    assert len(hits) == len(TEXTS)
    stored = {record.id: vector for record, vector in zip(*_everything(hybrid), strict=True)}
    asked = query("dividing cells", hs=1.0).blocks
    best = hybrid.search_words(query_terms("dividing cells"), 1)
    assert {hit.record.id: hit.cosines["lexical"] for hit in hits}[best.candidates.records[0].id] == 1.0
    for hit in hits:
        cosines = {
            view: float(asked[view] @ block) for view, block in split_blocks(stored[hit.record.id], DIMS).items()
        }
        assert hit.cosines == pytest.approx({**cosines, "lexical": hit.cosines["lexical"]}, abs=1e-5)
        assert hit.score == pytest.approx((cosines["hs"] + hit.cosines["lexical"]) / 2, abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def _everything(store: Store) -> tuple[list[Record], list[Array]]:
    batches = list(store.scan())
    return [each for batch in batches for each in batch.records], [each for batch in batches for each in batch.vectors]


def test_words_alone_find_only_texts_with_a_word(hybrid: Store) -> None:
    assert [hit.record.id for hit in search(hybrid, query("東京", lexical=1.0), 5)] == ["id-3"]
    assert search(hybrid, query("zebra", lexical=1.0), 5) == []
    assert search(hybrid, query("...", lexical=1.0), 5) == []


def test_vectors_carry_a_query_without_words(hybrid: Store) -> None:
    without = search(hybrid, query("...", hs=1.0, lexical=1.0), 3)
    dense = search(hybrid, query("...", hs=1.0), 3)
    assert [(hit.record.id, hit.score) for hit in without] == [(hit.record.id, hit.score) for hit in dense]


def test_a_filter_changes_no_score(hybrid: Store) -> None:
    asked = query("dividing cells", hs=1.0, lexical=2.0)
    everything = {hit.record.id: hit.score for hit in search(hybrid, asked, 6)}
    filtered = search(hybrid, asked, 6, Filter.parse("year > 2000"))
    assert {hit.record.id for hit in filtered} == set(everything) - {"id-0"}
    assert {hit.record.id: hit.score for hit in filtered} == pytest.approx(
        {name: score for name, score in everything.items() if name != "id-0"}, abs=1e-6
    )


def test_words_follow_what_is_replaced_and_deleted(hybrid: Store) -> None:
    write(hybrid, ["Whales sing."], start=1)
    hybrid.delete(["id-0", "id-5"])
    hybrid.compact()
    assert ids(hybrid.search_words(query_terms("cells"), 5).candidates) == ["id-2"]
    assert ids(hybrid.search_words(query_terms("night calm dogs"), 5).candidates) == []
    assert ids(hybrid.search_words(query_terms("whale"), 5).candidates) == ["id-1"]


def test_an_opened_store_finds_them_again(hybrid: Store, spec: StoreSpec, tmp_path: Path) -> None:
    hybrid.close()
    again = open_store(spec, tmp_path, LAYOUT)
    assert ids(again.search_words(query_terms("mitosis"), 5).candidates) == ["id-0"]
    again.close()
    with pytest.raises(StoreError, match="layout"):
        open_store(spec, tmp_path, Layout(DIMS, LAYOUT.fields))


def test_a_store_without_words_says_so(spec: StoreSpec, tmp_path: Path) -> None:
    store = create_store(spec, tmp_path, Layout(DIMS, {}))
    with pytest.raises(InputError, match="keeps no words"):
        store.search_words(("cell",), 1)
    with pytest.raises(InputError, match="keeps no words"):
        search(store, query("cell", hs=1.0, lexical=1.0), 1)
    store.close()


def test_joined_hits_are_the_best_of_all_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MARGIN", 1)  # so that a search has to widen
    texts = calibration_texts()[:400]
    store = create_store(StoreSpec("flat"), tmp_path, Layout(DIMS, {"year": "integer"}, hybrid=True))
    write(store, texts)
    vectors = unit_blocks(len(texts), dims=DIMS)
    for number, text in enumerate(calibration_texts()[400:420]):
        asked = query(text, seed=number, hs=1.0, tokens=0.5, lexical=1.0)
        scores = store.word_scores(query_terms(text), [f"id-{row}" for row in range(len(texts))])
        most = max(scores.values())
        blocks = split_blocks(vectors, DIMS)
        dense = blocks["hs"] @ asked.blocks["hs"] + 0.5 * blocks["tokens"] @ asked.blocks["tokens"]
        every = [(dense[row] + scores.get(f"id-{row}", 0.0) / most) / 2.5 for row in range(len(texts))]
        hits = search(store, asked, 5)
        np.testing.assert_allclose([hit.score for hit in hits], sorted(every, reverse=True)[:5], atol=1e-5)
    store.close()


def test_sqlite_without_full_text_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(flat_words, "_MODULE", "fts99")
    with pytest.raises(StoreError, match="without full-text search"):
        create_store(StoreSpec("flat"), tmp_path, LAYOUT)
