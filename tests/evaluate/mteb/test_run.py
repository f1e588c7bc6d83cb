"""Local folders and our vectors in mteb. That the scores are equal is tested in `tasks/test_parity.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.backends.fake import FakeBackend
from moee.errors import InputError
from moee.evaluate.mteb.run import (
    MtebEncoder,
    describe_model,
    encoder_from_embed,
    encoder_from_embedder,
    mteb_task,
    run_mteb,
    setting_experiment,
)
from moee.evaluate.tasks import load_task
from moee.evaluate.vectors import Setting
from moee.method.config import EmbedderConfig
from moee.types import Array
from tests.evaluate.tasks.miniatures import MINIATURES, hashed_embed, hashed_vectors, sts, write_miniature

pytestmark = pytest.mark.slow  # importing mteb alone takes several seconds


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the copies that `datasets` makes out of the user's cache."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


class Counting:
    """An encode function that counts its calls and remembers what the last one asked for."""

    def __init__(self) -> None:
        self.calls = 0
        self.texts: Sequence[str] = ()

    def __call__(self, texts: Sequence[str]) -> Array:
        self.calls += 1
        self.texts = texts
        return hashed_vectors(texts)


def counting(**experiment: object) -> tuple[MtebEncoder, Counting]:
    encode = Counting()
    return MtebEncoder(encode, describe_model(FakeBackend().info, experiment)), encode


def test_results_of_the_same_settings_are_reused_and_of_others_computed(tmp_path: Path) -> None:
    task = mteb_task(write_miniature(tmp_path / "data", "STS12"), "STS12", tmp_path)
    first, encode = counting(alpha=1.0)
    scores = run_mteb(first, [task], tmp_path / "results")
    assert encode.calls == 2
    again, encode = counting(alpha=1.0)
    kept = run_mteb(again, [task], tmp_path / "results")
    assert kept["STS12"] == pytest.approx(scores["STS12"], abs=1e-6)  # mteb keeps six decimals
    assert encode.calls == 0
    other, encode = counting(alpha=0.5)
    run_mteb(other, [task], tmp_path / "results")
    assert encode.calls == 2


def test_results_of_other_data_under_the_same_name_are_not_reused(tmp_path: Path) -> None:
    encoder, encode = counting()
    data = [write_miniature(tmp_path / "one", "STS12"), write_miniature(tmp_path / "two", "STS12", sts(seed=9))]
    scores = [run_mteb(encoder, [mteb_task(each, "STS12", tmp_path)], tmp_path / "results")["STS12"] for each in data]
    assert encode.calls == 4
    assert abs(scores[0] - scores[1]) > 1e-6


def test_the_same_rows_are_written_once_and_a_limit_elsewhere(tmp_path: Path) -> None:
    folder = write_miniature(tmp_path / "data", "STS12")
    paths = [
        mteb_task(folder, "STS12", tmp_path / "work", limit=limit).metadata.dataset["path"] for limit in (None, None, 5)
    ]
    assert paths[0] == paths[1] != paths[2]
    assert len((Path(paths[2]) / "default" / "test.jsonl").read_text().splitlines()) == 5


def test_a_call_of_mteb_is_one_call_of_the_function_whatever_the_batches(tmp_path: Path) -> None:
    task = mteb_task(write_miniature(tmp_path / "data", "WikiQA"), "WikiQA", tmp_path)
    encoder, encode = counting()
    run_mteb(encoder, [task], tmp_path / "results", batch_size=4)
    assert encode.calls == 2  # queries, candidates
    rows = MINIATURES["WikiQA"][1]["test"]
    assert list(encode.texts) == [text for row in rows for text in (*row["positive"], *row["negative"])]


def test_tasks_that_mteb_lacks_get_its_class_and_say_what_they_are(tmp_path: Path) -> None:
    task = mteb_task(write_miniature(tmp_path / "data", "WikiQA"), "WikiQA", tmp_path)
    assert task.metadata.name == "WikiQA"
    assert task.metadata.main_score == "map_at_1000"
    assert "not one of mteb's" in task.metadata.description


@pytest.mark.parametrize("name", ["Lee50"])
def test_types_that_mteb_lacks_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"mteb has no task '{name}'"):
        mteb_task(write_miniature(tmp_path / "data", name), name, tmp_path)


def test_groups_that_are_scored_apart_are_refused(tmp_path: Path) -> None:
    folder = write_miniature(tmp_path / "data", "STS12", {"test": [{**row, "set": "a"} for row in sts()["test"]]})
    (folder / "dataset.json").write_text(json.dumps({"task_type": "STS"}))
    with pytest.raises(InputError, match="WordSimilarity: it knows no groups"):
        mteb_task(folder, "WordSimilarity", tmp_path)


def test_a_name_that_mteb_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mteb has no task 'STS12345'"):
        run_mteb(counting()[0], ["STS12345"], tmp_path)


def test_a_task_of_the_hub_says_that_it_needs_the_hub(tmp_path: Path) -> None:
    # tests run with HF_HUB_OFFLINE=1 and an empty hub cache, see conftest.py
    with pytest.raises(InputError, match=r"The data of STS17 .*cannot be had"):
        run_mteb(counting()[0], ["STS17"], tmp_path)


def test_an_error_of_the_encoder_is_not_taken_for_missing_data(tmp_path: Path) -> None:
    def broken(texts: Sequence[str]) -> Array:
        raise PermissionError("the model's file")

    encoder = MtebEncoder(broken, describe_model(FakeBackend().info, {}))
    task = mteb_task(write_miniature(tmp_path / "data", "STS12"), "STS12", tmp_path)
    with pytest.raises(PermissionError, match="the model's file"):
        run_mteb(encoder, [task], tmp_path / "results")


def test_texts_outside_the_task_are_refused(tmp_path: Path) -> None:
    folder = write_miniature(tmp_path / "data", "STS12")
    few = load_task(folder, "STS12", limit=3)
    encoder = encoder_from_embed(few, hashed_embed(few), describe_model(FakeBackend().info, {}))
    with pytest.raises(InputError, match="that STS12 does not hold"):
        run_mteb(encoder, [mteb_task(folder, "STS12", tmp_path)], tmp_path / "results")


def test_a_model_runs_as_configured_with_its_prompts_for_queries_and_documents(tmp_path: Path) -> None:
    config = EmbedderConfig(calibration="none", query_prompt="ke", document_prompt="none")
    embedder = MoEE(FakeBackend(), config)
    encoder = encoder_from_embedder(embedder)
    scores = run_mteb(
        encoder, [mteb_task(write_miniature(tmp_path / "d", "SciFact"), "SciFact", tmp_path)], tmp_path / "r"
    )
    assert 0 <= scores["SciFact"] <= 1
    experiment = encoder.mteb_model_meta.experiment_kwargs
    assert experiment is not None
    assert {
        "alpha": 0.2,
        "fusion": "weighted",
        "query_prompt": "ke",
        "calibration": "none",
    }.items() <= experiment.items()
    batches = [{"text": ["a comet over the river"]}]
    for kind, same in (("query", embedder.encode_query), ("document", embedder.encode_document)):
        prompt_type = type("PromptType", (), {"value": kind})()
        assert np.array_equal(encoder.encode(batches, prompt_type=prompt_type), same(batches[0]["text"]))
    assert np.array_equal(encoder.encode(batches), embedder.encode(batches[0]["text"]))


def test_settings_are_told_apart_in_the_description() -> None:
    info = FakeBackend().info
    settings = [
        Setting(),
        Setting(fusion="hs"),
        Setting(alpha=0.5),
        Setting(recipe="paper"),
        Setting(routing="shuffled"),
    ]
    names = {describe_model(info, setting_experiment(each)).experiment_name for each in settings}
    assert len(names) == len(settings)


@pytest.mark.parametrize(("name", "shown"), [("fake", "moee/fake"), ("org/model", "org/model"), ("/a/b/c", "moee/c")])
def test_a_model_has_a_name_of_two_parts(name: str, shown: str) -> None:
    from dataclasses import replace

    meta = describe_model(replace(FakeBackend().info, name=name), {}, n_parameters=7)
    assert (meta.name, meta.n_parameters, meta.max_tokens) == (shown, 7, FakeBackend().info.max_tokens)
