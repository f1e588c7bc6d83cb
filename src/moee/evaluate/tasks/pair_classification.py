"""Pair classification: average precision of similarity against 0/1 labels.

Reference: mteb 2.26, `abstasks/pair_classification.py` and `_evaluators/pair_classification_evaluator.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from moee.errors import InputError
from moee.evaluate.tasks.cosine import paired_cosines
from moee.evaluate.tasks.files import DataError, Indices, Numbers, TaskFolder, Texts
from moee.evaluate.tasks.score import Embed, TaskScore, apply_statistic, encode
from moee.evaluate.tasks.task import Tables, Task, TaskData, mteb_rows
from moee.evaluate.tasks.words import Sparse, paired, plane
from moee.types import Array


@dataclass(frozen=True, slots=True)
class PairData(TaskData):
    """Pairs that mean the same (1) or not (0)."""

    task_type = "PairClassification"
    metric = "max_ap"
    mteb_class = "AbsTaskPairClassification"
    tasks = (
        Task("TwitterURLCorpus", "PairClassification", "TwitterURLCorpus", in_paper=True),
        Task("TwitterSemEval2015", "PairClassification", "TwitterSemEval2015", in_paper=True),
    )
    left: Indices
    right: Indices
    labels: Indices

    @classmethod
    def read(cls, folder: TaskFolder) -> Self:
        """Read pairs, labelled 0 or 1."""
        file, texts = folder.scored(), Texts()
        left, right = texts.add(file.strings("sentence1")), texts.add(file.strings("sentence2"))
        labels = file.labels()
        if bad := sorted(set(labels.tolist()) - {0, 1}):
            raise DataError(
                f"{file.path}: field 'label' holds {bad}; pairs are labelled 0 (different) or 1 (the same)."
            )
        return cls(folder.name, texts.all(), left, right, labels)

    def score(self, embed: Embed, *, seed: int = 42) -> TaskScore:
        """Score labelled pairs; encodes the left texts, then the right ones.

        mteb's main score is the best average precision among four similarities. For unit vectors cosine, dot product
        and Euclidean distance rank alike up to rounding, so the choice is between them and Manhattan distance;
        `cosine_ap` is the number without any choice.

        Returns:
            `max_ap`, with `cosine_ap`, `dot_ap`, `euclidean_ap` and `manhattan_ap`. The items are the similarities
            (distances negated) that reached the maximum; cosine where it ties.

        Raises:
            InputError: If vectors are not finite, or only one label occurs.
        """
        if len(np.unique(self.labels)) < 2:
            raise InputError(
                f"The score of {self.name} is not defined: its {len(self.labels)} pairs have one label only. "
                "Average precision needs matches and mismatches: score more rows."
            )
        left = encode(self.name, embed, self.left)
        similarities = _similarities(left, encode(self.name, embed, self.right))
        labels = self.labels.astype(np.float64)
        metrics = {f"{name}_ap": apply_statistic("average_precision", x, labels) for name, x in similarities.items()}
        best = max(similarities, key=lambda name: metrics[f"{name}_ap"])
        main = metrics[f"{best}_ap"]
        return TaskScore("max_ap", main, {"max_ap": main} | metrics, similarities[best], labels, "average_precision")

    def listed(self) -> Indices:
        """Return both sides of all pairs."""
        return np.concatenate([self.left, self.right])

    def score_tfidf(self, vectors: Sparse, *, seed: int = 42) -> TaskScore:
        """Score the pairs' exact cosines."""
        return self.score(plane(paired(vectors, self.left, self.right)), seed=seed)

    def mteb_tables(self, columns: Mapping[str, str], config: str) -> Tables:
        """Return one table of pairs."""
        names = (columns["input1_column_name"], columns["input2_column_name"], columns["label_column_name"])
        sides = (self.texts_at(self.left), self.texts_at(self.right))
        return {config: {"test": mteb_rows(names, *sides, self.labels.tolist())}}


def _similarities(left: Array, right: Array) -> dict[str, Numbers]:
    """Return the four similarities of mteb, cosine first so that it is taken where several are best."""
    from sklearn.metrics.pairwise import paired_euclidean_distances, paired_manhattan_distances

    # row by row, as mteb does: the sums of another order round differently, and average precision sees every swap
    dots = np.asarray([np.dot(a, b) for a, b in zip(left, right, strict=True)])
    found = {
        "cosine": paired_cosines(left, right),
        "dot": dots,
        "euclidean": -paired_euclidean_distances(left, right),
        "manhattan": -paired_manhattan_distances(left, right),
    }
    return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}
