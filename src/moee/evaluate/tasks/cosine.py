"""Cosine similarities in the form that mteb computes them, so that ties fall alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moee.types import Array


def paired_cosines(left: Array, right: Array) -> Array:
    """Return the cosine of each row of `left` with the same row of `right`.

    This is scikit-learn's `1 - paired_cosine_distances`, which mteb's pair tasks call: half the squared distance of
    the unit vectors, so that equal texts get exactly 1. Two peculiarities come with it: a zero row has "cosine" 0.5
    with any other row, and 1 with another zero row.

    Args:
        left: `(n, dim)` float32.
        right: `(n, dim)` float32.

    Returns:
        `(n,)` float32.
    """
    from sklearn.metrics.pairwise import paired_cosine_distances

    return np.asarray(1 - paired_cosine_distances(left, right), dtype=np.float32)


def cosine_matrix(left: Array, right: Array) -> Array:
    """Return the cosine of every row of `left` with every row of `right`.

    Computed in float64 and rounded once: equal vectors then get equal cosines wherever they stand in the matrix, so
    that a ranking's ties are decided by its rule and not by the order of a sum. mteb rounds to float32 too.

    Args:
        left: `(n, dim)` float32.
        right: `(m, dim)` float32.

    Returns:
        `(n, m)` float32; 0 for a zero row.
    """
    return np.asarray(_unit(left) @ _unit(right).T, dtype=np.float32)


def _unit(rows: Array) -> npt.NDArray[np.float64]:
    wide = rows.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.where(norms == 0.0, 1.0, norms))
