"""Ways to choose alpha, the weight of RW in the sum, from cosines alone. `tune` says of which texts and prompts.

All but `best_by_labels` need no labels. Over pairs of texts, with x the cosines of HS, y those of RW, and the fused
similarity s = x + alpha y:

- `closed_form`: the slope of the regression of x on y, r sd(x) / sd(y), where r is their correlation. It is the
  package's default (`moee.method.calibration`): routing that tells nothing of HS gets no weight.
- `scale`: sd(x) / sd(y). Both cosines then vary alike in the sum, whatever r is.
- `by_gradient`: arXiv 2410.10814 v2 tunes alpha at test time, maximising the correlation of s with x and y. With
  Pearson's correlation the sum of the two is (1 + r) (a + b) / sqrt(a^2 + b^2 + 2 r a b) for a = sd(x) and
  b = alpha sd(y). That is largest at a = b for every r < 1, so ascent ends at `scale`.
- `by_smooth_ranks`: the same with Spearman's correlation, whose ranks are made smooth so that a gradient exists.
- `by_agreement`: the alpha under which two prompts order the same pairs most alike.
- `best_by_labels`: the best Spearman correlation with given scores on a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from moee.errors import InputError
from moee.evaluate.bootstrap import Interval, paired_difference
from moee.evaluate.tasks import Numbers, TaskScore
from moee.method.moments import average_ranks
from moee.types import Array

MULTIPLES = (0.0, *(float(2.0 ** (step / 2)) for step in range(-8, 9)))
"""Grid of the last two ways: 0, and 1/16 to 16 times the `scale` alpha in steps of the square root of two."""

_SMOOTH_PAIRS = 800  # comparisons grow with their square
_SMOOTHNESS = 0.1  # of ranks, in standard deviations of the similarity: some dozens of neighbours share a rank
_ALIKE = 1e-6  # cosines of float32 vectors that vary less differ by rounding only
_MAX_STEPS = 200
_FLAT = 1e-8  # a slope this small ends the ascent
_FLAT_RANKS = 1e-5  # of the smooth ranks: far below what another sample of pairs would change


@dataclass(frozen=True, slots=True)
class PairCosines:
    """Cosines of both views over the same pairs of texts, `(num_pairs,)` each."""

    hidden: Numbers
    routing: Numbers

    def fused(self, alpha: float) -> Numbers:
        """Return the similarities under `alpha`; divided by 1 + alpha, the cosines of the fused vectors."""
        return (self.hidden + alpha * self.routing) / (1 + alpha)


@dataclass(frozen=True, slots=True)
class Ascent:
    """Where gradient ascent ended.

    Attributes:
        alpha: Alpha where it ended.
        value: Value of the objective, the sum of two correlations, so at most 2.
        steps: Steps taken to get there.
    """

    alpha: float
    value: float
    steps: int


@dataclass(frozen=True, slots=True)
class GridChoice:
    """The best alpha of a grid.

    Attributes:
        alpha: The best alpha; the smallest where several are best.
        by_alpha: What was maximised, at every alpha.
        over_hidden: With labels: the gain of the best alpha over HS alone (alpha 0). The same pairs chose alpha, so it
            is too bright by a little.
    """

    alpha: float
    by_alpha: Mapping[float, float]
    over_hidden: Interval | None = None


def all_pairs(hidden: Array, routing: Array) -> PairCosines:
    """Return the cosines of every two different texts.

    Args:
        hidden: Unit HS blocks, `(num_texts, hidden_dim)`.
        routing: Unit RW blocks, `(num_texts, routing_dim)`.
    """
    above = np.triu_indices(len(hidden), k=1)
    return PairCosines(*((units.astype(np.float64) @ units.T)[above] for units in (hidden, routing)))


def closed_form(cosines: PairCosines) -> float:
    """Return the slope of the regression of cos_HS on cos_RW; 0 if it is negative."""
    sd_hidden, sd_routing, r = moments(cosines)
    return max(r * sd_hidden / sd_routing, 0.0)


def scale(cosines: PairCosines) -> float:
    """Return sd(cos_HS) / sd(cos_RW)."""
    sd_hidden, sd_routing, _ = moments(cosines)
    return sd_hidden / sd_routing


def moments(cosines: PairCosines) -> tuple[float, float, float]:
    """Return the standard deviations of cos_HS and cos_RW, and their correlation.

    Raises:
        InputError: If the cosines of a view are all alike: then no weight can be told from another.
    """
    deviations = []
    for name, values in (("HS", cosines.hidden), ("RW", cosines.routing)):
        deviation = float(values.std()) if len(values) > 1 else 0.0
        if deviation < _ALIKE:
            raise InputError(
                f"The {name} cosines of {len(values)} pairs of texts are all alike (deviation {deviation:.1e}), so no "
                "alpha can be told from another. Give more texts, and texts that differ in meaning."
            )
        deviations.append(deviation)
    x, y = cosines.hidden - cosines.hidden.mean(), cosines.routing - cosines.routing.mean()
    sd_hidden, sd_routing = deviations
    return sd_hidden, sd_routing, float(x @ y) / (len(x) * sd_hidden * sd_routing)


def by_gradient(cosines: PairCosines) -> Ascent:
    """Maximise corr(s, cos_HS) + corr(s, cos_RW), Pearson's, by gradient ascent on log alpha from alpha 1."""
    a, sd_routing, r = moments(cosines)

    def objective(log_alpha: float) -> tuple[float, float]:
        b = math.exp(log_alpha) * sd_routing
        variance = a * a + b * b + 2 * r * a * b
        value = (1 + r) * (a + b) / math.sqrt(variance)
        # d/db, times db/d(log alpha) = b
        slope = (1 + r) * b * (variance - (a + b) * (b + r * a)) / variance**1.5
        return value, slope

    return _ascend(objective, flat=_FLAT)


