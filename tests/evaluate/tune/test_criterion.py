"""Criteria and the search: their formulas, and what is chosen, kept and said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from moee.errors import InputError
from moee.evaluate.tune.criterion import LabelledPairs, SiblingRank, weighed
from moee.evaluate.tune.search import GRIDS, Candidate, choose, last_layers, with_layers
from moee.types import View
from tests.evaluate.tune.planted import LAYERS, Planted, Wide

rng = np.random.default_rng(0)


def test_similarities_are_the_mean_of_the_cosines_that_count() -> None:
    cosines: dict[View, Wide] = {"hs": rng.normal(size=(3, 3)), "rw": rng.normal(size=(3, 3))}
    found = weighed(cosines, {"hs": 3, "rw": 1, "lexical": 0})
    assert found == pytest.approx(0.75 * cosines["hs"] + 0.25 * cosines["rw"])
    with pytest.raises(InputError, match="None of the views hs, rw counts"):
        weighed(cosines, {"lexical": 1})


def test_the_reciprocal_rank_is_that_of_sorted_similarities_with_ties_shared() -> None:
    similarities = np.round(rng.normal(size=(40, 40)), 1)
    places = np.arange(40)
    by_row = [rankdata(-row)[place] for place, row in zip(places, similarities, strict=True)]
    by_column = [rankdata(-row)[place] for place, row in zip(places, similarities.T, strict=True)]
    wanted = (1 / np.array(by_row) + 1 / np.array(by_column)) / 2
    assert SiblingRank().items(similarities) == pytest.approx(wanted)
    assert SiblingRank().score(wanted).main == pytest.approx(wanted.mean())
    assert SiblingRank().items(np.eye(5)) == pytest.approx(np.ones(5))
    assert SiblingRank().items(np.zeros((5, 5))) == pytest.approx(np.full(5, 1 / 3))  # all level: the middle rank


def test_labelled_pairs_are_scored_by_their_ranks() -> None:
    scores = np.array([1.0, 2.0, 2.0, 4.0, 3.0])
    items = np.array([0.1, 0.3, 0.2, 0.9, 0.4])
    assert LabelledPairs(scores).score(items).main == pytest.approx(spearmanr(items, scores).statistic)
    assert LabelledPairs(scores).score(np.ones(5)).main == 0.0
    with pytest.raises(InputError, match="The 3 labelled pairs have one score only"):
        LabelledPairs(np.ones(3))


def made_cosines(quality: dict[View, float], count: int = 200) -> dict[View, Wide]:
    """Cosines whose diagonal stands out by so many deviations."""
    return {view: rng.normal(size=(count, count)) + np.diag(np.full(count, q)) for view, q in quality.items()}


def test_what_is_better_by_a_whole_interval_is_chosen_with_its_curve() -> None:
    cosines = made_cosines({"hs": 2.0, "rw": 2.0, "lexical": 3.0})
    candidates = [Candidate("present", "present", cosines)]
    found = choose(SiblingRank(), candidates, {"hs": 2.0, "rw": 0.2, "lexical": 0.5}, ["rw"])
    assert found.present.weights == {"hs": 1.0, "rw": 0.1, "lexical": 0.25}  # in the unit of HS
    assert found.chosen is found.best
    assert found.chosen.weights["lexical"] == 0.25  # it was not free
    assert found.chosen.weights["rw"] >= 0.5
    assert found.gain.low > 0
    assert found.gain.difference == pytest.approx(found.best.score - found.present.score)
    assert found.alone["lexical"] > found.alone["hs"]
    curves: dict[View, list[float]] = {}
    for view, trial in found.curve:
        curves.setdefault(view, []).append(trial.weights[view])
        if trial.weights[view] == found.chosen.weights.get(view, 0.0):
            assert trial.score == pytest.approx(found.chosen.score)
    assert list(curves) == ["rw", "lexical"]
    assert set(GRIDS["rw"]) <= set(curves["rw"])
    assert not found.notes


def test_where_nothing_is_better_the_present_choice_stays_and_is_said_to() -> None:
    cosines = made_cosines({"hs": 3.0, "rw": 0.0}, count=60)
    other = Candidate("all", "own", {view: values + 1e-9 for view, values in cosines.items()})
    found = choose(SiblingRank(), [Candidate("present", "present", cosines), other], {"hs": 1.0}, ["rw"])
    assert found.chosen is found.present
    assert found.chosen.weights == {"hs": 1.0}
    assert found.notes[0].startswith("The present choice is kept: nothing else is better")


def test_better_layers_or_statistics_are_chosen() -> None:
    worse, better = made_cosines({"hs": 1.0, "rw": 1.0}), made_cosines({"hs": 3.0, "rw": 1.0})
    candidates = [Candidate("present", "present", worse), Candidate("last_half", "own", better)]
    found = choose(SiblingRank(), candidates, {"hs": 1.0}, ["rw"])
    assert (found.chosen.layers, found.chosen.statistics) == ("last_half", "own")
    assert [trial.layers for trial in found.by_candidate] == ["present", "last_half"]


def test_a_criterion_that_every_view_meets_is_called_blind() -> None:
    found = choose(
        SiblingRank(), [Candidate("present", "present", made_cosines({"hs": 30.0, "rw": 1.0}))], {"hs": 1.0}, ["rw"]
    )
    assert "The criterion is blind here: hs alone scores 100.0" in found.notes[-1]


def test_layers_are_the_last_parts_and_views_are_cut_to_them() -> None:
    assert last_layers((5, 1, 3, 7), "all") == (1, 3, 5, 7)
    assert [last_layers(range(7), name) for name in ("last_half", "last_third", "last_sixth")] == [
        (3, 4, 5, 6),
        (4, 5, 6),
        (5, 6),
    ]
    with pytest.raises(InputError, match="no MoE layers"):
        last_layers((), "all")
    views = Planted("copy").general(20)
    cut = with_layers(views, (1, 4))
    assert (cut.layer_ids, cut.num_experts) == ((1, 4), views.num_experts[:2])
    assert np.array_equal(cut.routing_layer(4), views.routing_layer(4))
    assert np.array_equal(cut.hidden_states, views.hidden_states)
    assert np.array_equal(with_layers(views, range(LAYERS)).routing_weights, views.routing_weights)
