from __future__ import annotations

import numpy as np
import pytest

from moee.errors import InputError
from moee.stores.base import rank
from moee.stores.store import Candidates, Query, Record
from tests.stores.records import query_of


@pytest.mark.parametrize(("hidden", "routing"), [(24, 10), (33, 7), (96, 64), (1535, 1021)])
def test_equal_vectors_score_alike_wherever_they_stand(hidden: int, routing: int) -> None:
    """A matrix product errs differently at the edge of a block, which would put equal texts in no order."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.standard_normal((1, hidden + routing)).astype(np.float32), 101, axis=0)
    asked = rng.standard_normal(hidden + routing).astype(np.float32)
    query = query_of(asked, 0.3, hidden)
    records = [Record(f"id-{number:03}", "") for number in rng.permutation(101)]
    hits = rank(query, Candidates(records, vectors), 101)
    assert len({(hit.score, hit.hidden, hit.routing) for hit in hits}) == 1
    assert [hit.record.id for hit in hits] == [f"id-{number:03}" for number in range(101)]
    alone = rank(query, Candidates(records[:1], vectors[:1]), 1)
    assert alone[0].score == hits[0].score


@pytest.mark.parametrize("weights", [(0.0, 0.0), (-1.0, 1.0), (1.0, float("nan")), (float("inf"), 1.0)])
def test_weights_that_rank_nothing_are_refused(weights: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="all must be 0 or larger, finite, and not all 0"):
        Query({"hs": np.ones(2, np.float32), "rw": np.ones(2, np.float32)}, {"hs": weights[0], "rw": weights[1]})
