"""Neighbours against a direct computation, and places by UMAP."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from moee.errors import MissingExtraError
from moee.maps import layout
from moee.maps.layout import nearest, place
from moee.method.fusion import unit
from moee.types import Array
from tests.maps.conftest import TOPICS, planted


def some_vectors(num_texts: int, dim: int = 12) -> Array:
    return unit(np.random.default_rng(0).standard_normal((num_texts, dim)))


@pytest.mark.parametrize("num_texts", [5, 40, 300])
def test_neighbours_are_those_of_the_largest_cosines(num_texts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_ROWS_AT_ONCE", 64)
    vectors = some_vectors(num_texts)
    found = nearest(vectors, 5)
    cosines = vectors @ vectors.T
    np.testing.assert_allclose(found.distances, np.sort(1 - cosines, axis=1)[:, :5], atol=1e-5)
    np.testing.assert_array_equal(found.rows[:, 0], np.arange(num_texts))
    picked = 1 - np.take_along_axis(cosines, found.rows, axis=1)
    np.testing.assert_allclose(found.distances, np.maximum(picked, 0), atol=1e-5)


def test_a_text_is_its_own_first_neighbour_also_among_duplicates() -> None:
    vectors = np.repeat(some_vectors(3), 4, axis=0)
    found = nearest(vectors, 4)
    np.testing.assert_array_equal(found.rows[:, 0], np.arange(12))
    assert all(set(row) == set(range(start, start + 4)) for start in (0, 4, 8) for row in found.rows[start : start + 4])
    np.testing.assert_allclose(found.distances, 0, atol=1e-6)


def test_a_text_without_direction_is_far_from_all() -> None:
    vectors = some_vectors(6)
    vectors[2] = 0
    found = nearest(vectors, 3)
    np.testing.assert_array_equal(found.distances[2], [0, 1, 1])


def test_without_umap_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError, match=r"`umap-learn` is needed for maps.*pip install 'moee\[map\]'"):
        layout.check_umap()


@pytest.mark.slow
def test_groups_stay_together_and_the_seed_fixes_the_places() -> None:
    topics = [topic for topic in TOPICS for _ in range(20)]
    vectors = planted(topics, 24, 0)
    places = place(vectors, nearest(vectors, 15), 0)
    assert places.shape == (60, 2)
    middles = np.array([places[start : start + 20].mean(axis=0) for start in (0, 20, 40)])
    closest = np.argmin(np.linalg.norm(places[:, None] - middles, axis=2), axis=1)
    np.testing.assert_array_equal(closest, np.repeat(np.arange(3), 20))
    np.testing.assert_array_equal(places, place(vectors, nearest(vectors, 15), 0))


@pytest.mark.slow
@pytest.mark.parametrize("num_texts", [5, 6, 12, 20])
def test_few_texts_are_placed_without_a_warning(num_texts: int) -> None:
    vectors = some_vectors(num_texts)
    vectors[1] = -vectors[0]  # opposites
    vectors[3] = vectors[2]  # and duplicates
    places = place(vectors, nearest(vectors, min(15, num_texts - 1)), 0)
    assert np.isfinite(places).all()
    assert places.std(axis=0).min() > 0
