"""The measures behind the figures, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from moee.evaluate.reproduce.clusters import compare_clusterings
from moee.evaluate.reproduce.right_pairs import THRESHOLD, chance, rank_errors
from moee.evaluate.reproduce.subsets import spread_pairs, spread_texts
from moee.evaluate.tasks import STSData


def test_rank_errors_by_hand() -> None:
    """Four pairs, ranks 0, 1/3, 2/3, 1; the similarity swaps the outer two."""
    errors = rank_errors(np.array([0.9, 0.2, 0.3, 0.1]), np.array([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(errors, [1.0, 0.0, 0.0, 1.0])


def test_ties_of_the_people_allow_any_order() -> None:
    scores = np.array([0.0, 0.0, 5.0, 5.0])
    np.testing.assert_array_equal(rank_errors(np.array([0.1, 0.2, 0.8, 0.9]), scores), 0.0)
    np.testing.assert_array_equal(rank_errors(np.array([0.2, 0.1, 0.9, 0.8]), scores), 0.0)
    # ranks 0 1/3 2/3 1; the second pair should be within [0, 1/3] and lies at 2/3
    np.testing.assert_allclose(rank_errors(np.array([0.1, 0.8, 0.2, 0.9]), scores), [0, 1 / 3, 1 / 3, 0])


def test_chance_is_that_of_two_uniform_ranks() -> None:
    """Without ties P(|U - V| <= t) = 1 - (1 - t)^2."""
    assert chance(np.arange(1000.0), 0) == pytest.approx(1 - (1 - THRESHOLD) ** 2, abs=0.01)


def test_agreement_does_not_depend_on_the_names_of_clusters() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    for other in (labels, (labels + 1) % 3):
        measured = compare_clusterings(labels, other)
        assert measured.pop("exact_match_percent") == 100
        assert all(value == pytest.approx(1.0) for value in measured.values())


def test_agreement_by_hand() -> None:
    """Two clusters of three; the other view moves one text over.

    Pairs together: 6 here, 3 + 3 = 6 + ... there {0,1} and {2,3,4,5}: 1 + 6; in both: {0,1} 1, {3,4,5} 3.
    """
    measured = compare_clusterings(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 1]))
    assert measured["jaccard_pairs"] == pytest.approx(4 / (6 + 7 - 4))
    assert measured["exact_match_percent"] == pytest.approx(100 * 5 / 6)
    assert measured["jaccard_clusters"] == pytest.approx((2 / 3 + 3 / 4) / 2)


def test_random_clusters_have_no_adjusted_agreement_but_some_match() -> None:
    """Why the raw measures need a baseline beside them."""
    rng = np.random.default_rng(0)
    measured = compare_clusterings(rng.integers(0, 5, 500), rng.integers(0, 5, 500))
    assert abs(measured["ami"]) < 0.02
    assert measured["exact_match_percent"] > 20


def sts(count: int) -> STSData:
    texts = tuple(f"text {number}" for number in range(count + 1))
    places = np.arange(count, dtype=np.int64)
    return STSData("STS12", texts, places, places + 1, places.astype(np.float64))


def test_spread_pairs_keep_texts_scores_and_order() -> None:
    whole, part = sts(50), spread_pairs(sts(50), 10)
    assert len(part.scores) == 10
    assert np.all(np.diff(part.scores) > 0)
    for place, score in enumerate(part.scores):
        assert part.texts[part.left[place]] == whole.texts[int(score)]
        assert part.texts[part.right[place]] == whole.texts[int(score) + 1]
    assert set(np.concatenate([part.left, part.right])) == set(range(len(part.texts)))
    assert (part.scores.min(), part.scores.max()) == (0, 49)
    np.testing.assert_array_equal(spread_pairs(whole, 10).scores, part.scores)


def test_more_than_the_set_is_the_set() -> None:
    np.testing.assert_array_equal(spread_pairs(sts(5), 99).scores, sts(5).scores)
    assert spread_texts(sts(5), 99).texts == sts(5).texts
    assert len(spread_texts(sts(5), 4).texts) == 4
