"""Paired bootstrap intervals: is one setting better than another, or is the difference the luck of the sample?

Items (pairs, queries, test texts, sets) are drawn with replacement, the same ones for both settings, and the statistic
of each setting is computed anew on every draw: exactly, ranks included. A draw is a vector of counts, one for each
item, so that Spearman's ranks follow from one sort of the whole sample and a cumulative sum for each draw; 2,000 draws
of 10,000 pairs take seconds.

What an interval covers is the choice of the items. It says nothing of other data sets, prompts or models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from moee.errors import InputError, UnknownNameError
from moee.evaluate.tasks import Indices, Numbers, TaskScore

RESAMPLES = 2000
"""Default number of draws: the ends of a 95 % interval then rest on 50 draws each."""
LEVEL = 0.95
"""Share of the draws that an interval holds."""

_CHUNK_CELLS = 2_000_000  # counts held at a time: draws times items; 16 MB in float64
_CLOSE = 1e-5  # a score whose items do not give its main metric to this was put together wrongly


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference of two scores and its 95 % percentile interval.

    Attributes:
        difference: Difference on the whole sample, first minus second, on the scale of the scores.
        low: The 2.5 % point of the draws.
        high: The 97.5 % point of the draws.
        resamples: Draws on which both scores exist; fewer than asked for where a draw held, say, no positive pair.
    """

    difference: float
    low: float
    high: float
    resamples: int


