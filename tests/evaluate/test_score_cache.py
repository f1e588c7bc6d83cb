"""The disk cache of scores: what is found again, what is not, and what becomes of damaged files."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from moee.evaluate import score_cache
from moee.evaluate.score_cache import ScoreStore, folder_digest
from moee.evaluate.tasks import TaskScore, apply_statistic

FACTS = {"task": "STS12", "limit": None, "setting": {"fusion": "sum", "alpha": 0.1}}
ITEMS = np.random.default_rng(0).normal(size=7)
TARGETS = np.arange(7.0)
MAIN = apply_statistic("spearman", ITEMS, TARGETS)
SCORE = TaskScore("cosine_spearman", MAIN, {"cosine_spearman": MAIN, "x": 1 / 3}, ITEMS, TARGETS, "spearman")
MEAN = TaskScore("v_measure", float(ITEMS.mean()), {}, ITEMS)


def the_file(folder: Path) -> Path:
    (path,) = folder.glob("scores/*.safetensors")
    return path


@pytest.mark.parametrize("score", [SCORE, MEAN])
def test_a_score_comes_back_bit_by_bit(tmp_path: Path, score: TaskScore) -> None:
    ScoreStore(tmp_path).put(FACTS, score)
    found = ScoreStore(tmp_path).get(FACTS)
    assert found is not None
    assert (found.metric, found.main, found.statistic) == (score.metric, score.main, score.statistic)
    assert dict(found.metrics) == dict(score.metrics)
    assert np.array_equal(found.items, score.items)
    assert (found.targets is None) == (score.targets is None)
    assert apply_statistic(found.statistic, found.items, found.targets) == found.main


def test_a_second_score_replaces_the_first(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path)
    store.put(FACTS, SCORE)
    store.put(FACTS, MEAN)
    found = store.get(FACTS)
    assert found is not None
    assert found.metric == "v_measure"
    assert the_file(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {**FACTS, "task": "STS13"},
        {**FACTS, "limit": 10},
        {**FACTS, "setting": {"fusion": "sum", "alpha": 0.10000001}},
        {"task": "STS12", "limit": None},
        {**FACTS, "more": None},
    ],
)
def test_other_facts_find_nothing(tmp_path: Path, other: dict[str, object]) -> None:
    store = ScoreStore(tmp_path)
    store.put(FACTS, SCORE)
    assert store.get(other) is None
    assert store.get(dict(reversed(FACTS.items()))) is not None  # their order means nothing


def test_scores_of_another_version_of_the_metrics_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScoreStore(tmp_path).put(FACTS, SCORE)
    monkeypatch.setattr(score_cache, "SCORING_VERSION", score_cache.SCORING_VERSION + 1)
    assert ScoreStore(tmp_path).get(FACTS) is None
    assert the_file(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 60, -3])
def test_a_damaged_file_counts_as_none_and_is_replaced(tmp_path: Path, keep: int) -> None:
    store = ScoreStore(tmp_path)
    store.put(FACTS, SCORE)
    path = the_file(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    assert store.get(FACTS) is None
    store.put(FACTS, SCORE)
    assert store.get(FACTS) is not None


def test_a_file_of_other_tensors_counts_as_none(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    store = ScoreStore(tmp_path)
    store.put(FACTS, SCORE)
    for metadata in (None, {"score": "{"}, {"score": '{"metric": "x"}'}):
        save_file({"other": np.zeros(3)}, the_file(tmp_path), metadata=metadata)
        assert store.get(FACTS) is None


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path)
    store.put(FACTS, MEAN)
    large = TaskScore("v_measure", 0.0, {}, np.zeros(5000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.warns(UserWarning, match=r"The cache .* cannot be written \(File too large\)"):
            store.put({**FACTS, "task": "STS13"}, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "scores").iterdir()] == [the_file(tmp_path).name]
    assert store.get(FACTS) is not None


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match=r"The cache .* cannot be written .*choose another folder with --cache"):
        ScoreStore(tmp_path / "file").put(FACTS, SCORE)
    assert ScoreStore(tmp_path / "file").get(FACTS) is None


def test_the_digest_of_a_folder_is_that_of_its_data(tmp_path: Path) -> None:
    def written(name: str, **files: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        for stem, text in files.items():
            (folder / f"{stem}.jsonl").write_text(text)
        return folder_digest(folder)

    first = written("one", test="a\n", train="b\n")
    assert first == written("copy", train="b\n", test="a\n")
    assert len({first, written("two", test="b\n", train="a\n"), written("three", test="a\n")}) == 3
    (tmp_path / "one" / "dataset.json").write_text("{}")
    (tmp_path / "one" / "notes.txt").write_text("no data")
    assert folder_digest(tmp_path / "one") == first
