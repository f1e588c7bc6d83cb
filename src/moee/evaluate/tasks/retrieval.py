"""Retrieval: nDCG@10 of cosine search over a whole corpus, and BM25 as its floor.

Reference: mteb 2.26, `abstasks/retrieval.py`, `_evaluators/retrieval_metrics.py` and `models/search_wrappers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from moee.errors import InputError
from moee.evaluate.tasks import ranking
from moee.evaluate.tasks.cosine import cosine_matrix
from moee.evaluate.tasks.files import DataError, Indices, TaskFolder, Texts
from moee.evaluate.tasks.score import Embed, TaskScore, encode
from moee.evaluate.tasks.task import Tables, Task, TaskData, mteb_rows, mteb_search
from moee.evaluate.tasks.words import FirstCallColumns, document_frequency, row_sums, word_counts
from moee.types import Array

BM25_K1, BM25_B = 0.9, 0.4
"""Anserini's defaults, the usual ones for BEIR."""
_CHUNK = 50_000  # documents in one encode call, mteb's
_TOP_K = 1000  # documents kept for each query, mteb's


@dataclass(frozen=True, slots=True)
class RetrievalData(TaskData):
    """Queries, documents and judgements: `relevance[query_id][document_id]`; what is absent is 0."""

    task_type = "Retrieval"
    metric = "ndcg_at_10"
    mteb_class = "AbsTaskRetrieval"
    has_splits = False
    has_corpus = True
    tasks = (Task("SciFact", "Retrieval", "SciFact"), Task("Cranfield", "Retrieval", None))
    queries: Indices
    documents: Indices
    query_ids: tuple[str, ...]
    document_ids: tuple[str, ...]
    relevance: Mapping[str, Mapping[str, int]]

    @classmethod
    def read(cls, folder: TaskFolder) -> Self:
        """Read queries, corpus and judgements; a limit of documents keeps all judged ones, then the first others."""
        queries, corpus, qrels = folder.scored("queries"), folder.read("corpus"), folder.read("qrels")
        query_ids, document_ids = queries.strings("_id"), corpus.strings("_id")
        known_queries, known_documents = set(query_ids), set(document_ids)
        relevance: dict[str, dict[str, int]] = {}
        columns = (qrels.strings("query_id"), qrels.strings("doc_id"), qrels.numbers("score"))
        for number, query, document, score in zip(qrels.lines, *columns, strict=True):
            at = f"{qrels.path}, line {number}: field"
            if document not in known_documents:
                raise DataError(f"{at} 'doc_id' is {document!r}, which corpus does not hold.")
            if query in known_queries:
                relevance.setdefault(query, {})[document] = int(score)
            elif folder.limit is None:
                raise DataError(f"{at} 'query_id' is {query!r}, which queries does not hold.")
        judged = {document for documents in relevance.values() for document in documents}
        kept = _kept_documents(document_ids, judged, folder.documents)
        # mteb's joining of title and text
        whole = [
            f"{row.get('title') or ''} {text}".strip()
            for row, text in zip(corpus.rows, corpus.strings("text"), strict=True)
        ]
        texts = Texts()
        query_rows = texts.add(queries.strings("text"))
        document_rows = texts.add([whole[place] for place in kept])
        kept_ids = tuple(document_ids[place] for place in kept)
        return cls(folder.name, texts.all(), query_rows, document_rows, tuple(query_ids), kept_ids, relevance)

    def score(self, embed: Embed, *, seed: int = 42) -> TaskScore:
        """Score a search; encodes the queries that have judgements, then the corpus (50,000 documents a call).

        Queries without any judgement are left out, as in mteb; judgements of documents outside the corpus count as
        not found.

        Returns:
            `ndcg_at_10`, with `map_at_100`, `mrr_at_10`, `recall_at_10` and `recall_at_100`. mteb rounds all but MRR
            to five decimals; these are not rounded. Ties are broken by descending document id, as trec_eval does. The
            items are the nDCG@10 of the queries.

        Raises:
            InputError: If vectors are not finite, or no query has a judgement.
        """
        used = [q for q, name in enumerate(self.query_ids) if self.relevance.get(name)]
        if not used:
            raise InputError(
                f"{self.name} has {len(self.query_ids)} queries and none with a judgement: nothing can be scored. "
                "Check that the ids of queries and judgements agree, or use more rows."
            )
        queries = encode(self.name, embed, self.queries[used])
        scores = np.concatenate([cosine_matrix(queries, chunk) for chunk in self._corpus(embed)], axis=1)
        tie_order = np.argsort(np.argsort(np.asarray(self.document_ids)))
        positions = {name: position for position, name in enumerate(self.document_ids)}
        found = []
        for row, q in zip(scores, used, strict=True):
            best = ranking.rank(row, tie_order)[:_TOP_K]
            found.append(_measures(best, self.relevance[self.query_ids[q]], positions))
        return ranking.mean_over_queries(self.metric, found)

    def _corpus(self, embed: Embed) -> list[Array]:
        starts = range(0, len(self.documents), _CHUNK)
        return [encode(self.name, embed, self.documents[start : start + _CHUNK]) for start in starts]

    def listed(self) -> Indices:
        """Return the documents."""
        return self.documents

    def further_floors(self) -> dict[str, TaskScore]:
        """Return BM25."""
        return {"bm25": bm25_score(self)}

    def facts(self) -> Mapping[str, int]:
        """Return the number of documents."""
        return {"documents": len(self.documents)}

    def mteb_tables(self, columns: Mapping[str, str], config: str) -> Tables:
        """Return corpus, queries and judgements."""
        corpus = mteb_rows(("_id", "text"), self.document_ids, self.texts_at(self.documents))
        queries = mteb_rows(("_id", "text"), self.query_ids, self.texts_at(self.queries))
        judgements = [
            {"query-id": query, "corpus-id": document, "score": score}
            for query, documents in self.relevance.items()
            for document, score in documents.items()
        ]
        return mteb_search([{"title": "", **row} for row in corpus], queries, judgements)


