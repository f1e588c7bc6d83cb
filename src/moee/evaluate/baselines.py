"""The floors that stand beside every score: TF-IDF, BM25 and naive Bayes, which know words and no meaning.

Tokens are `[a-z0-9]+` of the lowercased text. TF-IDF weighs a word by `(1 + log tf) * log((n + 1) / (df + 0.5))` and
is scored as a model's vectors are: the same metric, samples, clusters and items, so that paired intervals work. Cosines
are exact; wide vectors are never held dense (see `_FirstCallColumns`).

One rule differs from mteb's: word counts tie often, mostly at zero shared words, and a reranking's average precision is
here the expected one over all orders of tied candidates. mteb puts tied negatives first, which suits vectors that
never tie, but would make this floor too low.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from moee.errors import InputError
from moee.evaluate.datasets import (
    ClassificationData,
    ClusteringData,
    DocumentSimilarityData,
    Indices,
    Numbers,
    PairData,
    RerankingData,
    RetrievalData,
    STSData,
    SummarizationData,
    TaskData,
)
from moee.evaluate.scoring import score
from moee.evaluate.scoring.clustering import agreement, average_over_sets, cluster
from moee.evaluate.scoring.score import Embed, TaskScore
from moee.types import Array

Sparse = Any
"""A `scipy.sparse` matrix in row form; scipy ships no types."""

BM25_K1, BM25_B = 0.9, 0.4
"""Anserini's defaults, the usual ones for BEIR."""

FLOORS: Mapping[str, str] = MappingProxyType(
    {
        "tfidf": "TF-IDF vectors under the task's own protocol",
        "bm25": "BM25 (k1 0.9, b 0.4), retrieval only",
        "naive-bayes": "multinomial naive Bayes fitted on all of train, classification only",
    }
)
"""Name of each floor, and its meaning in a few words."""


def floors(data: TaskData, *, seed: int = 42) -> dict[str, TaskScore]:
    """Return every floor of a task: `tfidf`, and `bm25` or `naive-bayes` where it belongs.

    Pairs of single words have none: texts without a common word all have the cosine 0, and no correlation exists.

    Args:
        data: Any task.
        seed: Of classification samples and k-means, as in `moee.evaluate.scoring.score`.

    Raises:
        InputError: If the metric is not defined on these rows.
    """
    found = {} if _shares_no_words(data) else {"tfidf": tfidf_score(data, seed=seed)}
    if isinstance(data, RetrievalData):
        found["bm25"] = bm25_score(data)
    if isinstance(data, ClassificationData):
        found["naive-bayes"] = naive_bayes_score(data)
    return found


def tfidf_score(data: TaskData, *, seed: int = 42) -> TaskScore:
    """Score TF-IDF vectors on a task.

    Document frequencies come from the texts as the task lists them, repeats included: both sides of pairs, queries and
    candidates, each comparison of two summaries, the documents of a search, the training texts of a classification.

    Args:
        data: Any task.
        seed: Of classification samples and k-means.
    """
    vectors = tfidf(data.texts, _listed(data))
    if isinstance(data, STSData | PairData):
        return score(data, _plane(_paired(vectors, data.left, data.right)), seed=seed)
    if isinstance(data, ClusteringData):
        return _clusters(data, vectors, seed)
    if isinstance(data, RerankingData):
        return _expected_map(data, vectors)
    return score(data, _FirstCallColumns(vectors), seed=seed)


