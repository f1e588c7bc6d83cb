"""The loop behind `moee eval`: planted defects are found end to end, failures are listed, nothing is done twice."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee import EmbedderConfig, MoEE
from moee.backends.fake import FakeBackend
from moee.errors import OutputError, UnknownNameError
from moee.evaluate import runner
from moee.evaluate import study as study_module
from moee.evaluate.runner import FLOOR, Evaluation, Result, evaluate, expand_settings, type_means
from moee.evaluate.study import Study
from moee.evaluate.tasks import DataError, Task, score, select_tasks, tfidf_score
from moee.evaluate.vectors import Setting
from moee.types import Activations, CapturePlan
from tests.evaluate.conftest import CountingBackend, write_set

MakeStudy = Callable[..., Study]
PAIRS, HALF = 150, 16
FUSIONS = ("hs", "rw", "concat", "sum")
PLAIN = expand_settings(fusions=FUSIONS, calibration_texts=["none"])
LABELS = [setting.label() for setting in PLAIN]


def tasks(*names: str) -> list[Task]:
    return select_tasks(names)


def word_pairs(count: int = 12) -> list[dict[str, Any]]:
    """Single words, which no two texts share: TF-IDF has no score for them."""
    return [
        {"sentence1": f"left{n}", "sentence2": f"right{n}", "score": n % 5, "set": "ab"[n % 2]} for n in range(count)
    ]


@pytest.fixture
def broken(miniatures: Path, tmp_path: Path) -> Path:
    """The sets STS12 and WikiQA, and between them STS13, whose scores are all equal."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("STS12", "WikiQA"):
        (data / name).symlink_to(miniatures / name)
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "score": 3} for n in range(5)]
    write_set(data, "STS13", "STS", {"test": rows})
    return data


# --- planted defects -----------------------------------------------------------------------------------------------


class PlantedBackend(FakeBackend):
    """Texts "pair P side S" have two latent halves, each with a similarity of its own between the sides of a pair.

    HS holds the first half. The routers hold the second (`own`), the second of another text (`shuffled`), or the first
    again (`hidden`).
    """

    def __init__(self, routers: str) -> None:
        super().__init__()
        # one router, so that every choice of layers is all of it
        self._info = replace(self._info, layer_ids=(1,), num_experts=(HALF,), top_k=(2,))
        self._routers = routers

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        return [[int(number) for number in re.findall(r"\d+", prompt)] for prompt in prompts]

    def forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> Activations:
        hidden = np.stack([latent(pair, side, 0) for pair, side in sequences])
        routing = {
            "own": lambda pair, side: latent(pair, side, 1),
            "shuffled": lambda pair, side: latent((7 * pair + 3 * side + 1) % PAIRS, side, 1),
            "hidden": lambda pair, side: latent(pair, side, 0),
        }[self._routers]
        noise = np.stack([np.random.default_rng([9, pair, side]).normal(size=HALF) for pair, side in sequences])
        info = self.info
        return Activations(
            hidden.astype(np.float32),
            np.stack([0.1 * routing(pair, side) for pair, side in sequences]).astype(np.float32),
            is_scored=False,
            layer_ids=info.layer_ids,
            num_experts=info.num_experts,
            top_k=info.top_k,
            projections=noise.astype(np.float32) if plan.projections else None,
        )


def similarity_of(pair: int, half: int) -> float:
    return float(np.random.default_rng([1, pair, half]).uniform(-1, 1))


