"""Tuning an embedder: planted views through a backend, from texts to a saved choice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee import EmbedderConfig, MoEE
from moee.backends.fake import FakeBackend
from moee.errors import InputError, UnknownNameError
from moee.evaluate.tune.criterion import ScoredPairs
from moee.evaluate.tune.run import tune
from moee.evaluate.tune.siblings import Siblings
from moee.types import Activations, CapturePlan

PAIRS, HALF = 120, 16
CONFIG = EmbedderConfig(
    fusion="weighted",
    weights={"hs": 1, "rw": 0.2, "lexical": 0.1},
    calibration="zscore",
    routing_calibration="whiten",
    routing_layers="all",
    prompt_tokens="filled",
    scoring="logits",
)


class PlantedBackend(FakeBackend):
    """Texts "pair P side S" hold two latent halves; HS sees the first, the last router the second, the others noise."""

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        found = [[int(number) for number in re.findall(r"\d+", prompt)] for prompt in prompts]
        # sentences without two numbers are texts of their own
        return [
            each if len(each) == 2 else [10_000 + len(prompt), 0] for each, prompt in zip(found, prompts, strict=True)
        ]

    def forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> Activations:
        chosen = list(self.info.layer_ids) if plan.routing_layers == "all" else [self.info.layer_ids[-1]]
        hidden = np.stack([latent(pair, side, 0) for pair, side in sequences])
        second = np.stack([latent(pair, side, 1) for pair, side in sequences])
        width = self.info.num_experts[0]
        blocks = [
            second[:, :width] if layer == self.info.layer_ids[-1] else noise(sequences, layer, width)
            for layer in chosen
        ]
        return Activations(
            hidden.astype(np.float32),
            np.concatenate(blocks, axis=1).astype(np.float32),
            is_scored=False,
            layer_ids=tuple(chosen),
            num_experts=(width,) * len(chosen),
            top_k=self.info.top_k[: len(chosen)],
        )


def latent(pair: int, side: int, half: int) -> Any:
    shared = np.random.default_rng([1, pair, half]).normal(size=HALF)
    return 0.7 * shared + 0.7 * np.random.default_rng([2, pair, side, half]).normal(size=HALF)


def noise(sequences: Sequence[Sequence[int]], layer: int, width: int) -> Any:
    return np.stack([np.random.default_rng([3, pair, side, layer]).normal(size=width) for pair, side in sequences])


def siblings(count: int = PAIRS) -> Siblings:
    sides = (tuple(f"pair {pair} side {side}" for pair in range(count)) for side in (0, 1))
    return Siblings("halves", *sides)


@pytest.fixture(scope="module")
def planted() -> MoEE:
    model = MoEE(PlantedBackend(), CONFIG)
    model.calibrate(words=False)
    return model


def test_layers_and_weights_that_find_siblings_are_chosen_and_kept(planted: MoEE, tmp_path: Path) -> None:
    found = tune(planted, siblings())
    chosen = found.choice.chosen
    assert chosen is found.choice.best
    assert chosen.layers in ("last_half", "last_third", "last_sixth")  # of two layers, the last
    assert chosen.weights["rw"] >= 0.5
    assert chosen.weights["lexical"] == 0.1
    assert (found.pairs, found.num_pairs, found.free) == ("halves", PAIRS, ("rw",))
    assert found.choice.gain.low > 0
    # the embedder gives the score that was reported
    left, right = (found.model.encode(side) for side in (siblings().left, siblings().right))
    cosines = left.astype(np.float64) @ right.T
    ranks = 1 + (cosines > np.diagonal(cosines)[:, None]).sum(axis=1)
    assert np.mean(1 / ranks) == pytest.approx(chosen.score, abs=0.03)  # asked from one side
    assert planted.config == CONFIG
    found.model.save(tmp_path / "tuned")
    assert found.model.config.weights == dict(chosen.weights)
    assert found.model.calibration is not None
    assert any("Siblings measure search by topic" in note for note in found.notes)
    assert any("the weight of lexical was not chosen by them" in note for note in found.notes)


def test_own_statistics_need_enough_texts_and_come_with_their_words(planted: MoEE) -> None:
    few = tune(planted, siblings(30), statistics=["own"])
    assert {trial.statistics for trial in few.choice.by_candidate} == {"present"}
    many = tune(planted, siblings(), statistics=["own"], layers=["last_half"])
    assert [trial.statistics for trial in many.choice.by_candidate] == ["present", "own"]
    if many.choice.chosen.statistics == "own":
        assert many.model.calibration is not None
        assert many.model.calibration.num_texts == 2 * PAIRS
        assert many.model.calibration.frequencies is not None


def test_labelled_pairs_choose_the_weight_of_words_too(planted: MoEE) -> None:
    one = siblings(60)
    left, right = (*one.left, *one.left), (*one.right, *one.right[1:], one.right[0])
    found = tune(planted, ScoredPairs(left, right, np.repeat([1.0, 0.0], 60)))
    assert (found.pairs, found.free) == ("labelled", ("rw", "lexical"))
    assert found.choice.gain.low > 0
    assert any("too bright" in note for note in found.notes)
    document = found.evidence()
    assert document["chosen"]["weights"] == dict(found.choice.chosen.weights)
    assert document["gain_of_best"][1] <= document["gain_of_best"][0] <= document["gain_of_best"][2]


def test_a_sum_is_tuned_as_the_named_weights_that_it_is(planted: MoEE) -> None:
    summed = planted.with_settings(fusion="sum", alpha=0.5)
    found = tune(summed, siblings(40), layers=["all"], statistics=["builtin"])
    assert found.choice.present.weights == {"hs": 1.0, "rw": 0.5}
    assert found.model.config.fusion == "weighted"


def test_what_cannot_be_tuned_is_refused(planted: MoEE) -> None:
    with pytest.raises(InputError, match="calibration='none', which uses none"):
        tune(planted.with_settings(calibration="none"), siblings())
    with pytest.raises(InputError, match="cannot be tuned"):
        tune(planted.with_settings(fusion="concat"), siblings())
    with pytest.raises(InputError, match="of the recipe 'paper'"):
        tune(MoEE.from_pretrained("fake", recipe="paper"), siblings())
    with pytest.raises(UnknownNameError, match="Unknown view to be chosen 'hs'"):
        tune(planted, siblings(), free=["hs"])
    with pytest.raises(UnknownNameError, match=r"Unknown layers 'last_thrid'.*last_third"):
        tune(planted, siblings(), layers=["last_thrid"])
