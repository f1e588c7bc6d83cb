from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from moee import MoEE
from moee.backends.fake import FakeBackend
from moee.index.writer import WINDOW_ROWS, Writer
from moee.stores.registry import StoreSpec, create_store
from moee.stores.store import Layout, Record
from moee.types import Activations, CapturePlan, ModelInfo

SPEC = StoreSpec("flat")


class CountingBackend(FakeBackend):
    """Counts how often a run begins: a model that is read from disk is read once for each."""

    def __init__(self, weights: str) -> None:
        super().__init__()
        self._weights = weights
        self.runs = 0

    @property
    def info(self) -> ModelInfo:
        return replace(super().info, weights=self._weights)

    def run(
        self, batches: Sequence[Sequence[Sequence[int]]], plan: CapturePlan, *, shared: int = 0
    ) -> Iterator[Activations]:
        self.runs += 1
        return super().run(batches, plan, shared=shared)


def records(num_texts: int) -> list[Record]:
    return [Record(f"t{row}", f"w{row}") for row in range(num_texts)]


@pytest.mark.parametrize(("weights", "runs"), [("memory", 2), ("disk", 1)])
def test_a_model_read_from_disk_gets_all_texts_at_once(tmp_path: Path, weights: str, runs: int) -> None:
    backend = CountingBackend(weights)
    model = MoEE(backend, MoEE.from_pretrained("fake", calibration="none", prompt="{text}").config)
    store = create_store(SPEC, tmp_path, Layout(model.dims, {}))
    wanted = records(WINDOW_ROWS + 5)
    Writer(model, store, None).write(wanted, range(len(wanted)))
    assert (len(store), backend.runs) == (len(wanted), runs)
    store.close()


def test_only_the_named_rows_are_written(tmp_path: Path) -> None:
    model = MoEE.from_pretrained("fake", calibration="none")
    store = create_store(SPEC, tmp_path, Layout(model.dims, {}))
    writer = Writer(model, store, None)
    writer.write(records(9), [])
    writer.write(records(9), [2, 5])
    assert set(store.texts_of([f"t{row}" for row in range(9)])) == {"t2", "t5"}
    store.close()


def test_cut_texts_are_counted_once_over_all_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("moee.index.writer.WINDOW_ROWS", 10)
    model = MoEE.from_pretrained("fake", calibration="none", prompt="{text}", max_length=3)
    store = create_store(SPEC, tmp_path, Layout(model.dims, {}))
    wanted = [Record(f"t{row}", f"w{row} " * (5 if row % 10 == 0 else 2)) for row in range(30)]
    Writer(model, store, None).write(wanted, range(30))
    assert [message for message in caplog.messages if "cut" in message] == [
        "3 of 30 texts were cut to 3 tokens; the prompt's end was kept. "
        "--chunk 256 splits such texts into passages and loses nothing; --truncate error refuses them, end cuts "
        "without a word."
    ]
    store.close()
