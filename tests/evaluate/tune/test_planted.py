"""Views whose worth is known: the default weight of RW does no harm, and tuning finds the gain where there is one.

Scores are Spearman correlations with the true likeness of fresh pairs, times 100, under the layers that were chosen.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from moee.evaluate.alpha import ways
from moee.evaluate.tune.criterion import LabelledPairs, SiblingRank
from moee.evaluate.tune.search import Choice, choose
from moee.method.fusion import DEFAULT_WEIGHTS
from tests.evaluate.tune.planted import CASES, CONFIG, Planted, best_weight

FINE = (0.0, *np.geomspace(0.02, 50, 60))
NOISE = 0.5
"""Points below HS that are no loss."""


@cache
def truth(case: str) -> tuple[float, float, float]:
    """Return the scores of HS alone, of the default weights of HS and RW, and of the best weights of a fine grid."""
    planted = Planted(case)
    pairs = planted.pairs(3000, seed=5)
    criterion = LabelledPairs(pairs[2])
    cosines = planted.cosines(criterion, pairs)
    default = criterion.value(cosines, {"hs": 1.0, "rw": DEFAULT_WEIGHTS["rw"]})
    return 100 * criterion.value(cosines, {"hs": 1.0}), 100 * default, 100 * best_weight(criterion, cosines, FINE)[1]


def by_siblings(case: str) -> Choice:
    """Tune on pairs that resemble each other, without labels."""
    planted = Planted(case)
    left, right, _ = planted.pairs(300, seed=6, likeness=0.6)
    criterion = SiblingRank()
    return choose(criterion, planted.candidates(criterion, left, right), CONFIG.weights, ["rw"])


def by_labels(case: str) -> Choice:
    """Tune on a few pairs with scores."""
    planted = Planted(case)
    left, right, likeness = planted.pairs(150, seed=7)
    criterion = LabelledPairs(np.round(4 * likeness))
    return choose(criterion, planted.candidates(criterion, left, right), CONFIG.weights, ["rw"])


def score_of(case: str, choice: Choice) -> float:
    """Return the true score of a choice on fresh pairs."""
    planted = Planted(case)
    pairs = planted.pairs(3000, seed=5)
    criterion = LabelledPairs(pairs[2])
    candidates = planted.candidates(criterion, pairs[0], pairs[1])
    used = next(each for each in candidates if each.layers == choice.chosen.layers)
    return 100 * criterion.value(used.cosines, choice.chosen.weights)


@pytest.mark.parametrize("case", CASES)
def test_the_default_never_falls_below_hidden_states_alone(case: str) -> None:
    hidden, default, _ = truth(case)
    assert default >= hidden - NOISE


def test_the_cases_are_what_they_are_called() -> None:
    gains = {case: truth(case)[2] - truth(case)[0] for case in CASES}
    assert gains["complementary"] > 10
    assert gains["perfect"] > 10
    assert gains["worthless"] < 0.1
    assert gains["copy"] < 2  # two looks at the same thing, each with noise of its own


@pytest.mark.parametrize("find", [by_siblings, by_labels])
@pytest.mark.parametrize("case", CASES)
def test_tuning_finds_the_gain_and_no_other(case: str, find: object) -> None:
    assert callable(find)
    hidden, _, best = truth(case)
    choice: Choice = find(case)
    found = score_of(case, choice)
    assert found >= hidden - NOISE
    if case in ("complementary", "perfect"):
        assert found >= best - 2
        assert choice.gain.low > 0
        assert choice.chosen is choice.best


def test_a_rule_that_rewards_repetition_gives_views_that_complement_each_other_no_weight() -> None:
    """Why alpha's closed forms are no substitute: the slope is near 0 here, and the ratio of deviations is blind."""
    chosen = {}
    for case in ("complementary", "copy", "worthless"):
        left, _, _ = Planted(case).pairs(400, seed=8)
        units = Planted(case).space().units(left)
        cosines = ways.all_pairs(units["hs"], units["rw"])
        chosen[case] = (ways.slope(cosines), ways.scale(cosines))
    assert chosen["complementary"][0] < 0.1
    assert chosen["copy"][0] > 0.5
    assert chosen["worthless"][1] > 0.5
