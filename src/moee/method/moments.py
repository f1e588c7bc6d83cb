"""Statistics in float64: moments and leading directions of vectors, relations of numbers, and samples of rows."""

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
# Cosines of float32 vectors whose deviation is below 1e-6 differ by rounding only.
_ALIKE = 1e-12
_LARGEST_SCALE = 100.0
_EIGENVALUE_FLOOR = 0.01


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


def bounded_inverse_deviation(mean: Wide, variance: Wide) -> Wide:
    """Return one over the standard deviation of every column, as if no moving one were below a hundredth of the median.

    A column that hardly moves in the sample would else count for many as soon as another text moves it.
    """
    inverse = inverse_deviation(mean, variance)
    moving = inverse[inverse > 0]
    return np.minimum(inverse, _LARGEST_SCALE * np.median(moving)) if len(moving) else inverse


def whitening(rows: Array, mean: Wide) -> Wide:
    """Return the symmetric map that gives centred rows the covariance of a sphere, and mean length 1.

    Eigenvalues of the covariance below a hundredth of the largest count as that: they are mostly noise, and weights
    that sum to one leave one direction without any.

    Args:
        rows: `(n, dim)`.
        mean: Mean of every column.

    Returns:
        `(dim, dim)`; zeros if all rows are alike.
    """
    covariance = np.zeros((rows.shape[1], rows.shape[1]))
    for chunk in _chunks(rows):
        centred = chunk - mean
        covariance += centred.T @ centred
    values, vectors = np.linalg.eigh(covariance / (len(rows) - 1))
    # rounding of float32 rows; see `inverse_deviation`
    if values[-1] <= (_CONSTANT * float(np.abs(mean).max(initial=0.0))) ** 2:
        return np.zeros_like(covariance)
    turn = np.asarray((vectors / np.sqrt(np.maximum(values, _EIGENVALUE_FLOOR * values[-1]))) @ vectors.T)
    lengths = [float(np.linalg.norm((chunk - mean) @ turn, axis=1).sum()) for chunk in _chunks(rows)]
    return turn / (sum(lengths) / len(rows))


def leading_directions(rows: Array, mean: Wide, scale: Wide, count: int) -> tuple[Wide, Wide]:
    """Return the leading eigenvalues and eigenvectors of the correlation matrix.

    Args:
        rows: `(n, dim)`.
        mean: Mean of every column.
        scale: One over the deviation of every column.
        count: How many directions are wanted.

    Returns:
        Eigenvalues `(k + 1,)`, descending, all positive, and eigenvectors `(dim, k)`. `k` is `count`, or less if the
        matrix has fewer positive eigenvalues. The sign of an eigenvector is fixed: its largest entry is positive.
    """
    dim = rows.shape[1]
    if dim <= len(rows):
        correlation = np.zeros((dim, dim))
        for chunk in _chunks(rows):
            z = (chunk - mean) * scale
            correlation += z.T @ z
        values, vectors = np.linalg.eigh(correlation / (len(rows) - 1))
    else:
        # fewer texts than dimensions: the same eigenvalues from the smaller matrix of products between texts
        z = (rows - mean) * scale
        values, between = np.linalg.eigh(z @ z.T / (len(rows) - 1))
        vectors = z.T @ between
        lengths = np.linalg.norm(vectors, axis=0)
        vectors = vectors / np.where(lengths > 0, lengths, 1.0)
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[0] <= 0:  # every column is constant
        return np.ones(1), np.zeros((rows.shape[1], 0))
    k = min(count, int(np.sum(values > 1e-9 * values[0])) - 1)
    vectors = vectors[:, :k]
    signs = np.sign(vectors[np.argmax(np.abs(vectors), axis=0), np.arange(k)])
    return values[: k + 1].copy(), vectors * signs


def cosine_slope(target: Array, predictor: Array) -> float:
    """Return the slope of the linear regression of one set of cosines on another, over all pairs of different rows.

    Args:
        target: `(n, a)` of unit length; gives the cosines to be predicted.
        predictor: `(n, b)` of unit length, the same texts.

    Returns:
        The covariance of the two cosines over the variance of the predictor's. 0 if that is negative, or undefined:
        with fewer than three rows, or a predictor whose cosines are all alike, nothing can be predicted.
    """
    pairs = np.triu_indices(len(target), 1)
    x, y = (_cosines(units)[pairs] for units in (predictor, target))
    if len(x) < 2:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    variance = float(x @ x)
    return max(float(x @ y) / variance, 0.0) if variance > _ALIKE * len(x) else 0.0


def cosine_scale(target: Array, predictor: Array) -> float:
    """Return the ratio of the standard deviations of two sets of cosines over all pairs of different rows.

    Args:
        target: As `cosine_slope`.
        predictor: As `cosine_slope`.

    Returns:
        sd(target's cosines) / sd(predictor's); 0 where the predictor's are all alike or there are none.
    """
    pairs = np.triu_indices(len(target), 1)
    deviations = [float(_cosines(units)[pairs].std()) if len(target) > 2 else 0.0 for units in (target, predictor)]
    return deviations[0] / deviations[1] if deviations[1] > _ALIKE**0.5 else 0.0


def _cosines(units: Array) -> Wide:
    wide = units.astype(np.float64)
    return np.asarray(wide @ wide.T, dtype=np.float64)


def average_ranks(values: npt.NDArray[np.floating]) -> Wide:
    """Return the rank of every value, from 1, `(n,)`; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def correlation(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> float:
    """Return Pearson's correlation of two arrays `(n,)`; NaN if either is constant."""
    a, b = x - x.mean(), y - y.mean()
    norm = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return float(a @ b) / norm if norm else math.nan


def spearman(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> float:
    """Return Spearman's correlation of two arrays `(n,)`: that of their ranks; NaN if either is constant."""
    return correlation(average_ranks(x), average_ranks(y))


def spread(size: int, count: int | None) -> npt.NDArray[np.int64]:
    """Return the places of `count` of `size` rows at equal distances, from the first to the last; all of them for None.

    Sorted files have rows of a kind next to each other, so that the first ones would be all alike.
    """
    return np.linspace(0, size - 1, num=size if count is None else min(count, size)).round().astype(np.int64)
