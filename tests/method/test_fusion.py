"""One vector from two views: its cosine is the weighted sum of the views' cosines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moee.errors import InputError, UnknownNameError
from moee.method.fusion import fuse, fused_dim, query_vector, stored_vector, unit
from moee.method.similarity import similarity
from moee.types import Array

ALPHAS = [0.0, 0.3, 1.0, 7.5]


@pytest.fixture
def views() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(6, 10)) * 40).astype(np.float32), rng.normal(size=(6, 4)).astype(np.float32)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_cosine_of_the_sum_is_the_weighted_mean_of_the_cosines(views: tuple[Array, Array], alpha: float) -> None:
    h, r = views
    fused = fuse(h, r, "sum", alpha)
    expected = (similarity(h, h) + alpha * similarity(r, r)) / (1 + alpha)
    np.testing.assert_allclose(similarity(fused, fused), expected, atol=1e-6)
    np.testing.assert_allclose(fused @ fused.T, expected, atol=1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_alpha_can_be_chosen_at_query_time(views: tuple[Array, Array], alpha: float) -> None:
    h, r = views
    scores = query_vector(h[:2], r[:2], alpha) @ stored_vector(h, r).T
    np.testing.assert_allclose(scores, similarity(h[:2], h) + alpha * similarity(r[:2], r), atol=1e-5)


def test_single_views_are_unit_rows(views: tuple[Array, Array]) -> None:
    h, r = views
    np.testing.assert_array_equal(fuse(h, r, "hs"), unit(h))
    np.testing.assert_array_equal(fuse(h, r, "rw"), unit(r))


def test_concat_keeps_the_scale_of_each_block(views: tuple[Array, Array]) -> None:
    h, r = views
    fused = fuse(h, r, "concat")
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1, atol=1e-6)
    ratio = np.linalg.norm(fused[:, :10], axis=1) / np.linalg.norm(fused[:, 10:], axis=1)
    np.testing.assert_allclose(ratio, np.linalg.norm(h, axis=1) / np.linalg.norm(r, axis=1), rtol=1e-5)


@pytest.mark.parametrize(("fusion", "dim"), [("hs", 10), ("rw", 4), ("concat", 14), ("sum", 14)])
def test_the_length_of_the_vector(views: tuple[Array, Array], fusion: Any, dim: int) -> None:
    fused = fuse(*views, fusion)
    assert fused.shape == (6, dim)
    assert fused.dtype == np.float32
    assert fused_dim(10, 4, fusion) == dim


def test_a_zero_row_stays_zero_and_nothing_is_nan(views: tuple[Array, Array]) -> None:
    h, r = views
    h[2] = 0
    assert not unit(h)[2].any()
    fused = fuse(h, r, "sum", 1.0)
    assert np.isfinite(fused).all()
    np.testing.assert_allclose(np.linalg.norm(fused[2]), np.sqrt(0.5), atol=1e-6)


def test_large_float32_values_do_not_overflow() -> None:
    np.testing.assert_allclose(unit(np.array([[3e30, 4e30]], dtype=np.float32)), [[0.6, 0.8]], atol=1e-6)


def test_unknown_fusion_and_bad_alpha_are_refused(views: tuple[Array, Array]) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'concat'"):
        fuse(*views, "concate")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"alpha is -1\.0"):
        fuse(*views, "sum", -1.0)
    with pytest.raises(InputError, match=r"alpha is 1e\+77"):
        fuse(*views, "sum", 1e77)
    with pytest.raises(InputError, match="alpha is inf"):
        query_vector(*views, float("inf"))


def test_views_of_different_texts_are_refused(views: tuple[Array, Array]) -> None:
    h, r = views
    with pytest.raises(InputError, match=r"\(6, 10\) and \(5, 4\)"):
        fuse(h, r[:5], "sum")
