"""Groups of texts and the words that mark them: k-means, and class-based TF-IDF over the texts of each group."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence, Set

import numpy as np
import numpy.typing as npt

from moee.errors import MissingExtraError
from moee.types import Array

Labels = npt.NDArray[np.int64]
"""The group of each text, from 0; a text below 0 is in none."""

RESTARTS = 5
"""Runs of k-means, each from other first centres; the tightest is kept."""
LABEL_WORDS = 3
_SHORTEST_WORD = 3
_SAME_BEGINNING = 4
_NEGATED = re.compile(r"\w+n['’]t\b")
"""English verbs such as "didn't": stop words all, but in halves they are not known as such."""


def kmeans(vectors: Array, clusters: int, seed: int) -> Labels:
    """Return the cluster of each row, by k-means with several restarts.

    Args:
        vectors: `(num_texts, dim)`.
        clusters: How many; no more than there are rows.
        seed: Seed of the choice of first centres.

    Raises:
        MissingExtraError: If scikit-learn is not installed.
    """
    _need_sklearn("clusters")
    from sklearn.cluster import KMeans

    model = KMeans(n_clusters=clusters, n_init=RESTARTS, random_state=seed)
    return np.asarray(model.fit_predict(vectors), dtype=np.int64)


def topic_words(texts: Sequence[str], labels: Labels, count: int = 40) -> list[dict[str, float]]:
    """Return the words that mark each group, heaviest first: class-based TF-IDF.

    The weight of a word in a group is `tf / words of the group * log(1 + mean words of a group / count in all)`
    (Grootendorst 2022, arXiv 2203.05794, section 3.3, with the share of the group's words for tf). English stop words,
    verbs with "n't", and words of fewer than three letters are left out.

    Args:
        texts: Texts in any language that parts words by spaces or signs.
        labels: `(num_texts,)`.
        count: Words of a group, at most.

    Returns:
        For each group from 0 to the largest, its words with their weights; none for a group without words.

    Raises:
        MissingExtraError: If scikit-learn is not installed.
    """
    _need_sklearn("labels of topics")
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    counts: list[Counter[str]] = [Counter() for _ in range(int(labels.max(initial=-1)) + 1)]
    order: dict[str, int] = {}
    for text, label in zip(texts, labels, strict=True):
        if label >= 0:
            words = _words(text, ENGLISH_STOP_WORDS)
            counts[label].update(words)
            for word in words:
                order.setdefault(word, len(order))
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    mean = total.total() / max(len(counts), 1)
    found = []
    for each in counts:
        size = each.total()
        weights = {word: number / size * math.log1p(mean / total[word]) for word, number in each.items()}
        best = sorted(weights, key=lambda word: (-weights[word], order[word]))[:count]
        found.append({word: weights[word] for word in best})
    return found


def topic_labels(texts: Sequence[str], labels: Labels, words: int = LABEL_WORDS) -> list[str]:
    """Return a label for each group, from 0 to the largest: its heaviest words, those of one stem once.

    Returns:
        For example `"dough, bread, oven"`; empty for a group without words.
    """
    return [", ".join(_distinct(list(found), words)) for found in topic_words(texts, labels)]


def _words(text: str, left_out: Set[str]) -> list[str]:
    whole = _NEGATED.sub(" ", text.lower())
    found = re.findall(r"[^\W\d_]+", whole)
    return [word for word in found if len(word) >= _SHORTEST_WORD and word not in left_out]


def _distinct(words: Sequence[str], count: int) -> list[str]:
    """Return the first words of which none begins like another: of "cell" and "cells", the heavier."""
    kept: list[str] = []
    for word in words:
        if len(kept) < count and not any(_is_same_stem(word, other) for other in kept):
            kept.append(word)
    return kept


def _is_same_stem(a: str, b: str) -> bool:
    short, long = sorted((a, b), key=len)
    return long.startswith(short) if len(short) >= _SAME_BEGINNING else long in (short, f"{short}s")


def _need_sklearn(purpose: str) -> None:
    try:
        import sklearn  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingExtraError("scikit-learn", purpose, "map") from error
