"""What every task type has in common: the row of a task, and the data that reads itself, scores itself and has floors.

A task type is one file of this package: a subclass of `TaskData` and the rows of its tasks. It is registered by its
line in `moee.evaluate.tasks.TASK_DATA`; nothing else in the package names a type.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from moee.errors import InputError
from moee.evaluate.tasks.files import Indices, TaskFolder
from moee.evaluate.tasks.score import Embed, TaskScore
from moee.evaluate.tasks.words import FirstCallColumns, Sparse

Tables = dict[str, dict[str, list[dict[str, Any]]]]
"""mteb's files of a task: configuration -> split -> rows of JSON."""


@dataclass(frozen=True, slots=True)
class Task:
    """One row.

    Attributes:
        name: Name of the task and of its folder.
        task_type: Decides fields, vectors and metric.
        mteb: Name in mteb; None if mteb has no such task.
        subset: mteb's subset, for tasks of several languages.
        in_paper: Whether arXiv 2410.10814 reports it.
        samples_per_label: Classification: training texts of each label, in each run; mteb's number for the task.
        runs: Classification: how many classifiers are fitted, each on its own sample.
        in_means: Whether it counts in the mean of its type.
        note: What a reader of a score must know.
    """

    name: str
    task_type: str
    mteb: str | None
    subset: str = "default"
    in_paper: bool = False
    samples_per_label: int = 8
    runs: int = 10
    in_means: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class TaskData(ABC):
    """The checked rows of one task; a subclass is a task type.

    A value holds every different text once, and indices into them: a model sees a text once however often it occurs.

    Attributes:
        task_type: Name of the type, as `dataset.json` and mteb spell it.
        metric: Main score, by mteb's name where mteb has it.
        tasks: The tasks of this type, in the order of every table.
        mteb_class: mteb's class for tasks that mteb itself does not have; None if it measures no such thing.
        has_splits: Whether a split other than `test` may exist.
        has_corpus: Whether a limit of documents applies.
        name: Name of the task.
        texts: Every different text, in order of first appearance. All indices point into it.
    """

    task_type: ClassVar[str]
    metric: ClassVar[str]
    tasks: ClassVar[tuple[Task, ...]]
    mteb_class: ClassVar[str | None] = None
    has_splits: ClassVar[bool] = True
    has_corpus: ClassVar[bool] = False
    name: str
    texts: tuple[str, ...]

    @classmethod
    @abstractmethod
    def read(cls, folder: TaskFolder) -> Self:
        """Read the task from its folder.

        Raises:
            DataError: If a file or field is missing or wrong; names it.
        """

    @abstractmethod
    def score(self, embed: Embed, *, seed: int) -> TaskScore:
        """Score an encode call as mteb 2.26 does: the same calls in the same order, the same metric, not rounded.

        Args:
            embed: The encode call.
            seed: Seed of samples and clusters; mteb's is 42.

        Raises:
            InputError: If vectors are not finite or not one for each text, or the score is not defined.
        """

    @abstractmethod
    def listed(self) -> Indices:
        """Return the texts over which document frequencies are counted, repeats included."""

    def embedded(self) -> Indices:
        """Return the rows of `texts` that scoring with mteb's seed embeds; all, unless a type leaves some out."""
        return np.arange(len(self.texts))

    def has_tfidf(self) -> bool:
        """Return whether TF-IDF has a score here."""
        return True

    def score_tfidf(self, vectors: Sparse, *, seed: int) -> TaskScore:
        """Score TF-IDF vectors, `(num_texts, num_words)` sparse, as a model's vectors are scored."""
        return self.score(FirstCallColumns(vectors), seed=seed)

    def further_floors(self) -> dict[str, TaskScore]:
        """Return the floors that only this type has, by name."""
        return {}

    def facts(self) -> Mapping[str, int]:
        """Return further counts for the record of a run."""
        return {}

    def mteb_tables(self, columns: Mapping[str, str], config: str) -> Tables:
        """Return the rows in mteb's layout.

        Args:
            columns: What mteb's task class calls its columns, by the name of the class attribute.
            config: Name of the configuration, mteb's subset.

        Raises:
            InputError: If mteb has no measure for such data.
        """
        raise no_mteb(self, f"tasks of type {self.task_type}")

    def texts_at(self, places: Indices) -> list[str]:
        """Return the texts at some places."""
        return [self.texts[place] for place in places]


def no_mteb(data: TaskData, what: str) -> InputError:
    """Return the error for data that mteb cannot score."""
    return InputError(f"mteb has no measure for {data.name}: it knows no {what}. Score it with the local runner.")


def mteb_rows(names: Sequence[str], *values: Sequence[Any]) -> list[dict[str, Any]]:
    """Return rows of named columns."""
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def mteb_search(corpus: list[dict[str, Any]], queries: list[dict[str, Any]], judged: list[dict[str, Any]]) -> Tables:
    """Return mteb's three tables of a search."""
    return {"default": {"test": judged}, "corpus": {"test": corpus}, "queries": {"test": queries}}
