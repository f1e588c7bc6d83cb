"""Table 1 and figure 3: do HS and RW group texts alike, and by what."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from moee.evaluate.reproduce.exhibit import Cell, Exhibit, Picture, Table
from moee.evaluate.reproduce.paper_scores import METHOD_NAMES, paper
from moee.evaluate.reproduce.pictures import draw_word_clouds
from moee.evaluate.reproduce.right_pairs import STS_TASKS
from moee.evaluate.reproduce.run import Run, limited, original_setting, right_setting
from moee.evaluate.reproduce.score_tables import ORIGINAL, RIGHT
from moee.evaluate.reproduce.subsets import spread_texts
from moee.evaluate.tasks import ClusteringData, TaskData
from moee.evaluate.vectors import Setting
from moee.plots.topics import RESTARTS, Labels, kmeans, topic_words
from moee.types import Array, Fusion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_LIMIT = 2000
"""Texts used of each task: k-means is run six times."""
DEFAULT_CLUSTERS = 20
"""Number of clusters for sets without classes."""
TOPICS = 6
WORDS = 12
_CLUSTERING = ("TwentyNewsgroupsClustering", "MedrxivClusteringS2S")


def compare_clusterings(a: Labels, b: Labels) -> dict[str, float]:
    """Measure how far two clusterings of the same texts agree.

    Args:
        a: Cluster of each text, `(n,)`.
        b: The same by another view.

    Returns:
        `ami` and `nmi`: mutual information of the two, adjusted for chance or only normalised (arithmetic mean).
        `jaccard_pairs`: of the pairs of texts that either puts together, the share that both do. `jaccard_clusters`:
        overlap over union of clusters matched one to one, mean. `exact_match_percent`: texts in matched clusters. The
        matching is the one that keeps most texts.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix, pair_confusion_matrix

    table = np.asarray(contingency_matrix(a, b))
    rows, columns = linear_sum_assignment(table, maximize=True)
    matched = table[rows, columns]
    union = table.sum(axis=1)[rows] + table.sum(axis=0)[columns] - matched
    pairs = pair_confusion_matrix(a, b)
    either = pairs[0, 1] + pairs[1, 0] + pairs[1, 1]
    return {
        "ami": float(adjusted_mutual_info_score(a, b)),
        "nmi": float(normalized_mutual_info_score(a, b)),
        "jaccard_pairs": float(pairs[1, 1] / either) if either else 1.0,
        "jaccard_clusters": float(np.mean(matched / union)),
        "exact_match_percent": 100 * float(matched.sum() / table.sum()),
    }


def table1(run: Run) -> Exhibit:
    """Make table 1: agreement of the k-means clusters of HS and RW, with what chance and k-means itself would give."""
    rows: list[tuple[Cell, ...]] = []
    used: dict[str, dict[str, int]] = {}
    for task in _cluster_tasks(run, "table1"):
        data, clusters = _texts(run, task)
        used[task] = {"texts": len(data.texts), "clusters": clusters}
        for computed, make in ((ORIGINAL, original_setting), (RIGHT, right_setting)):
            rows += [(task, computed, *row) for row in _comparisons(run, data, clusters, make)]
    published = paper()["cluster_agreement"]
    numbers = (published["ami"], published["nmi"], published["jaccard"], None, published["exact_match_percent"])
    rows.append(("paper", "", "HS and RW", *numbers))
    columns = (
        "task",
        "computed",
        "clusterings",
        "AMI",
        "NMI",
        "Jaccard of pairs",
        "Jaccard of clusters",
        "exact match, %",
    )
    return Exhibit(
        "table1",
        "Table 1: agreement of the clusters of HS and RW",
        (Table("table1", "Agreement of two k-means clusterings", columns, tuple(rows), decimals=3),),
        (
            "; ".join(f"{task}: {each['texts']} texts, k = {each['clusters']}" for task, each in used.items()) + ".",
            '"another seed": the same view clustered again; no two views can be asked to agree better than that. '
            '"RW shuffled": RW\'s clusters given to other texts, what chance gives.',
            "Exact match and Jaccard of clusters are after matching clusters one to one so that most texts agree. The "
            "paper does not say how it computed its Jaccard (0.06) and exact match, nor on which texts, so these two "
            "may be other quantities.",
        ),
        settings={"sets": used, "seed": run.options.seed, "restarts": RESTARTS},
    )


