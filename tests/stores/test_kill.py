"""Writers that are killed, and readers beside a writer: real processes, real signals."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from moee.errors import StoreError
from moee.stores.base import Store
from moee.stores.registry import StoreSpec, create_store, open_store
from tests.stores.records import LAYOUT, unit_blocks
from tests.stores.steady_writer import BATCH_SIZE, batch, plan, state_after

REPOSITORY = Path(__file__).parents[2]
NUM_KILLS = 8
FOREVER = 1_000_000

pytestmark = pytest.mark.slow


@contextmanager
def writer(spec: StoreSpec, folder: Path, start: int, stop: int = FOREVER) -> Iterator[subprocess.Popen[str]]:
    """A writer that has opened the store."""
    command = [sys.executable, "-m", "tests.stores.steady_writer", json.dumps(asdict(spec)), str(folder)]
    with subprocess.Popen(
        [*command, str(start), str(stop)], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            opened = process.stdout.readline()
            assert opened == "open\n", process.stderr.read() if process.stderr else ""
            yield process
        finally:
            process.kill()


def editions(store: Store) -> dict[int, int]:
    """Which edition of every batch is there, all of it and nothing else, with its own vectors."""
    found: dict[int, dict[str, tuple[str, np.ndarray]]] = {}
    for candidates in store.scan():
        for record, vector in zip(candidates.records, candidates.vectors, strict=True):
            found.setdefault(int(str(record.fields["year"])), {})[record.id] = (record.text, vector)
    state = {}
    for number, members in found.items():
        (text,) = {text for text, _ in members.values()}
        state[number] = int(text.removeprefix("edition "))
        records, vectors = batch(number, state[number])
        assert set(members) == {record.id for record in records}
        assert all(np.array_equal(members[record.id][1], vectors[row]) for row, record in enumerate(records))
    assert len(store) == BATCH_SIZE * len(state)
    return state


def test_a_killed_writer_leaves_whole_batches_and_the_next_goes_on(spec: StoreSpec, tmp_path: Path) -> None:
    """Kills after some steps: every step reported is there, and the one under way whole or not at all."""
    rng = random.Random(7)
    create_store(spec, tmp_path, LAYOUT).close()
    step, in_flight_kept = 0, 0
    for _ in range(NUM_KILLS):
        with writer(spec, tmp_path, step) as process:
            assert process.stdout is not None
            reported = [process.stdout.readline().strip() for _ in range(rng.randrange(1, 5))]
            time.sleep(rng.uniform(0, 0.02))  # somewhere in a later step
            process.send_signal(signal.SIGKILL)
            reported += process.stdout.read().split()
            assert process.wait() == -signal.SIGKILL
        step = int(reported[-1]) + 1 if reported else step
        with opened(spec, tmp_path) as store:
            state = editions(store)
            assert state in (state_after(step), state_after(step + 1))
            if state != state_after(step):
                step, in_flight_kept = step + 1, in_flight_kept + 1
    assert step >= NUM_KILLS, "work was done between the kills"
    with writer(spec, tmp_path, step, step + 30) as process:
        assert process.wait() == 0
    with opened(spec, tmp_path) as store:
        assert editions(store) == state_after(step + 30)


@contextmanager
def opened(spec: StoreSpec, folder: Path) -> Iterator[Store]:
    """The store after a kill, as its one writer: the dead one's lock is gone, and what it had under way is settled."""
    store = open_store(spec, folder, LAYOUT)
    store.delete(["nobody"])
    yield store
    store.close()


def test_readers_search_while_another_process_writes(spec: StoreSpec, tmp_path: Path) -> None:
    create_store(spec, tmp_path, LAYOUT).close()
    vector = unit_blocks(1)[0]
    with writer(spec, tmp_path, 0) as process:
        reader = open_store(spec, tmp_path, LAYOUT)
        lengths: set[int] = set()
        for _ in range(100_000):
            if len(lengths) > 3:
                break
            lengths.add(len(reader))
            found = reader.search(vector, 20)
            assert len(found.records) in (0, 20)
            assert np.isfinite(found.vectors).all()
        with pytest.raises(StoreError, match="Another writer has"):
            reader.delete(["nobody"])
        assert process.poll() is None, "the writer is at work still"
        reader.close()
    assert len(lengths) > 3, "the reader saw the store change"
    assert all(length % BATCH_SIZE == 0 for length in lengths)


def test_the_steps_of_the_writer_do_everything() -> None:
    assert {plan(step)[0] for step in range(30)} == {"upsert", "delete", "compact"}
    assert len(state_after(30)) > 3
