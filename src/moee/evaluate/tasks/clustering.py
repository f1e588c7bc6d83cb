"""Clustering: V-measure of mini-batch k-means on each set, and their mean.

Reference: mteb 2.26, `abstasks/clustering_legacy.py` and `_evaluators/clustering_evaluator.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from moee.evaluate.tasks.files import DataError, Indices, TaskFolder, Texts, label_names
from moee.evaluate.tasks.score import Embed, TaskScore, encode
from moee.evaluate.tasks.task import Tables, Task, TaskData, mteb_rows
from moee.evaluate.tasks.words import Sparse
from moee.method.moments import spread

_BATCH_SIZE = 500  # of k-means, mteb's
_TEXTS_OF_A_SET = 200  # under a limit: ten for each of some twenty classes; fewer are no clusters any more


@dataclass(frozen=True, slots=True)
class ClusteringData(TaskData):
    """Labelled texts to be grouped without their labels.

    Attributes:
        rows: Text of each data line.
        labels: Class of each data line.
        sets: Data lines of each set that is clustered by itself.
        label_names: Readable name of each class.
    """

    task_type = "Clustering"
    metric = "v_measure"
    mteb_class = "AbsTaskClusteringLegacy"
    has_splits = False
    tasks = (
        Task("TwentyNewsgroupsClustering", "Clustering", "TwentyNewsgroupsClustering", in_paper=True),
        Task("MedrxivClusteringS2S", "Clustering", "MedrxivClusteringS2S", in_paper=True),
    )
    rows: Indices
    labels: Indices
    sets: tuple[Indices, ...]
    label_names: tuple[str, ...]

    @classmethod
    def read(cls, folder: TaskFolder) -> Self:
        """Read data and sets; with a limit only the texts of the shortened sets, so that no other is embedded."""
        file, sets, texts = folder.read("data"), folder.read("sets"), Texts()
        all_rows, labels = texts.add(file.strings("text")), file.labels()
        listed = [np.array(rows, dtype=np.int64) for rows in sets.lists("rows", int)]
        for number, rows in zip(sets.lines, listed, strict=True):
            if not len(rows) or rows.min() < 0 or rows.max() >= len(labels):
                raise DataError(
                    f"{sets.path}, line {number}: field 'rows' must list lines 0 to {len(labels) - 1} of data."
                )
        if folder.limit is None:
            return cls(folder.name, texts.all(), all_rows, labels, tuple(listed), label_names(file))
        chosen = _shortened(listed, folder.limit)
        used = np.unique(np.concatenate(chosen))
        everything, kept = texts.all(), Texts()
        rows = kept.add([everything[place] for place in all_rows[used]])
        shortened = tuple(np.searchsorted(used, each) for each in chosen)
        return cls(folder.name, kept.all(), rows, labels[used], shortened, label_names(file))

    def score(self, embed: Embed, *, seed: int = 42) -> TaskScore:
        """Score the sets; encodes one after another, in the order of its rows.

        Returns:
            `v_measure`, with `v_measure_std` over the sets, and `ami` and `ari` of the same clusters; all are 1 for a
            set of one class. The items are the V-measures of the sets.

        Raises:
            InputError: If vectors are not finite.
        """
        return measure_sets(self, cluster_sets(self, embed, seed=seed))

    def listed(self) -> Indices:
        """Return the text of every data line."""
        return self.rows

    def score_tfidf(self, vectors: Sparse, *, seed: int = 42) -> TaskScore:
        """Score clusters of the sparse vectors; k-means takes them as they are."""
        return measure_sets(self, _cluster_each(self, lambda rows: vectors[rows], seed))

    def mteb_tables(self, columns: Mapping[str, str], config: str) -> Tables:
        """Return one row for each set."""
        names = (columns["input_column_name"], columns["label_column_name"])
        sets = [(self.texts_at(self.rows[lines]), self.labels[lines].tolist()) for lines in self.sets]
        return {config: {"test": mteb_rows(names, *zip(*sets, strict=True))}}


def _shortened(sets: Sequence[Indices], limit: int) -> list[Indices]:
    """Return so few sets, and so few texts of each, that they hold `limit` texts together."""
    kept = [sets[place] for place in spread(len(sets), max(1, limit // _TEXTS_OF_A_SET))]
    return [rows[spread(len(rows), max(1, limit // len(kept)))] for rows in kept]


def cluster(vectors: Any, num_clusters: int, seed: int) -> Indices:
    """Return the k-means cluster of every vector, with mteb's settings.

    Args:
        vectors: `(n, dim)`, float32 or sparse; `Any`, for scipy ships no types.
        num_clusters: How many clusters to look for.
        seed: Seed of the initial centres and the batches.

    Returns:
        `(n,)` cluster ids, from 0.
    """
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(
        n_clusters=num_clusters, batch_size=_BATCH_SIZE, n_init="auto", compute_labels=True, random_state=seed
    )
    return np.asarray(model.fit(vectors).labels_, dtype=np.int64)


def cluster_sets(data: ClusteringData, embed: Embed, *, seed: int) -> list[Indices]:
    """Cluster every set and return the clusters of its texts; encodes one set after another, in the order of its rows.

    Each set gets as many clusters as it has classes. A set of one class is not encoded, as in mteb: all its texts are
    one cluster.
    """
    return _cluster_each(data, lambda rows: encode(data.name, embed, rows), seed)


def _cluster_each(data: ClusteringData, vectors: Callable[[Indices], Any], seed: int) -> list[Indices]:
    found = []
    for lines in data.sets:
        num_classes = len(np.unique(data.labels[lines]))
        if num_classes > 1:
            found.append(cluster(vectors(data.rows[lines]), num_classes, seed))
        else:
            found.append(np.zeros(len(lines), dtype=np.int64))
    return found


def measure_sets(data: ClusteringData, clusters: Sequence[Indices]) -> TaskScore:
    """Compare the clusters of every set with its classes, and average over the sets.

    Args:
        data: The sets and their classes.
        clusters: For each set the cluster of each text.

    Returns:
        `v_measure`, and two measures that chance does not raise: `ami` and `ari` are 0 on average for random clusters
        however many there are.
    """
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, v_measure_score

    measures = {"v_measure": v_measure_score, "ami": adjusted_mutual_info_score, "ari": adjusted_rand_score}
    found = {
        name: np.asarray([float(of(data.labels[lines], ids)) for lines, ids in zip(data.sets, clusters, strict=True)])
        for name, of in measures.items()
    }
    items = found["v_measure"]
    metrics = {name: float(np.mean(values)) for name, values in found.items()} | {"v_measure_std": float(np.std(items))}
    return TaskScore("v_measure", metrics["v_measure"], metrics, items)