def figure3(run: Run) -> Exhibit:
    """Make figure 3: the words that set the clusters of HS and of RW apart."""
    task = _cluster_tasks(run, "figure3")[0]
    data, _ = _texts(run, task)
    clusters = min(TOPICS, len(data.texts))
    rows: list[tuple[Cell, ...]] = []
    clouds: dict[str, list[tuple[str, dict[str, float]]]] = {}
    views: tuple[Fusion, ...] = ("hs", "rw")
    for view in views:
        name = METHOD_NAMES[view]
        labels = kmeans(_vectors(run, data, original_setting(view, "prompteol")), clusters, run.options.seed)
        for cluster, words in enumerate(topic_words(data.texts, labels), start=1):
            size = int(np.sum(labels == cluster - 1))
            rows.append((name, cluster, size, ", ".join(list(words)[:WORDS])))
            if words:
                clouds.setdefault(name, []).append((f"{name} {cluster}: {size} texts", words))

    def draw(figure: Figure) -> None:
        draw_word_clouds(figure, clouds, run.options.seed)

    columns = ("view", "cluster", "texts", f"the {WORDS} words that mark it most")
    return Exhibit(
        "figure3",
        "Figure 3: topics of the clusters of HS and RW",
        (Table("figure3", f"Clusters of {len(data.texts)} texts of {task}", columns, tuple(rows)),),
        (
            "Words are weighed by class-based TF-IDF: the share of a cluster's words, times the logarithm of 1 plus "
            "the mean number of words in a cluster over the word's count in all clusters.",
            f"Computed {ORIGINAL}, PromptEOL, k-means with {clusters} clusters.",
            "The words come from the evaluation set.",
        ),
        (Picture("figure3", f"Words of the clusters of HS and RW, {task}", (2.4 * clusters, 4.6), draw),),
        {"task": task, "texts": len(data.texts), "clusters": clusters, "seed": run.options.seed},
    )


def _cluster_tasks(run: Run, what: str) -> tuple[str, ...]:
    """Return the sets to be clustered: those with classes; an STS set only if there are none, or if it is named."""
    if run.options.tasks:
        return run.chosen((*_CLUSTERING, *STS_TASKS), what=what)
    found = tuple(name for name in _CLUSTERING if run.study.has(name))
    return found or run.chosen(STS_TASKS, what=what)[:1]


def _texts(run: Run, task: str) -> tuple[TaskData, int]:
    data = run.study.task(task)
    clusters = len(data.label_names) if isinstance(data, ClusteringData) else DEFAULT_CLUSTERS
    sample = spread_texts(data, limited(run.options, DEFAULT_LIMIT))
    return sample, min(clusters, len(sample.texts))


def _vectors(run: Run, data: TaskData, setting: Setting) -> Array:
    return run.study.embed(data, setting)(np.arange(len(data.texts), dtype=np.int64))


def _comparisons(
    run: Run, data: TaskData, clusters: int, make: Callable[[Fusion, str], Setting]
) -> list[tuple[Cell, ...]]:
    seed = run.options.seed
    hidden, routing = (_vectors(run, data, make(view, "prompteol")) for view in ("hs", "rw"))
    by_hidden, by_routing = kmeans(hidden, clusters, seed), kmeans(routing, clusters, seed)
    shuffled = np.random.default_rng(seed).permutation(by_routing)
    pairs = {
        "HS and RW": (by_hidden, by_routing),
        "HS and RW shuffled": (by_hidden, shuffled),
        "HS and HS, another seed": (by_hidden, kmeans(hidden, clusters, seed + 1)),
        "RW and RW, another seed": (by_routing, kmeans(routing, clusters, seed + 1)),
    }
    return [(name, *compare_clusterings(*labels).values()) for name, labels in pairs.items()]
