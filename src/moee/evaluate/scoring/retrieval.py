"""Retrieval: nDCG@10 of cosine search over a whole corpus.

Reference: mteb 2.26, `abstasks/retrieval.py`, `_evaluators/retrieval_metrics.py` and `models/search_wrappers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from moee.errors import InputError
from moee.evaluate.datasets import Indices, RetrievalData
from moee.evaluate.scoring import ranking
from moee.evaluate.scoring.cosine import cosine_matrix
from moee.evaluate.scoring.score import Embed, TaskScore, encode
from moee.types import Array

_CHUNK = 50_000  # documents in one encode call, mteb's
_TOP_K = 1000  # documents kept for each query, mteb's


def score_retrieval(data: RetrievalData, embed: Embed) -> TaskScore:
    """Score a search; encodes the queries that have judgements, then the corpus (50,000 documents a call).

    Args:
        data: Queries, documents and judgements. Queries without any judgement are left out, as in mteb; judgements of
            documents outside the corpus count as not found.
        embed: The encode call.

    Returns:
        `ndcg_at_10`, with `map_at_100`, `mrr_at_10`, `recall_at_10` and `recall_at_100`. mteb rounds all but MRR to
        five decimals; these are not rounded. Ties are broken by descending document id, as trec_eval does. The items
        are the nDCG@10 of the queries.

    Raises:
        InputError: If vectors are not finite, or no query has a judgement.
    """
    used = [q for q, name in enumerate(data.query_ids) if data.relevance.get(name)]
    if not used:
        raise InputError(
            f"{data.name} has {len(data.query_ids)} queries and none with a judgement: nothing can be scored. "
            "Check that the ids of queries and judgements agree, or use more rows."
        )
    queries = encode(data, embed, data.queries[used])
    scores = np.concatenate([cosine_matrix(queries, chunk) for chunk in _corpus(data, embed)], axis=1)
    tie_order = np.argsort(np.argsort(np.asarray(data.document_ids)))
    positions = {name: position for position, name in enumerate(data.document_ids)}
    found = []
    for row, q in zip(scores, used, strict=True):
        best = ranking.rank(row, tie_order)[:_TOP_K]
        found.append(_measures(best, data.relevance[data.query_ids[q]], positions))
    metrics = {name: float(np.mean([measures[name] for measures in found])) for name in found[0]}
    items = np.asarray([measures["ndcg_at_10"] for measures in found])
    return TaskScore("ndcg_at_10", metrics["ndcg_at_10"], metrics, items)


def _corpus(data: RetrievalData, embed: Embed) -> list[Array]:
    starts = range(0, len(data.documents), _CHUNK)
    return [encode(data, embed, data.documents[start : start + _CHUNK]) for start in starts]


def _measures(best: Indices, judged: Mapping[str, int], positions: Mapping[str, int]) -> dict[str, float]:
    """Score one ranked list of positions against `judged`, document id -> relevance."""
    gain_at = {positions[name]: float(gain) for name, gain in judged.items() if name in positions}
    gains = np.asarray([gain_at.get(int(position), 0.0) for position in best])
    all_gains = np.asarray(list(judged.values()), dtype=np.float64)
    relevant, num_relevant = gains > 0, int((all_gains > 0).sum())
    return {
        "ndcg_at_10": ranking.ndcg(gains, all_gains, 10),
        "map_at_100": ranking.average_precision(relevant, num_relevant, 100),
        "mrr_at_10": ranking.reciprocal_rank(relevant, 10),
        "recall_at_10": float(relevant[:10].sum()) / max(num_relevant, 1),
        "recall_at_100": float(relevant[:100].sum()) / max(num_relevant, 1),
    }