def bm25_score(data: RetrievalData) -> TaskScore:
    """Score BM25 on a search, with Lucene's inverse document frequency; a word counts once in a query.

    Reference: Robertson and Zaragoza 2009, "The probabilistic relevance framework"; idf as in Lucene's BM25Similarity.
    """
    from scipy import sparse

    counts = word_counts(data.texts)
    documents = counts[data.documents]
    n, lengths = documents.shape[0], _row_sums(documents)
    frequency = _document_frequency(documents)
    idf = np.log(1 + (n - frequency + 0.5) / (frequency + 0.5))
    saturation = counts.tocoo()
    relative = _row_sums(counts) / max(float(lengths.mean()), 1.0)
    k = BM25_K1 * (1 - BM25_B + BM25_B * relative)[saturation.row]
    values = saturation.data * (BM25_K1 + 1) / (saturation.data + k) * idf[saturation.col]
    weighted = sparse.csr_matrix((values, (saturation.row, saturation.col)), shape=counts.shape)
    # one common scale: all documents get unit length from the coordinate that `_FirstCallColumns` adds, and cosines
    # then order a query's documents exactly as the sums of BM25 do
    weighted = weighted / max(float(np.sqrt(_row_sums(weighted.multiply(weighted))).max()), 1e-12)
    queries = counts.copy()
    queries.data = np.ones_like(queries.data)
    return score(data, _FirstCallColumns(queries, weighted))


def naive_bayes_score(data: ClassificationData) -> TaskScore:
    """Score multinomial naive Bayes, fitted on every training text; add-one smoothing.

    A word that training never saw has the smoothed probability of count zero in each class.

    Returns:
        `accuracy`. Not the protocol of the vectors, which see a few texts a label: this floor has seen all of them.
    """
    counts = word_counts(data.texts)
    train = counts[data.train]
    num_words = int((_document_frequency(train) > 0).sum())
    classes = np.unique(data.train_labels)
    logs = []
    for label in classes:
        chosen = data.train_labels == label
        in_class = np.asarray(train[np.flatnonzero(chosen)].sum(axis=0)).ravel()
        likelihood = np.log((in_class + 1) / (in_class.sum() + num_words))
        logs.append(counts[data.test] @ likelihood + math.log(chosen.mean()))
    correct = (classes[np.argmax(np.array(logs), axis=0)] == data.test_labels).astype(np.float64)
    accuracy = float(correct.mean())
    return TaskScore("accuracy", accuracy, {"accuracy": accuracy}, correct)


def word_counts(texts: Sequence[str]) -> Sparse:
    """Return how often each word stands in each text, `(num_texts, num_words)` float64, sparse."""
    from scipy import sparse

    places: dict[str, int] = {}
    columns: list[int] = []
    values: list[int] = []
    ends = [0]
    for text in texts:
        for word, count in Counter(re.findall(r"[a-z0-9]+", text.lower())).items():
            columns.append(places.setdefault(word, len(places)))
            values.append(count)
        ends.append(len(columns))
    shape = (len(texts), max(len(places), 1))
    return sparse.csr_matrix((np.array(values, dtype=np.float64), columns, ends), shape=shape)


def tfidf(texts: Sequence[str], listed: Indices) -> Sparse:
    """Return TF-IDF vectors of unit length, `(num_texts, num_words)` float64, sparse; a text without words is zero.

    Args:
        texts: Strings.
        listed: Places in `texts` over which document frequencies are counted; a place may occur more than once.
    """
    from scipy import sparse

    counts = word_counts(texts)
    frequency = _document_frequency(counts[listed])
    counts.data = 1 + np.log(counts.data)
    weighted = counts @ sparse.diags(np.log((len(listed) + 1) / (frequency + 0.5)))
    lengths = np.sqrt(_row_sums(weighted.multiply(weighted)))
    return sparse.csr_matrix(sparse.diags(1 / np.where(lengths > 0, lengths, 1.0)) @ weighted)


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


class _FirstCallColumns:
    """An encode call over sparse vectors that returns dense ones, only as wide as the first call needs.

    The first call (queries, human summaries, training texts) decides which words are kept. Later rows keep those words
    and one more coordinate, which restores unit length: every cosine between a row of the first call and a later row
    is exact, since the words left out meet zeros.
    """

    def __init__(self, first: Sparse, later: Sparse | None = None) -> None:
        self._first, self._later = first, first if later is None else later
        self._columns: Indices | None = None

    def __call__(self, rows: Indices) -> Array:
        if self._columns is None:
            chosen = self._first[rows]
            self._columns = np.unique(chosen.indices).astype(np.int64)
            kept = chosen[:, self._columns].toarray()
            return np.asarray(np.pad(kept, ((0, 0), (0, 1))), dtype=np.float32)
        kept = self._later[rows][:, self._columns].toarray()
        rest = np.sqrt(np.maximum(1 - np.square(kept).sum(axis=1, keepdims=True), 0.0))
        return np.concatenate([kept, rest], axis=1).astype(np.float32)


