"""A study: one cache for all settings, statistics from where a setting says, and scores that are the vectors'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from moee import EmbedderConfig, MoEE
from moee.backends.fake import FakeBackend
from moee.data import calibration_texts
from moee.errors import InputError, UnknownNameError
from moee.evaluate import study as study_module
from moee.evaluate.study import Study
from moee.evaluate.tasks import DataError, Indices, load_task, score, tfidf_score
from moee.evaluate.tasks.classification import draw_samples
from moee.evaluate.vectors import RoutingSource, Setting
from moee.types import Array
from tests.evaluate.conftest import CountingBackend, write_set
from tests.evaluate.tasks.miniatures import MINIATURES, classification, write_miniature

MakeStudy = Callable[..., Study]
PLAIN = Setting(calibration_texts="none", fusion="sum", alpha=0.5)
CORPUS = Setting(calibration_texts="corpus")


class Scorings:
    """Counts how many scores are computed, and computes them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr(study_module, "score", self._score)

    def _score(self, *arguments: Any, **options: Any) -> Any:
        self.count += 1
        return score(*arguments, **options)


@pytest.fixture
def scorings(monkeypatch: pytest.MonkeyPatch) -> Scorings:
    return Scorings(monkeypatch)


# --- data ----------------------------------------------------------------------------------------------------------


def test_a_study_knows_which_tasks_have_data(make_study: MakeStudy) -> None:
    study = make_study()
    assert study.has("STS12")
    assert not study.has("STS13")
    with pytest.raises(DataError, match="STS13: no folder"):
        study.task("STS13")


def test_an_unknown_task_is_answered_with_close_names(make_study: MakeStudy) -> None:
    study = make_study()
    for ask in (study.has, study.task, lambda name: study.score(name, PLAIN)):
        with pytest.raises(UnknownNameError, match=r"Did you mean .*'SciFact'"):
            ask("SciFacts")


def test_a_folder_without_sets_is_refused_at_once(embedder: MoEE, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no evaluation set"):
        Study(embedder, tmp_path)


def test_data_is_read_once_and_with_the_studys_limits(make_study: MakeStudy) -> None:
    study = make_study(limit=5, corpus_limit=20)
    data: Any = study.task("SciFact")
    assert study.task("SciFact") is data
    assert (len(data.queries), len(data.documents) >= 20) == (5, True)
    assert len(study.task("STS12").scores) == 5  # type: ignore[attr-defined]


def test_the_split_is_the_studys(embedder: MoEE, tmp_path: Path) -> None:
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "score": n} for n in range(4)]
    write_set(tmp_path, "STSBenchmark", "STS", {"test": rows, "dev": rows[:3]})
    sizes = {
        split: len(Study(embedder, tmp_path, split=split).task("STSBenchmark").scores)  # type: ignore[attr-defined]
        for split in ("test", "dev")
    }
    assert sizes == {"test": 4, "dev": 3}


# --- what the model is run for -------------------------------------------------------------------------------------


def test_every_fusion_alpha_scoring_and_control_shares_one_pass(
    make_study: MakeStudy, backend: CountingBackend
) -> None:
    study = make_study()
    data = study.task("WikiQA")
    settings = [PLAIN, CORPUS, Setting(recipe="default", fusion="rw", scoring="topk", calibration_texts="corpus")]
    settings += [Setting(calibration_texts="corpus", routing=routing) for routing in get_args(RoutingSource)]
    for setting in settings:
        study.score("WikiQA", setting)
    assert backend.sequences == len(data.texts)
    study.score("WikiQA", Setting(calibration_texts="none", prompt="ke"))
    assert backend.sequences == 2 * len(data.texts)


def test_a_later_study_runs_nothing(make_study: MakeStudy, backend: CountingBackend) -> None:
    first = make_study().score("STS12", CORPUS)
    batches = backend.batches
    study = make_study()
    assert study.missing(study.task("STS12").texts, study.config(CORPUS)) == 0
    assert study.score("STS12", CORPUS).main == first.main
    assert backend.batches == batches


class Described(FakeBackend):
    """The fake model under another description, which may refuse to run."""

    def __init__(self, *, runs: bool = True, **changes: Any) -> None:
        super().__init__()
        self._info, self._runs = replace(self._info, **changes), runs

    def forward(self, *args: Any) -> Any:
        assert self._runs, "a score that is kept is computed again"
        return super().forward(*args)


