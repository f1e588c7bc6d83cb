"""Word counts as vectors: what the floors are made of, which know words and no meaning.

Words are those of the lexical view (`moee.method.lexical.words`), stems of any script. TF-IDF weighs a word as that
view does, by `(1 + log tf) * log((n + 1) / (df + 1))`, with document frequencies of the task's own texts and without
hashing. It is scored as a model's vectors are: the same metric, samples, clusters and items, so that paired intervals
work. Cosines are exact; wide vectors are never held dense (see `FirstCallColumns`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from moee.evaluate.tasks.files import Indices, Numbers
from moee.evaluate.tasks.score import Embed
from moee.method.lexical import words
from moee.types import Array

Sparse = Any
"""A `scipy.sparse` matrix in row form; scipy ships no types."""

_LEAST_WEIGHT = 1e-2  # of a word that stands in every text, as in the lexical view


def word_counts(texts: Sequence[str]) -> Sparse:
    """Return how often each word stands in each text, `(num_texts, num_words)` float64, sparse."""
    from scipy import sparse

    places: dict[str, int] = {}
    columns: list[int] = []
    values: list[int] = []
    ends = [0]
    for text in texts:
        for word, count in Counter(words(text)).items():
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
    frequency = document_frequency(counts[listed])
    counts.data = 1 + np.log(counts.data)
    weights = np.maximum(np.log((len(listed) + 1) / (frequency + 1)), _LEAST_WEIGHT)
    weighted = counts @ sparse.diags(weights)
    lengths = np.sqrt(row_sums(weighted.multiply(weighted)))
    return sparse.csr_matrix(sparse.diags(1 / np.where(lengths > 0, lengths, 1.0)) @ weighted)


class FirstCallColumns:
    """An encode call over sparse vectors that returns dense ones, only as wide as the first call needs.

    The first call (queries, human summaries, training texts) decides which words are kept. Later rows keep those words
    and one more coordinate, which restores unit length: every cosine between a row of the first call and a later row
    is exact, since the words left out meet zeros.
    """

    def __init__(self, first: Sparse, later: Sparse | None = None) -> None:
        self._first, self._later = first, first if later is None else later
        self._columns: Indices | None = None

    def __call__(self, rows: Indices) -> Array:
        """Return dense vectors of some rows, `(len(rows), words of the first call + 1)` float32."""
        if self._columns is None:
            chosen = self._first[rows]
            self._columns = np.unique(chosen.indices).astype(np.int64)
            kept = chosen[:, self._columns].toarray()
            return np.asarray(np.pad(kept, ((0, 0), (0, 1))), dtype=np.float32)
        kept = self._later[rows][:, self._columns].toarray()
        rest = np.sqrt(np.maximum(1 - np.square(kept).sum(axis=1, keepdims=True), 0.0))
        return np.concatenate([kept, rest], axis=1).astype(np.float32)


def plane(cosines: Numbers) -> Embed:
    """Return an encode call whose first rows, paired with its second rows, have these cosines: vectors in a plane."""
    calls = iter(
        (
            np.stack([np.ones_like(cosines), np.zeros_like(cosines)], axis=1),
            np.stack([cosines, np.sqrt(np.maximum(1 - cosines**2, 0.0))], axis=1),
        )
    )
    return lambda _rows: next(calls).astype(np.float32)


def paired(vectors: Sparse, left: Indices, right: Indices) -> Numbers:
    """Return the cosine of paired rows of unit vectors, at most 1."""
    return np.minimum(row_sums(vectors[left].multiply(vectors[right])), 1.0)


def row_sums(matrix: Sparse) -> Numbers:
    """Return the sum of each row."""
    return np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()


def document_frequency(counts: Sparse) -> Numbers:
    """Return in how many rows each word stands."""
    return np.bincount(counts.indices, minlength=counts.shape[1]).astype(np.float64)
