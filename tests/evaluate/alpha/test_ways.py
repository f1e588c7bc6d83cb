"""Rules for alpha: what they are, where they agree with calibration, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moee.errors import InputError
from moee.evaluate.alpha import ways
from moee.evaluate.alpha.ways import PairCosines
from moee.method.fusion import fuse, unit
from moee.method.moments import cosine_scale, cosine_slope
from moee.types import Array


def make_cosines(correlation: float, ratio: float = 0.5, count: int = 4000, seed: int = 0) -> PairCosines:
    """Cosines with a given correlation, sd 0.2 for HS and 0.2 / ratio for RW, means that differ."""
    x, y = np.random.default_rng(seed).normal(size=(2, count))
    y = correlation * x + math.sqrt(1 - correlation**2) * y
    return PairCosines(0.3 + 0.2 * x, -0.1 + 0.2 / ratio * y)


def blocks(count: int = 60) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(count, 4))
    hidden, routing = (np.hstack([shared, rng.normal(size=(count, 6))]) for _ in range(2))
    return unit(hidden), unit(routing)


def test_pairs_are_those_of_the_fused_vectors() -> None:
    hidden, routing = blocks()
    cosines = ways.all_pairs(hidden, routing)
    vectors = fuse({"hs": hidden, "rw": routing}, "sum", 0.7)
    above = np.triu_indices(60, 1)
    assert cosines.fused(0.7) == pytest.approx((vectors @ vectors.T)[above], abs=1e-5)


def test_the_rules_are_those_of_calibration() -> None:
    hidden, routing = blocks()
    cosines = ways.all_pairs(hidden, routing)
    assert ways.slope(cosines) == pytest.approx(cosine_slope(hidden, routing), rel=1e-6)
    assert ways.scale(cosines) == pytest.approx(cosine_scale(hidden, routing), rel=1e-6)
    assert ways.slope(make_cosines(-0.5)) == 0.0


@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.3, 0.9])
def test_scale_maximises_what_the_paper_describes(correlation: float) -> None:
    """The sum of the correlations of the fused similarity with both views, whatever their own correlation is."""
    cosines = make_cosines(correlation)

    def objective(alpha: float) -> float:
        fused = cosines.fused(alpha)
        return sum(float(np.corrcoef(fused, each)[0, 1]) for each in (cosines.hidden, cosines.routing))

    found = ways.scale(cosines)
    assert found == pytest.approx(0.5, rel=0.05)
    for factor in (0.25, 0.5, 0.9, 1.1, 2.0, 4.0):
        assert objective(factor * found) < objective(found)


def test_what_cannot_be_told_apart_is_refused() -> None:
    alike = PairCosines(np.linspace(0, 1, 9), np.full(9, 0.25))
    with pytest.raises(InputError, match="RW cosines of 9 pairs of texts are all alike"):
        ways.scale(alike)
