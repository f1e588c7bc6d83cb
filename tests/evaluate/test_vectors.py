"""Settings: their vectors are those of the embedder, the paper's are the original's, and controls are what they say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from moee import EmbedderConfig, MoEE
from moee.errors import InputError, UnknownNameError
from moee.evaluate.reproduce.original import summed_similarity
from moee.evaluate.study import Study
from moee.evaluate.tasks import STSData, score, task_row
from moee.evaluate.vectors import CalibrationTexts, RoutingSource, Setting, with_source
from moee.method.calibration import batch_standardise
from moee.method.fusion import unit
from moee.method.similarity import similarity_pairwise
from moee.types import CalibrationMethod, Fusion, Scoring, Views
from tests.evaluate.conftest import GOLDEN
from tests.evaluate.tasks.miniatures import write_miniature
from tests.golden.ours import embed as original

FUSIONS = get_args(Fusion)
SOURCES: tuple[RoutingSource, ...] = ("router", "shuffled")
PAIRS = json.loads((GOLDEN / "inputs.json").read_text(encoding="utf-8"))["pairs"]


def pair_data(pairs: list[Any]) -> STSData:
    """Scored pairs in memory."""
    texts = tuple(dict.fromkeys(text for column in zip(*pairs, strict=True) for text in column))
    left, right = (np.array([texts.index(text) for text in column]) for column in zip(*pairs, strict=True))
    return STSData("STS12", texts, left, right, np.linspace(0, 5, len(pairs)))


DATA = pair_data(PAIRS)
EVERYTHING = np.arange(len(DATA.texts))


@pytest.fixture(scope="module")
def study(tiny: MoEE, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny OLMoE with statistics of its own, over made-up pairs."""
    folder = tmp_path_factory.mktemp("study")
    write_miniature(folder / "data", "STS12")
    tiny.calibrate([f"Some words of sentence {number}." for number in range(30)])
    return Study(tiny, folder / "data", cache=folder / "cache")


def views_of(study: Study, setting: Setting) -> Views:
    return study.task_views(DATA, setting)[1]


