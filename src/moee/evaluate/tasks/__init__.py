"""The tasks that can be evaluated: one file a task type, and the calls that work for all of them.

A row says what a task is, not where its data lies: `load_task` reads a folder of the row's name. `score(data, embed)`
gives the main score that mteb 2.26 gives for the same vectors, without mteb: scikit-learn and scipy are enough. Nothing
here knows a model or a setting; vectors come from the `embed` that is passed in, one call for each encode call of mteb
and in its order.

A new task is a row in its type's `tasks`. A new task type is one file with a subclass of `TaskData`, named in
`TASK_DATA`. The paper's tasks are those of arXiv 2410.10814, tables 8 to 12; rows without a folder are not run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from moee.errors import InputError, MissingExtraError, UnknownNameError
from moee.evaluate.tasks.classification import SEED, ClassificationData
from moee.evaluate.tasks.clustering import ClusteringData
from moee.evaluate.tasks.document_similarity import DocumentSimilarityData
from moee.evaluate.tasks.files import DataError, Indices, Numbers, TaskFolder
from moee.evaluate.tasks.pair_classification import PairData
from moee.evaluate.tasks.reranking import RerankingData
from moee.evaluate.tasks.retrieval import RetrievalData
from moee.evaluate.tasks.score import Embed, TaskScore, apply_statistic, check_finite
from moee.evaluate.tasks.sts import STSData
from moee.evaluate.tasks.summarization import SummarizationData
from moee.evaluate.tasks.task import Task, TaskData
from moee.evaluate.tasks.words import tfidf
from moee.files.json import read_json

TASK_DATA: Mapping[str, type[TaskData]] = MappingProxyType(
    {
        each.task_type: each
        for each in (
            STSData,
            ClassificationData,
            PairData,
            ClusteringData,
            RerankingData,
            SummarizationData,
            RetrievalData,
            DocumentSimilarityData,
        )
    }
)
"""Every task type, in the order of every table."""

TASK_TYPES = tuple(TASK_DATA)
TASKS: tuple[Task, ...] = tuple(row for each in TASK_DATA.values() for row in each.tasks)
"""Every task, by type. The paper's STS12 to STSBenchmark are eight of the STS rows."""

FLOORS: Mapping[str, str] = MappingProxyType(
    {
        "tfidf": "TF-IDF vectors under the task's own protocol",
        "bm25": "BM25 (k1 0.9, b 0.4), retrieval only",
        "naive-bayes": "multinomial naive Bayes fitted on all of train, classification only",
    }
)
"""Name of each floor, and its meaning in a few words."""


def task_row(name: str) -> Task:
    """Return the row of a task.

    Raises:
        UnknownNameError: If there is none; suggests close matches.
    """
    for row in TASKS:
        if row.name == name:
            return row
    raise UnknownNameError("task", name, [row.name for row in TASKS])


def select_tasks(names: Iterable[str]) -> list[Task]:
    """Turn what a user asked for into rows, in the order of `TASKS`, each once.

    Args:
        names: Names of tasks or of task types (all of that type), `"paper"` (those of the paper) or `"all"`.

    Raises:
        UnknownNameError: If a name is none of these; suggests close matches.
    """
    wanted: set[str] = set()
    for name in names:
        matched = {row.name for row in TASKS if name in ("all", row.name, row.task_type)}
        if name == "paper":
            matched = {row.name for row in TASKS if row.in_paper}
        if not matched:
            known = [*(row.name for row in TASKS), *TASK_TYPES, "all", "paper"]
            raise UnknownNameError("task", name, known, hint="Any other task of mteb runs with --mteb.")
        wanted |= matched
    return [row for row in TASKS if row.name in wanted]


def check_folder(data: Path) -> None:
    """Check that `data` is a folder that holds evaluation sets.

    Raises:
        DataError: If not.
    """
    if not data.is_dir():
        raise DataError(f"{str(data)!r} is not a folder. --data must name a folder with one subfolder for each task.")
    if not any((entry / "dataset.json").is_file() for entry in data.iterdir()):
        raise DataError(
            f"{str(data)!r} holds no evaluation set: no subfolder has a dataset.json. The layout is shown in "
            "docs/guides/evaluate.md."
        )


