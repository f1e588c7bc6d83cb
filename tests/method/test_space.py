"""The way from views to vectors: blocks by name, weights, and one vector for encode, index, server and evaluation."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from moee import MoEE
from moee.data import calibration_texts
from moee.errors import CalibrationError, InputError
from moee.method.calibration import batch_standardise, raw_blocks
from moee.method.config import RECIPES, EmbedderConfig
from moee.method.fusion import DEFAULT_WEIGHTS, VIEWS, join_blocks, query_vector, unit
from moee.method.space import VectorSpace, block_dims
from moee.types import CalibrationMethod, Fusion, View, Views

TEXTS = [f"sentence {number} about {word}" for number, word in enumerate(("cats", "dogs", "ships", "tea", "snow"))]
FROZEN: tuple[CalibrationMethod, ...] = ("none", "zscore", "spectral")


@pytest.fixture(scope="module")
def model() -> MoEE:
    embedder = MoEE.from_pretrained("fake")
    embedder.calibrate(calibration_texts()[400:700])
    return embedder


@pytest.fixture(scope="module")
def views(model: MoEE) -> Views:
    return model.encode_views(TEXTS)


@pytest.mark.parametrize("calibration", FROZEN)
def test_blocks_have_names_an_order_and_the_calibration_of_the_space(
    model: MoEE, views: Views, calibration: CalibrationMethod
) -> None:
    space = model.space(calibration=calibration)
    blocks = space.blocks(views)
    assert tuple(blocks) == VIEWS == ("hs", "rw", "tokens", "lexical")
    expected = tuple(raw_blocks(views, space.config).values())
    if calibration != "none":
        assert model.calibration is not None
        expected = tuple(model.calibration.apply(views, model.config.replace(calibration=calibration)).values())
    for found, wanted in zip(blocks.values(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("calibration", FROZEN)
@pytest.mark.parametrize("fusion", get_args(Fusion))
@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_are_those_of_encode_to_the_last_bit(
    model: MoEE, views: Views, calibration: CalibrationMethod, fusion: Fusion, normalize: bool
) -> None:
    other = model.with_settings(calibration=calibration, fusion=fusion, normalize=normalize)
    np.testing.assert_array_equal(other.space().vectors(views), other.encode(TEXTS))
    np.testing.assert_array_equal(
        model.space(calibration=calibration).replace(fusion=fusion, normalize=normalize).vectors(views),
        other.encode(TEXTS),
    )


@pytest.mark.parametrize("fusion", ["hs", "rw", "concat", "sum"])
def test_the_formulas_of_the_four_fusions(model: MoEE, views: Views, fusion: Fusion) -> None:
    space = model.space(fusion=fusion, alpha=0.7)
    h, r = space.blocks(views).values()
    expected = {
        "hs": unit(h),
        "rw": unit(r),
        "concat": unit(np.concatenate([h, r], axis=1)),
        "sum": np.concatenate([unit(h), np.float32(0.7**0.5) * unit(r)], axis=1) / np.float32(1.7**0.5),
    }[fusion]
    np.testing.assert_array_equal(space.vectors(views), expected)
    assert sum(space.dims(views).values()) == expected.shape[1]
    assert set(space.dims(views)) <= set(VIEWS)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 7.5])
@pytest.mark.parametrize("fusion", ["hs", "rw", "sum"])
def test_stored_units_asked_with_weights_score_as_the_cosine_of_vectors(
    model: MoEE, views: Views, fusion: Fusion, alpha: float
) -> None:
    space = model.space()
    units, weights = space.units(views), space.weights(fusion, alpha)
    scores = query_vector(units, weights) @ join_blocks(units).T / sum(weights.values())
    vectors = space.replace(fusion=fusion, alpha=alpha).vectors(views)
    np.testing.assert_allclose(scores, model.similarity(vectors, vectors), atol=1e-5)


def test_weights_are_the_configured_ones_unless_others_are_named(model: MoEE) -> None:
    space = model.space(alpha=0.25)
    assert space.weights() == {"hs": 1.0, "rw": 0.25}
    assert space.weights(alpha=2) == {"hs": 1.0, "rw": 2.0}
    assert space.weights("rw") == {"hs": 0.0, "rw": 1.0}
    assert space.weights(weights={"lexical": 2, "hs": 1, "rw": 0}) == {"hs": 1.0, "lexical": 2.0}
    with pytest.raises(InputError, match="fusion='concat' cannot be searched"):
        space.weights("concat")


def test_alpha_is_the_number_or_that_of_the_statistics_or_one(model: MoEE) -> None:
    assert model.calibration is not None
    assert model.space().alpha == model.alpha == DEFAULT_WEIGHTS["rw"]
    assert model.space(alpha="slope").alpha == model.calibration.alpha("zscore")
    assert model.space(alpha="scale", calibration="spectral").alpha == model.calibration.alpha("spectral", "scale")
    assert model.space(alpha=0.4).alpha == 0.4
    assert VectorSpace(EmbedderConfig(calibration="none", alpha="slope")).alpha == 1.0
    assert VectorSpace(RECIPES["paper"]).alpha == 1.0


def test_the_original_standardises_batches_of_every_method_but_its_hidden_states(views: Views) -> None:
    paper = VectorSpace(RECIPES["paper"].replace(batch_size=3))
    assert paper.is_by_batch
    assert not paper.replace(fusion="hs").is_by_batch
    np.testing.assert_array_equal(paper.replace(fusion="hs").vectors(views), views.hidden_states)
    standard = batch_standardise(views.routing_weights, 3)
    np.testing.assert_array_equal(paper.replace(fusion="rw").vectors(views), standard)


def test_vectors_of_views_as_they_are_can_be_changed_without_changing_the_views(views: Views) -> None:
    space = VectorSpace(EmbedderConfig(calibration="none", normalize=False, fusion="hs"))
    before = views.hidden_states.copy()
    space.vectors(views)[:] = 0
    np.testing.assert_array_equal(views.hidden_states, before)


def test_a_change_that_is_none_changes_nothing(model: MoEE) -> None:
    space = model.space()
    assert space.replace(fusion=None, alpha=None) is space
    assert space.replace(alpha=np.float32(0.5)).config.alpha == 0.5


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_vector_without_a_direction_is_named(views: Views, value: float) -> None:
    hidden = views.hidden_states.copy()
    hidden[3] = value
    other = Views(hidden, views.routing_weights, views.layer_ids, views.num_experts)
    space = VectorSpace(EmbedderConfig(calibration="none", fusion="hs"))
    with pytest.raises(CalibrationError, match=r"vector of text 3 is (zero in every dimension|NaN or infinite) after"):
        space.vectors(other)
    assert space.replace(fusion="rw").vectors(other).any()


def test_a_text_alone_in_the_papers_batch_is_its_mean() -> None:
    space = MoEE.from_pretrained("fake", recipe="paper").space()
    assert not space.vectors(MoEE.from_pretrained("fake").encode_views(TEXTS[:1])).any()


def test_a_number_of_numpy_weighs_as_the_same_plain_number(model: MoEE) -> None:
    np.testing.assert_array_equal(model.encode(TEXTS, alpha=np.float32(0.25)), model.encode(TEXTS, alpha=0.25))
    assert model.with_settings(alpha=np.float64(0.25)).alpha == 0.25
    with pytest.raises(InputError, match="alpha is True"):
        model.encode(TEXTS, alpha=True)


def test_the_cosine_of_weighted_vectors_is_the_weighted_mean_of_the_views_cosines(model: MoEE, views: Views) -> None:
    weights: dict[View, float] = {"hs": 1, "rw": 0.3, "lexical": 2}
    space = model.space(weights=weights)
    vectors = space.vectors(views)
    cosines = {view: block @ block.T for view, block in space.units(views).items()}
    expected = sum(weight * cosines[view] for view, weight in weights.items()) / 3.3
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-5)
    assert space.dims(views) == block_dims(model.info, space.config) == model.with_settings(weights=weights).dims
    assert vectors.shape[1] == sum(space.dims(views).values())


def test_the_other_views_carry_a_text_without_a_word(model: MoEE) -> None:
    space = model.space(weights={"hs": 1, "lexical": 3})
    vectors = space.vectors(model.encode_views(["...", TEXTS[0]]))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    hidden = space.replace(fusion="hs").vectors(model.encode_views(["...", TEXTS[0]]))
    assert vectors[0] @ vectors[1] == pytest.approx(0.5 * hidden[0] @ hidden[1], abs=1e-5)  # sqrt(1 / (1 + 3))


def test_weights_alone_choose_the_weighted_fusion_and_alpha_alone_the_sum() -> None:
    config = EmbedderConfig().replace(weights={"hs": 1, "lexical": 1})
    assert config.fusion == "weighted"
    assert config.views == ("hs", "lexical")
    assert config.replace(alpha=0.5).fusion == "sum"
    assert config.replace(fusion="hs", weights={"rw": 1}).fusion == "hs"


def test_a_view_that_was_not_captured_is_named(views: Views) -> None:
    space = VectorSpace(EmbedderConfig(calibration="none", fusion="weighted", weights={"lexical": 1}))
    with pytest.raises(InputError, match="hold no texts"):
        space.vectors(replace(views, texts=None))
    apart = VectorSpace(EmbedderConfig(calibration="none", prompt_tokens="apart").replace(weights={"tokens": 1}))
    with pytest.raises(InputError, match="without the view 'tokens'"):
        apart.vectors(replace(views, tokens=None))


@pytest.mark.parametrize("weights", [{"lexical": 1}, {"tokens": 2, "lexical": 1}])
def test_a_text_without_anything_that_counts_is_named(views: Views, weights: dict[View, float]) -> None:
    tokens = np.zeros_like(views.hidden_states)
    other = replace(views, tokens=tokens, texts=("!!!",) * len(views))
    space = VectorSpace(EmbedderConfig(calibration="none", prompt_tokens="apart", fusion="weighted", weights=weights))
    with pytest.raises(InputError, match=r"Text 0 has no .*words of its own, and the weights count nothing else"):
        space.vectors(other)
    assert space.replace(weights={**weights, "hs": 1}).vectors(other).any()
