from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee import MoEE
from moee.files.rows import Columns
from moee.index.build import build_index
from moee.index.fit import BuildOptions
from moee.index.folder import IndexFolder, open_index
from moee.index.records_from_file import read_corpus
from moee.method.fusion import unit
from moee.stores.store import Record
from moee.types import Array

TOPICS = {
    "bread": ("dough", "oven", "yeast", "flour", "crust"),
    "stars": ("telescope", "galaxy", "orbit", "comet", "nebula"),
    "money": ("bank", "loan", "interest", "market", "bond"),
}
PER_TOPIC = 20

MakeIndex = Callable[..., IndexFolder]


def sentences(per_topic: int = PER_TOPIC) -> list[dict[str, object]]:
    """Sentences of each topic, made of its words."""
    return [
        {"id": f"{topic}-{number}", "text": f"{words[number % 5]} and {words[(number + 1) % 5]} {number}", "x": topic}
        for topic, words in TOPICS.items()
        for number in range(per_topic)
    ]


def planted(topics: list[str], dim: int, seed: int) -> Array:
    """Unit vectors: those of a topic lie near each other, and far from those of all others."""
    rng = np.random.default_rng(seed)
    centers = {topic: rng.standard_normal(dim) for topic in TOPICS}
    return unit(np.array([centers[topic] + 0.2 * rng.standard_normal(dim) for topic in topics]))


@pytest.fixture
def make_index(tmp_path: Path) -> Iterator[MakeIndex]:
    """Build an index of sentences, whose vectors are then put where a good model would put them."""
    opened: list[IndexFolder] = []

    def make(
        rows: list[dict[str, object]] | None = None, *, name: str = "texts.index", **settings: object
    ) -> IndexFolder:
        rows = sentences() if rows is None else rows
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        given: Any = {"calibration": "none"} | (
            settings if "weights" in settings else {"fusion": "sum", "alpha": 1, "routing_layers": "all", **settings}
        )
        model = MoEE.from_pretrained("fake", **given)
        build_index(tmp_path / "texts.index", read_corpus(str(path), Columns(fields=("x",))), model, BuildOptions())
        index = open_index(tmp_path / "texts.index")
        layout = index.manifest.layout
        topics = [str(row["x"]) for row in rows]
        blocks = [planted(topics, dim, seed) for seed, dim in enumerate(layout.dims.values())]
        records = [Record(str(row["id"]), str(row["text"]), {"x": str(row["x"])}) for row in rows]
        index.store.upsert(records, np.concatenate(blocks, axis=1))
        opened.append(index)
        return index

    yield make
    for index in opened:
        index.close()
