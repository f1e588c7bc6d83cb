"""Pair classification: average precision of similarity against 0/1 labels.

Reference: mteb 2.26, `abstasks/pair_classification.py` and `_evaluators/pair_classification_evaluator.py`.
"""

from __future__ import annotations

import numpy as np

from moee.errors import InputError
from moee.evaluate.datasets import Numbers, PairData
from moee.evaluate.scoring.cosine import paired_cosines
from moee.evaluate.scoring.score import Embed, TaskScore, apply_statistic, encode
from moee.types import Array


def score_pairs(data: PairData, embed: Embed) -> TaskScore:
    """Score labelled pairs; encodes the left texts, then the right ones.

    mteb's main score is the best average precision among four similarities. For unit vectors cosine, dot product and
    Euclidean distance rank alike up to rounding, so the choice is between them and Manhattan distance; `cosine_ap` is
    the number without any choice.

    Args:
        data: The pairs, label 1 for a match.
        embed: The encode call.

    Returns:
        `max_ap`, with `cosine_ap`, `dot_ap`, `euclidean_ap` and `manhattan_ap`.
        The items are the similarities (distances negated) that reached the maximum; cosine where it ties.

    Raises:
        InputError: If vectors are not finite, or only one label occurs.
    """
    if len(np.unique(data.labels)) < 2:
        raise InputError(
            f"The score of {data.name} is not defined: its {len(data.labels)} pairs have one label only. "
            "Average precision needs matches and mismatches: score more rows."
        )
    left = encode(data, embed, data.left)
    similarities = _similarities(left, encode(data, embed, data.right))
    labels = data.labels.astype(np.float64)
    metrics = {f"{name}_ap": apply_statistic("average_precision", x, labels) for name, x in similarities.items()}
    best = max(similarities, key=lambda name: metrics[f"{name}_ap"])
    main = metrics[f"{best}_ap"]
    return TaskScore("max_ap", main, {"max_ap": main} | metrics, similarities[best], labels, "average_precision")


def _similarities(left: Array, right: Array) -> dict[str, Numbers]:
    """Return the four similarities of mteb, cosine first so that it is taken where several are best."""
    from sklearn.metrics.pairwise import paired_euclidean_distances, paired_manhattan_distances

    # row by row, as mteb does: the sums of another order round differently, and average precision sees every swap
    dots = np.asarray([np.dot(a, b) for a, b in zip(left, right, strict=True)])
    found = {
        "cosine": paired_cosines(left, right),
        "dot": dots,
        "euclidean": -paired_euclidean_distances(left, right),
        "manhattan": -paired_manhattan_distances(left, right),
    }
    return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}
