"""The "sum" of clustering and classification as the original code of MoEE computed it: kept to compare, not to use.

The paper defines the sum for similarities. Its public code extends it to tasks without similarities by averaging
numbers that only name something: the cluster ids of two k-means runs, or the class ids that two classifiers predict
(arXiv 2410.10814, repository tianyi-lab/MoE-Embedding, the evaluators of its copy of mteb). Ids have no order, so the
average of two different ones names a third cluster or class that neither run found. Published sums of these two task
types were computed so; the correct one is the score of one fused vector, which `moee.evaluate.tasks.score` gives.

Clusters, samples and classifiers are mteb 2.26's here as in `tasks`; the original used a copy of mteb 1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moee.errors import InputError
from moee.evaluate.tasks import ClassificationData, ClusteringData, Embed, TaskData, TaskScore
from moee.evaluate.tasks.classification import predict_runs, summarise
from moee.evaluate.tasks.clustering import cluster_sets, measure_sets


def averaged_clusters(data: ClusteringData, hidden: Embed, routing: Embed, *, seed: int = 42) -> TaskScore:
    """Cluster HS and RW apart, average the two cluster ids of every text, and take the averages for clusters.

    Averages are the same partition as sums of ids, so they are kept whole here: 2k - 1 values for k clusters. More and
    smaller clusters raise the V-measure by themselves; `ami_artefact` and `ari_artefact` correct for that.
    """
    pairs = zip(cluster_sets(data, hidden, seed=seed), cluster_sets(data, routing, seed=seed), strict=True)
    return _named(measure_sets(data, [first + second for first, second in pairs]))


def averaged_classes(data: ClassificationData, hidden: Embed, routing: Embed, *, seed: int = 42) -> TaskScore:
    """Fit a classifier on HS and one on RW, average the class ids that they predict, and take the average for a class.

    The average of two ids may end in one half. That the original averages ids is known; how it makes them whole again
    is not, and our reading is numpy's rounding, which takes a half to the even neighbour.
    """
    first, second = (predict_runs(data, embed, seed=seed) for embed in (hidden, routing))
    averaged = [np.rint((a + b) / 2).astype(np.int64) for a, b in zip(first, second, strict=True)]
    return _named(summarise("accuracy", data.test_labels, averaged))


def score_averaged_ids(data: TaskData, hidden: Embed, routing: Embed, *, seed: int = 42) -> TaskScore:
    """Compute the original's "sum" of a clustering or classification task.

    Args:
        data: The task.
        hidden: The encode call of hidden states.
        routing: The encode call of routing weights.
        seed: Seed of samples and clusters, the same for both.

    Returns:
        The score; every metric's name ends in `_artefact`.

    Raises:
        InputError: If vectors are not finite, or the task is of another type: there the original adds similarities, as
            one vector does.
    """
    if isinstance(data, ClusteringData):
        return averaged_clusters(data, hidden, routing, seed=seed)
    if isinstance(data, ClassificationData):
        return averaged_classes(data, hidden, routing, seed=seed)
    raise InputError(
        f"{data.name} is of type {data.task_type}: only the sums of Clustering and Classification average ids. "
        "Score it with `moee.evaluate.tasks.score`."
    )


def _named(score: TaskScore) -> TaskScore:
    metrics = {f"{name}_artefact": value for name, value in score.metrics.items()}
    return replace(score, metric=f"{score.metric}_artefact", metrics=metrics)
