"""Reranking: mean average precision of each query's own candidates.

Reference: mteb 2.26, `abstasks/retrieval.py`, `abstasks/text/reranking.py` and `models/search_wrappers.py`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moee.errors import InputError
from moee.evaluate.datasets import RerankingData
from moee.evaluate.scoring import ranking
from moee.evaluate.scoring.cosine import cosine_matrix
from moee.evaluate.scoring.score import Embed, TaskScore, encode

_CUTOFF = 1000  # mteb's main metric is map_at_1000


def score_reranking(data: RerankingData, embed: Embed) -> TaskScore:
    """Score candidate lists; encodes all queries, then all candidates (each query's positives, then its negatives).

    Among candidates of equal similarity mteb puts negatives before positives, and later ones before earlier ones:
    trec_eval sorts ties by descending document id, and mteb's ids begin with `negative` and `apositive`.

    Args:
        data: Queries with positives and negatives, at least one of each.
        embed: The encode call.

    Returns:
        `map_at_1000`, with `mrr_at_1000`, `mrr_at_10`, `ndcg_at_10` and `map_at_10`. mteb rounds MAP and nDCG to five
        decimals; these are not rounded. The items are the average precisions of the queries.

    Raises:
        InputError: If vectors are not finite, or a query has no positive or no negative.
    """
    sides = list(zip(data.positives, data.negatives, strict=True))
    if lacking := [q for q, (good, bad) in enumerate(sides) if not len(good) or not len(bad)]:
        raise InputError(
            f"Query {lacking[0]} of {data.name} (and {len(lacking) - 1} more of {len(sides)}) has no positive or no "
            "negative candidate, so nothing can be ranked. Leave such queries out."
        )
    queries = encode(data, embed, data.queries)
    lists = [np.concatenate(pair) for pair in sides]
    candidates = np.split(encode(data, embed, np.concatenate(lists)), np.cumsum([len(rows) for rows in lists])[:-1])
    found = []
    for query, vectors, (good, _) in zip(queries, candidates, sides, strict=True):
        scores = cosine_matrix(query[None], vectors)[0]
        # positives stand before negatives, so the position itself is the order of mteb's ids
        order = ranking.rank(scores, np.arange(len(scores)))
        found.append(_measures(order < len(good), len(good)))
    metrics = {name: float(np.mean([measures[name] for measures in found])) for name in found[0]}
    main = f"map_at_{_CUTOFF}"
    return TaskScore(main, metrics[main], metrics, np.asarray([measures[main] for measures in found]))


def _measures(relevant: npt.NDArray[np.bool_], num_relevant: int) -> dict[str, float]:
    return {
        f"map_at_{_CUTOFF}": ranking.average_precision(relevant, num_relevant, _CUTOFF),
        "map_at_10": ranking.average_precision(relevant, num_relevant, 10),
        f"mrr_at_{_CUTOFF}": ranking.reciprocal_rank(relevant, _CUTOFF),
        "mrr_at_10": ranking.reciprocal_rank(relevant, 10),
        "ndcg_at_10": ranking.ndcg(relevant.astype(np.float64), np.ones(num_relevant), 10),
    }
