from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from moee.bench.workloads import MIXED_TOKENS, WORKLOADS, make_workload, mixed_texts, texts_of_lengths
from moee.data import calibration_texts
from moee.errors import InputError, UnknownNameError


def tokenize(texts: object) -> list[list[int]]:
    """Four characters a token."""
    return [list(range(-(-len(text) // 4))) for text in texts]  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def no_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOEE_DATA", raising=False)


@pytest.mark.parametrize("name", WORKLOADS)
def test_texts_are_different_and_the_same_each_time(name: str) -> None:
    first, second = (make_workload(name, 40, tokenize) for _ in range(2))
    assert first == second
    assert len(set(first.texts)) == 40
    assert first.one_by_one == (name == "single")
    assert len(make_workload(name, None, tokenize).texts) == WORKLOADS[name]


def test_mixed_lengths_are_spread_over_their_logarithm() -> None:
    low, high = MIXED_TOKENS
    lengths = np.array([len(ids) for ids in tokenize(mixed_texts(400, tokenize))])
    assert 0.7 * low <= lengths.min() < 2 * low
    assert 0.5 * high < lengths.max() <= 1.3 * high
    # log-uniform: as many texts under the geometric mean of the ends as over it
    assert 0.4 < (lengths < np.sqrt(low * high)).mean() < 0.6


@pytest.mark.parametrize("length", [8, 64, 512])
def test_texts_have_about_the_length_that_was_asked_for(length: int) -> None:
    found = [len(ids) for ids in tokenize(texts_of_lengths([length] * 20, tokenize))]
    assert np.mean(found) == pytest.approx(length, rel=0.15)


def test_sentences_come_from_the_sets_where_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "STSBenchmark").mkdir()
    rows = [{"sentence1": f"left {n}.", "sentence2": f"right {n}."} for n in range(5)]
    with gzip.open(tmp_path / "STSBenchmark" / "test.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, rows)))
    assert make_workload("short", 3, tokenize).origin == "built-in calibration sentences"
    built_in = calibration_texts()
    # at equal distances, for neighbours are alike
    assert make_workload("short", 3, tokenize).texts == tuple(built_in[n * len(built_in) // 3] for n in range(3))
    monkeypatch.setenv("MOEE_DATA", str(tmp_path))
    load = make_workload("short", 3, tokenize)
    assert load.texts == ("left 0.", "right 1.", "left 3.")
    assert load.origin == "sentences of STSBenchmark"
    with pytest.raises(InputError, match="--texts is 11, but sentences of STSBenchmark has 10"):
        make_workload("short", 11, tokenize)


def test_unknown_workloads_and_no_texts_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'mixed'"):
        make_workload("mixd", None, tokenize)
    with pytest.raises(InputError, match="--texts is 0"):
        make_workload("short", 0, tokenize)
