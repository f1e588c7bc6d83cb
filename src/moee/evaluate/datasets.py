"""Evaluation sets in local folders: `dataset.json` and gzipped JSON lines to checked, typed values.

A value holds every different text once, and indices into them: a model sees a text once however often it occurs.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from moee.errors import InputError
from moee.evaluate.tasks import TaskType, task_row

Indices = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
Row = dict[str, Any]
"""One JSON object of a file; its fields are checked where they are read."""


class DataError(InputError):
    """An evaluation set is missing, or a file or field of it cannot be used."""


@dataclass(frozen=True, slots=True)
class TaskData:
    """What all evaluation sets share.

    Attributes:
        name: Of the task.
        texts: Every different text, in order of first appearance. All indices point into it.
    """

    task_type: ClassVar[TaskType]
    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class STSData(TaskData):
    """Scored pairs.

    Attributes:
        left: First text of each pair.
        right: Second text of each pair.
        scores: Given by people.
        groups: One name per pair if the groups are scored apart, else empty.
    """

    task_type: ClassVar[TaskType] = "STS"
    left: Indices
    right: Indices
    scores: Numbers
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PairData(TaskData):
    """Pairs that mean the same (1) or not (0)."""

    task_type: ClassVar[TaskType] = "PairClassification"
    left: Indices
    right: Indices
    labels: Indices


@dataclass(frozen=True, slots=True)
class ClassificationData(TaskData):
    """Labelled texts; `label_names[label]` is the readable name of a label."""

    task_type: ClassVar[TaskType] = "Classification"
    train: Indices
    train_labels: Indices
    test: Indices
    test_labels: Indices
    label_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClusteringData(TaskData):
    """Labelled texts to be grouped without their labels.

    Attributes:
        rows: Text of each data line.
        labels: Class of each data line.
        sets: Data lines of each set that is clustered by itself.
        label_names: Readable name of each class.
    """

    task_type: ClassVar[TaskType] = "Clustering"
    rows: Indices
    labels: Indices
    sets: tuple[Indices, ...]
    label_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RerankingData(TaskData):
    """Queries, each with its good and bad candidates."""

    task_type: ClassVar[TaskType] = "Reranking"
    queries: Indices
    positives: tuple[Indices, ...]
    negatives: tuple[Indices, ...]


@dataclass(frozen=True, slots=True)
class RetrievalData(TaskData):
    """Queries, documents and judgements: `relevance[query_id][document_id]`; what is absent is 0."""

    task_type: ClassVar[TaskType] = "Retrieval"
    queries: Indices
    documents: Indices
    query_ids: tuple[str, ...]
    document_ids: tuple[str, ...]
    relevance: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class SummarizationData(TaskData):
    """For each article: human summaries, machine summaries, and how relevant people found each of the latter."""

    task_type: ClassVar[TaskType] = "Summarization"
    human: tuple[Indices, ...]
    machine: tuple[Indices, ...]
    relevance: tuple[Numbers, ...]


@dataclass(frozen=True, slots=True)
class DocumentSimilarityData(TaskData):
    """Documents and the mean human rating of every two of them, `(n, n)`."""

    task_type: ClassVar[TaskType] = "DocumentSimilarity"
    documents: Indices
    similarity: Numbers


class _Texts:
    """Collects texts and gives each different one a place."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def add(self, texts: Sequence[str]) -> Indices:
        return np.array([self._places.setdefault(text, len(self._places)) for text in texts], dtype=np.int64)

    def all(self) -> tuple[str, ...]:
        return tuple(self._places)


