"""Topics of a map: groups of points that lie together, each with the words that mark its texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moee.errors import InputError
from moee.index.map_file import UNCLUSTERED, Topic
from moee.plots.topics import Labels, kmeans, topic_labels
from moee.types import Array

_FEWEST = 5
_SHARE = 100
"""A topic has 5 texts or more, and one in 100 of a larger corpus."""


def find_groups(places: Array, *, min_texts: int | None = None) -> Labels:
    """Find dense groups of points: HDBSCAN (Campello et al. 2013). Texts between the groups are in none.

    Args:
        places: `(num_points, 2)` float32.
        min_texts: Fewest points of a group; None is 5, or one in 100 of a larger corpus.

    Returns:
        `(num_points,)` int64: the group of each point, 0 the largest; -1 for none.

    Raises:
        InputError: If `min_texts` is below 2.
    """
    from sklearn.cluster import HDBSCAN

    fewest = max(_FEWEST, len(places) // _SHARE) if min_texts is None else min_texts
    if fewest < 2:
        raise InputError(f"A topic of {fewest} texts is none; the fewest must be 2 or more.")
    if fewest > len(places):
        return np.full(len(places), UNCLUSTERED, dtype=np.int64)
    # More than a few points for what counts as dense leaves most of a map in no group. Leaves: the usual choice, the
    # most persistent groups, puts 17,373 of 20,000 mixed sentences into one.
    model = HDBSCAN(
        min_cluster_size=fewest, min_samples=min(fewest, _FEWEST), cluster_selection_method="leaf", copy=True
    )
    return _by_size(np.asarray(model.fit_predict(places.astype(np.float64)), dtype=np.int64))


def divide(places: Array, topics: int, seed: int) -> Labels:
    """Divide all points into a number of groups by k-means.

    Args:
        places: `(num_points, 2)` float32.
        topics: Groups, 2 or more; no more than there are points.
        seed: Seed of the choice of first centres.

    Returns:
        `(num_points,)` int64: the group of each point, 0 the largest.

    Raises:
        InputError: If `topics` is out of range.
    """
    if not 2 <= topics <= len(places):
        raise InputError(f"{topics} topics cannot be made of {len(places)} texts; ask for 2 to {len(places)}.")
    return _by_size(kmeans(places, topics, seed))


def describe_topics(texts: Sequence[str], places: Array, groups: Labels) -> tuple[Topic, ...]:
    """Label groups and find their middles.

    Args:
        texts: Text of each point.
        places: `(num_points, 2)` float32.
        groups: `(num_points,)`, from `find_groups` or `divide`.

    Returns:
        One topic for each group, in their order. One without words is called by its number.
    """
    found = []
    for number, label in enumerate(topic_labels(texts, groups)):
        inside = places[groups == number]
        x, y = np.median(inside, axis=0)
        found.append(Topic(number, label or f"topic {number}", float(x), float(y), len(inside)))
    return tuple(found)


def _by_size(labels: Labels) -> Labels:
    """Number groups by size, the largest 0; equal ones as they were numbered."""
    names, counts = np.unique(labels[labels >= 0], return_counts=True)
    order = names[np.argsort(-counts, kind="stable")]
    renamed = np.full(len(labels), UNCLUSTERED, dtype=np.int64)
    for number, name in enumerate(order):
        renamed[labels == name] = number
    return renamed
