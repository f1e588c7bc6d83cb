"""Real processes that are killed around the writing of a batch: an index is whole up to its last transaction.

The same command then completes it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moee.data import calibration_texts
from moee.index.folder import open_index
from moee.stores.flat import FlatStore
from moee.stores.lancedb import LanceStore
from moee.stores.pgvector import PgVectorStore

NUM_TEXTS = 1200
NUM_KILLS = {"flat": 6, "lancedb": 3, "pgvector": 3}

# Samples and windows are made small, and every batch is written at once, so that a kill has many places to hit; what is
# about to be written is noted, so that half a batch would be seen. Which batch the kill falls on is said beforehand, so
# that it hits the writing whatever the speed of the machine; where in the batch is up to chance.
PROGRAM = """
import json, os, random, signal, sys, threading, time
from importlib import import_module
from moee.index import fit, writer
from moee.cli import main
fit.SAMPLE_ROWS, writer.WINDOW_ROWS, writer.FLUSH_S = 300, 200, 0.0
notes, module, name, left = sys.argv.pop(1), sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
def end():
    os.kill(os.getpid(), signal.SIGKILL)
def end_soon():
    time.sleep(random.random() / 100)
    end()
store = getattr(import_module(module), name)
upsert = store.upsert
def noted(self, records, vectors):
    global left
    with open(notes, "a") as stream:
        stream.write(json.dumps([record.id for record in records]) + chr(10))
    left -= 1
    how = random.choice(("before", "in", "after")) if left == 0 else ""
    if how == "before":
        end()
    if how == "in":
        threading.Thread(target=end_soon, daemon=True).start()
    upsert(self, records, vectors)
    if how:
        end()
store.upsert = noted
main()
"""

CLASSES: dict[str, type] = {"flat": FlatStore, "lancedb": LanceStore, "pgvector": PgVectorStore}

Contents = dict[str, tuple[str, bytes]]


def contents(folder: Path) -> Contents:
    """Text and vector of every record."""
    with open_index(folder) as index:
        found = {
            record.id: (record.text, vector.tobytes())
            for batch in index.store.scan(500)
            for record, vector in zip(batch.records, batch.vectors, strict=True)
        }
        assert len(found) == len(index.store)
    return found


def check_whole(found: Contents, before: Contents, expected: Contents, notes: Path) -> None:
    """Every record is as it was or as it is to be, and of every noted batch all are new or none."""
    assert set(before) <= set(found) <= set(expected)
    new = {name for name in found if found[name] == expected[name]}
    assert all(found[name] == before[name] for name in set(found) - new)
    batches = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    for batch in batches:
        written = {name for name in batch if name in new}
        assert not written or len(written) == len(batch)
    assert new - set(before) <= {name for batch in batches for name in batch}


class Runs:
    """Runs `moee index ...` to its end, or kills it."""

    def __init__(self, environment: dict[str, str], folder: Path, store: str, url: str | None) -> None:
        self._environment = {**environment, "OMP_NUM_THREADS": "1"}
        self._folder = folder
        self._store = CLASSES[store]
        self._named = url or store
        self.kind = store
        self.kills = NUM_KILLS[store]
        self.notes = folder / "notes"

    def _command(self, arguments: list[str], kill_at: int = 0) -> list[str]:
        self.notes.unlink(missing_ok=True)
        store = [self._store.__module__, self._store.__name__]
        return [sys.executable, "-c", PROGRAM, str(self.notes), *store, str(kill_at), "index", *arguments]

    def building(self, texts: Path, folder: Path) -> list[str]:
        """The arguments that make an index in the store that is tested."""
        options = ["-m", "fake", "--batch-tokens", "400", "--store", self._named]
        return ["build", str(texts), "--out", str(folder), *options]

    def whole(self, arguments: list[str]) -> int:
        """Run to the end; return how many batches were written."""
        done = subprocess.run(
            self._command(arguments), env=self._environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return len(self.notes.read_text().splitlines()) if self.notes.exists() else 0

    def killed(self, arguments: list[str], kill_at: int) -> None:
        """Run, and be killed at a batch, counted from 1."""
        command = self._command(arguments, kill_at)
        done = subprocess.run(command, env=self._environment, capture_output=True, check=False, timeout=600)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.fixture(params=CLASSES)
def runs(request: pytest.FixtureRequest, tmp_path: Path, cache_folder: Path) -> Runs:
    url = request.getfixturevalue("database") if request.param == "pgvector" else None
    return Runs({**os.environ, "MOEE_CACHE": str(cache_folder)}, tmp_path, request.param, url)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    rows = [{"id": f"t{row}", "text": text} for row, text in enumerate(calibration_texts()[:NUM_TEXTS])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_killed_build_opens_with_whole_batches_and_is_completed(runs: Runs, texts: Path, tmp_path: Path) -> None:
    batches = runs.whole(runs.building(texts, tmp_path / "whole"))
    expected = contents(tmp_path / "whole")
    assert len(expected) == NUM_TEXTS
    chance, partial = random.Random(5), 0
    for number in range(runs.kills):
        folder = tmp_path / f"killed-{number}"
        arguments = runs.building(texts, folder)
        runs.killed(arguments, chance.randint(1, batches))
        found = contents(folder)
        check_whole(found, {}, expected, runs.notes)
        partial += 0 < len(found) < NUM_TEXTS
        runs.whole(arguments)
        assert contents(folder) == expected
        assert not folder.with_name(f"{folder.name}.parts").exists()
        shutil.rmtree(folder)
    assert partial >= runs.kills // 3, "some kills hit the writing"


@pytest.mark.slow
def test_a_killed_addition_opens_with_whole_batches_and_is_completed(runs: Runs, texts: Path, tmp_path: Path) -> None:
    """Texts are changed and added; a killed addition holds each of them as it was or as it is to be."""
    runs.whole(runs.building(texts, tmp_path / "base"))
    before = contents(tmp_path / "base")
    rows = [json.loads(line) for line in texts.read_text(encoding="utf-8").splitlines()]
    rows = [{**row, "text": row["text"] + " again"} for row in rows[::2]]
    rows += [{"id": f"n{row}", "text": text} for row, text in enumerate(calibration_texts()[-NUM_TEXTS:])]
    changes = tmp_path / "changes.jsonl"
    changes.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def arguments(name: str) -> list[str]:
        return ["add", str(tmp_path / name), str(changes), "--batch-tokens", "400"]

    def base(folder: Path) -> None:
        if runs.kind == "pgvector":  # the folder does not hold the table
            runs.whole(runs.building(texts, folder))
        else:
            shutil.copytree(tmp_path / "base", folder)

    base(tmp_path / "whole")
    batches = runs.whole(arguments("whole"))
    expected = contents(tmp_path / "whole")
    assert len(expected) == 2 * NUM_TEXTS
    chance, partial = random.Random(7), 0
    for number in range(runs.kills):
        folder = tmp_path / f"killed-{number}"
        base(folder)
        runs.killed(arguments(folder.name), chance.randint(1, batches))
        found = contents(folder)
        check_whole(found, before, expected, runs.notes)
        partial += found not in (before, expected)
        runs.whole(arguments(folder.name))
        assert contents(folder) == expected
        shutil.rmtree(folder)
    assert partial >= runs.kills // 3, "some kills hit the writing"