@dataclass(frozen=True, slots=True)
class _File:
    """The rows of one file, or some of them, and how to read a field of all of them.

    Attributes:
        path: Of the file.
        rows: Those that were kept.
        lines: Their numbers in the file, from 1.
        places: Their places among the file's rows, from 0; blank lines are no rows.
        num_rows: How many the file holds.
    """

    path: Path
    rows: list[Row]
    lines: list[int]
    places: list[int]
    num_rows: int

    def column(self, field: str, kind: type | tuple[type, ...]) -> list[Any]:
        """Return a field of every row; `Any`, because `kind` says at run time what it holds.

        Raises:
            DataError: If a row lacks it or it is of another type; names file, line and field.
        """
        values = []
        for number, row in zip(self.lines, self.rows, strict=True):
            if field not in row:
                raise DataError(
                    f"{self.path}, line {number}: no field {field!r}; there are {sorted(row)}. "
                    "The file may belong to another task type, or be an older copy."
                )
            value = row[field]
            if not isinstance(value, kind) or isinstance(value, bool):
                wanted = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
                raise DataError(
                    f"{self.path}, line {number}: field {field!r} is {str(value)[:60]!r}, a {type(value).__name__}; "
                    f"it must be a {wanted}."
                )
            values.append(value)
        return values

    def strings(self, field: str) -> list[str]:
        return self.column(field, str)

    def lists(self, field: str, kind: type | tuple[type, ...]) -> list[list[Any]]:
        """Return a field that holds a list, every entry of type `kind`; numbers are finite."""
        values: list[list[Any]] = self.column(field, list)
        for number, value in zip(self.lines, values, strict=True):
            if bad := [entry for entry in value if not _is_entry(entry, kind)]:
                wanted = "a string" if kind is str else "a whole number" if kind is int else "a finite number"
                raise DataError(
                    f"{self.path}, line {number}: field {field!r} holds {str(bad[0])[:60]!r}; "
                    f"every entry must be {wanted}."
                )
        return values

    def numbers(self, field: str) -> Numbers:
        values = np.array(self.column(field, (int, float)), dtype=np.float64)
        if len(bad := np.flatnonzero(~np.isfinite(values))):
            raise DataError(
                f"{self.path}, line {self.lines[bad[0]]}: field {field!r} is {values[bad[0]]}; it must be finite."
            )
        return values

    def labels(self) -> Indices:
        values = np.array(self.column("label", int), dtype=np.int64)
        if len(bad := np.flatnonzero(values < 0)):
            raise DataError(
                f"{self.path}, line {self.lines[bad[0]]}: field 'label' is {values[bad[0]]}; it must be 0 or larger."
            )
        return values


def _is_entry(value: object, kind: type | tuple[type, ...]) -> bool:
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    return not isinstance(value, float) or math.isfinite(value)


def _read(folder: Path, name: str, limit: int | None = None) -> _File:
    """Read `name`.jsonl.gz or `name`.jsonl, or `limit` of its rows at equal distances."""
    paths = (folder / f"{name}{end}" for end in (".jsonl.gz", ".jsonl"))
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        there = sorted(entry.name for entry in folder.iterdir())
        raise DataError(f"{folder} has no file {name}.jsonl.gz; it holds {there}. Copy the whole folder again.")
    rows: dict[int, Row] = {}
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for line in lines:
                number += 1
                if line.strip():
                    rows[number] = json.loads(line)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path} cannot be read after line {number} ({error}). Copy the file again.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {number}: not valid JSON ({error.msg}).") from error
    if not rows:
        raise DataError(f"{path} holds no rows.")
    if bad := [number for number, row in rows.items() if not isinstance(row, dict)]:
        raise DataError(f"{path}, line {bad[0]}: not a JSON object.")
    places = _spread(np.arange(len(rows)), limit).tolist()
    lines_of_rows = list(rows)
    kept = [lines_of_rows[place] for place in places]
    return _File(path, [rows[number] for number in kept], kept, places, len(rows))


def _spread(rows: Indices, limit: int | None) -> Indices:
    """Return `limit` rows at equal distances: many sets are sorted by class or source, so the first would be alike."""
    if limit is None or limit >= len(rows):
        return rows
    return rows[np.linspace(0, len(rows) - 1, num=limit).round().astype(np.int64)]


def _sts(folder: Path, name: str, limit: int | None, split: str) -> STSData:
    file, texts = _read(folder, split, limit), _Texts()
    left, right = texts.add(file.strings("sentence1")), texts.add(file.strings("sentence2"))
    groups = tuple(file.strings("set")) if "set" in file.rows[0] else ()
    return STSData(name, texts.all(), left, right, file.numbers("score"), groups)


