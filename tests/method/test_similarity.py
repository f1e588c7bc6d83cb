"""Cosines of all pairs and row by row."""

from __future__ import annotations

import numpy as np
import pytest

from moee.errors import InputError
from moee.method.similarity import similarity, similarity_pairwise


def test_similarity_is_the_cosine_of_all_pairs() -> None:
    scores = similarity([[1, 0], [1, 1]], [[2, 0], [0, -3], [5, 5]])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(scores, [[1, 0, half], [half, -half, 1]], atol=1e-6)
    assert scores.dtype == np.float32


def test_pairwise_is_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    np.testing.assert_allclose(similarity_pairwise(a, b), np.diag(similarity(a, b)), atol=1e-6)


def test_one_vector_counts_as_one_row() -> None:
    assert similarity([1.0, 2.0], [[1.0, 2.0], [2.0, 1.0]]).shape == (1, 2)


def test_a_text_is_never_more_similar_than_one() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 33)).astype(np.float32)
    assert similarity(rows, rows).max() <= 1.0


def test_zero_rows_have_cosine_zero() -> None:
    assert similarity([[0, 0]], [[1, 2], [0, 0]]).tolist() == [[0, 0]]


def test_shape_errors_name_both_shapes() -> None:
    with pytest.raises(InputError, match=r"\(1, 2\) and \(1, 3\)"):
        similarity([[1, 2]], [[1, 2, 3]])
    with pytest.raises(InputError, match=r"\(2, 2\) and \(1, 2\)"):
        similarity_pairwise([[1, 2], [3, 4]], [[1, 2]])
    with pytest.raises(InputError, match=r"`a` has shape \(1, 1, 2\)"):
        similarity([[[1, 2]]], [[1, 2]])
