"""Evaluation sets in the layout that mteb reads: JSON lines, and a README whose YAML head names them.

Reference: mteb 2.26, `abstasks/retrieval_dataset_loaders.py` and the dataset columns of its task classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moee.errors import InputError
from moee.evaluate.datasets import (
    ClassificationData,
    ClusteringData,
    Indices,
    PairData,
    RerankingData,
    RetrievalData,
    STSData,
    SummarizationData,
    TaskData,
)
from moee.files.atomic import atomic_folder

Tables = dict[str, dict[str, list[dict[str, Any]]]]
"""Configuration -> split -> rows of JSON."""


def write_task(
    data: TaskData, workdir: Path, columns: Mapping[str, str], *, config: str = "default"
) -> tuple[Path, str]:
    """Write a task for mteb to a folder named after task and content; one that is there already is left alone.

    Args:
        data: The task.
        workdir: Parent of the folder; created if missing.
        columns: What mteb's task class calls its columns, by the name of the class attribute.
        config: Name of the configuration, mteb's subset.

    Returns:
        The folder, and a digest of the rows.

    Raises:
        InputError: If mteb has no layout for the task.
        OutputError: If the folder cannot be written.
    """
    tables = _tables(data, columns, config)
    files = {
        f"{name}/{split}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for name, splits in tables.items()
        for split, rows in splits.items()
    }
    files["README.md"] = _readme(tables)
    digest = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in sorted(files.items())).encode()).hexdigest()
    folder = workdir / f"{data.name}-{digest[:16]}"
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            for name, text in files.items():
                (temporary / name).parent.mkdir(exist_ok=True)
                (temporary / name).write_text(text, encoding="utf-8")
    return folder, f"local-{digest[:16]}"


def _readme(tables: Tables) -> str:
    lines = ["---", "configs:"]
    for name, splits in tables.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {name}/{split}.jsonl"]
    return "\n".join([*lines, "---", ""])


def _tables(data: TaskData, columns: Mapping[str, str], config: str) -> Tables:
    if isinstance(data, RerankingData):
        return _reranking(data)
    if isinstance(data, RetrievalData):
        return _retrieval(data)
    return {config: _splits(data, columns)}


def _splits(data: TaskData, columns: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Return the splits of a task whose rows lie in one table."""
    texts = data.texts
    names: tuple[str, ...]
    if isinstance(data, STSData) and not data.groups:
        names = (columns["input1_column_name"], columns["input2_column_name"], "score")
        return {"test": _rows(names, _texts(texts, data.left), _texts(texts, data.right), data.scores.tolist())}
    if isinstance(data, PairData):
        names = (columns["input1_column_name"], columns["input2_column_name"], columns["label_column_name"])
        return {"test": _rows(names, _texts(texts, data.left), _texts(texts, data.right), data.labels.tolist())}
    if isinstance(data, ClassificationData):
        names = (columns["input_column_name"], columns["label_column_name"])
        return {
            "train": _rows(names, _texts(texts, data.train), data.train_labels.tolist()),
            "test": _rows(names, _texts(texts, data.test), data.test_labels.tolist()),
        }
    if isinstance(data, ClusteringData):
        names = (columns["input_column_name"], columns["label_column_name"])
        sets = [(_texts(texts, data.rows[lines]), data.labels[lines].tolist()) for lines in data.sets]
        return {"test": _rows(names, *zip(*sets, strict=True))}
    if isinstance(data, SummarizationData):
        return {"test": _summaries(data)}
    what = "groups that are scored apart" if isinstance(data, STSData) else f"tasks of type {data.task_type}"
    raise InputError(f"mteb has no measure for {data.name}: it knows no {what}. Score it with the local runner.")


def _rows(names: Sequence[str], *values: Sequence[Any]) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def _texts(texts: Sequence[str], rows: Indices) -> list[str]:
    return [texts[row] for row in rows]


def _summaries(data: SummarizationData) -> list[dict[str, Any]]:
    # mteb wants the article too, and reads it only to count its characters
    return _rows(
        ("text", "human_summaries", "machine_summaries", "relevance"),
        [""] * len(data.human),
        [_texts(data.texts, rows) for rows in data.human],
        [_texts(data.texts, rows) for rows in data.machine],
        [ratings.tolist() for ratings in data.relevance],
    )


def _reranking(data: RerankingData) -> Tables:
    """Write every candidate as a document of its own, under the ids that mteb's conversion gives: they break ties."""
    corpus, judgements, candidates = [], [], []
    for number, sides in enumerate(zip(data.positives, data.negatives, strict=True)):
        query, ids = f"test_query{number}", []
        for prefix, relevance, rows in (("apositive", 1, sides[0]), ("negative", 0, sides[1])):
            for place, text in enumerate(_texts(data.texts, rows)):
                ids.append(f"{prefix}_{query}_{place:05d}")
                corpus.append({"_id": ids[-1], "title": "", "text": text})
                judgements.append({"query-id": query, "corpus-id": ids[-1], "score": relevance})
        candidates.append({"query-id": query, "corpus-ids": ids})
    queries = [{"_id": f"test_query{n}", "text": text} for n, text in enumerate(_texts(data.texts, data.queries))]
    return _search_tables(corpus, queries, judgements) | {"top_ranked": {"test": candidates}}


def _retrieval(data: RetrievalData) -> Tables:
    corpus = _rows(("_id", "text"), data.document_ids, _texts(data.texts, data.documents))
    queries = _rows(("_id", "text"), data.query_ids, _texts(data.texts, data.queries))
    judgements = [
        {"query-id": query, "corpus-id": document, "score": score}
        for query, documents in data.relevance.items()
        for document, score in documents.items()
    ]
    return _search_tables([{"title": "", **row} for row in corpus], queries, judgements)


def _search_tables(corpus: list[dict[str, Any]], queries: list[dict[str, Any]], judged: list[dict[str, Any]]) -> Tables:
    return {"default": {"test": judged}, "corpus": {"test": corpus}, "queries": {"test": queries}}
