"""What a score is, the statistics behind it, and the checks that every task type shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from moee.errors import InputError, check_choice
from moee.evaluate.tasks.files import Indices, Numbers
from moee.method.moments import spearman
from moee.types import Array

Embed = Callable[[Indices], Array]
"""One encode call: rows of a task's `texts` in, `(len(rows), dim)` float32 out."""


@dataclass(frozen=True, slots=True)
class TaskScore:
    """The score of one task, with what it was computed from.

    Attributes:
        metric: Name of the main metric, as mteb names it where mteb has it.
        main: Value of the main metric on mteb's scale of 0 to 1 (correlations: -1 to 1). Not rounded.
        metrics: Every metric by name, the main one among them.
        items: One value for each item: a pair's similarity, a query's average precision, a test text's mean
            correctness, the V-measure of a set. `(num_items,)`.
        targets: The gold values that belong to `items`, or None if the main metric is the mean of the items.
        statistic: How `main` follows from the two; a name that `apply_statistic` knows.
    """

    metric: str
    main: float
    metrics: Mapping[str, float]
    items: Numbers
    targets: Numbers | None = field(default=None)
    statistic: str = "mean"


def _mean(items: Numbers, targets: Numbers | None) -> float:
    return float(np.mean(items))


def _spearman(items: Numbers, targets: Numbers | None) -> float:
    assert targets is not None, "correlations have targets"
    return spearman(targets, items)


def _pearson(items: Numbers, targets: Numbers | None) -> float:
    from scipy.stats import pearsonr

    return float(pearsonr(targets, items).statistic)


def _average_precision(items: Numbers, targets: Numbers | None) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(targets, items))


STATISTICS: Mapping[str, Callable[[Numbers, Numbers | None], float]] = {
    "mean": _mean,
    "spearman": _spearman,
    "pearson": _pearson,
    "average_precision": _average_precision,
}
"""Name -> function of items and targets."""


def apply_statistic(name: str, items: Numbers, targets: Numbers | None) -> float:
    """Compute a main metric from items and targets; on those of a `TaskScore` the result is its `main`.

    Args:
        name: A key of `STATISTICS`.
        items: `(num_items,)`.
        targets: `(num_items,)`; None for `"mean"` alone.

    Returns:
        The value. NaN where the statistic is not defined, for example a correlation with constant values.

    Raises:
        UnknownNameError: If there is no such statistic.
        InputError: If it needs targets and there are none.
    """
    check_choice("statistic", name, STATISTICS)
    if name != "mean" and targets is None:
        raise InputError(f"The statistic {name!r} compares items with targets, and targets is None. Pass one per item.")
    return STATISTICS[name](items, targets)


def encode(name: str, embed: Embed, rows: Indices) -> Array:
    """Make one encode call and check what comes back.

    Args:
        name: Name of the task, for messages.
        embed: The encode call.
        rows: Indices into the texts of the task.

    Returns:
        `(len(rows), dim)` float32, all finite.

    Raises:
        InputError: If the shape is wrong or a value is NaN or infinite; names the task and the text.
    """
    vectors = np.asarray(embed(rows), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(rows):
        raise InputError(
            f"The vectors of {name} have shape {vectors.shape}; one row for each of the {len(rows)} texts of the "
            "encode call is needed. Check the function that embeds."
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        text = int(rows[int(np.argmin(finite))])
        raise InputError(
            f"The vector of text {text} of {name} holds NaN or infinity, and {int((~finite).sum())} of "
            f"{len(rows)} vectors do. Encode in float32, or leave the text out."
        )
    return vectors


def require_variation(name: str, values: Numbers, what: str) -> None:
    """Refuse a correlation with values that are all equal: it would be NaN, and no score says what was wrong.

    Raises:
        InputError: If `values` has fewer than two different entries; names the task and what is constant.
    """
    if len(values) < 2 or bool(np.all(values == values[0])):
        shown = f"equal ({values[0]:.6g})" if len(values) else "missing"
        raise InputError(
            f"The score of {name} is NaN: all {len(values)} {what} are {shown}. At least two different values "
            "are needed: check that the vectors differ between texts, or score more rows."
        )


def check_finite(name: str, score: TaskScore) -> TaskScore:
    """Return `score` if its main value is a number.

    Raises:
        InputError: If it is NaN or infinite; names the task and the metric.
    """
    if not math.isfinite(score.main):
        raise InputError(
            f"The {score.metric} of {name} is {score.main}: the metric is not defined for these "
            f"{len(score.items)} items. Score more rows, or check the labels."
        )
    return score
