"""The routing study on a real tiny model: points, what is kept, and what cannot be studied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee import MoEE
from moee.errors import UnknownNameError
from moee.evaluate.reproduce.writer import write_exhibit
from moee.evaluate.studies.points import AXES, Reader, Reading, points_of
from moee.evaluate.studies.routing import VECTORS, RoutingStudy
from moee.evaluate.studies.routing_exhibit import exhibit, summary_table
from moee.evaluate.studies.samples import choose_tasks
from moee.method.routing import softmax
from moee.types import Views


def _study(embedder: MoEE, data: Path, cache: Path, tasks: list[str] | None = None) -> RoutingStudy:
    chosen = choose_tasks(data, tasks or ["STS12", "EmotionClassification"])
    return RoutingStudy(embedder, data, chosen, limit=40, max_length=64, cache=cache)


@pytest.fixture
def few_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moee.evaluate.studies.routing.SENTENCES", 40)


def test_every_axis_is_scored_and_written(tiny: MoEE, miniatures: Path, tmp_path: Path, few_sentences: None) -> None:
    study = _study(tiny, miniatures, tmp_path / "cache", ["STS12"])
    findings = study.run(list(AXES))
    assert findings.left_out == {}
    assert {each.point.axis for each in findings.measured} == set(AXES)
    assert all(np.isfinite(each.mean) for each in findings.measured)
    # what does not touch the hidden states cannot move their score
    assert {each.mean for each in findings.of("scoring", "HS")} == {findings.own("HS").mean}
    assert len({each.mean for each in findings.of("active-experts", "HS")}) > 1
    for vector in VECTORS:
        owns = {each.mean for each in findings.measured if each.point.is_own and each.vector == vector}
        assert len(owns) == 1, "every axis has the model's own setting, and it is one"
    made = exhibit(study, findings)
    names = {path.name for path in write_exhibit(made, tmp_path, run={"model": "tiny"})}
    assert {"routing.csv", "routing.summary.csv", "routing.png", "routing.svg", "routing.json"} <= names
    spreads = [row[-2] for row in summary_table(findings).rows]
    assert all(isinstance(spread, float) and spread >= 0 for spread in spreads)


def test_a_second_run_computes_nothing(
    tiny: MoEE, miniatures: Path, tmp_path: Path, few_sentences: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _study(tiny, miniatures, tmp_path).run(["scoring"])

    def fail(*_args: Any, **_options: Any) -> None:
        raise AssertionError("the model ran, or a point was scored again")

    monkeypatch.setattr(MoEE, "encode_views", fail)
    monkeypatch.setattr("moee.evaluate.studies.routing.score", fail)
    again = _study(tiny, miniatures, tmp_path).run(["scoring"])
    assert [each.mean for each in again.measured] == [each.mean for each in first.measured]


def test_axes_that_need_a_pass_are_left_out_where_there_can_be_none(
    embedder: MoEE, miniatures: Path, tmp_path: Path, few_sentences: None
) -> None:
    findings = _study(embedder, miniatures, tmp_path, ["STS12"]).run(["active-experts", "scoring"])
    assert "in memory as a whole" in findings.left_out["active-experts"]
    assert {each.point.axis for each in findings.measured} == {"scoring"}


def test_an_unknown_axis_is_told(embedder: MoEE, miniatures: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="temperature"):
        _study(embedder, miniatures, tmp_path, ["STS12"]).points(["temperatur"])


def test_a_reading_makes_the_weights_it_names(tiny: MoEE) -> None:
    info = tiny.info
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((30, sum(info.num_experts))).astype(np.float32)
    views = Views(np.ones((30, 4), np.float32), logits, info.layer_ids, info.num_experts)
    layer = info.layer_ids[-1]
    reading = Reading(layers=(layer,), scoring="softmax", temperature=0.5)
    read = Reader(reading, info, views).read(views)
    np.testing.assert_allclose(read.routing_weights, softmax(2 * views.routing_layer(layer)), atol=1e-6)
    half = Reader(Reading(layers=(layer,), scoring="logits", share=0.5), info, views).read(views)
    variances = views.routing_layer(layer).var(axis=0)
    kept = np.sort(np.argsort(-variances, kind="stable")[: len(variances) // 2])
    np.testing.assert_array_equal(half.routing_weights, views.routing_layer(layer)[:, kept])


def test_points_run_from_one_expert_to_all(tiny: MoEE) -> None:
    own = Reading(layers=tiny.info.layer_ids, scoring="softmax")
    points = points_of("active-experts", tiny.info, own, min(tiny.info.num_experts))
    assert points[0].place == 1
    assert points[-1].place == min(tiny.info.num_experts)
    assert [point.change.top_k for point in points if point.is_own] == [None]
