"""Made-up miniature sets of every type of the paper, and a study of them with a real backend."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee import MoEE
from moee.evaluate.reproduce.exhibit import Options
from moee.evaluate.reproduce.run import Run
from moee.evaluate.study import Study

TOPICS = {
    "garden": ("roses", "soil", "seeds", "watering", "hedge", "spade"),
    "railway": ("train", "platform", "signal", "ticket", "carriage", "timetable"),
    "kitchen": ("oven", "dough", "recipe", "butter", "simmer", "ladle"),
}
NAMES = list(TOPICS)
Rows = Iterable[dict[str, Any]]


def sentence(rng: np.random.Generator, topic: str) -> str:
    words = rng.choice(TOPICS[topic], 3, replace=False)
    opening = rng.choice(["Today we saw", "Nobody mentioned", "They wrote about", "She asked about"])
    return f"{opening} the {words[0]} and the {words[1]} near a {words[2]} number {rng.integers(1000)}."


def pair_rows(rng: np.random.Generator, count: int) -> Rows:
    for number in range(count):
        topics = rng.choice(NAMES, 2) if number % 2 else [NAMES[number % 3]] * 2
        score = float(rng.integers(0, 3)) + (3.0 if topics[0] == topics[1] else 0.0)
        yield {"sentence1": sentence(rng, topics[0]), "sentence2": sentence(rng, topics[1]), "score": score}


def labelled(rng: np.random.Generator, count: int) -> Rows:
    for number in range(count):
        label = number % 3
        yield {"text": sentence(rng, NAMES[label]), "label": label, "label_text": NAMES[label]}


def write_set(folder: Path, task_type: str, **files: Rows) -> None:
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps({"name": folder.name, "task_type": task_type}), encoding="utf-8")
    for name, rows in files.items():
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one or two made-up sets of each type; the texts are drawn, the names are real."""
    data, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(7)
    for name, count in (("STS12", 60), ("STS13", 24)):
        write_set(data / name, "STS", test=pair_rows(rng, count))
    same = [
        {
            "sentence1": sentence(rng, NAMES[n % 3]),
            "sentence2": sentence(rng, NAMES[(n + n % 2) % 3]),
            "label": 1 - n % 2,
        }
        for n in range(30)
    ]
    write_set(data / "TwitterSemEval2015", "PairClassification", test=same)
    write_set(data / "EmotionClassification", "Classification", train=labelled(rng, 60), test=labelled(rng, 15))
    lines = list(labelled(rng, 40))
    chosen = [{"set": n, "rows": [int(row) for row in rng.choice(40, 30, replace=False)]} for n in range(2)]
    write_set(data / "TwentyNewsgroupsClustering", "Clustering", data=lines, sets=chosen)
    ranked = [
        {
            "query": sentence(rng, NAMES[n % 3]),
            "positive": [sentence(rng, NAMES[n % 3])],
            "negative": [sentence(rng, NAMES[(n + step) % 3]) for step in (1, 2, 1)],
        }
        for n in range(8)
    ]
    write_set(data / "WikiQA", "Reranking", test=ranked)
    articles = [
        {
            "text": sentence(rng, NAMES[n % 3]),
            "human_summaries": [sentence(rng, NAMES[n % 3]) for _ in range(2)],
            "machine_summaries": [sentence(rng, NAMES[each % 3]) for each in range(6)],
            "relevance": [float(value) for value in rng.permutation(6)],
        }
        for n in range(4)
    ]
    write_set(data / "SummEval", "Summarization", test=articles)
    return data


@pytest.fixture(scope="session")
def embedder() -> MoEE:
    """The fake backend with statistics of forty sentences, so that no test fits them on thousands."""
    model, rng = MoEE.from_pretrained("fake"), np.random.default_rng(11)
    texts = [sentence(rng, NAMES[number % 3]) for number in range(40)]
    for prompt in ("none", "prompteol"):
        model.with_settings(prompt=prompt).calibrate(texts)
    return model


@pytest.fixture(scope="session")
def make_run(sets: Path, embedder: MoEE, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """A run over the miniature sets; all share a cache."""
    study = Study(embedder, sets, cache=tmp_path_factory.mktemp("views"))
    return lambda **options: Run(study, Options(**options))


@pytest.fixture(scope="session")
def run(make_run: Callable[..., Run]) -> Run:
    """A run with the default options. Scores that tests share are computed once."""
    return make_run()
