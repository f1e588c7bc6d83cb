"""Reranking: mean average precision of each query's own candidates.

Reference: mteb 2.26, `abstasks/retrieval.py`, `abstasks/text/reranking.py` and `models/search_wrappers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from moee.errors import InputError
from moee.evaluate.tasks import ranking
from moee.evaluate.tasks.cosine import cosine_matrix
from moee.evaluate.tasks.files import DataError, Indices, Numbers, TaskFolder, Texts
from moee.evaluate.tasks.score import Embed, TaskScore, encode
from moee.evaluate.tasks.task import Tables, Task, TaskData, mteb_search
from moee.evaluate.tasks.words import Sparse, paired

_CUTOFF = 1000  # mteb's main metric is map_at_1000


@dataclass(frozen=True, slots=True)
class RerankingData(TaskData):
    """Queries, each with its good and bad candidates."""

    task_type = "Reranking"
    metric = f"map_at_{_CUTOFF}"
    mteb_class = "AbsTaskRetrieval"
    tasks = (
        Task("AskUbuntuDupQuestions", "Reranking", "AskUbuntuDupQuestions", in_paper=True),
        Task("SciDocsRR", "Reranking", "SciDocsRR", in_paper=True),
        Task("StackOverflowDupQuestions", "Reranking", "StackOverflowDupQuestions", in_paper=True),
        Task("QuoraDuplicateRR", "Reranking", None, note="19 hard negatives by BM25 for each question"),
        Task("WikiQA", "Reranking", None),
    )
    queries: Indices
    positives: tuple[Indices, ...]
    negatives: tuple[Indices, ...]

    @classmethod
    def read(cls, folder: TaskFolder) -> Self:
        """Read queries with at least one candidate of either kind; a limit bounds both kinds too."""
        file, texts = folder.scored(), Texts()
        queries = texts.add(file.strings("query"))
        good, bad = (
            tuple(texts.add(each[: folder.limit]) for each in file.lists(kind, str))
            for kind in ("positive", "negative")
        )
        for number, *sides in zip(file.lines, good, bad, strict=True):
            if not all(len(side) for side in sides):
                raise DataError(f"{file.path}, line {number}: needs at least one text in 'positive' and in 'negative'.")
        return cls(folder.name, texts.all(), queries, good, bad)

    def score(self, embed: Embed, *, seed: int = 42) -> TaskScore:
        """Score candidate lists; encodes all queries, then all candidates (positives of each query, then negatives).

        Among candidates of equal similarity mteb puts negatives before positives, and later ones before earlier ones:
        trec_eval sorts ties by descending document id, and mteb's ids begin with `negative` and `apositive`.

        Returns:
            `map_at_1000`, with `mrr_at_1000`, `mrr_at_10`, `ndcg_at_10` and `map_at_10`. mteb rounds MAP and nDCG to
            five decimals; these are not rounded. The items are the average precisions of the queries.

        Raises:
            InputError: If vectors are not finite, or a query has no positive or no negative.
        """
        sides = list(zip(self.positives, self.negatives, strict=True))
        if lacking := [q for q, (good, bad) in enumerate(sides) if not len(good) or not len(bad)]:
            raise InputError(
                f"Query {lacking[0]} of {self.name} (and {len(lacking) - 1} more of {len(sides)}) has no positive or "
                "no negative candidate, so nothing can be ranked. Leave such queries out."
            )
        queries = encode(self.name, embed, self.queries)
        lists = [np.concatenate(pair) for pair in sides]
        ends = np.cumsum([len(rows) for rows in lists])[:-1]
        candidates = np.split(encode(self.name, embed, np.concatenate(lists)), ends)
        found = []
        for query, vectors, (good, _) in zip(queries, candidates, sides, strict=True):
            scores = cosine_matrix(query[None], vectors)[0]
            # positives stand before negatives, so the position itself is the order of mteb's ids
            order = ranking.rank(scores, np.arange(len(scores)))
            found.append(_measures(order < len(good), len(good)))
        return ranking.mean_over_queries(self.metric, found)

    def listed(self) -> Indices:
        """Return queries and candidates."""
        return np.concatenate([self.queries, *self.positives, *self.negatives])

    def score_tfidf(self, vectors: Sparse, *, seed: int = 42) -> TaskScore:
        """Score the expected average precision over all orders of tied candidates.

        Word counts tie often, mostly at zero shared words. mteb puts tied negatives first, which suits vectors that
        never tie, but would make this floor too low.
        """
        found = []
        for query, good, bad in zip(self.queries, self.positives, self.negatives, strict=True):
            candidates = np.concatenate([good, bad])
            # rounded, so that equal texts tie whatever the order of their sums
            cosines = np.round(paired(vectors, np.full(len(candidates), query), candidates), 12)
            relevant = np.arange(len(candidates)) < len(good)
            found.append({self.metric: expected_average_precision(relevant, cosines)})
        return ranking.mean_over_queries(self.metric, found)

    def mteb_tables(self, columns: Mapping[str, str], config: str) -> Tables:
        """Return every candidate as a document, under the ids that mteb's conversion gives: they break ties."""
        corpus, judgements, candidates = [], [], []
        for number, sides in enumerate(zip(self.positives, self.negatives, strict=True)):
            query, ids = f"test_query{number}", []
            for prefix, relevance, rows in (("apositive", 1, sides[0]), ("negative", 0, sides[1])):
                for place, text in enumerate(self.texts_at(rows)):
                    ids.append(f"{prefix}_{query}_{place:05d}")
                    corpus.append({"_id": ids[-1], "title": "", "text": text})
                    judgements.append({"query-id": query, "corpus-id": ids[-1], "score": relevance})
            candidates.append({"query-id": query, "corpus-ids": ids})
        queries = [{"_id": f"test_query{n}", "text": text} for n, text in enumerate(self.texts_at(self.queries))]
        return mteb_search(corpus, queries, judgements) | {"top_ranked": {"test": candidates}}


def _measures(relevant: npt.NDArray[np.bool_], num_relevant: int) -> dict[str, float]:
    return {
        f"map_at_{_CUTOFF}": ranking.average_precision(relevant, num_relevant, _CUTOFF),
        "map_at_10": ranking.average_precision(relevant, num_relevant, 10),
        f"mrr_at_{_CUTOFF}": ranking.reciprocal_rank(relevant, _CUTOFF),
        "mrr_at_10": ranking.reciprocal_rank(relevant, 10),
        "ndcg_at_10": ranking.ndcg(relevant.astype(np.float64), np.ones(num_relevant), 10),
    }


def expected_average_precision(relevant: npt.NDArray[np.bool_], similarities: Numbers) -> float:
    """Return the average precision of a ranking, as the mean over all orders of candidates with equal similarity.

    Within a group of t ties, r of them relevant, each place is relevant with probability r / t, and given that, i - 1
    earlier places of the group hold (i - 1) (r - 1) / (t - 1) relevant ones on average. Source: McSherry and Najork
    2008, "Computing information retrieval performance measures efficiently in the presence of tied scores".

    Args:
        relevant: `(n,)`, at least one true.
        similarities: `(n,)`, higher is better.
    """
    above, found, total = 0, 0, 0.0
    for value in np.unique(similarities)[::-1]:
        group = similarities == value
        t, r = int(group.sum()), int(relevant[group].sum())
        places = np.arange(t)
        earlier = found + 1 + places * ((r - 1) / max(t - 1, 1))
        total += float((r / t * earlier / (above + 1 + places)).sum())
        above, found = above + t, found + r
    return total / found