def by_smooth_ranks(cosines: PairCosines, *, seed: int = 0) -> Ascent:
    """Maximise the same sum with Spearman's correlation, ranks of s smoothed, by gradient ascent from alpha 1.

    The smooth rank of s_i is the sum over j of sigmoid((s_i - s_j) / t), s scaled to unit deviation, t = 0.1.

    Args:
        cosines: Cosines of many pairs; 800 of them are used.
        seed: Seed of the choice among them.
    """
    sd_hidden, sd_routing, _ = moments(cosines)
    count = min(len(cosines.hidden), _SMOOTH_PAIRS)
    chosen = np.random.default_rng(seed).choice(len(cosines.hidden), size=count, replace=False)
    x, y = cosines.hidden[chosen] / sd_hidden, cosines.routing[chosen] / sd_routing
    target = _standard(average_ranks(x)) + _standard(average_ranks(y))
    offset = math.log(sd_routing / sd_hidden)

    def objective(log_alpha: float) -> tuple[float, float]:
        weight = math.exp(log_alpha + offset)
        s = x + weight * y
        deviation = float(s.std())
        scaled = (s - s.mean()) / deviation
        change = weight * (y - y.mean()) / deviation
        change = change - scaled * float(scaled @ change) / count  # the scaling turns too
        ranks, rank_change = _smooth_ranks(scaled, change)
        centred = ranks - ranks.mean()
        norm = float(np.linalg.norm(centred))
        value = float(target @ centred) / norm
        return value, float(target @ rank_change) / norm - value * float(centred @ rank_change) / norm**2

    return _ascend(objective, flat=_FLAT_RANKS)


def _standard(values: Numbers) -> Numbers:
    centred = values - values.mean()
    return np.asarray(centred / np.linalg.norm(centred))


