from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rivals import scaling
from rivals.scaling import SCALING_COLUMNS, draw_scaling, scaling_rows

from moee.bench.plots import plot_files, write_plot
from moee.bench.weights import Setup, Weights
from moee.embedder import MoEE
from moee.errors import InputError, UnknownNameError
from tests.bench.conftest import TinySetup


@pytest.fixture(scope="module")
def setup() -> TinySetup:
    return TinySetup(model="olmoe", layers=1, dtype="float32", device="cpu", threads=1)


@pytest.fixture(scope="module")
def model(setup: TinySetup) -> MoEE:
    weights = Weights(setup, with_head=False)
    return MoEE.from_model(weights.base, setup.tokenizer(), calibration="none")


def test_a_line_through_points_on_a_line() -> None:
    assert scaling.line([1, 2, 4], [5, 7, 11]) == pytest.approx(
        {"slope": 2, "intercept": 3, "r2": 1, "least_over_most": 5 / 11}
    )
    bent = scaling.line([1, 2, 3, 4], [1, 4, 9, 16])
    assert 0.9 < bent["r2"] < 0.99
    assert scaling.line([1, 2], [3, 3])["r2"] == 1


def test_token_cases_grow_by_whole_texts(model: MoEE, setup: TinySetup) -> None:
    cases = scaling.token_cases(model, setup, sizes=(200, 400, 800))
    for (value, tokens, work), size in zip(cases, (200, 400, 800), strict=True):
        assert value == tokens
        assert size <= tokens < size + 200, "at most one text more than was asked for"
        assert len(work()) > 1  # type: ignore[arg-type]  # vectors
    with pytest.raises(InputError, match="the scaling goes up to"):
        scaling.token_cases(model, setup, sizes=(10**9,))


def test_length_cases_have_the_same_number_of_tokens(model: MoEE, setup: TinySetup) -> None:
    cases = scaling.length_cases(model, setup, lengths=(16, 64, 256), tokens=1024)
    for (value, tokens, work), length in zip(cases, (16, 64, 256), strict=True):
        assert value == pytest.approx(length, rel=0.2)
        assert tokens == pytest.approx(1024, rel=0.2)
        assert len(work()) == 1024 // length  # type: ignore[arg-type]  # vectors


def test_expert_cases_use_as_many_experts_as_they_say(setup: TinySetup) -> None:
    """The shared tiny OLMoE has 8: the router's own choice is read while each case runs."""
    weights = Weights(setup, with_head=False)
    router: Any = weights.base.layers[0].mlp.gate
    chosen: list[int] = []
    router.register_forward_hook(lambda _module, _args, output: chosen.append(output[2].shape[-1]))
    cases = scaling.expert_cases(weights, (1, 3, 8), tokens=100)
    chosen.clear()
    for value, tokens, work in cases:
        work()
        assert set(chosen) == {int(value)}
        assert tokens >= 100
        chosen.clear()


def test_scaling_is_measured_drawn_and_told(model: MoEE, setup: TinySetup, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    cases = scaling.token_cases(model, setup, sizes=(100, 200, 400))
    found = scaling.measure("tokens", cases, 2, setup)
    assert [len(each["seconds"]) for each in found["points"]] == [2, 2, 2]
    assert all(each["median"] > 0 for each in found["points"])
    document = json.loads(json.dumps({"kind": "law", "laws": {"tokens": found, "length": found, "experts": found}}))
    assert len(scaling_rows(document)) == 3
    assert all(len(row) == len(SCALING_COLUMNS) for row in scaling_rows(document))
    png, svg = write_plot(document, tmp_path / "scaling.png", draw_scaling, panels=3)
    assert png.read_bytes().startswith(b"\x89PNG")
    drawn = svg.read_text(encoding="utf-8")
    assert drawn.count("tokens in all texts") == 3
    assert "seconds" in drawn
    first = svg.read_bytes()
    write_plot(document, tmp_path / "scaling", draw_scaling, panels=3)
    assert svg.read_bytes() == first, "the same numbers give the same file"


def test_names_and_files() -> None:
    assert scaling.choose_scaling("all") == ["tokens", "length", "experts"]
    assert scaling.choose_scaling("length, tokens") == ["length", "tokens"]
    with pytest.raises(UnknownNameError, match="Did you mean 'experts'"):
        scaling.choose_scaling("expert")
    with pytest.raises(InputError, match="--scaling is ''"):
        scaling.choose_scaling("")
    with pytest.raises(InputError, match="--repeats is 0"):
        scaling.run_scaling(["tokens"], Setup(model="demo", layers=None, dtype="float32", device="cpu", threads=1), 0)
    assert [path.name for path in plot_files(Path("a/b.c"))] == ["b.c.png", "b.c.svg"]
    assert [path.name for path in plot_files(Path("a/b.svg"))] == ["b.png", "b.svg"]