# --- the same vectors as elsewhere ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
def test_default_vectors_are_those_of_encode(study: Study, fusion: Fusion) -> None:
    model = study.embedder.with_settings(on_empty="encode")
    found = study.embed(DATA, Setting(fusion=fusion))(EVERYTHING)
    np.testing.assert_allclose(found, model.encode(DATA.texts, fusion=fusion), atol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize("fusion", FUSIONS)
def test_vectors_without_statistics_are_those_of_encode(study: Study, fusion: Fusion) -> None:
    model = study.embedder.with_settings(on_empty="encode", calibration="none")
    found = study.embed(DATA, Setting(fusion=fusion, alpha=0.5, calibration_texts="none"))(EVERYTHING)
    np.testing.assert_allclose(found, model.encode(DATA.texts, fusion=fusion, alpha=0.5), atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_vectors_with_the_tasks_own_statistics_are_those_of_a_model_calibrated_on_its_texts(
    study: Study, fusion: Fusion
) -> None:
    model = MoEE.from_pretrained(GOLDEN / "olmoe-tiny", dtype="float32", on_empty="encode")
    model.calibrate(DATA.texts)
    found = study.embed(DATA, Setting(fusion=fusion, calibration_texts="corpus"))(EVERYTHING)
    np.testing.assert_allclose(found, model.encode(DATA.texts, fusion=fusion), atol=1e-5)


@pytest.mark.parametrize("setting", [Setting(scoring="topk"), Setting(calibration="zscore"), Setting(prompt="quoted")])
def test_other_settings_are_those_of_encode(study: Study, setting: Setting) -> None:
    changes = {
        name: value for name in ("scoring", "calibration", "prompt") if (value := getattr(setting, name)) is not None
    }
    model = MoEE.from_pretrained(GOLDEN / "olmoe-tiny", dtype="float32", on_empty="encode", **changes)
    model.calibrate(DATA.texts)
    corpus = Setting(calibration_texts="corpus", **changes)
    np.testing.assert_allclose(study.embed(DATA, corpus)(EVERYTHING), model.encode(DATA.texts), atol=1e-5)


@pytest.mark.parametrize("rows", [[0], [3, 3, 1], list(range(7))])
def test_a_frozen_vector_is_the_same_in_every_call(study: Study, rows: list[int]) -> None:
    embed = study.embed(DATA, Setting())
    assert np.array_equal(embed(np.array(rows)), embed(EVERYTHING)[rows])


@pytest.mark.parametrize(("fusion", "array"), [("hs", "hs"), ("rw", "rw_z"), ("concat", "moee_z")])
def test_the_papers_vectors_are_the_originals(study: Study, fusion: Fusion, array: str) -> None:
    embed = study.embed(DATA, Setting(recipe="paper", fusion=fusion))
    for rows in (DATA.left, DATA.right):  # each call by itself
        texts = [DATA.texts[row] for row in rows]
        wanted = original(GOLDEN / "olmoe-tiny", texts, "prompteol", 128)[array]
        np.testing.assert_allclose(embed(rows), wanted, atol=1e-4)  # z-scores of small deviations amplify rounding


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_the_papers_sum_has_the_originals_similarity(study: Study, alpha: float) -> None:
    setting = Setting(recipe="paper", fusion="sum", alpha=alpha)
    embed, views = study.embed(DATA, setting), views_of(study, setting)
    left, right = embed(DATA.left), embed(DATA.right)
    wanted = summed_similarity(views.take(DATA.left), views.take(DATA.right), alpha=alpha)
    np.testing.assert_allclose(similarity_pairwise(left, right) * (1 + alpha), wanted, atol=1e-5)


def test_the_papers_vectors_depend_on_their_call_and_the_default_ones_do_not(study: Study) -> None:
    some = np.arange(4)
    for recipe, depends in (("paper", True), ("default", False)):
        embed = study.embed(DATA, Setting(recipe=recipe, fusion="rw"))
        assert bool(np.abs(embed(EVERYTHING)[some] - embed(some)).max() > 0.01) is depends


def test_the_papers_batches_have_128_texts(study: Study) -> None:
    setting = Setting(recipe="paper", fusion="rw")
    rows = np.arange(150) % len(DATA.texts)
    wanted = batch_standardise(views_of(study, setting).routing_weights[rows], 128)
    assert np.array_equal(study.embed(DATA, setting)(rows), wanted)


# --- controls ------------------------------------------------------------------------------------------------------


def test_shuffled_routing_is_another_texts_and_the_hidden_states_stay(study: Study) -> None:
    hidden, same_hidden = (study.embed(DATA, Setting(fusion="hs", routing=each))(EVERYTHING) for each in SOURCES)
    routing, shuffled = (study.embed(DATA, Setting(fusion="rw", routing=each))(EVERYTHING) for each in SOURCES)
    assert np.array_equal(hidden, same_hidden)
    assert sorted(map(tuple, routing.tolist())) == sorted(map(tuple, shuffled.tolist()))
    moved = (routing != shuffled).any(axis=1)
    assert moved.mean() > 0.7
    assert np.array_equal(study.embed(DATA, Setting(fusion="rw", routing="shuffled"))(EVERYTHING), shuffled)


def test_shuffled_routing_of_the_paper_is_another_texts_of_the_call(study: Study) -> None:
    plain, shuffled = (
        study.embed(DATA, Setting(recipe="paper", fusion="rw", routing=routing))(DATA.left)
        for routing in ("router", "shuffled")
    )
    assert sorted(map(tuple, plain.tolist())) == sorted(map(tuple, shuffled.tolist()))
    assert (plain != shuffled).any()


@pytest.mark.parametrize("texts", get_args(CalibrationTexts))
def test_hidden_states_twice_score_as_hidden_states(study: Study, texts: CalibrationTexts) -> None:
    once = Setting(fusion="hs", calibration_texts=texts)
    twice = Setting(fusion="sum", alpha=0.7, calibration_texts=texts, routing="hidden")
    a, b = (score(DATA, study.embed(DATA, setting)) for setting in (once, twice))
    assert b.main == pytest.approx(a.main, abs=1e-6)
    np.testing.assert_allclose(b.items, a.items, atol=1e-6)


@pytest.mark.parametrize("texts", ["corpus", "none"])
def test_random_projections_stand_where_routing_stood(study: Study, texts: CalibrationTexts) -> None:
    router, random = (
        study.embed(DATA, Setting(fusion="rw", calibration_texts=texts, routing=routing))(EVERYTHING)
        for routing in ("router", "random-projections")
    )
    assert router.shape == random.shape
    assert np.abs(router - random).max() > 0.1
    if texts == "none":
        projections = views_of(study, Setting()).projections
        assert projections is not None
        np.testing.assert_allclose(random, unit(projections), atol=1e-6)


def test_random_projections_that_are_not_there_are_refused(study: Study) -> None:
    views = views_of(study, Setting())
    bare = Views(views.hidden_states, views.routing_weights, views.layer_ids, views.num_experts)
    with pytest.raises(InputError, match="hold no random projections"):
        with_source(bare, Setting(routing="random-projections"))
    assert with_source(bare, Setting()) is bare


# --- names and numbers ---------------------------------------------------------------------------------------------


def effect(setting: Setting) -> tuple[Any, ...]:
    """Everything of a setting that changes its vectors."""
    return (
        setting.recipe,
        setting.fusion,
        setting.alpha if setting.fusion == "sum" else None,
        setting.statistics,
        setting.prompt,
        setting.scoring,
        setting.routing,
        setting.calibration,
    )


def test_settings_with_different_vectors_have_different_labels() -> None:
    values = itertools.product(
        ("default", "paper"),
        ("hs", "sum"),
        ("slope", "scale", 0.0, 1.0, 0.1234567, 0.12345678, 1e-9),
        get_args(CalibrationTexts),
        ("prompteol", "none", "ke", "corpus {text}", "{text} | none"),
        (None, *get_args(Scoring)),
        get_args(RoutingSource),
        (None, *get_args(CalibrationMethod)),
    )
    fields = ("recipe", "fusion", "alpha", "calibration_texts", "prompt", "scoring", "routing", "calibration")
    by_label: dict[str, set[tuple[Any, ...]]] = {}
    for each in values:
        setting = Setting(**dict(zip(fields, each, strict=True)))
        by_label.setdefault(setting.label(), set()).add(effect(setting))
    shared = {label: effects for label, effects in by_label.items() if len(effects) > 1}
    assert shared == {}
    assert len(by_label) > 10_000


def test_labels_are_short_and_of_one_line() -> None:
    assert Setting(fusion="sum", alpha="slope").label() == "default sum alpha=slope builtin"
    named = Setting(weights={"lexical": 1, "hs": 1.0, "tokens": 0, "rw": 0.2}, calibration_texts="corpus")
    assert named.label() == "default hs=1 rw=0.2 lexical=1 corpus"
    assert Setting(recipe="paper", alpha=0.5).label() == "paper sum alpha=0.5"
    assert Setting(recipe="paper", alpha="slope") == Setting(recipe="paper")  # it has no texts to take a rule from
    assert "\n" not in Setting(prompt="a\n{text}").label()


def test_alpha_is_the_number_that_of_the_statistics_or_one(study: Study) -> None:
    ruled = Setting(fusion="sum", alpha="slope")
    statistics = study.statistics(DATA, ruled)
    assert statistics is not None
    assert study.alpha(DATA, ruled) == statistics.alpha(ruled.config().calibration, "slope")
    assert study.alpha(DATA, Setting(fusion="sum", alpha="scale")) == statistics.alpha("zscore", "scale")
    assert study.alpha(DATA, Setting(fusion="sum", alpha=0.25)) == 0.25
    assert study.alpha(DATA, Setting(fusion="sum", alpha="slope", calibration_texts="none")) == 1.0
    assert study.alpha(DATA, Setting(recipe="paper")) == 1.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"recipe": "papr"}, r"Unknown recipe 'papr'.*'paper'"),
        ({"fusion": "som"}, r"Unknown fusion 'som'.*'sum'"),
        ({"calibration_texts": "own"}, r"Unknown calibration texts 'own'"),
        ({"routing": "random"}, r"Unknown routing source 'random'.*'random-projections'"),
        ({"scoring": "topp"}, r"Unknown scoring 'topp'.*'topk'"),
    ],
)
def test_unknown_names_are_answered_with_close_ones(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        Setting(**values)


@pytest.mark.parametrize("alpha", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(alpha: float) -> None:
    with pytest.raises(InputError, match="alpha is"):
        Setting(alpha=alpha)


def test_the_configuration_is_the_recipes_with_the_settings_changes() -> None:
    assert Setting().config() == EmbedderConfig()
    assert Setting(calibration_texts="none").config().calibration == "none"
    paper = Setting(recipe="paper", calibration_texts="none")
    assert (paper.config().calibration, paper.config().alpha, paper.config().scoring) == ("batch", 1.0, "logits")
    assert paper.config("deepseek_v2").scoring == "softmax"
    assert Setting(recipe="paper", scoring="topk").config("deepseek_v2").scoring == "topk"


@pytest.mark.data
@pytest.mark.slow
def test_a_real_sets_vectors_are_those_of_encode(data_folder: Path, tmp_path: Path) -> None:
    model = MoEE.from_pretrained("fake", on_empty="encode", max_length=128)
    study = Study(model, data_folder, cache=tmp_path, limit=50)
    data = study.task(task_row("STSBenchmark").name)
    model.calibrate(data.texts)
    found = study.embed(data, Setting())(np.arange(len(data.texts)))
    np.testing.assert_allclose(found, model.encode(data.texts), atol=1e-5)
