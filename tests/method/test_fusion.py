"""One vector from two views: its cosine is the weighted sum of the views' cosines."""

from __future__ import annotations

import re
from typing import Any, get_args

import numpy as np
import pytest

from moee.errors import InputError, UnknownNameError
from moee.method.fusion import (
    FUSIONS,
    Blend,
    check_alpha,
    cosine_weights,
    fuse,
    join_blocks,
    query_vector,
    split_blocks,
    unit,
    uses_alpha,
)
from moee.method.similarity import similarity
from moee.types import Array, Fusion, SearchFusion, View

ALPHAS = [0.0, 0.3, 1.0, 7.5]


@pytest.fixture
def views() -> dict[View, Array]:
    rng = np.random.default_rng(0)
    wide, narrow = (rng.normal(size=(6, 10)) * 40).astype(np.float32), rng.normal(size=(6, 4)).astype(np.float32)
    return {"hs": wide, "rw": narrow}


@pytest.mark.parametrize("alpha", ALPHAS)
def test_cosine_of_the_sum_is_the_weighted_mean_of_the_cosines(views: dict[View, Array], alpha: float) -> None:
    h, r = views.values()
    fused = fuse(views, "sum", alpha)
    expected = (similarity(h, h) + alpha * similarity(r, r)) / (1 + alpha)
    np.testing.assert_allclose(similarity(fused, fused), expected, atol=1e-6)
    np.testing.assert_allclose(fused @ fused.T, expected, atol=1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_alpha_can_be_chosen_at_query_time(views: dict[View, Array], alpha: float) -> None:
    h, r = views.values()
    units = {view: unit(block) for view, block in views.items()}
    asked = query_vector({view: block[:2] for view, block in units.items()}, cosine_weights("sum", alpha))
    scores = asked @ join_blocks(units).T
    np.testing.assert_allclose(scores, similarity(h[:2], h) + alpha * similarity(r[:2], r), atol=1e-5)


def test_single_views_are_unit_rows(views: dict[View, Array]) -> None:
    h, r = views.values()
    np.testing.assert_array_equal(fuse(views, "hs"), unit(h))
    np.testing.assert_array_equal(fuse(views, "rw"), unit(r))


def test_concat_keeps_the_scale_of_each_block(views: dict[View, Array]) -> None:
    h, r = views.values()
    fused = fuse(views, "concat")
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1, atol=1e-6)
    ratio = np.linalg.norm(fused[:, :10], axis=1) / np.linalg.norm(fused[:, 10:], axis=1)
    np.testing.assert_allclose(ratio, np.linalg.norm(h, axis=1) / np.linalg.norm(r, axis=1), rtol=1e-5)


@pytest.mark.parametrize(("fusion", "dim"), [("hs", 10), ("rw", 4), ("concat", 14), ("sum", 14)])
def test_the_length_of_the_vector(views: dict[View, Array], fusion: Any, dim: int) -> None:
    fused = fuse(views, fusion)
    assert fused.shape == (6, dim)
    assert fused.dtype == np.float32


def test_a_zero_row_stays_zero_and_nothing_is_nan(views: dict[View, Array]) -> None:
    views["hs"][2] = 0
    assert not unit(views["hs"])[2].any()
    fused = fuse(views, "sum", 1.0)
    assert np.isfinite(fused).all()
    np.testing.assert_allclose(np.linalg.norm(fused[2]), np.sqrt(0.5), atol=1e-6)


def test_large_float32_values_do_not_overflow() -> None:
    np.testing.assert_allclose(unit(np.array([[3e30, 4e30]], dtype=np.float32)), [[0.6, 0.8]], atol=1e-6)


def test_unknown_fusion_and_bad_alpha_are_refused(views: dict[View, Array]) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'concat'"):
        fuse(views, "concate")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"alpha is -1\.0"):
        fuse(views, "sum", -1.0)
    with pytest.raises(InputError, match=r"alpha is 1e\+77"):
        fuse(views, "sum", 1e77)
    with pytest.raises(InputError, match="alpha is inf"):
        cosine_weights("sum", float("inf"))


def test_views_of_different_texts_are_refused(views: dict[View, Array]) -> None:
    with pytest.raises(InputError, match=r"\(6, 10\) and \(5, 4\)"):
        fuse({**views, "rw": views["rw"][:5]}, "sum")


@pytest.mark.parametrize("alpha", [np.float32(0.3), np.float64(0.3), np.int64(2), 2, 0.3])
def test_any_number_is_an_alpha_and_becomes_a_plain_one(alpha: Any) -> None:
    found = check_alpha(alpha)
    assert type(found) is float
    assert found == float(alpha)


@pytest.mark.parametrize("alpha", [True, "0.3", None, np.array([0.3]), np.float32("nan"), -1, 1e7])
def test_what_is_no_alpha_is_shown(alpha: Any) -> None:
    with pytest.raises(InputError, match=re.escape(f"alpha is {alpha!r}; it must be a number from 0 to 1,000,000")):
        check_alpha(alpha)


def test_every_fusion_has_a_row_and_those_that_weigh_cosines_can_be_searched() -> None:
    assert tuple(FUSIONS) == get_args(Fusion)
    weighted = [n for n, row in FUSIONS.items() if row.is_named or row.weights is not None or len(row.views) == 1]
    assert sorted(weighted) == sorted(get_args(SearchFusion))


@pytest.mark.parametrize(("fusion", "weights"), [("hs", (1, 0)), ("rw", (0, 1)), ("sum", (1, 0.25))])
def test_what_the_cosine_of_each_view_counts(
    views: dict[View, Array], fusion: Any, weights: tuple[float, float]
) -> None:
    assert tuple(cosine_weights(fusion, 0.25).values()) == weights
    fused = fuse(views, fusion, 0.25)
    cosines = [similarity(block, block) for block in views.values()]
    expected = (weights[0] * cosines[0] + weights[1] * cosines[1]) / sum(weights)
    np.testing.assert_allclose(similarity(fused, fused), expected, atol=1e-6)


def test_blocks_at_their_own_scale_have_no_weights() -> None:
    with pytest.raises(InputError, match=r"fusion='concat' cannot be searched.*Use weighted, hs, rw, sum\."):
        cosine_weights("concat", 1.0)
    with pytest.raises(UnknownNameError, match="Did you mean 'sum'"):
        cosine_weights("summ", 1.0)


def test_a_row_is_all_that_a_further_fusion_and_a_further_block_need(
    views: dict[View, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three blocks with weights of their own: nothing but the row knows how many there are."""
    more: Any = {**views, "lexical": np.abs(views["rw"][:, :3])}
    row = Blend(("hs", "rw", "lexical"), lambda alpha: (1.0, alpha, 0.5))  # type: ignore[arg-type]
    monkeypatch.setattr("moee.method.fusion.FUSIONS", {**FUSIONS, "three": row})
    assert uses_alpha("three")
    fused = fuse(more, "three", 0.3)  # type: ignore[arg-type]
    cosines = [similarity(block, block) for block in more.values()]
    expected = (cosines[0] + 0.3 * cosines[1] + 0.5 * cosines[2]) / 1.8
    np.testing.assert_allclose(similarity(fused, fused), expected, atol=1e-6)


def test_blocks_are_split_as_they_were_joined(views: dict[View, Array]) -> None:
    joined = join_blocks(views)
    for view, block in split_blocks(joined, {"hs": 10, "rw": 4}).items():
        np.testing.assert_array_equal(block, views[view])
    assert {view: block.shape for view, block in split_blocks(joined[0], {"hs": 10, "rw": 4}).items()} == {
        "hs": (10,),
        "rw": (4,),
    }
