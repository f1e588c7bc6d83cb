"""The tasks that can be evaluated: one row each, local folders and the paper's tasks alike.

A row says what a task is, not where its data lies: `datasets.load_task` reads a folder of the row's name. The paper's
tasks are those of arXiv 2410.10814, tables 8 to 12; rows without a folder are listed as not run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from moee.errors import UnknownNameError

TaskType = Literal[
    "STS",
    "Classification",
    "PairClassification",
    "Clustering",
    "Reranking",
    "Summarization",
    "Retrieval",
    "DocumentSimilarity",
]

TASK_TYPES: tuple[TaskType, ...] = (
    "STS",
    "Classification",
    "PairClassification",
    "Clustering",
    "Reranking",
    "Summarization",
    "Retrieval",
    "DocumentSimilarity",
)
"""In the order of every table."""

METRICS: dict[TaskType, str] = {
    "STS": "cosine_spearman",
    "Classification": "accuracy",
    "PairClassification": "max_ap",
    "Clustering": "v_measure",
    "Reranking": "map_at_1000",
    "Summarization": "cosine_spearman",
    "Retrieval": "ndcg_at_10",
    "DocumentSimilarity": "cosine_pearson",
}
"""Main score of each type, by mteb's name."""


@dataclass(frozen=True, slots=True)
class Task:
    """One row.

    Attributes:
        name: Of the task and of its folder.
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
    task_type: TaskType
    mteb: str | None
    subset: str = "default"
    in_paper: bool = False
    samples_per_label: int = 8
    runs: int = 10
    in_means: bool = True
    note: str = ""


def _sts(name: str, note: str = "") -> Task:
    return Task(name, "STS", name, in_paper=True, note=note)


TASKS: tuple[Task, ...] = (
    _sts("STS12"),
    _sts("STS13"),
    _sts("STS14"),
    _sts("STS15"),
    _sts("STS16"),
    _sts("BIOSSES"),
    _sts("SICK-R"),
    _sts("STSBenchmark"),
    Task(
        "WordSimilarity",
        "STS",
        None,
        in_means=False,
        note="single words: the mean of SimLex-999 and WordSim-353; not in the means, for it has no TF-IDF floor",
    ),
    Task("EmotionClassification", "Classification", "EmotionClassification", in_paper=True, samples_per_label=16),
    Task(
        "TweetSentimentExtractionClassification",
        "Classification",
        "TweetSentimentExtractionClassification",
        in_paper=True,
        samples_per_label=32,
    ),
    Task(
        "ToxicConversationsClassification",
        "Classification",
        "ToxicConversationsClassification",
        in_paper=True,
        samples_per_label=16,
    ),
    Task("Banking77Classification", "Classification", "Banking77Classification"),
    Task(
        "AmazonCounterfactual-en",
        "Classification",
        "AmazonCounterfactualClassification",
        subset="en",
        samples_per_label=32,
    ),
    Task("TwitterURLCorpus", "PairClassification", "TwitterURLCorpus", in_paper=True),
    Task("TwitterSemEval2015", "PairClassification", "TwitterSemEval2015", in_paper=True),
    Task("TwentyNewsgroupsClustering", "Clustering", "TwentyNewsgroupsClustering", in_paper=True),
    Task("MedrxivClusteringS2S", "Clustering", "MedrxivClusteringS2S", in_paper=True),
    Task("AskUbuntuDupQuestions", "Reranking", "AskUbuntuDupQuestions", in_paper=True),
    Task("SciDocsRR", "Reranking", "SciDocsRR", in_paper=True),
    Task("StackOverflowDupQuestions", "Reranking", "StackOverflowDupQuestions", in_paper=True),
    Task("QuoraDuplicateRR", "Reranking", None, note="19 hard negatives by BM25 for each question"),
    Task("WikiQA", "Reranking", None),
    Task("SummEval", "Summarization", "SummEval", in_paper=True),
    Task("SciFact", "Retrieval", "SciFact"),
    Task("Cranfield", "Retrieval", None),
    Task("Lee50", "DocumentSimilarity", None),
)
"""Every task, by type. The paper's STS12 to STSBenchmark are eight of the STS rows."""


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
        names: Of tasks, of task types (all of that type), `"paper"` (those of the paper) or `"all"`.

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
