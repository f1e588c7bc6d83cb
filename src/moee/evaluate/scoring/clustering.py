"""Clustering: V-measure of mini-batch k-means on each set, and their mean.

Reference: mteb 2.26, `abstasks/clustering_legacy.py` and `_evaluators/clustering_evaluator.py`.
"""

from __future__ import annotations

import numpy as np

from moee.evaluate.datasets import ClusteringData, Indices
from moee.evaluate.scoring.score import Embed, TaskScore, encode
from moee.types import Array

_BATCH_SIZE = 500  # of k-means, mteb's


def cluster(vectors: Array, num_clusters: int, seed: int) -> Indices:
    """Return the k-means cluster of every vector, with mteb's settings.

    Args:
        vectors: `(n, dim)` float32.
        num_clusters: How many clusters to look for.
        seed: Of the initial centres and the batches.

    Returns:
        `(n,)` cluster ids, from 0.
    """
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(
        n_clusters=num_clusters, batch_size=_BATCH_SIZE, n_init="auto", compute_labels=True, random_state=seed
    )
    return np.asarray(model.fit(vectors).labels_, dtype=np.int64)


def agreement(labels: Indices, clusters: Indices) -> dict[str, float]:
    """Compare clusters with classes: V-measure, and two measures that correct for chance.

    Args:
        labels: `(n,)` class of each text.
        clusters: `(n,)` cluster of each text.

    Returns:
        `v_measure`; `ami` and `ari`, which are 0 on average for random clusters however many there are.
    """
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, v_measure_score

    return {
        "v_measure": float(v_measure_score(labels, clusters)),
        "ami": float(adjusted_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
    }


def average_over_sets(name: str, found: list[dict[str, float]]) -> TaskScore:
    """Average the measures of `agreement` over sets; `name` of them is the main one and gives the items."""
    items = np.asarray([measures[name] for measures in found])
    metrics = {key: float(np.mean([measures[key] for measures in found])) for key in found[0]}
    metrics[f"{name}_std"] = float(np.std(items))
    return TaskScore(name, metrics[name], metrics, items)


def cluster_sets(data: ClusteringData, embed: Embed, *, seed: int) -> list[Indices]:
    """Cluster every set and return the clusters of its texts; encodes one set after another, in the order of its rows.

    Each set gets as many clusters as it has classes. A set of one class is not encoded, as in mteb: all its texts are
    one cluster.
    """
    found = []
    for lines in data.sets:
        num_classes = len(np.unique(data.labels[lines]))
        if num_classes > 1:
            found.append(cluster(encode(data, embed, data.rows[lines]), num_classes, seed))
        else:
            found.append(np.zeros(len(lines), dtype=np.int64))
    return found


def score_clustering(data: ClusteringData, embed: Embed, *, seed: int = 42) -> TaskScore:
    """Score the sets; the encode calls are those of `cluster_sets`.

    Args:
        data: Labelled texts and the sets to cluster.
        embed: The encode call.
        seed: Of k-means; mteb's is 42.

    Returns:
        `v_measure`, with `v_measure_std` over the sets, and `ami` and `ari` of the same clusters; all are 1 for a set
        of one class. The items are the V-measures of the sets.

    Raises:
        InputError: If vectors are not finite.
    """
    clusters = cluster_sets(data, embed, seed=seed)
    found = [agreement(data.labels[lines], each) for lines, each in zip(data.sets, clusters, strict=True)]
    return average_over_sets("v_measure", found)