def test_scores_are_kept_by_weights_and_precision_and_not_by_name(miniatures: Path, tmp_path: Path) -> None:
    def score_of(backend: Described) -> float:
        study = Study(MoEE(backend, EmbedderConfig()), miniatures, cache=tmp_path)
        return study.score("STS12", PLAIN).main

    kept = score_of(Described(name="one/name"))
    assert score_of(Described(name="/another/spelling", runs=False)) == kept
    for changes in ({"fingerprint": "other"}, {"dtype": "bfloat16"}, {"precision": "int8"}):
        with pytest.raises(AssertionError, match="computed again"):
            score_of(Described(runs=False, **changes))


def test_only_training_texts_that_are_drawn_are_embedded(
    embedder: MoEE, backend: CountingBackend, tmp_path: Path
) -> None:
    files = classification()
    files["train"] = [{**row, "text": f"{row['text']} {n}"} for n, row in enumerate(files["train"] * 3)]
    write_miniature(tmp_path / "data", "EmotionClassification", files)
    study = Study(embedder, tmp_path / "data", cache=tmp_path / "cache")
    data: Any = study.task("EmotionClassification")
    rows = data.embedded()
    drawn = draw_samples(data.train_labels, 16, 10, 42)
    wanted = {int(data.train[place]) for each in drawn for place in each} | set(data.test.tolist())
    assert set(rows.tolist()) == wanted
    assert len(rows) < len(data.texts)
    study.score("EmotionClassification", PLAIN)
    assert backend.sequences == len(rows)
    outside = np.setdiff1d(np.arange(len(data.texts)), rows)
    with pytest.raises(InputError, match="EmotionClassification: an encode call names training texts that no run"):
        study.embed(data, PLAIN)(outside[:1])


def test_the_limit_of_a_prompt_is_the_studys(make_study: MakeStudy) -> None:
    short, whole = make_study(max_length=9), make_study(max_length=None)
    texts = ["one two three four five six", "one seven"]
    assert short.config(PLAIN).max_length == 9
    cut, full = (study.views(texts, study.config(PLAIN)).hidden_states for study in (short, whole))
    assert np.array_equal(full[1], whole.embedder.encode_views(texts[1]).hidden_states[0])
    assert not np.allclose(cut[0], full[0])


# --- statistics ----------------------------------------------------------------------------------------------------


def test_statistics_come_from_where_the_setting_says(make_study: MakeStudy) -> None:
    study = make_study()
    data = study.task("STS12")
    assert study.statistics(data, PLAIN) is None
    assert study.statistics(data, Setting(recipe="paper")) is None
    assert study.statistics(data, Setting(calibration="none")) is None
    corpus = study.statistics(data, CORPUS)
    assert corpus is not None
    assert (corpus.texts, corpus.num_texts) == ("corpus", len(data.texts))
    assert study.statistics(data, CORPUS) is corpus
    other = study.statistics(study.task("WikiQA"), CORPUS)
    assert other is not None
    assert other.digest() != corpus.digest()


def test_builtin_statistics_are_the_embedders_own_where_it_has_some(make_study: MakeStudy) -> None:
    study = make_study()
    own = study.embedder.calibrate([f"sentence {n} of {n % 7}" for n in range(50)])
    for fusion in ("hs", "sum"):
        assert study.statistics(study.task("STS12"), Setting(fusion=fusion)) is own
    # those of another prompt or scoring do not fit
    assert study.statistics(study.task("STS12"), Setting(scoring="topk", calibration_texts="corpus")) is not own


