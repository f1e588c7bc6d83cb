"""Moments of sets of vectors in float64: means, variances, leading directions, and the spread of their cosines."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from moee.types import Array

Wide = npt.NDArray[np.float64]
"""A float64 array."""

_CHUNK = 4096
# A dimension whose deviation is below this share of its size is rounding noise of float32 (2^-24 is 6e-8).
_CONSTANT = 1e-6


def _chunks(rows: Array) -> Iterator[Wide]:
    # so that a large float32 matrix is never held a second time in float64
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK].astype(np.float64)


def mean_and_variance(rows: Array) -> tuple[Wide, Wide]:
    """Return the mean and the variance (with n - 1) of every column, each `(dim,)`.

    Args:
        rows: `(n, dim)`, n at least 2.
    """
    mean = sum((chunk.sum(axis=0) for chunk in _chunks(rows)), np.zeros(rows.shape[1])) / len(rows)
    squares = sum((np.square(chunk - mean).sum(axis=0) for chunk in _chunks(rows)), np.zeros(rows.shape[1]))
    return mean, squares / (len(rows) - 1)


def inverse_deviation(mean: Wide, variance: Wide) -> Wide:
    """Return one over the standard deviation of every column, and 0 for a column that is constant."""
    deviation = np.sqrt(variance)
    constant = deviation <= _CONSTANT * np.abs(mean)
    return np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation))


def leading_directions(rows: Array, mean: Wide, scale: Wide, count: int) -> tuple[Wide, Wide]:
    """Return the leading eigenvalues and eigenvectors of the correlation matrix.

    Args:
        rows: `(n, dim)`.
        mean: Of every column.
        scale: One over the deviation of every column.
        count: How many directions are wanted.

    Returns:
        Eigenvalues `(k + 1,)`, descending, all positive, and eigenvectors `(dim, k)`. `k` is `count`, or less if the
        matrix has fewer positive eigenvalues. The sign of an eigenvector is fixed: its largest entry is positive.
    """
    correlation = np.zeros((rows.shape[1], rows.shape[1]))
    for chunk in _chunks(rows):
        z = (chunk - mean) * scale
        correlation += z.T @ z
    values, vectors = np.linalg.eigh(correlation / (len(rows) - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[0] <= 0:  # every column is constant
        return np.ones(1), np.zeros((rows.shape[1], 0))
    k = min(count, int(np.sum(values > 1e-9 * values[0])) - 1)
    vectors = vectors[:, :k]
    signs = np.sign(vectors[np.argmax(np.abs(vectors), axis=0), np.arange(k)])
    return values[: k + 1].copy(), vectors * signs


def cosine_spread(units: Array) -> float:
    """Return the standard deviation of the cosine over all pairs of different rows.

    In closed form, without the matrix of pairs: with S the sum of the rows and M the sum of their outer products, the
    cosines of all ordered pairs add up to |S|^2 and their squares to |M|^2; the pairs of a row with itself are taken
    out of both.

    Args:
        units: `(n, dim)` of unit length; zero rows are allowed and left out.

    Returns:
        The deviation, 0 if there are fewer than two rows that are not zero.
    """
    rows = units[np.any(units != 0, axis=1)]
    n = len(rows)
    if n < 2:
        return 0.0
    total = np.zeros(rows.shape[1])
    outer = np.zeros((rows.shape[1], rows.shape[1]))
    for chunk in _chunks(rows):
        total += chunk.sum(axis=0)
        outer += chunk.T @ chunk
    pairs = n * (n - 1)
    mean = (float(total @ total) - n) / pairs
    mean_square = (float(np.sum(np.square(outer))) - n) / pairs
    return math.sqrt(max(mean_square - mean * mean, 0.0))
