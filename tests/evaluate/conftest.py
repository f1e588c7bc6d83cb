"""What the tests of evaluation share: folders of made-up sets, a backend that counts, and a real tiny model."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from moee import MoEE
from moee.backends.fake import FakeBackend
from moee.evaluate.study import Study
from moee.types import Activations, CapturePlan
from tests.evaluate.tasks.miniatures import MINIATURES, write_miniature

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
Rows = Iterable[dict[str, Any]]


def write_set(data: Path, name: str, task_type: str, files: Mapping[str, Rows]) -> Path:
    """Write a set of the given rows in the layout of the evaluation sets, and return its folder."""
    folder = data / name
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps({"name": name, "task_type": task_type}), encoding="utf-8")
    for stem, rows in files.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        # no time of writing: the same rows must give the same file
        (folder / f"{stem}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    return folder


class CountingBackend(FakeBackend):
    """The fake backend, counting what it runs.

    Args:
        fails_after: Number of batches after which it raises `error`; None never.
        error: What it raises.
    """

    def __init__(self, *, fails_after: int | None = None, error: BaseException | None = None) -> None:
        super().__init__()
        self.batches = 0
        self.sequences = 0
        self.fails_after = fails_after
        self._error = error or KeyboardInterrupt()

    def forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> Activations:
        if self.fails_after is not None and self.batches >= self.fails_after:
            raise self._error
        self.batches += 1
        self.sequences += len(sequences)
        return super().forward(sequences, plan)


@pytest.fixture
def backend() -> CountingBackend:
    return CountingBackend()


@pytest.fixture
def embedder(backend: CountingBackend) -> MoEE:
    """The default recipe over the counting backend; no statistics are fitted before a test asks for them."""
    return MoEE(backend, MoEE.from_pretrained("fake").config)


@pytest.fixture(scope="session")
def tiny() -> MoEE:
    """A real OLMoE of a few thousand weights, under the default recipe, on one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    model = MoEE.from_pretrained(GOLDEN / "olmoe-tiny", dtype="float32")
    torch.set_num_threads(before)
    return model


@pytest.fixture(scope="session")
def miniatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a made-up set of every task type; the texts are drawn, the names are real."""
    data = tmp_path_factory.mktemp("miniatures")
    for name in MINIATURES:
        write_miniature(data, name)
    return data


@pytest.fixture
def make_study(embedder: MoEE, miniatures: Path, tmp_path: Path) -> Callable[..., Study]:
    """A study of the counting backend over the miniature sets, with a cache of the test's own."""

    def make(data: Path | None = None, **options: Any) -> Study:
        return Study(embedder, data or miniatures, **{"cache": tmp_path / "cache", **options})

    return make
