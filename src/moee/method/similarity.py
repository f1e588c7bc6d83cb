"""Cosine similarity between embeddings, all pairs or row by row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moee.errors import InputError
from moee.method.fusion import unit
from moee.types import Array


def _rows(x: npt.ArrayLike, name: str) -> Array:
    rows = np.asarray(x, dtype=np.float32)
    if rows.ndim == 1:
        rows = rows[None, :]
    if rows.ndim != 2:
        raise InputError(f"`{name}` has shape {rows.shape}; embeddings are one vector, or a matrix with one row each.")
    return rows


def similarity(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """Return the cosine of every row of `a` with every row of `b`.

    Args:
        a: `(n, dim)`, or one vector.
        b: `(m, dim)`, or one vector.

    Returns:
        `(n, m)` float32 in [-1, 1]. A zero row has cosine 0 with everything.

    Raises:
        InputError: If the vectors differ in length; names both shapes.
    """
    left, right = _rows(a, "a"), _rows(b, "b")
    if left.shape[1] != right.shape[1]:
        raise InputError(
            f"Cannot compare embeddings of shapes {left.shape} and {right.shape}: the vectors differ in length. "
            "Encode both with the same model, fusion and layers."
        )
    return np.asarray(np.clip(unit(left) @ unit(right).T, -1.0, 1.0), dtype=np.float32)


def similarity_pairwise(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """Return the cosine of each row of `a` with the same row of `b`.

    Args:
        a: `(n, dim)`, or one vector.
        b: `(n, dim)`, or one vector.

    Returns:
        `(n,)` float32 in [-1, 1]. A zero row has cosine 0.

    Raises:
        InputError: If the shapes differ; names both.
    """
    left, right = _rows(a, "a"), _rows(b, "b")
    if left.shape != right.shape:
        raise InputError(
            f"Cannot compare row by row: the shapes are {left.shape} and {right.shape}; they must be the same. "
            "For all pairs use `similarity`."
        )
    cosines = np.einsum("nd,nd->n", unit(left), unit(right))
    return np.asarray(np.clip(cosines, -1.0, 1.0), dtype=np.float32)


def rank(query: npt.ArrayLike, documents: npt.ArrayLike) -> list[tuple[int, float]]:
    """Return the places of documents with their cosines to a query, best first; equal ones in their order.

    Args:
        query: `(dim,)` or `(1, dim)`.
        documents: `(n, dim)`.

    Raises:
        InputError: If the vectors differ in length; names both shapes.
    """
    scores = similarity(query, documents)[0]
    return [(int(place), float(scores[place])) for place in np.argsort(-scores, kind="stable")]
