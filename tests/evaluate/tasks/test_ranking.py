"""Measures of ranked lists against values worked out by hand, and against trec_eval itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moee.evaluate.tasks import ranking

RELEVANT = np.array([True, False, True, False])


def test_average_precision_counts_relevant_documents_that_were_not_found() -> None:
    # precisions 1/1 at rank 1 and 2/3 at rank 3; a third relevant document is nowhere
    assert ranking.average_precision(RELEVANT, 3, cutoff=10) == pytest.approx((1 + 2 / 3) / 3, abs=1e-15)


def test_average_precision_stops_at_the_cutoff() -> None:
    assert ranking.average_precision(RELEVANT, 2, cutoff=2) == pytest.approx(1 / 2, abs=1e-15)


def test_average_precision_without_relevant_documents_is_0() -> None:
    assert ranking.average_precision(np.array([False, False]), 0, cutoff=10) == 0.0


@pytest.mark.parametrize(
    ("relevant", "expected"), [([True, False], 1.0), ([False, True], 0.5), ([False, False, True], 0.0), ([False], 0.0)]
)
def test_reciprocal_rank(relevant: list[bool], expected: float) -> None:
    assert ranking.reciprocal_rank(np.array(relevant), cutoff=2) == expected


def test_ndcg_uses_the_relevance_as_gain_and_the_best_order_as_ideal() -> None:
    gains, judged = np.array([0.0, 2.0, 1.0]), np.array([1.0, 3.0, 2.0])
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    expected = (2 / math.log2(3) + 1 / math.log2(4)) / ideal
    assert ranking.ndcg(gains, judged, cutoff=10) == pytest.approx(expected, abs=1e-15)


def test_ndcg_cuts_the_ideal_too() -> None:
    assert ranking.ndcg(np.array([1.0, 0.0]), np.array([1.0, 1.0, 1.0]), cutoff=1) == 1.0


def test_ndcg_without_anything_relevant_is_0() -> None:
    assert ranking.ndcg(np.zeros(3), np.zeros(3), cutoff=10) == 0.0


def test_ties_go_to_the_later_id() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.5], dtype=np.float32)
    assert ranking.rank(scores, np.array([0, 1, 3, 2])).tolist() == [1, 2, 3, 0]


@pytest.mark.slow
def test_all_measures_equal_trec_evals_on_random_lists_with_ties() -> None:
    import pytrec_eval

    rng = np.random.default_rng(0)
    names = [f"d{n}" for n in range(30)]
    tie_order = np.argsort(np.argsort(np.asarray(names)))
    for _ in range(50):
        scores = rng.integers(0, 8, len(names)).astype(np.float32)
        judged = {name: int(rng.integers(0, 4)) for name in rng.choice(names, 10, replace=False)}
        judged |= {"not in the run": 2}
        measures = {"map_cut.10", "ndcg_cut.10"}
        run = {"q": dict(zip(names, scores.tolist(), strict=True))}
        expected = pytrec_eval.RelevanceEvaluator({"q": judged}, measures).evaluate(run)["q"]
        gains = np.array([judged.get(names[place], 0) for place in ranking.rank(scores, tie_order)], dtype=np.float64)
        all_gains = np.array(list(judged.values()), dtype=np.float64)
        found = ranking.average_precision(gains > 0, int((all_gains > 0).sum()), 10)
        assert found == pytest.approx(expected["map_cut_10"], abs=1e-12)
        assert ranking.ndcg(gains, all_gains, 10) == pytest.approx(expected["ndcg_cut_10"], abs=1e-12)