@pytest.mark.slow
def test_builtin_statistics_are_fitted_on_the_builtin_sentences(
    make_study: MakeStudy, backend: CountingBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MOEE_CACHE", str(tmp_path / "empty"))
    study = make_study()
    data = study.task("STS12")
    fitted = study.statistics(data, Setting())
    assert fitted is not None
    assert (fitted.texts, fitted.num_texts) == ("builtin", len(calibration_texts()))
    sequences = backend.sequences
    random = study.statistics(data, Setting(routing="random-projections"))
    assert random is not None
    assert random.digest() != fitted.digest()
    assert len(random.routing_mean) == len(fitted.routing_mean)
    assert backend.sequences == sequences


def test_alpha_is_the_number_behind_the_rule(make_study: MakeStudy) -> None:
    study = make_study()
    data = study.task("STS12")
    ruled = Setting(fusion="sum", alpha="slope", calibration_texts="corpus", calibration="spectral")
    statistics = study.statistics(data, ruled)
    assert statistics is not None
    assert study.alpha(data, ruled) == statistics.alpha("spectral", "slope")
    scaled = Setting(fusion="sum", alpha="scale", calibration_texts="corpus", calibration="zscore")
    assert study.alpha(data, scaled) == statistics.alpha("zscore", "scale")
    assert study.alpha(data, PLAIN) == 0.5
    assert study.alpha(data, Setting(recipe="paper")) == 1.0


# --- scores --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MINIATURES if name not in ("Cranfield", "AmazonCounterfactual-en")])
def test_scores_are_those_of_the_embedders_own_vectors(make_study: MakeStudy, miniatures: Path, name: str) -> None:
    study = make_study()
    data = load_task(miniatures / name, name)
    model = study.embedder.with_settings(calibration="none", alpha=0.5, on_empty="encode")

    def embed(rows: Indices) -> Array:
        return model.encode([data.texts[row] for row in rows])

    wanted, found = score(data, embed), study.score(name, PLAIN)
    assert (found.metric, len(found.items)) == (wanted.metric, len(wanted.items))
    assert found.main == pytest.approx(wanted.main, abs=1e-6)


def test_a_score_is_computed_once(make_study: MakeStudy, scorings: Scorings) -> None:
    first = make_study().score("STS12", CORPUS)
    study = make_study()
    again = study.score("STS12", CORPUS)
    assert scorings.count == 1
    assert (again.main, again.statistic, again.metrics) == (first.main, first.statistic, first.metrics)
    assert np.array_equal(again.items, first.items)


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"limit": 20}, CORPUS),
        ({"max_length": 20}, CORPUS),
        ({}, Setting(calibration_texts="corpus", fusion="hs")),
        ({}, Setting(calibration_texts="corpus", alpha=0.3)),
        ({}, Setting(calibration_texts="corpus", prompt="ke")),
        ({}, Setting(calibration_texts="corpus", scoring="logits")),
        ({}, Setting(calibration_texts="corpus", routing="shuffled")),
        ({}, PLAIN),
    ],
)
def test_whatever_changes_a_score_is_scored_anew(
    make_study: MakeStudy, scorings: Scorings, options: dict[str, Any], setting: Setting
) -> None:
    make_study().score("STS12", CORPUS)
    make_study(**options).score("STS12", setting)
    assert scorings.count == 2


def test_other_rows_or_statistics_are_scored_anew(
    make_study: MakeStudy, scorings: Scorings, tmp_path: Path, embedder: MoEE
) -> None:
    for seed, expected in ((1, 1), (2, 2), (1, 2)):
        rows = [{"sentence1": f"a {n}", "sentence2": f"b {n * seed}", "score": n} for n in range(8)]
        write_set(tmp_path / str(expected) / str(seed), "STS12", "STS", {"test": rows})
        make_study(tmp_path / str(expected) / str(seed)).score("STS12", PLAIN)
        assert scorings.count == expected
    for texts in (["a", "b", "c d"], ["a", "b e", "c d"]):
        embedder.calibrate(texts)
        make_study(tmp_path / "1" / "1").score("STS12", Setting())
    assert scorings.count == 4


def test_a_floor_is_computed_once(make_study: MakeStudy) -> None:
    calls = []

    def floor(data: Any) -> Any:
        calls.append(data.name)
        return tfidf_score(data)

    for _ in range(2):
        assert make_study().baseline("STS12", floor, "tf-idf").metric == "cosine_spearman"
    make_study(limit=20).baseline("STS12", floor, "tf-idf")
    assert calls == ["STS12", "STS12"]


def test_a_score_that_is_no_number_names_the_task(embedder: MoEE, tmp_path: Path) -> None:
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "score": 3} for n in range(5)]
    write_set(tmp_path / "data", "STS13", "STS", {"test": rows})
    study = Study(embedder, tmp_path / "data", cache=tmp_path / "cache")
    with pytest.raises(InputError, match=r"The score of STS13 is NaN: all 5 scores are equal"):
        study.score("STS13", PLAIN)
    assert not (tmp_path / "cache" / "scores").exists()
