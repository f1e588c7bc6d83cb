"""Three stores, one ranking; and a weight that is chosen when asking, not when embedding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.data import calibration_texts
from moee.stores.base import Store, search
from moee.stores.registry import StoreSpec, create_store
from moee.stores.store import Hit, Layout, Query, Record
from moee.types import Array, View
from tests.stores.conftest import new_table
from tests.stores.records import query_of, unit_blocks

GOLDEN = Path(__file__).parents[1] / "golden" / "olmoe-tiny"
ALPHAS = (0.0, 0.14, 0.5, 1.0, 3.0)
NUM_QUERIES = 100
DIMS: dict[View, int] = {"hs": 96, "rw": 64, "tokens": 32}


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    return calibration_texts()[:400]


@pytest.fixture
def stores(postgres: str, tmp_path: Path) -> Iterator[list[StoreSpec]]:
    with new_table(postgres) as table:
        yield [StoreSpec("flat"), StoreSpec("lancedb"), table]


def fill(
    stack: ExitStack, specs: list[StoreSpec], folder: Path, vectors: Array, dims: Mapping[View, int]
) -> list[Store]:
    """Make every store, and write the same records to each in several calls."""
    opened = []
    for spec in specs:
        store = create_store(spec, folder, Layout(dims, {"even": "boolean"}))
        stack.callback(store.close)
        records = [Record(f"id-{row}", f"text {row}", {"even": row % 2 == 0}) for row in range(len(vectors))]
        for start in range(0, len(vectors), 700):
            store.upsert(records[start : start + 700], vectors[start : start + 700])
        store.compact()
        opened.append(store)
    return opened


def best(vectors: Array, query: Query, k: int) -> list[str]:
    """What a full sort in float64 finds."""
    scores = vectors.astype(np.float64) @ query.vector.astype(np.float64)
    order = sorted(range(len(vectors)), key=lambda row: (-scores[row], f"id-{row}"))
    return [f"id-{row}" for row in order[:k]]


def assert_same(found: list[list[Hit]], expected: list[str]) -> None:
    for hits in found:
        assert [hit.record.id for hit in hits] == expected
        assert [hit.score for hit in hits] == [hit.score for hit in found[0]], "scored alike to the last bit"


@pytest.mark.slow
def test_the_same_ten_from_every_store_for_random_vectors(stores: list[StoreSpec], tmp_path: Path) -> None:
    vectors = unit_blocks(3000, dims=DIMS)
    queries = unit_blocks(NUM_QUERIES, seed=1, dims=DIMS)
    with ExitStack() as stack:
        opened = fill(stack, stores, tmp_path, vectors, DIMS)
        for row in queries:
            for alpha in ALPHAS:
                query = query_of(row, alpha, DIMS)
                assert_same([search(store, query, 10) for store in opened], best(vectors, query, 10))


@pytest.mark.slow
def test_the_same_ten_from_every_store_for_sentences(
    stores: list[StoreSpec], tmp_path: Path, sentences: list[str]
) -> None:
    model = MoEE.from_pretrained(GOLDEN, dtype="float32")
    model.calibrate(calibration_texts()[400:700])
    vectors = np.concatenate([model.encode(sentences, fusion="hs"), model.encode(sentences, fusion="rw")], axis=1)
    dims: dict[View, int] = {"hs": model.info.hidden_size, "rw": vectors.shape[1] - model.info.hidden_size}
    with ExitStack() as stack:
        opened = fill(stack, stores, tmp_path, vectors[NUM_QUERIES:], dims)
        for row in vectors[:NUM_QUERIES]:
            for alpha in ALPHAS:
                query = query_of(row, alpha, dims)
                assert_same([search(store, query, 10) for store in opened], best(vectors[NUM_QUERIES:], query, 10))


def test_a_weight_chosen_when_asking_is_that_of_embedding_again(
    spec: StoreSpec, tmp_path: Path, sentences: list[str]
) -> None:
    """Vectors are stored once, without any alpha; each score is the cosine of vectors embedded with that alpha."""
    model = MoEE.from_pretrained("fake")
    model.calibrate(calibration_texts()[400:700])
    texts, asked = sentences[:80], sentences[80:84]
    vectors = np.concatenate([model.encode(texts, fusion="hs"), model.encode(texts, fusion="rw")], axis=1)
    blocks = list(zip(model.encode(asked, fusion="hs"), model.encode(asked, fusion="rw"), strict=True))
    with ExitStack() as stack:
        dims: dict[View, int] = {"hs": model.info.hidden_size, "rw": vectors.shape[1] - model.info.hidden_size}
        (store,) = fill(stack, [spec], tmp_path, vectors, dims)
        for alpha in ALPHAS:
            embedded = model.encode(texts, fusion="sum", alpha=alpha).astype(np.float64)
            again = model.encode(asked, fusion="sum", alpha=alpha).astype(np.float64) @ embedded.T
            for (hidden, routing), cosines in zip(blocks, again, strict=True):
                hits = search(store, Query({"hs": hidden, "rw": routing}, {"hs": 1.0, "rw": alpha}), len(texts))
                scores = {hit.record.id: hit.score for hit in hits}
                difference = max(abs(scores[f"id-{row}"] - cosine) for row, cosine in enumerate(cosines))
                assert difference < 1e-5