def paired_difference(a: TaskScore, b: TaskScore, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Return the difference of two scores of one task, `a` minus `b`, with its bootstrap interval.

    Args:
        a: A score.
        b: Another score of the same items in the same order.
        resamples: Number of draws.
        seed: Seed of the draws; the same seed draws the same items for every two scores of a task.

    Raises:
        InputError: If the scores are not of the same items, or items do not give a score's main metric.
    """
    return paired_mean_difference([a], [b], resamples=resamples, seed=seed)


def paired_mean_difference(
    a: Sequence[TaskScore], b: Sequence[TaskScore], *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Return the difference of two means over tasks, with its bootstrap interval.

    Items are drawn within each task, apart from the other tasks, and the differences averaged with equal weights. The
    tasks themselves are not drawn: the interval is about these tasks.

    Args:
        a: Scores of one setting, one for each task.
        b: Scores of another setting, the same tasks in the same order.
        resamples: Number of draws.
        seed: Seed of the draws.

    Raises:
        InputError: As `paired_difference`, or if there are no tasks, or not the same number.
    """
    if not a or len(a) != len(b):
        raise InputError(
            f"There are {len(a)} scores on one side and {len(b)} on the other; each side needs one for every task."
        )
    if resamples < 1:
        raise InputError(f"resamples is {resamples}; it must be 1 or larger. {RESAMPLES} is the default.")
    draws = np.zeros(resamples)
    for number, (first, second) in enumerate(zip(a, b, strict=True)):
        _check_pair(first, second)
        draws += _differences(first, second, resamples, np.random.default_rng([seed, number]))
    draws = draws[np.isfinite(draws)] / len(a)
    if not len(draws):
        raise InputError(
            f"The {a[0].statistic} of {len(a[0].items)} items is undefined on every draw. The sample is too small: "
            "score more items."
        )
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    difference = sum(first.main - second.main for first, second in zip(a, b, strict=True)) / len(a)
    return Interval(float(difference), float(low), float(high), len(draws))


def statistic_of(score: TaskScore) -> float:
    """Return the statistic of a score's items on the whole sample; it equals `score.main`.

    Raises:
        UnknownNameError: If the statistic is unknown.
    """
    return float(_statistic(score)(np.ones((1, len(score.items))))[0])


def _check_pair(a: TaskScore, b: TaskScore) -> None:
    if (a.metric, a.statistic, len(a.items)) != (b.metric, b.statistic, len(b.items)):
        raise InputError(
            f"Two scores can be compared only on the same items: one is the {a.statistic} of {len(a.items)} items "
            f"({a.metric}), the other the {b.statistic} of {len(b.items)} ({b.metric}). Score both on the same task."
        )
    if (a.targets is None) != (b.targets is None) or (
        a.targets is not None and b.targets is not None and not np.array_equal(a.targets, b.targets)
    ):
        raise InputError("Two scores can be compared only on the same items: their gold values differ.")
    for score in (a, b):
        found = statistic_of(score)
        if not abs(found - score.main) <= _CLOSE:
            raise InputError(
                f"The {score.statistic} of the items is {found:.6f}, but the score says {score.main:.6f}. "
                "Score the task again."
            )


def _differences(a: TaskScore, b: TaskScore, resamples: int, rng: np.random.Generator) -> Numbers:
    """Return `a` minus `b` on every draw, `(resamples,)`; NaN where either is undefined."""
    of_a, of_b = _statistic(a), _statistic(b)
    return np.concatenate([of_a(counts) - of_b(counts) for counts in _draws(len(a.items), resamples, rng)])


def _draws(num_items: int, resamples: int, rng: np.random.Generator) -> Iterator[Numbers]:
    """Yield how often each item is drawn, `(some draws, num_items)` float64."""
    at_once = max(1, _CHUNK_CELLS // num_items)
    for start in range(0, resamples, at_once):
        rows = range(min(at_once, resamples - start))
        drawn = [np.bincount(rng.integers(num_items, size=num_items), minlength=num_items) for _ in rows]
        yield np.array(drawn, dtype=np.float64)


Statistic = Callable[[Numbers], Numbers]
"""A function from counts `(draws, num_items)` to one value for each draw, NaN where it is undefined."""


def _statistic(score: TaskScore) -> Statistic:
    if score.statistic == "mean":
        return _mean(score.items)
    if score.statistic not in _OF_TARGETS:
        raise UnknownNameError("statistic", score.statistic, ["mean", *_OF_TARGETS])
    if score.targets is None or len(score.targets) != len(score.items):
        raise InputError(f"The {score.statistic} needs one gold value for each of the {len(score.items)} items.")
    return _OF_TARGETS[score.statistic](score.items, score.targets)


def _mean(items: Numbers) -> Statistic:
    return lambda counts: counts @ items / counts.sum(axis=1)


def _pearson(items: Numbers, targets: Numbers) -> Statistic:
    # centred on the whole sample, so that sums of squares do not lose digits
    x, y = items - items.mean(), targets - targets.mean()
    products = np.stack([x, y, x * x, y * y, x * y], axis=1)

    def statistic(counts: Numbers) -> Numbers:
        x1, y1, xx, yy, xy = (counts @ products / counts.sum(axis=1, keepdims=True)).T
        return _correlation(xy - x1 * y1, xx - x1 * x1, yy - y1 * y1)

    return statistic


def _correlation(covariance: Numbers, variance_x: Numbers, variance_y: Numbers) -> Numbers:
    product = variance_x * variance_y
    defined = product > 0
    return np.where(defined, covariance / np.sqrt(np.where(defined, product, 1.0)), np.nan)


def _spearman(items: Numbers, targets: Numbers) -> Statistic:
    ranks_x, ranks_y = _ranker(items), _ranker(targets)

    def statistic(counts: Numbers) -> Numbers:
        size = counts.sum(axis=1, keepdims=True)
        middle = (size + 1) / 2  # the mean of average ranks, with or without ties
        x, y = ranks_x(counts) - middle, ranks_y(counts) - middle
        sums = [np.einsum("dn,dn,dn->d", counts, left, right) for left, right in ((x, y), (x, x), (y, y))]
        return _correlation(*sums)

    return statistic


def _ranker(values: Numbers) -> Statistic:
    """Return the function from counts to the average rank of each item in its draw, `(draws, num_items)`.

    An item drawn c times is c equal values; equal values share the mean of their ranks, as in `scipy.stats.rankdata`.
    """
    distinct, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))

    def ranks(counts: Numbers) -> Numbers:
        sizes = np.add.reduceat(counts[:, order], starts, axis=1)
        average = np.cumsum(sizes, axis=1) - (sizes - 1) / 2
        return average[:, group]

    return ranks


def _average_precision(items: Numbers, targets: Numbers) -> Statistic:
    """The area that `sklearn.metrics.average_precision_score` sums: equal similarities are one step."""
    distinct, group = np.unique(-items, return_inverse=True)
    order: Indices = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))
    positive = (targets > 0).astype(np.float64)

    def statistic(counts: Numbers) -> Numbers:
        sizes = np.add.reduceat(counts[:, order], starts, axis=1)
        found = np.add.reduceat((counts * positive)[:, order], starts, axis=1)
        precision = np.cumsum(found, axis=1) / np.maximum(np.cumsum(sizes, axis=1), 1)
        total = found.sum(axis=1)
        return np.where(total > 0, (precision * found).sum(axis=1) / np.maximum(total, 1), np.nan)

    return statistic


_OF_TARGETS: Mapping[str, Callable[[Numbers, Numbers], Statistic]] = MappingProxyType(
    {"spearman": _spearman, "pearson": _pearson, "average_precision": _average_precision}
)