def _pairs(folder: Path, name: str, limit: int | None, split: str) -> PairData:
    file, texts = _read(folder, split, limit), _Texts()
    left, right, labels = texts.add(file.strings("sentence1")), texts.add(file.strings("sentence2")), file.labels()
    if bad := sorted(set(labels.tolist()) - {0, 1}):
        raise DataError(f"{file.path}: field 'label' holds {bad}; pairs are labelled 0 (different) or 1 (the same).")
    return PairData(name, texts.all(), left, right, labels)


def _label_names(*files: _File) -> tuple[str, ...]:
    names: dict[int, str] = {}
    for file in files:
        for row, label in zip(file.rows, file.labels().tolist(), strict=True):
            names.setdefault(label, str(row.get("label_text", label)))
    return tuple(names.get(label, str(label)) for label in range(max(names) + 1))


def _classification(folder: Path, name: str, limit: int | None, split: str) -> ClassificationData:
    train, test, texts = _read(folder, "train"), _read(folder, split, limit), _Texts()
    test_rows, train_rows = texts.add(test.strings("text")), texts.add(train.strings("text"))
    names = _label_names(train, test)
    return ClassificationData(name, texts.all(), train_rows, train.labels(), test_rows, test.labels(), names)


def _clustering(folder: Path, name: str, limit: int | None, split: str) -> ClusteringData:
    del split  # there is one, see `_ONE_SPLIT`
    file, sets, texts = _read(folder, "data"), _read(folder, "sets"), _Texts()
    all_rows, labels = texts.add(file.strings("text")), file.labels()
    chosen = [_spread(np.array(rows, dtype=np.int64), limit) for rows in sets.lists("rows", int)]
    for number, rows in zip(sets.lines, chosen, strict=True):
        if not len(rows) or rows.min() < 0 or rows.max() >= len(labels):
            raise DataError(f"{sets.path}, line {number}: field 'rows' must list lines 0 to {len(labels) - 1} of data.")
    if limit is None:
        return ClusteringData(name, texts.all(), all_rows, labels, tuple(chosen), _label_names(file))
    # only what the shortened sets hold, so that nothing else is embedded
    used = np.unique(np.concatenate(chosen))
    everything, kept = texts.all(), _Texts()
    rows = kept.add([everything[place] for place in all_rows[used]])
    shortened = tuple(np.searchsorted(used, each) for each in chosen)
    return ClusteringData(name, kept.all(), rows, labels[used], shortened, _label_names(file))


def _reranking(folder: Path, name: str, limit: int | None, split: str) -> RerankingData:
    file, texts = _read(folder, split, limit), _Texts()
    queries = texts.add(file.strings("query"))
    good = tuple(texts.add(each) for each in file.lists("positive", str))
    bad = tuple(texts.add(each) for each in file.lists("negative", str))
    for number, *sides in zip(file.lines, good, bad, strict=True):
        if not all(len(side) for side in sides):
            raise DataError(f"{file.path}, line {number}: needs at least one text in 'positive' and in 'negative'.")
    return RerankingData(name, texts.all(), queries, good, bad)


def _retrieval(folder: Path, name: str, limit: int | None, corpus_limit: int | None) -> RetrievalData:
    queries, corpus, qrels = _read(folder, "queries", limit), _read(folder, "corpus"), _read(folder, "qrels")
    query_ids, document_ids = queries.strings("_id"), corpus.strings("_id")
    known_queries, known_documents = set(query_ids), set(document_ids)
    relevance: dict[str, dict[str, int]] = {}
    columns = (qrels.strings("query_id"), qrels.strings("doc_id"), qrels.numbers("score"))
    for number, query, document, score in zip(qrels.lines, *columns, strict=True):
        if document not in known_documents:
            raise DataError(f"{qrels.path}, line {number}: field 'doc_id' is {document!r}, which corpus does not hold.")
        if query in known_queries:
            relevance.setdefault(query, {})[document] = int(score)
        elif limit is None:
            raise DataError(f"{qrels.path}, line {number}: field 'query_id' is {query!r}, which queries does not hold.")
    judged = {document for documents in relevance.values() for document in documents}
    kept = _kept_documents(document_ids, judged, corpus_limit)
    # mteb's joining of title and text
    whole = [
        f"{row.get('title') or ''} {text}".strip()
        for row, text in zip(corpus.rows, corpus.strings("text"), strict=True)
    ]
    texts = _Texts()
    query_rows = texts.add(queries.strings("text"))
    document_rows = texts.add([whole[place] for place in kept])
    kept_ids = tuple(document_ids[place] for place in kept)
    return RetrievalData(name, texts.all(), query_rows, document_rows, tuple(query_ids), kept_ids, relevance)