def load_task(
    folder: Path, name: str, *, limit: int | None = None, corpus_limit: int | None = None, split: str = "test"
) -> TaskData:
    """Read a task from its folder.

    Args:
        folder: Folder of the task: `dataset.json` and `*.jsonl.gz` (or `*.jsonl`).
        name: Name of a row of `TASKS`.
        limit: At most so many items, and so many texts of every further part; see `TaskFolder`.
        corpus_limit: Retrieval: so many documents at most: all judged ones, then the first others. Fewer documents make
            the task easier, so such scores compare with each other only.
        split: Which file holds the rows that are scored. Clustering and retrieval sets have one split, `test`.

    Raises:
        UnknownNameError: If there is no such task; suggests close matches.
        DataError: If a file or field is missing or wrong; names it.
    """
    row = task_row(name)
    kind = TASK_DATA[row.task_type]
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}; it must be 1 or larger, or None for all rows.")
    if not kind.has_splits and split != "test":
        raise DataError(f"{name} has one split, which is called 'test'; got {split!r}. Leave this task out.")
    if not folder.is_dir():
        raise DataError(f"{name}: no folder {str(folder)!r}.")
    path = folder / "dataset.json"
    try:
        declared = read_json(path).get("task_type")
    except (OSError, InputError, AttributeError) as error:
        raise DataError(f"{path} is missing or not a JSON object ({error}).") from error
    if declared != row.task_type:
        raise DataError(f"{path}: field 'task_type' is {declared!r}; the task {name} is of type {row.task_type!r}.")
    return kind.read(TaskFolder(folder, name, limit, corpus_limit, split))


def score(data: TaskData, embed: Embed, *, seed: int = SEED) -> TaskScore:
    """Score one task.

    Args:
        data: The task. For classification the training texts a label and the number of runs come from its row, or are
            mteb's defaults of 8 and 10 for a name without a row.
        embed: The encode call.
        seed: Seed of samples and clusters; mteb's is 42.

    Returns:
        The main score, unrounded, with what it was computed from.

    Raises:
        InputError: If vectors are not finite or not one for each text, or the score would be NaN; names the task.
        MissingExtraError: If scikit-learn or scipy is not installed.
    """
    with _needs_scikit_learn():
        return check_finite(data.name, data.score(embed, seed=seed))


def floors(data: TaskData, *, seed: int = SEED) -> dict[str, TaskScore]:
    """Return every floor of a task: `tfidf`, and `bm25` or `naive-bayes` where it belongs.

    Pairs of single words have none: texts without a common word all have the cosine 0, and no correlation exists.

    Args:
        data: Any task.
        seed: Seed of classification samples and k-means, as in `score`.

    Raises:
        InputError: If the metric is not defined on these rows.
    """
    found = {"tfidf": tfidf_score(data, seed=seed)} if data.has_tfidf() else {}
    return found | data.further_floors()


def tfidf_score(data: TaskData, *, seed: int = SEED) -> TaskScore:
    """Score TF-IDF vectors on a task.

    Document frequencies come from the texts as the task lists them, repeats included: both sides of pairs, queries and
    candidates, each comparison of two summaries, the documents of a search, the training texts of a classification.

    Args:
        data: Any task.
        seed: Seed of classification samples and k-means.
    """
    with _needs_scikit_learn():
        return check_finite(data.name, data.score_tfidf(tfidf(data.texts, data.listed()), seed=seed))


@contextmanager
def _needs_scikit_learn() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("sklearn", "scipy"):
            raise
        raise MissingExtraError("scikit-learn", "scoring", "evaluate") from error


__all__ = [
    "FLOORS",
    "SEED",
    "TASKS",
    "TASK_DATA",
    "TASK_TYPES",
    "ClassificationData",
    "ClusteringData",
    "DataError",
    "DocumentSimilarityData",
    "Embed",
    "Indices",
    "Numbers",
    "PairData",
    "RerankingData",
    "RetrievalData",
    "STSData",
    "SummarizationData",
    "Task",
    "TaskData",
    "TaskScore",
    "apply_statistic",
    "check_folder",
    "floors",
    "load_task",
    "score",
    "select_tasks",
    "task_row",
    "tfidf_score",
]
