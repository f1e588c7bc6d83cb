from __future__ import annotations

import numpy as np
import pytest

from moee.carve.router import RegressionSums, fit_router, r_squared, targets_of


def sums_of(x: np.ndarray, y: np.ndarray) -> RegressionSums:
    return RegressionSums(x.T @ x, x.T @ y, y.sum(0), (y**2).sum(0), len(x))


def test_a_linear_relation_is_found_whatever_the_size_of_the_inputs() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6)) * np.array([1e-3, 1, 100, 1, 1, 5])
    rows = rng.normal(size=(4, 6))
    fitted = fit_router(sums_of(x, x @ rows.T), ridge=1e-9)
    np.testing.assert_allclose(fitted, rows, rtol=1e-4)


def test_r_squared_from_sums_is_that_of_the_residuals() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(300, 5)), rng.normal(size=(300, 3)) + 2
    y += x @ rng.normal(size=(5, 3))
    rows = fit_router(sums_of(x, y), ridge=0.1)
    expected = 1 - np.sum((y - x @ rows.T) ** 2) / np.sum((y - y.mean(0)) ** 2)
    assert r_squared(sums_of(x, y), rows) == pytest.approx(expected, abs=1e-12)


def test_an_input_that_is_always_zero_gets_no_weight() -> None:
    x = np.random.default_rng(2).normal(size=(100, 3))
    x[:, 1] = 0
    fitted = fit_router(sums_of(x, x[:, :1]), ridge=1e-6)
    assert fitted[0, 1] == 0
    assert np.isfinite(fitted).all()


def test_targets_are_centred_over_experts() -> None:
    targets = targets_of(np.array([[1.0, 10.0, 0.0], [5.0, 5.0, 5.0]]), 1e-3)
    np.testing.assert_allclose(targets.sum(axis=1), 0, atol=1e-12)
    assert targets[0].argsort().tolist() == [2, 0, 1]
    np.testing.assert_allclose(targets[1], 0, atol=1e-12)