def latent(pair: int, side: int, half: int) -> Any:
    rho = similarity_of(pair, half)
    first, other = np.random.default_rng([2, pair, half]).normal(size=(2, HALF))
    return first if side == 0 else rho * first + np.sqrt(1 - rho**2) * other


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of pairs whose scores are the similarities of both halves."""
    data = tmp_path_factory.mktemp("planted")
    for name, chosen in (("STS12", range(0, PAIRS, 2)), ("STS13", range(1, PAIRS, 2))):
        rows = [
            {
                "sentence1": f"pair {pair} side 0",
                "sentence2": f"pair {pair} side 1",
                "score": similarity_of(pair, 0) + similarity_of(pair, 1),
            }
            for pair in chosen
        ]
        write_set(data, name, "STS", {"test": rows})
    return data


def planted_run(data: Path, cache: Path, routers: str, texts: str = "corpus", **options: Any) -> Evaluation:
    study = Study(MoEE(PlantedBackend(routers), EmbedderConfig()), data, cache=cache)
    settings = expand_settings(calibration_texts=[texts], fusions=["hs", "sum"], alphas=[1.0], scoring="logits")  # type: ignore[list-item]
    return evaluate(study, tasks("STS12", "STS13"), settings, **options)


@pytest.fixture(scope="module")
def helpful(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """A run in which routing helps, with its controls."""
    return planted_run(planted, tmp_path_factory.mktemp("helpful"), "own", controls=True)


def test_routing_that_helps_is_found(helpful: Evaluation) -> None:
    found = helpful
    overall, of_type = found.verdicts
    assert (overall.scope, of_type.scope, overall.statistics) == ("all tasks", "STS", "corpus")
    assert overall.verdict.adds
    assert overall.verdict.beats_random
    assert of_type.verdict == overall.verdict
    assert all(gain.low > 0 for gain in found.gains.values())
    assert len(found.gains) == 2


def test_routing_of_other_texts_adds_nothing(helpful: Evaluation, planted: Path, tmp_path: Path) -> None:
    """The planted defect: the very weights that help above, each given to another text."""
    found = planted_run(planted, tmp_path, "shuffled", controls=True)
    overall = found.verdicts[0].verdict
    assert not overall.adds
    assert overall.sentence.startswith("RW adds nothing")
    assert not any(gain.low > 0 for gain in found.gains.values())
    by_label, own = found.by_label(), helpful.by_label()
    shuffled_on_purpose = next(label for label in own if label.endswith("rw=shuffled"))
    for name in ("STS12", "STS13"):  # the control plants the same defect into the routing that helps
        hs = own["default hs corpus logits"][name].score.main
        assert own[shuffled_on_purpose][name].score.main < hs
        assert by_label["default hs corpus logits"][name].score.main == pytest.approx(hs, abs=1e-6)


def test_routing_that_copies_the_hidden_states_changes_no_score(planted: Path, tmp_path: Path) -> None:
    study = Study(MoEE(PlantedBackend("hidden"), EmbedderConfig()), planted, cache=tmp_path)
    whole = EmbedderConfig(routing_layers="all")  # the planted copy lies in all layers together
    settings = expand_settings(
        recipes=["own"], own=whole, calibration_texts=["none"], fusions=["hs", "sum"], alphas=[1.0], scoring="logits"
    )
    found = evaluate(study, tasks("STS12", "STS13"), settings)
    hs, fused = list(found.by_label(roles=["result"]).values())
    for name in ("STS12", "STS13"):
        assert fused[name].score.main == pytest.approx(hs[name].score.main, abs=1e-6)
        np.testing.assert_allclose(fused[name].score.items, hs[name].score.items, atol=1e-6)
    assert all(abs(gain.low) < 1e-4 > abs(gain.high) for gain in found.gains.values())


def test_the_control_that_copies_hidden_states_equals_them(helpful: Evaluation) -> None:
    found = helpful.by_label()
    copied = next(label for label in found if label.endswith("rw=hidden"))
    for name in ("STS12", "STS13"):
        hs = found["default hs corpus logits"][name].score
        assert found[copied][name].score.main == pytest.approx(hs.main, abs=1e-6)


def test_named_weights_are_judged_beside_hidden_states_and_beside_all_other_views(
    planted: Path, tmp_path: Path
) -> None:
    study = Study(MoEE(PlantedBackend("own"), EmbedderConfig()), planted, cache=tmp_path)
    settings = expand_settings(
        weights=[{"hs": 1, "rw": 0.5, "lexical": 0.1}, {"hs": 1}], calibration_texts=["corpus"], scoring="logits"
    )
    found = evaluate(study, tasks("STS12", "STS13"), settings, controls=True)
    judged = {(each.scope, each.vector): each.verdict for each in found.verdicts}
    assert list(judged) == [
        (scope, vector) for vector in ("hs=1 rw=0.5", "hs=1 rw=0.5 lexical=0.1") for scope in ("all tasks", "STS")
    ]
    assert all(verdict.adds and verdict.beats_random for verdict in judged.values())
    assert judged["STS", "hs=1 rw=0.5 lexical=0.1"].sentence.startswith("RW adds to hs=1 lexical=0.1: +")
    table, base = found.by_label(), "default hs=1 rw=0.5 lexical=0.1 corpus logits"
    means = [
        np.mean([table[label][name].score.main for name in ("STS12", "STS13")])
        for label in ("default hs=1 rw=0.5 corpus logits", "default hs=1 corpus logits")
    ]
    assert judged["STS", "hs=1 rw=0.5"].over_hs.difference == pytest.approx(means[0] - means[1])
    for name in ("STS12", "STS13"):
        lean = table["default hs=1 lexical=0.1 corpus logits"][name].score.main
        assert table[f"{base} rw=shuffled"][name].score.main < lean < table[base][name].score.main
        assert table[f"{base} rw=hidden"][name].score.main == pytest.approx(lean, abs=0.02)
        assert table[f"{base} ORACLE"][name].score.main >= table[base][name].score.main


# --- what a run holds ----------------------------------------------------------------------------------------------


def test_results_are_by_task_in_the_order_asked_for_with_the_floor_first(make_study: MakeStudy) -> None:
    study = make_study()
    found = evaluate(study, tasks("WikiQA", "STS12"), PLAIN)
    assert [(result.task.name, result.label) for result in found.results] == [
        (name, label) for name in ("STS12", "WikiQA") for label in (FLOOR, *LABELS)
    ]
    assert {result.role for result in found.results} == {"result", "floor"}
    floor = found.results[0]
    assert (floor.setting, floor.alpha) == (None, None)
    assert floor.score.main == tfidf_score(study.task("STS12")).main
    assert [result.alpha for result in found.results[1:5]] == [None, None, None, 0.2]
    for result in found.results:
        if result.setting is not None:
            assert result.score.main == study.score(result.task.name, result.setting).main


def test_gains_are_sum_minus_hs_of_the_same_statistics(make_study: MakeStudy) -> None:
    settings = expand_settings(
        recipes=["default", "paper"],
        calibration_texts=["none", "corpus"],
        alphas=["slope", 0.25],
        fusions=["sum", "hs"],
    )
    found = evaluate(make_study(), tasks("STS12"), settings)
    scores = {result.label: result.score.main for result in found.results}
    partners = {
        "default sum alpha=slope none": "default hs none",
        "default sum alpha=0.25 none": "default hs none",
        "default sum alpha=slope corpus": "default hs corpus",
        "default sum alpha=0.25 corpus": "default hs corpus",
        "paper sum alpha=1": "paper hs",
        "paper sum alpha=0.25": "paper hs",
    }
    assert {label for _, label in found.gains} == set(partners)
    for label, partner in partners.items():
        gain = found.gains["STS12", label]
        assert gain.difference == pytest.approx(scores[label] - scores[partner], abs=1e-9)
        assert gain.low <= gain.difference <= gain.high


def test_every_setting_stands_beside_the_floor_that_is_usual_for_the_type(make_study: MakeStudy) -> None:
    settings = expand_settings(fusions=["hs"], weights=[{"lexical": 1}], calibration_texts=["none"])
    found = evaluate(make_study(), tasks("STS12", "SciFact"), settings, baselines=("tfidf", "bm25"))
    table = found.by_label()
    assert list(table) == [FLOOR, "bm25", "default hs none", "default lexical=1 none"]
    assert list(table["bm25"]) == ["SciFact"]
    scopes = {"STS12": FLOOR, "SciFact": "bm25", "all tasks": f"{FLOOR}, bm25", "STS": FLOOR, "Retrieval": "bm25"}
    assert [(each.scope, each.floor, each.label) for each in found.over_words] == [
        (scope, floor, label) for label in list(table)[2:] for scope, floor in scopes.items()
    ]
    for each in found.over_words:
        assert each.interval.low <= each.interval.difference <= each.interval.high
        if each.scope in table[each.label]:
            own, floor = (table[label][each.scope].score.main for label in (each.label, each.floor))
            assert each.interval.difference == pytest.approx(own - floor, abs=1e-9)
    assert evaluate(make_study(), tasks("STS12"), settings, baselines=()).over_words == []


def test_without_hidden_states_alone_there_is_no_gain(make_study: MakeStudy) -> None:
    settings = expand_settings(fusions=["sum", "rw"], calibration_texts=["none"])
    assert evaluate(make_study(), tasks("STS12"), settings).gains == {}


def test_controls_have_roles_and_the_oracle_is_no_result(make_study: MakeStudy) -> None:
    settings = expand_settings(fusions=FUSIONS, calibration_texts=["corpus"])
    found = evaluate(make_study(), tasks("STS12", "WikiQA"), settings, controls=True)
    roles = {result.label: result.role for result in found.results}
    assert {*roles.values()} == {"floor", "result", "variant", "control", "planted defect", "oracle"}
    assert all(result.meaning for result in found.results if result.role not in ("floor", "result"))
    for name in ("STS12", "WikiQA"):
        of_task = [result for result in found.results if result.task.name == name]
        assert len({result.label for result in of_task}) == len(of_task)
        (oracle,) = [result for result in of_task if result.role == "oracle"]
        assert "WITH the labels" in oracle.meaning
        assert oracle.label.endswith("ORACLE")
        hs = next(result.score.main for result in of_task if result.label == "default hs corpus")
        assert oracle.score.main >= hs - 1e-6  # its grid holds alpha 0
    assert [each.scope for each in found.verdicts] == ["all tasks", "STS", "Reranking"]
    assert not any(label.endswith("ORACLE") for label in found.by_label(roles=["result", "control"]))


def test_each_choice_of_statistics_has_controls_and_views_without_any_have_none(make_study: MakeStudy) -> None:
    settings = expand_settings(recipes=["default", "paper"], calibration_texts=["none", "corpus"], fusions=["sum"])
    found = evaluate(make_study(), tasks("STS12"), settings, controls=True)
    assert {each.statistics for each in found.verdicts} == {"corpus"}
    controls = [label for label, results in found.by_label().items() if results["STS12"].role == "control"]
    assert controls
    assert all(" corpus" in label for label in controls)


def test_tasks_outside_the_means_have_scores_and_no_part_in_means_or_verdicts(
    embedder: MoEE, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("moee"), "propagate", True)
    write_set(tmp_path / "data", "WordSimilarity", "STS", {"test": word_pairs()})
    study = Study(embedder, tmp_path / "data", cache=tmp_path / "cache")
    settings = expand_settings(calibration_texts=["corpus"], fusions=["hs", "sum"])
    with caplog.at_level(logging.WARNING, logger="moee"):
        found = evaluate(study, tasks("WordSimilarity"), settings, controls=True)
    assert "WordSimilarity has no TF-IDF floor" in caplog.text
    assert not any(result.role == "floor" for result in found.results)
    assert found.by_label()["default hs corpus"]["WordSimilarity"].score.metric == "cosine_spearman"
    assert type_means(found.by_label()["default hs corpus"]) == {}
    assert found.verdicts == []


def test_means_of_types_are_over_tasks(make_study: MakeStudy) -> None:
    found = evaluate(make_study(), tasks("EmotionClassification", "AmazonCounterfactual-en", "STS12"), PLAIN[:1])
    results = found.by_label()[LABELS[0]]
    means = type_means(results)
    assert list(means) == ["STS", "Classification"]
    both = [results[name].score.main for name in ("EmotionClassification", "AmazonCounterfactual-en")]
    assert means["Classification"] == pytest.approx(100 * sum(both) / 2)


# --- what fails ----------------------------------------------------------------------------------------------------


def test_a_task_that_fails_is_listed_and_the_others_finish(make_study: MakeStudy, broken: Path) -> None:
    seen = []
    found = evaluate(
        make_study(broken),
        tasks("STS12", "STS13", "WikiQA"),
        PLAIN,
        on_task=lambda partial: seen.append(len(partial.results)),
    )
    (failed,) = found.skipped
    assert (failed.task.name, failed.failed) == ("STS13", True)
    assert "The score of STS13 is NaN: all 5 scores are equal" in failed.reason
    assert {result.task.name for result in found.results} == {"STS12", "WikiQA"}
    assert seen == [5, 10]


def test_tasks_without_data_are_listed_as_not_run(make_study: MakeStudy) -> None:
    found = evaluate(make_study(), tasks("STS12", "BIOSSES", "SciDocsRR"), PLAIN[:1])
    assert [(each.task.name, each.reason, each.failed) for each in found.skipped] == [
        (name, f"no folder {name!r} in the data", False) for name in ("BIOSSES", "SciDocsRR")
    ]
    assert {result.task.name for result in found.results} == {"STS12"}


def test_a_wrong_file_stops_the_run_before_any_text_is_embedded(
    make_study: MakeStudy, broken: Path, backend: CountingBackend
) -> None:
    write_set(broken, "SummEval", "Summarization", {"test": [{"human_summaries": ["a"]}]})
    with pytest.raises(DataError, match="line 1: no field 'machine_summaries'"):
        evaluate(make_study(broken), tasks("STS12", "SummEval"), PLAIN)
    assert backend.batches == 0


def test_a_cache_that_cannot_be_written_stops_the_run_and_keeps_what_was_found(
    make_study: MakeStudy, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Result] = []

    def full(self: object, facts: dict[str, Any], found: object) -> None:
        if facts["task"] == "WikiQA":
            raise OutputError("no room")

    monkeypatch.setattr("moee.evaluate.score_cache.ScoreStore.put", full)
    with pytest.raises(OutputError, match="no room"):
        evaluate(
            make_study(broken), tasks("STS12", "WikiQA"), PLAIN, on_task=lambda partial: seen.extend(partial.results)
        )
    assert {result.task.name for result in seen} == {"STS12"}


def test_an_interrupted_run_goes_on_where_it_was(
    make_study: MakeStudy, miniatures: Path, tmp_path: Path, backend: CountingBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moee.view_store._CHUNK_CHARACTERS", 1)
    stopped = CountingBackend(fails_after=12)
    chosen = tasks("STS12", "WikiQA")
    with pytest.raises(KeyboardInterrupt):
        evaluate(
            Study(MoEE(stopped, EmbedderConfig(), batch_tokens=64), miniatures, cache=tmp_path / "cache"), chosen, PLAIN
        )
    assert stopped.sequences > 0
    study = make_study()
    found = evaluate(study, chosen, PLAIN)
    total = sum(len(study.task(task.name).texts) for task in chosen)
    assert backend.sequences == total - stopped.sequences
    fresh = evaluate(make_study(cache=tmp_path / "fresh"), chosen, PLAIN)
    assert [result.score.main for result in found.results] == pytest.approx(
        [result.score.main for result in fresh.results], abs=1e-6
    )


# --- a second run --------------------------------------------------------------------------------------------------


def test_a_second_run_computes_nothing(
    make_study: MakeStudy, backend: CountingBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []

    def counted_score(data: Any, *arguments: Any, **options: Any) -> Any:
        computed.append(data.name)
        return score(data, *arguments, **options)

    def counted_floor(data: Any) -> Any:
        computed.append(f"floor of {data.name}")
        return tfidf_score(data)

    monkeypatch.setattr(study_module, "score", counted_score)
    monkeypatch.setattr(runner, "tfidf_score", counted_floor)
    chosen, settings = tasks("STS12", "WikiQA"), expand_settings(fusions=FUSIONS, calibration_texts=["corpus", "none"])
    first = evaluate(make_study(), chosen, settings, controls=True)
    assert len(computed) > 20
    assert {"floor of STS12", "floor of WikiQA"} <= set(computed)
    computed.clear()
    batches = backend.batches
    second = evaluate(make_study(), chosen, settings, controls=True)
    assert computed == []
    assert backend.batches == batches
    assert [result.score.main for result in second.results] == [result.score.main for result in first.results]
    assert second.gains == first.gains
    assert second.verdicts == first.verdicts


# --- which settings ------------------------------------------------------------------------------------------------


def test_only_what_differs_becomes_a_setting() -> None:
    found = expand_settings(
        recipes=["default", "paper"],
        fusions=FUSIONS,
        alphas=["slope", 0.5],
        calibration_texts=["builtin", "corpus", "none"],
    )
    # default: hs, rw, concat, and sum with two alphas, three times; paper once, for it has statistics of its own
    assert len(found) == 3 * 5 + 5
    assert len({setting.label() for setting in found}) == len(found)
    assert found[0] == Setting(fusion="hs")


def test_without_a_choice_a_setting_is_what_the_recipe_says() -> None:
    default, paper = expand_settings(recipes=["default", "paper"])
    assert default.config() == EmbedderConfig()
    assert (paper.fusion, paper.alpha) == ("sum", 1.0)
    weights = {"hs": 1.0, "lexical": 0.5}
    named, hs = expand_settings(fusions=["hs"], weights=[weights])[::-1]
    assert (named.fusion, named.weights, hs.fusion) == ("weighted", weights, "hs")
    mine = EmbedderConfig(fusion="weighted", weights={"rw": 1}, routing_layers=(-1,), prompt="ke")
    (own,) = expand_settings(recipes=["own"], own=mine)
    assert (own.config(), own.label()) == (mine, "own rw=1 builtin")


def test_weights_that_agree_in_six_digits_are_two_settings() -> None:
    found = expand_settings(fusions=["sum"], alphas=[0.1234567, 0.12345674])
    assert [setting.alpha for setting in found] == [0.1234567, 0.12345674]


def test_prompts_and_scorings_are_kept_and_wrong_names_refused() -> None:
    found = expand_settings(fusions=["sum"], prompts=["ke", "a {text} b"], scoring="topk")
    assert [(setting.prompt, setting.scoring) for setting in found] == [("ke", "topk"), ("a {text} b", "topk")]
    assert expand_settings(fusions=["hs"]) == [Setting(fusion="hs")]
    for wrong in ({"recipes": ["papr"]}, {"fusions": ["som"]}, {"prompts": ["prompteoll"]}, {"scoring": "topp"}):
        with pytest.raises(UnknownNameError, match=r"Did you mean"):
            expand_settings(**wrong)  # type: ignore[arg-type]
