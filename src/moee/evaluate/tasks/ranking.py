"""Measures of one ranked list, as trec_eval defines them.

Reference: trec_eval 9 (`m_map_cut.c`, `m_ndcg_cut.c`), through which mteb scores retrieval and reranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from moee.evaluate.tasks.files import Indices, Numbers
from moee.evaluate.tasks.score import TaskScore
from moee.types import Array


def rank(scores: Array, tie_order: Indices) -> Indices:
    """Return the positions of documents, best first.

    Args:
        scores: `(n,)`, higher is better.
        tie_order: `(n,)`; among equal scores the larger value comes first. trec_eval puts the document with the later
            id first, so here goes the position of each id among all ids.

    Returns:
        `(n,)` positions.
    """
    return np.lexsort((-tie_order, -scores))


def average_precision(relevant: npt.NDArray[np.bool_], num_relevant: int, cutoff: int) -> float:
    """Return the precision at each relevant document of the first `cutoff`, summed and divided by `num_relevant`.

    Args:
        relevant: `(n,)` in ranked order.
        num_relevant: Relevant documents that exist, found or not; 0 gives 0.
        cutoff: How many documents are looked at.
    """
    top = relevant[:cutoff]
    precisions = np.cumsum(top) / np.arange(1, len(top) + 1)
    return float(precisions[top].sum() / num_relevant) if num_relevant else 0.0


def reciprocal_rank(relevant: npt.NDArray[np.bool_], cutoff: int) -> float:
    """Return 1 over the rank of the first relevant document, or 0 if none is among the first `cutoff`."""
    found = np.flatnonzero(relevant[:cutoff])
    return float(1.0 / (found[0] + 1)) if len(found) else 0.0


def ndcg(gains: Numbers, all_gains: Numbers, cutoff: int) -> float:
    """Return the normalised discounted cumulative gain; the gain is the relevance itself, the discount log2(rank + 1).

    Args:
        gains: `(n,)` relevance in ranked order, 0 where a document was not judged.
        all_gains: Relevance of every judged document, found or not, in any order.
        cutoff: How many documents are looked at.

    Returns:
        0 to 1; 0 if nothing is relevant.
    """
    ideal = _dcg(np.sort(all_gains)[::-1], cutoff)
    return _dcg(gains, cutoff) / ideal if ideal > 0 else 0.0


def _dcg(gains: Numbers, cutoff: int) -> float:
    top = np.maximum(gains[:cutoff], 0.0)  # a negative relevance is no loss
    return float((top / np.log2(np.arange(2, len(top) + 2))).sum())


def mean_over_queries(metric: str, found: Sequence[Mapping[str, float]]) -> TaskScore:
    """Average the measures of every query; `metric` of them is the main one and gives the items."""
    metrics = {name: float(np.mean([measures[name] for measures in found])) for name in found[0]}
    return TaskScore(metric, metrics[metric], metrics, np.asarray([measures[metric] for measures in found]))