def _smooth_ranks(scaled: Numbers, change: Numbers) -> tuple[Numbers, Numbers]:
    """Return smooth ranks, and their derivative where `change` is that of `scaled`."""
    # tanh, not exp: it cannot overflow
    sigmoid = 0.5 + 0.5 * np.tanh((scaled[:, None] - scaled[None, :]) / (2 * _SMOOTHNESS))
    slope = sigmoid * (1 - sigmoid) / _SMOOTHNESS
    return sigmoid.sum(axis=1), slope.sum(axis=1) * change - slope @ change


def _ascend(objective: Callable[[float], tuple[float, float]], *, flat: float) -> Ascent:
    """Climb from 0 along the slope, halving a step that does not rise and doubling the next one that does."""
    place, size, taken = 0.0, 1.0, 0
    value, slope = objective(place)
    while abs(slope) > flat and taken < _MAX_STEPS and size > 1e-12:
        there = place + size * slope
        new_value, new_slope = objective(there)
        if new_value <= value:
            size /= 2
            continue
        place, value, slope, size, taken = there, new_value, new_slope, size * 2, taken + 1
    return Ascent(math.exp(place), value, taken)


def by_agreement(prompts: Sequence[PairCosines]) -> GridChoice:
    """Return the alpha under which prompts agree most: the mean Spearman correlation of fused similarities.

    Views of different prompts have different scales, so the grid is in multiples of each prompt's own `scale` alpha,
    and the answer in that of the first prompt. Agreement is no proof of quality: a view that hardly depends on the
    prompt agrees with itself, whatever it holds. Where the views have little in common, the fused agreement lies
    between those of the two views, and the choice is an end of the grid.

    Args:
        prompts: Cosines of the same pairs of texts under each prompt, two or more.

    Raises:
        InputError: If there are fewer than two prompts, or not the same pairs.
    """
    sizes = sorted({len(each.hidden) for each in prompts})
    if len(prompts) < 2 or len(sizes) > 1:
        raise InputError(
            f"Agreement needs the same pairs under two or more prompts; got {len(prompts)} prompts with {sizes} pairs."
        )
    scales = [scale(each) for each in prompts]
    found: dict[float, float] = {}
    for multiple in MULTIPLES:
        fused = zip(prompts, scales, strict=True)
        ranks = np.stack([_standard(average_ranks(each.fused(multiple * own))) for each, own in fused])
        between = (ranks @ ranks.T)[np.triu_indices(len(prompts), k=1)]
        found[multiple * scales[0]] = float(between.mean())
    return GridChoice(max(found, key=lambda alpha: found[alpha]), MappingProxyType(found))


def best_by_labels(cosines: PairCosines, scores: Numbers, *, scale_alpha: float, seed: int = 0) -> GridChoice:
    """Return the alpha whose fused similarity follows given scores best, by Spearman's correlation.

    Args:
        cosines: Cosines of scored pairs.
        scores: Higher means more alike, `(num_pairs,)`, not all equal.
        scale_alpha: The grid is in multiples of this.
        seed: Seed of the bootstrap that gives the interval of the gain.

    Raises:
        InputError: If the numbers of pairs and scores differ, or the scores are all equal.
    """
    if len(scores) != len(cosines.hidden) or len(np.unique(scores)) < 2:
        raise InputError(
            f"Labels need one score for each pair, and at least two different scores: got {len(scores)} scores "
            f"({len(np.unique(scores))} different) for {len(cosines.hidden)} pairs."
        )
    target = _standard(average_ranks(scores))
    found = {
        alpha: float(target @ _standard(average_ranks(cosines.fused(alpha))))
        for alpha in (multiple * scale_alpha for multiple in MULTIPLES)
    }
    best = max(found, key=lambda alpha: found[alpha])

    def scored(alpha: float) -> TaskScore:
        return TaskScore("cosine_spearman", found[alpha], {}, cosines.fused(alpha), scores, "spearman")

    gain = paired_difference(scored(best), scored(0.0), seed=seed)
    return GridChoice(best, MappingProxyType(found), gain)
