"""Controls: planted defects are found, planted signal is found, and settings are what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moee import EmbedderConfig, MoEE
from moee.backends.fake import FakeBackend
from moee.errors import InputError
from moee.evaluate.bootstrap import Interval
from moee.evaluate.controls import Control, control_settings, oracle_alpha, points, verdict
from moee.evaluate.study import Study
from moee.evaluate.tasks import TaskScore, tfidf_score
from moee.evaluate.vectors import Setting
from moee.types import Activations, Array, CapturePlan

PAIRS, HALF = 400, 16
BASE = Setting(fusion="sum", calibration_texts="corpus", alpha=1.0)


class PlantedBackend(FakeBackend):
    """Texts "pair P side S": two latent halves, each with its own similarity of the two sides of a pair.

    HS holds the first half. What the routers and the random projections hold is chosen: `own` (the second half),
    `hidden` (the first again) or `noise`.
    """

    def __init__(self, *, routers: str, projections: str) -> None:
        super().__init__()
        # one router, so that every choice of layers is all of it
        self._info = replace(self._info, layer_ids=(1,), num_experts=(HALF,), top_k=(2,))
        self._held = (routers, projections)

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        return [[int(number) for number in re.findall(r"\d+", prompt)] for prompt in prompts]

    def forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> Activations:
        first, second = (np.stack([latent(pair, side, half) for pair, side in sequences]) for half in (0, 1))
        noise = np.stack([np.random.default_rng([9, pair, side]).normal(size=HALF) for pair, side in sequences])
        routing, projections = ({"own": second, "hidden": first, "noise": noise}[held] for held in self._held)
        # small logits, so that softmax is nearly linear
        return Activations(
            first.astype(np.float32),
            (0.1 * routing).astype(np.float32),
            is_scored=False,
            layer_ids=self.info.layer_ids,
            num_experts=self.info.num_experts,
            top_k=self.info.top_k,
            projections=projections.astype(np.float32) if plan.projections else None,
        )


def similarity_of(pair: int, half: int) -> float:
    return float(np.random.default_rng([1, pair, half]).uniform(-1, 1))


def latent(pair: int, side: int, half: int) -> Array:
    rho = similarity_of(pair, half)
    first, other = np.random.default_rng([2, pair, half]).normal(size=(2, HALF))
    return np.asarray(first if side == 0 else rho * first + np.sqrt(1 - rho**2) * other, dtype=np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "STS13").mkdir()
    (folder / "STS13" / "dataset.json").write_text(json.dumps({"task_type": "STS"}))
    rows = [
        {
            "sentence1": f"pair {pair} side 0",
            "sentence2": f"pair {pair} side 1",
            "score": similarity_of(pair, 0) + similarity_of(pair, 1),
        }
        for pair in range(PAIRS)
    ]
    (folder / "STS13" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def make_study(data: Path, cache: Path, *, routers: str, projections: str = "noise") -> Study:
    model = MoEE(PlantedBackend(routers=routers, projections=projections), EmbedderConfig())
    return Study(model, data, cache=cache)


def named(study: Study, base: Setting = BASE) -> dict[str, Control]:
    return {control.name: control for control in control_settings(base, study.embedder.info)}


def scores(study: Study, *names: str) -> list[TaskScore]:
    controls = named(study)
    return [study.score("STS13", controls[name].setting) for name in names]


def test_routing_with_signal_of_its_own_adds_and_beats_random(data: Path, tmp_path: Path) -> None:
    hs, fused, random = scores(make_study(data, tmp_path, routers="own"), "hs", "sum", "sum-random")
    found = verdict([hs], [fused], [random])
    assert found.adds
    assert found.beats_random
    assert found.sentence.startswith("RW adds to calibrated HS: +")
    assert "; it beats random projections" in found.sentence
    assert found.over_hs.difference == pytest.approx(fused.main - hs.main)


def test_a_gain_that_random_projections_share_is_not_credited_to_routing(data: Path, tmp_path: Path) -> None:
    study = make_study(data, tmp_path, routers="own", projections="own")
    hs, fused, random = scores(study, "hs", "sum", "sum-random")
    found = verdict([hs], [fused], [random])
    assert found.adds
    assert found.beats_random is False
    assert "not the routing" in found.sentence


def test_shuffled_routing_adds_nothing(data: Path, tmp_path: Path) -> None:
    """The planted defect: the same routing weights that add above, on other texts."""
    study = make_study(data, tmp_path, routers="own")
    hs, fused, shuffled = scores(study, "hs", "sum", "sum-shuffled")
    assert fused.main > hs.main + 0.1
    found = verdict([hs], [shuffled])
    assert not found.adds
    assert found.sentence.startswith("RW adds nothing")
    assert found.over_hs.difference < 0


def test_routing_that_copies_the_hidden_states_changes_nothing(data: Path, tmp_path: Path) -> None:
    study = make_study(data, tmp_path, routers="own")
    hs, copied = scores(study, "hs", "sum-hidden")
    assert copied.main == pytest.approx(hs.main, abs=1e-6)
    assert copied.items == pytest.approx(hs.items, abs=1e-6)
    found = verdict([hs], [copied])
    assert not found.adds
    assert found.sentence.startswith("RW adds nothing that this sample can show")


def test_noise_in_the_routers_adds_nothing_and_random_may_do_better(data: Path, tmp_path: Path) -> None:
    hs, fused, random = scores(
        make_study(data, tmp_path, routers="noise", projections="own"), "hs", "sum", "sum-random"
    )
    found = verdict([hs], [fused], [random])
    assert not found.adds
    assert found.beats_random is False
    assert "random projections of the same router inputs do better" in found.sentence


def test_the_closed_form_gives_routing_without_signal_no_weight(data: Path, tmp_path: Path) -> None:
    study = make_study(data, tmp_path, routers="noise")
    task, auto = study.task("STS13"), Setting(fusion="sum", alpha="slope", calibration_texts="corpus")
    assert study.alpha(task, auto) < 0.02
    copy = make_study(data, tmp_path / "copy", routers="hidden")
    # softmax over eight experts loses what all logits share, so the copy is not perfect
    assert study.alpha(task, auto) < 0.1 < copy.alpha(copy.task("STS13"), auto)


def test_the_oracle_is_at_least_as_good_as_every_alpha_of_its_grid(data: Path, tmp_path: Path) -> None:
    study = make_study(data, tmp_path, routers="own")
    hs, fused = scores(study, "hs", "sum")
    oracle = oracle_alpha(study, "STS13", BASE)
    assert oracle.score.main == max(oracle.by_alpha.values()) == oracle.by_alpha[oracle.alpha]
    assert oracle.by_alpha[0.0] == pytest.approx(hs.main, abs=1e-6)
    assert oracle.by_alpha[1.0] == pytest.approx(fused.main, abs=1e-6)
    assert 0.5 < oracle.alpha < 2  # both halves count alike in the gold scores
    with pytest.raises(InputError, match="not in 'hs'"):
        oracle_alpha(study, "STS13", Setting(fusion="hs"))
    with pytest.raises(InputError, match="got 0"):
        oracle_alpha(study, "STS13", BASE, [])


def test_settings_are_distinct_and_complete() -> None:
    info = FakeBackend().info
    controls = control_settings(Setting(fusion="sum", alpha="slope"), info)
    by_name = {control.name: control.setting for control in controls}
    assert len({setting.label() for setting in by_name.values()}) == len(controls)
    assert by_name["hs"] == Setting(fusion="hs", alpha="slope")
    assert by_name["sum-random"].routing == "random-projections"
    assert by_name["alpha-dimension"].alpha == 16 / 16
    assert {"sum-logits", "sum-topk"} <= set(by_name)
    assert "sum-softmax" not in by_name  # it is the recipe's own
    assert {control.role for control in controls} == {"baseline", "variant", "control", "planted defect"}
    assert "alpha-slope" not in by_name
    assert by_name["alpha-scale"].alpha == "scale"
    with_alpha = {control.name: control for control in control_settings(Setting(fusion="sum", alpha=0.5), info)}
    assert with_alpha["alpha-slope"].setting.alpha == "slope"


def test_the_papers_recipe_gets_a_baseline_with_the_same_standardisation() -> None:
    """Its own HS is not standardised, so part of the published gain is standardisation."""
    controls = {
        control.name: control.setting for control in control_settings(Setting(recipe="paper"), FakeBackend().info)
    }
    assert (controls["hs"].fusion, controls["hs"].alpha) == ("sum", 0.0)
    assert "sum-softmax" in controls
    assert "sum-logits" not in controls


def test_a_verdict_holds_over_several_tasks(data: Path, tmp_path: Path) -> None:
    study = make_study(data, tmp_path, routers="own")
    hs, fused = scores(study, "hs", "sum")
    one, two = verdict([hs], [fused]), verdict([hs, hs], [fused, fused])
    assert two.over_hs.difference == pytest.approx(one.over_hs.difference)
    assert two.over_hs.high - two.over_hs.low < one.over_hs.high - one.over_hs.low
    assert (one.over_random, one.beats_random) == (None, None)
    with pytest.raises(InputError, match="1 scores on one side and 2"):
        verdict([hs, hs], [fused])


def test_a_floor_and_a_model_can_be_compared(data: Path, tmp_path: Path) -> None:
    study = make_study(data, tmp_path, routers="own")
    (fused,) = scores(study, "sum")
    assert verdict([tfidf_score(study.task("STS13"))], [fused]).adds


def test_points_are_signed_and_times_a_hundred() -> None:
    assert points(Interval(0.00424, -0.001, 0.0075, 10)) == "+0.42 [-0.10, +0.75]"
