"""Ways to choose alpha: what each maximises, where they agree, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from moee import MoEE
from moee.errors import InputError
from moee.evaluate.alpha import ways
from moee.evaluate.alpha.tune import METHODS, ScoredPairs, tune_alpha
from moee.evaluate.alpha.ways import MULTIPLES, PairCosines
from moee.method.fusion import fuse, unit
from moee.method.moments import cosine_slope
from moee.types import Array

WORDS = ["cat", "dog", "mat", "fur", "rate", "bank", "loan", "fund", "sun", "rain", "wind", "snow", "red", "blue"]


def make_cosines(correlation: float, ratio: float = 0.5, count: int = 4000, seed: int = 0) -> PairCosines:
    """Cosines with a given correlation, sd 0.2 for HS and 0.2 / ratio for RW, means that differ."""
    x, y = np.random.default_rng(seed).normal(size=(2, count))
    y = correlation * x + math.sqrt(1 - correlation**2) * y
    return PairCosines(0.3 + 0.2 * x, -0.1 + 0.2 / ratio * y)


def blocks(count: int = 60) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(count, 4))
    hidden, routing = (np.hstack([shared, rng.normal(size=(count, 6))]) for _ in range(2))
    return unit(hidden), unit(routing)


def texts(count: int = 40) -> list[str]:
    rng = np.random.default_rng(2)
    return [" ".join(rng.choice(WORDS, size=6)) + f" {number}" for number in range(count)]


def model(**settings: Any) -> MoEE:
    fake = MoEE.from_pretrained("fake", **settings)
    if fake.config.calibration != "none":
        fake.calibrate(texts(60))
    return fake


def objective(cosines: PairCosines, alpha: float) -> float:
    fused = cosines.fused(alpha)
    return sum(float(np.corrcoef(fused, each)[0, 1]) for each in (cosines.hidden, cosines.routing))


def test_pairs_are_those_of_the_fused_vectors() -> None:
    hidden, routing = blocks()
    cosines = ways.all_pairs(hidden, routing)
    vectors = fuse({"hs": hidden, "rw": routing}, "sum", 0.7)
    above = np.triu_indices(60, 1)
    assert cosines.fused(0.7) == pytest.approx((vectors @ vectors.T)[above], abs=1e-5)


def test_the_closed_form_is_that_of_calibration() -> None:
    hidden, routing = blocks()
    cosines = ways.all_pairs(hidden, routing)
    assert ways.closed_form(cosines) == pytest.approx(cosine_slope(hidden, routing), rel=1e-6)
    assert ways.closed_form(make_cosines(-0.5)) == 0.0


@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.3, 0.9])
def test_gradient_ascent_ends_at_the_ratio_of_the_deviations(correlation: float) -> None:
    """Whatever the correlation: the optimum is scale matching. The objective is checked against its definition."""
    cosines = make_cosines(correlation)
    found = ways.by_gradient(cosines)
    assert found.alpha == pytest.approx(ways.scale(cosines), rel=1e-4)
    assert found.alpha == pytest.approx(0.5, rel=0.05)
    assert found.value == pytest.approx(objective(cosines, found.alpha), abs=1e-9)
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert objective(cosines, factor * found.alpha) < found.value
    assert found.steps > 0


def test_smooth_ranks_end_near_the_optimum_of_true_ranks() -> None:
    cosines = make_cosines(0.3, count=1200)
    skewed = PairCosines(np.exp(2 * cosines.hidden), cosines.routing)

    def ranked(alpha: float) -> float:
        fused = skewed.fused(alpha)
        return float(spearmanr(fused, skewed.hidden).statistic + spearmanr(fused, skewed.routing).statistic)

    found = ways.by_smooth_ranks(skewed)
    best = max(ranked(factor * ways.scale(skewed)) for factor in np.geomspace(0.25, 4, 81))
    assert ranked(found.alpha) == pytest.approx(best, abs=5e-3)
    assert found.value == pytest.approx(best, abs=2e-2)
    assert ranked(1.0) < best - 5e-3  # it had to move from its start
    # the two views are alike here, so ranks too ask for the ratio of the deviations
    plain = ways.by_smooth_ranks(cosines)
    assert plain.alpha == pytest.approx(ways.scale(cosines), rel=0.05)


def test_the_slope_of_smooth_ranks_is_their_derivative() -> None:
    rng = np.random.default_rng(3)
    s, change = rng.normal(size=(2, 50))
    _, slope = ways._smooth_ranks(s, change)
    step = 1e-6
    ahead, behind = (ways._smooth_ranks(s + sign * step * change, change)[0] for sign in (1, -1))
    assert slope == pytest.approx((ahead - behind) / (2 * step), abs=1e-5)


def test_agreement_turns_to_the_view_that_prompts_share() -> None:
    rng = np.random.default_rng(5)
    shared, *own = rng.normal(size=(4, 3000))
    by_hidden = [PairCosines(shared + 0.1 * noise, noise) for noise in own]
    by_routing = [PairCosines(noise, 0.5 * shared + 0.05 * noise) for noise in own]
    assert ways.by_agreement(by_hidden).alpha == 0.0
    found = ways.by_agreement(by_routing)
    assert found.alpha == pytest.approx(MULTIPLES[-1] * ways.scale(by_routing[0]))
    assert found.by_alpha[found.alpha] == max(found.by_alpha.values()) > 0.9
    assert found.by_alpha[0.0] == pytest.approx(0, abs=0.1)


def test_agreement_does_not_depend_on_the_scale_of_another_prompt() -> None:
    rng = np.random.default_rng(6)
    x, y, *noise = rng.normal(size=(4, 2000))
    # what is odd about a prompt cancels between the views at alpha 1
    first, second = (PairCosines(x + own, y - own) for own in noise)
    stretched = PairCosines(second.hidden, 7 * second.routing)
    found, again = ways.by_agreement([first, second]), ways.by_agreement([first, stretched])
    assert found.alpha == pytest.approx(1.0, rel=0.2)
    assert again.alpha == pytest.approx(found.alpha)


def test_labels_find_the_alpha_behind_the_scores() -> None:
    cosines = make_cosines(0.2, ratio=1.0, count=500)
    scores = cosines.hidden + 0.5 * cosines.routing
    found = ways.best_by_labels(cosines, scores, scale_alpha=ways.scale(cosines))
    assert found.alpha == pytest.approx(0.5, rel=0.1)
    assert found.over_hidden is not None
    assert found.over_hidden.low > 0
    assert found.over_hidden.difference == pytest.approx(found.by_alpha[found.alpha] - found.by_alpha[0.0])
    only_hidden = ways.best_by_labels(cosines, cosines.hidden, scale_alpha=1.0)
    assert only_hidden.alpha == 0.0
    assert only_hidden.over_hidden is not None
    assert only_hidden.over_hidden.high == 0.0


def test_what_cannot_be_told_apart_is_refused() -> None:
    alike = PairCosines(np.linspace(0, 1, 9), np.full(9, 0.25))
    with pytest.raises(InputError, match="RW cosines of 9 pairs of texts are all alike"):
        ways.scale(alike)
    cosines = make_cosines(0.1, count=10)
    with pytest.raises(InputError, match="got 1 prompts"):
        ways.by_agreement([cosines])
    with pytest.raises(InputError, match=r"\[10, 11\] pairs"):
        ways.by_agreement([cosines, make_cosines(0.1, count=11)])
    with pytest.raises(InputError, match="got 9 scores"):
        ways.best_by_labels(cosines, np.arange(9.0), scale_alpha=1.0)
    with pytest.raises(InputError, match="1 different"):
        ways.best_by_labels(cosines, np.ones(10), scale_alpha=1.0)


# --- with an embedder ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calibration", ["spectral", "zscore", "none"])
def test_every_way_gives_an_alpha_that_the_embedder_takes(calibration: str) -> None:
    embedder = model(calibration=calibration)
    corpus = texts()
    pairs = ScoredPairs(corpus[:20], corpus[20:], np.arange(20.0))
    found = tune_alpha(embedder, corpus, pairs=pairs)
    assert tuple(choice.method for choice in found.choices) == METHODS
    views = embedder.encode_views(corpus)
    hidden, routing = embedder.encode(corpus, fusion="hs"), embedder.encode(corpus, fusion="rw")
    above = np.triu_indices(len(corpus), 1)
    x, y = ((units @ units.T)[above] for units in (hidden, routing))
    for choice in found.choices:
        vectors = embedder.with_settings(alpha=choice.alpha).fuse(views)
        fused = (vectors @ vectors.T)[above]
        assert choice.with_hidden == pytest.approx(spearmanr(fused, x).statistic, abs=1e-4)
        assert choice.with_routing == pytest.approx(spearmanr(fused, y).statistic, abs=1e-4)
        assert choice.share == pytest.approx(choice.alpha * y.std() / (x.std() + choice.alpha * y.std()), abs=1e-4)
    assert found.choice("scale").share == pytest.approx(0.5, abs=1e-6)
    assert found.choice("gradient").alpha == pytest.approx(found.choice("scale").alpha, rel=1e-3)
    assert found.num_texts == 40


def test_the_closed_form_on_the_calibration_texts_is_what_auto_means() -> None:
    embedder = model()
    found = tune_alpha(embedder, texts(60), compare_prompts=[])
    assert embedder.calibration is not None
    expected = embedder.calibration.alpha("spectral")
    assert found.configured == expected
    assert found.choice("closed-form").alpha == pytest.approx(expected, rel=1e-4)
    assert [choice.method for choice in found.choices] == list(METHODS[:4])
    assert tune_alpha(model(alpha=0.3), texts(60), compare_prompts=[]).configured == 0.3


def test_a_sample_is_used_and_repeats_are_not() -> None:
    embedder = model()
    assert tune_alpha(embedder, texts(30) * 3, compare_prompts=[]).num_texts == 30
    small = tune_alpha(embedder, texts(60), sample=20, compare_prompts=[])
    assert small.num_texts == 20
    again = tune_alpha(embedder, texts(60), sample=20, compare_prompts=[])
    assert small == again
    assert small != tune_alpha(embedder, texts(60), sample=20, compare_prompts=[], seed=1)


def test_what_has_no_use_for_alpha_is_refused() -> None:
    with pytest.raises(InputError, match="fusion='hs'"):
        tune_alpha(model(fusion="hs"), texts())
    with pytest.raises(InputError, match="recipe 'paper'"):
        tune_alpha(MoEE.from_pretrained("fake", recipe="paper"), texts())
    with pytest.raises(InputError, match="8 different texts or more; got 2"):
        tune_alpha(model(), ["a", "b", "a"])
    with pytest.raises(InputError, match="at most 3 may"):
        tune_alpha(model(), texts(), sample=3)
    with pytest.raises(InputError, match="'labels' needs scored pairs"):
        tune_alpha(model(), texts(), compare_prompts=[]).choice("labels")