def _plane(cosines: Numbers) -> Embed:
    """Return an encode call whose first rows, paired with its second rows, have these cosines: vectors in a plane."""
    calls = iter(
        (
            np.stack([np.ones_like(cosines), np.zeros_like(cosines)], axis=1),
            np.stack([cosines, np.sqrt(np.maximum(1 - cosines**2, 0.0))], axis=1),
        )
    )
    return lambda _rows: next(calls).astype(np.float32)


def _shares_no_words(data: TaskData) -> bool:
    """Whether data are scored pairs that word counts cannot tell apart, in all or in one of their groups."""
    if not isinstance(data, STSData):
        return False
    cosines = _paired(word_counts(data.texts), data.left, data.right)
    groups = np.asarray(data.groups or ("",) * len(cosines))
    return any(not cosines[groups == name].any() for name in np.unique(groups))


def _paired(vectors: Sparse, left: Indices, right: Indices) -> Numbers:
    return np.minimum(_row_sums(vectors[left].multiply(vectors[right])), 1.0)


def _row_sums(matrix: Sparse) -> Numbers:
    return np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()


def _document_frequency(counts: Sparse) -> Numbers:
    return np.bincount(counts.indices, minlength=counts.shape[1]).astype(np.float64)


def _clusters(data: ClusteringData, vectors: Sparse, seed: int) -> TaskScore:
    """Cluster each set's sparse vectors; k-means takes them as they are."""
    found = []
    for lines in data.sets:
        labels = data.labels[lines]
        num_classes = len(np.unique(labels))
        if num_classes == 1:  # as in `scoring.clustering`
            found.append({"v_measure": 1.0, "ami": 1.0, "ari": 1.0})
            continue
        found.append(agreement(labels, cluster(vectors[data.rows[lines]], num_classes, seed)))
    return average_over_sets("v_measure", found)


def _expected_map(data: RerankingData, vectors: Sparse) -> TaskScore:
    found = []
    for query, good, bad in zip(data.queries, data.positives, data.negatives, strict=True):
        candidates = np.concatenate([good, bad])
        # rounded, so that equal texts tie whatever the order of their sums
        cosines = np.round(_paired(vectors, np.full(len(candidates), query), candidates), 12)
        found.append(expected_average_precision(np.arange(len(candidates)) < len(good), cosines))
    items = np.array(found)
    main = float(items.mean())
    return TaskScore("map_at_1000", main, {"map_at_1000": main}, items)


def _summaries(data: SummarizationData) -> Indices:
    """List both texts of every comparison of a human with a machine summary."""
    sides = zip(data.human, data.machine, strict=True)
    return np.concatenate([part for h, m in sides for part in (np.tile(h, len(m)), np.tile(m, len(h)))])


_LISTED: Mapping[type[TaskData], Callable[[Any], Indices]] = MappingProxyType(
    {
        STSData: lambda data: np.concatenate([data.left, data.right]),
        PairData: lambda data: np.concatenate([data.left, data.right]),
        ClassificationData: lambda data: data.train,
        ClusteringData: lambda data: data.rows,
        RerankingData: lambda data: np.concatenate([data.queries, *data.positives, *data.negatives]),
        RetrievalData: lambda data: data.documents,
        SummarizationData: _summaries,
        DocumentSimilarityData: lambda data: data.documents,
    }
)
"""Over which texts document frequencies are counted; `Any`: each entry gets its own kind of data."""


def _listed(data: TaskData) -> Indices:
    if type(data) not in _LISTED:
        raise InputError(f"{data.name} is a {type(data).__name__}; there is no floor for it.")
    return _LISTED[type(data)](data)