def _kept_documents(document_ids: Sequence[str], judged: set[str], corpus_limit: int | None) -> list[int]:
    """Return the places of the documents to keep: all judged ones, and the first others up to the limit."""
    if corpus_limit is None or corpus_limit >= len(document_ids):
        return list(range(len(document_ids)))
    others = [place for place, each in enumerate(document_ids) if each not in judged]
    room = max(0, corpus_limit - len(judged))
    first_others = set(others[:room])
    return [place for place, each in enumerate(document_ids) if each in judged or place in first_others]


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


def bm25_score(data: RetrievalData) -> TaskScore:
    """Score BM25 on a search, with Lucene's inverse document frequency; a word counts once in a query.

    Reference: Robertson and Zaragoza 2009, "The probabilistic relevance framework"; idf as in Lucene's BM25Similarity.
    """
    from scipy import sparse

    counts = word_counts(data.texts)
    documents = counts[data.documents]
    n, lengths = documents.shape[0], row_sums(documents)
    frequency = document_frequency(documents)
    idf = np.log(1 + (n - frequency + 0.5) / (frequency + 0.5))
    saturation = counts.tocoo()
    relative = row_sums(counts) / max(float(lengths.mean()), 1.0)
    k = BM25_K1 * (1 - BM25_B + BM25_B * relative)[saturation.row]
    values = saturation.data * (BM25_K1 + 1) / (saturation.data + k) * idf[saturation.col]
    weighted = sparse.csr_matrix((values, (saturation.row, saturation.col)), shape=counts.shape)
    # one common scale: all documents get unit length from the coordinate that `FirstCallColumns` adds, and cosines
    # then order a query's documents exactly as the sums of BM25 do
    weighted = weighted / max(float(np.sqrt(row_sums(weighted.multiply(weighted))).max()), 1e-12)
    queries = counts.copy()
    queries.data = np.ones_like(queries.data)
    return data.score(FirstCallColumns(queries, weighted))