def _kept_documents(document_ids: Sequence[str], judged: set[str], corpus_limit: int | None) -> list[int]:
    """Return the places of the documents to keep: all judged ones, and the first others up to the limit."""
    if corpus_limit is None or corpus_limit >= len(document_ids):
        return list(range(len(document_ids)))
    others = [place for place, each in enumerate(document_ids) if each not in judged]
    room = max(0, corpus_limit - len(judged))
    first_others = set(others[:room])
    return [place for place, each in enumerate(document_ids) if each in judged or place in first_others]


def _summarization(folder: Path, name: str, limit: int | None, split: str) -> SummarizationData:
    file, texts = _read(folder, split, limit), _Texts()
    human = tuple(texts.add(each) for each in file.lists("human_summaries", str))
    machine = tuple(texts.add(each) for each in file.lists("machine_summaries", str))
    relevance = tuple(np.array(each, dtype=np.float64) for each in file.lists("relevance", (int, float)))
    for number, summaries, ratings in zip(file.lines, machine, relevance, strict=True):
        if len(summaries) != len(ratings):
            raise DataError(
                f"{file.path}, line {number}: {len(summaries)} machine_summaries, but field 'relevance' holds "
                f"{len(ratings)} values."
            )
    return SummarizationData(name, texts.all(), human, machine, relevance)


def _documents(folder: Path, name: str, limit: int | None, split: str) -> DocumentSimilarityData:
    file, texts = _read(folder, split, limit), _Texts()
    documents = texts.add(file.strings("text"))
    rows = file.lists("similarity_to", (int, float))
    for number, row in zip(file.lines, rows, strict=True):
        if len(row) != file.num_rows:
            raise DataError(
                f"{file.path}, line {number}: field 'similarity_to' holds {len(row)} values; it must hold "
                f"{file.num_rows}, one for each document."
            )
    ratings = np.array(rows, dtype=np.float64)[:, file.places]
    return DocumentSimilarityData(name, texts.all(), documents, ratings)


_READERS: Mapping[str, Callable[[Path, str, int | None, str], TaskData]] = {
    "STS": _sts,
    "Classification": _classification,
    "PairClassification": _pairs,
    "Clustering": _clustering,
    "Reranking": _reranking,
    "Summarization": _summarization,
    "DocumentSimilarity": _documents,
}


_ONE_SPLIT = ("Clustering", "Retrieval")


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
        folder: Of the task: `dataset.json` and `*.jsonl.gz` (or `*.jsonl`).
        name: A row of `tasks.TASKS`.
        limit: Only so many pairs, test texts, queries, articles or lines of each clustering set, at equal distances.
        corpus_limit: Retrieval: so many documents at most: all judged ones, then the first others. Fewer documents make
            the task easier, so such scores compare with each other only.
        split: Which file holds the rows that are scored. Clustering and retrieval sets have one split, `test`.

    Raises:
        UnknownNameError: If there is no such task; suggests close matches.
        DataError: If a file or field is missing or wrong; names it.
    """
    row = task_row(name)
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}; it must be 1 or larger, or None for all rows.")
    if row.task_type in _ONE_SPLIT and split != "test":
        raise DataError(f"{name} has one split, which is called 'test'; got {split!r}. Leave this task out.")
    if not folder.is_dir():
        raise DataError(f"{name}: no folder {str(folder)!r}.")
    path = folder / "dataset.json"
    try:
        declared = json.loads(path.read_text(encoding="utf-8")).get("task_type")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise DataError(f"{path} is missing or not a JSON object ({error}).") from error
    if declared != row.task_type:
        raise DataError(f"{path}: field 'task_type' is {declared!r}; the task {name} is of type {row.task_type!r}.")
    if row.task_type == "Retrieval":
        return _retrieval(folder, name, limit, corpus_limit)
    return _READERS[row.task_type](folder, name, limit, split)
