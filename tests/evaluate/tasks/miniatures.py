"""Made-up evaluation sets, small enough to score in milliseconds, in the folder layout of the real ones."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moee.evaluate.tasks import Embed, Indices, TaskData
from moee.types import Array

_WORDS = (
    "otter",
    "lamp",
    "river",
    "violin",
    "paper",
    "storm",
    "garden",
    "copper",
    "winter",
    "ladder",
    "comet",
    "bread",
)
_DIM = 24


def hashed_vectors(texts: Sequence[str]) -> Array:
    """A random vector for each text, the same wherever the text stands. `(n, 24)` float32, not of unit length."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in texts]
    return np.stack([np.random.default_rng(seed).standard_normal(_DIM) for seed in seeds]).astype(np.float32)


def hashed_embed(data: TaskData) -> Embed:
    """An encode call that looks `hashed_vectors` of a task's texts up."""
    vectors = hashed_vectors(data.texts)

    def embed(rows: Indices) -> Array:
        return vectors[rows]

    return embed


def _sentence(rng: random.Random, words: int = 4) -> str:
    return " ".join(rng.choices(_WORDS, k=words))


def _pairs(rng: random.Random) -> list[dict[str, Any]]:
    rows = [{"sentence1": _sentence(rng), "sentence2": _sentence(rng)} for _ in range(40)]
    rows += [{"sentence1": row["sentence1"], "sentence2": row["sentence1"]} for row in rows[:3]]  # ties at 1
    return rows


def _labelled(rng: random.Random, count: int, classes: int) -> list[dict[str, Any]]:
    labels = [place % classes for place in range(count)]
    return [{"text": _sentence(rng), "label": label, "label_text": f"class {label}"} for label in labels]


def sts(seed: int = 1) -> dict[str, list[dict[str, Any]]]:
    rng = random.Random(seed)
    return {"test": [{**row, "score": rng.randint(0, 10) / 2} for row in _pairs(rng)]}


def pairs() -> dict[str, list[dict[str, Any]]]:
    rng = random.Random(2)
    return {"test": [{**row, "label": rng.randint(0, 1)} for row in _pairs(rng)]}


def classification(classes: int = 3) -> dict[str, list[dict[str, Any]]]:
    rng = random.Random(3)
    return {"train": _labelled(rng, 150, classes), "test": _labelled(rng, 40, classes)}


def clustering() -> dict[str, list[dict[str, Any]]]:
    rng = random.Random(4)
    data = _labelled(rng, 60, 4)
    one_class = [place for place, row in enumerate(data) if row["label"] == 1]
    return {
        "data": data,
        "sets": [
            {"set": 0, "rows": list(range(0, 60, 2))},
            {"set": 1, "rows": list(range(45))},
            {"set": 2, "rows": one_class},
        ],
    }


def reranking() -> dict[str, list[dict[str, Any]]]:
    rng = random.Random(5)
    rows = []
    for _ in range(12):
        good = [_sentence(rng) for _ in range(rng.randint(1, 3))]
        bad = [_sentence(rng) for _ in range(rng.randint(1, 8))]
        bad.append(good[0])  # a tie between a positive and a negative
        rows.append({"query": _sentence(rng), "positive": good, "negative": bad})
    return {"test": rows}


def retrieval() -> dict[str, list[dict[str, Any]]]:
    rng = random.Random(6)
    corpus = [{"_id": f"d{n}", "title": _sentence(rng, 1), "text": _sentence(rng)} for n in range(50)]
    corpus += [{**row, "_id": f"c{n}"} for n, row in enumerate(corpus[:10])]  # ties, under ids of another order
    corpus.append({"_id": "e0", "title": "", "text": "  " + _sentence(rng)})
    queries = [{"_id": f"q{n}", "text": _sentence(rng)} for n in range(15)]
    qrels = [
        {"query_id": f"q{n}", "doc_id": row["_id"], "score": rng.randint(0, 3)}
        for n in range(13)  # two queries are not judged
        for row in rng.sample(corpus, 12)
    ]
    return {"corpus": corpus, "queries": queries, "qrels": qrels}


def summarization() -> dict[str, list[dict[str, Any]]]:
    rng = random.Random(7)
    rows = []
    for number in range(6):
        machine = [_sentence(rng) for _ in range(7)]
        machine[6] = machine[0]  # a tie
        ratings = [1.0] * 7 if number == 2 else [rng.randint(3, 15) / 3 for _ in range(7)]  # one article is left out
        human = [_sentence(rng) for _ in range(3)]
        rows.append({"text": "", "human_summaries": human, "machine_summaries": machine, "relevance": ratings})
    return {"test": rows}


def documents() -> dict[str, list[dict[str, Any]]]:
    rng = random.Random(8)
    ratings = np.random.default_rng(8).random((9, 9))
    return {"test": [{"id": n, "text": _sentence(rng, 12), "similarity_to": ratings[n].tolist()} for n in range(9)]}


MINIATURES = {
    "STS12": ("STS", sts()),
    "TwitterSemEval2015": ("PairClassification", pairs()),
    "EmotionClassification": ("Classification", classification()),
    "AmazonCounterfactual-en": ("Classification", classification(classes=2)),
    "TwentyNewsgroupsClustering": ("Clustering", clustering()),
    "WikiQA": ("Reranking", reranking()),
    "SciFact": ("Retrieval", retrieval()),
    "Cranfield": ("Retrieval", retrieval()),
    "SummEval": ("Summarization", summarization()),
    "Lee50": ("DocumentSimilarity", documents()),
}
"""Task -> its type and files. The texts are not those of the real sets."""


def write_miniature(data_folder: Path, name: str, files: dict[str, list[dict[str, Any]]] | None = None) -> Path:
    """Write the miniature of a task (or `files` in its place) and return its folder."""
    task_type, own = MINIATURES[name]
    folder = data_folder / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"name": name, "task_type": task_type}))
    for stem, rows in (files or own).items():
        with gzip.open(folder / f"{stem}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder
