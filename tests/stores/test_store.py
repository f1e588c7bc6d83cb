from __future__ import annotations

import numpy as np
import pytest

from moee.errors import InputError
from moee.stores.base import rank
from moee.stores.store import Candidates, Hit, Query, Record
from moee.types import Array, View
from tests.stores.records import query_of


@pytest.mark.parametrize(("hidden", "routing"), [(24, 10), (33, 7), (96, 64), (1535, 1021)])
def test_equal_vectors_score_alike_wherever_they_stand(hidden: int, routing: int) -> None:
    """A matrix product errs differently at the edge of a block, which would put equal texts in no order."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.standard_normal((1, hidden + routing)).astype(np.float32), 101, axis=0)
    asked = rng.standard_normal(hidden + routing).astype(np.float32)
    query = query_of(asked, 0.3, {"hs": hidden, "rw": routing})
    records = [Record(f"id-{number:03}", "") for number in rng.permutation(101)]
    hits = rank(query, Candidates(records, vectors), 101)
    assert len({(hit.score, *hit.cosines.values()) for hit in hits}) == 1
    assert [hit.record.id for hit in hits] == [f"id-{number:03}" for number in range(101)]
    alone = rank(query, Candidates(records[:1], vectors[:1]), 1)
    assert alone[0].score == hits[0].score


@pytest.mark.parametrize("weights", [(0.0, 0.0), (-1.0, 1.0), (1.0, float("nan")), (float("inf"), 1.0)])
def test_weights_that_rank_nothing_are_refused(weights: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="all must be 0 or larger, finite, and not all 0"):
        Query({"hs": np.ones(2, np.float32), "rw": np.ones(2, np.float32)}, {"hs": weights[0], "rw": weights[1]})


def test_weights_name_views_that_are_there() -> None:
    blocks: dict[View, Array] = {"hs": np.ones(2, np.float32), "rw": np.ones(3, np.float32)}
    assert Query(blocks, {"hs": 2.0}).weights == {"hs": 2.0, "rw": 0.0}
    assert Query(blocks, {"rw": 1.0, "tokens": 0.0}).weights == {"hs": 0.0, "rw": 1.0}
    with pytest.raises(InputError, match=r"weights name lexical, tokens, and there are the views hs, rw here"):
        Query(blocks, {"hs": 1.0, "lexical": 1.0, "tokens": 0.5})


def test_a_hit_names_every_cosine_and_keeps_the_former_names_of_two() -> None:
    hit = Hit(Record("a", "text", {"year": 2000}), 0.5, {"hs": 0.4, "tokens": 0.6})
    assert hit.to_dict() == {
        "id": "a", "text": "text", "fields": {"year": 2000}, "score": 0.5,
        "cosines": {"hs": 0.4, "tokens": 0.6}, "hidden": 0.4,
    }  # fmt: skip
    assert hit.hidden == 0.4
    with pytest.raises(KeyError):
        assert hit.routing
