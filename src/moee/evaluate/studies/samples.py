"""Samples of evaluation sets that are bounded by what a study pays for: the number of texts that a model must run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from moee.errors import InputError
from moee.evaluate.reproduce.run import NoDataError
from moee.evaluate.tasks import (
    TASKS,
    ClassificationData,
    Embed,
    Indices,
    Task,
    TaskData,
    check_folder,
    load_task,
    select_tasks,
    task_row,
)
from moee.types import Array

TYPES = ("STS", "Classification", "PairClassification", "Clustering", "Reranking", "Retrieval")
"""Task types that studies use: those whose score rests on single texts. A summary's rests on ten articles."""
_LEAST_TEXTS = 40
_LEAST_ROWS = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """Some rows of a task.

    Attributes:
        task: Row of the task.
        data: The rows that were kept.
        rows: Places in `data.texts` of the texts that scoring embeds.
    """

    task: Task
    data: TaskData
    rows: Indices

    @property
    def texts(self) -> list[str]:
        """The texts that scoring embeds."""
        return [self.data.texts[row] for row in self.rows]


def choose_tasks(folder: Path, names: Sequence[str]) -> list[Task]:
    """Return the tasks that a study uses.

    Args:
        folder: Folder of evaluation sets.
        names: Names of tasks, of types, or `"all"`; empty is the first set of each type that is there.

    Raises:
        UnknownNameError: If a name is none of these; suggests close matches.
        NoDataError: If none of them is in the folder.
    """
    check_folder(folder)
    wanted = select_tasks(names) if names else [row for row in TASKS if row.in_means]
    found = [row for row in wanted if row.task_type in TYPES and (folder / row.name / "dataset.json").is_file()]
    if not found:
        raise NoDataError(
            f"No set of type {', '.join(TYPES)} is in {str(folder)!r}{' among those named' if names else ''}. "
            "docs/guides/evaluate.md shows the layout."
        )
    if names:
        return found
    firsts = {row.task_type: row for row in reversed(found)}
    return [firsts[kind] for kind in TYPES if kind in firsts]


def load_sample(folder: Path, name: str, texts: int) -> Sample:
    """Read a task with so many of its rows that scoring embeds about `texts` texts, and not more where that can be.

    Rows lie at equal distances. Training texts of a classification are thinned for each label alike, to half of the
    texts at most, and the corpus of a retrieval keeps the judged documents and the first others.

    Args:
        folder: Folder of evaluation sets.
        name: Name of the task.
        texts: How many texts the model may run, at least 40.

    Raises:
        InputError: If `texts` is too small to score anything.
        DataError: If the task's files are missing or wrong.
    """
    if texts < _LEAST_TEXTS:
        raise InputError(f"--limit is {texts}; a task needs at least {_LEAST_TEXTS} texts to have a score.")
    # the most rows that stay within the bound: more rows are never fewer texts, but for what rows share
    least, most = _LEAST_ROWS, texts
    found = _read(folder, name, least, texts)
    while least < most:
        middle = (least + most + 1) // 2
        data = _read(folder, name, middle, texts)
        if len(data.embedded()) <= texts:
            least, found = middle, data
        else:
            most = middle - 1
    return Sample(task_row(name), found, found.embedded())


def _read(folder: Path, name: str, rows: int, texts: int) -> TaskData:
    data = load_task(folder / name, name, limit=rows, corpus_limit=texts // 2)
    return _thinned(data, texts // 2) if isinstance(data, ClassificationData) else data


def _thinned(data: ClassificationData, most: int) -> ClassificationData:
    """Keep the first training texts of each label, as many of each, about `most` in all."""
    each = max(1, most // len(data.label_names))
    places = [np.flatnonzero(data.train_labels == label)[:each] for label in np.unique(data.train_labels)]
    kept = np.sort(np.concatenate(places))
    return replace(data, train=data.train[kept], train_labels=data.train_labels[kept])


def lookup(vectors: Array, sample: Sample) -> Embed:
    """Return the encode call of a sample over vectors of its texts, `(num_texts, dim)` in the order of `texts`."""
    places = np.full(len(sample.data.texts), -1, dtype=np.int64)
    places[sample.rows] = np.arange(len(sample.rows))
    return lambda wanted: vectors[places[wanted]]
