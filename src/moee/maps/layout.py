"""Places in the plane: exact nearest neighbours by cosine, and UMAP over them (McInnes et al., arXiv 1802.03426)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moee.errors import MissingExtraError
from moee.types import Array

if TYPE_CHECKING:
    from collections.abc import Callable

NEIGHBOURS = 15
"""Neighbours of each text, itself counted; UMAP's own default. More show the whole better and the details less."""
_ROWS_AT_ONCE = 1024
"""Rows compared with all others at once; 200 MB at 50,000 texts."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The texts most like each text.

    Attributes:
        rows: `(num_texts, k)` int64, nearest first; each text is its own first neighbour.
        distances: `(num_texts, k)` float32, 1 minus the cosine.
    """

    rows: npt.NDArray[np.int64]
    distances: Array


def nearest(vectors: Array, k: int) -> Neighbours:
    """Find the `k` nearest neighbours of every row by comparing all with all.

    Args:
        vectors: `(num_texts, dim)` float32 of unit length; a zero row is at distance 1 from all others.
        k: Neighbours, the row itself counted; no more than there are rows.
    """
    rows = np.empty((len(vectors), k), dtype=np.int64)
    distances = np.empty((len(vectors), k), dtype=np.float32)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, len(vectors)))
        cosines = vectors[part] @ vectors.T
        own = np.arange(len(cosines)), np.arange(part.start, part.stop)
        cosines[own] = np.inf  # first also among its duplicates
        found = np.sort(np.argpartition(cosines, -k, axis=1)[:, -k:], axis=1)
        order = np.argsort(-np.take_along_axis(cosines, found, axis=1), axis=1, kind="stable")
        rows[part] = np.take_along_axis(found, order, axis=1)
        distances[part] = np.clip(1.0 - np.take_along_axis(cosines, rows[part], axis=1), 0.0, 2.0)
    return Neighbours(rows, distances)


def place(vectors: Array, neighbours: Neighbours, seed: int) -> Array:
    """Place texts in the plane so that neighbours lie together.

    Args:
        vectors: `(num_texts, dim)` float32; their two main directions are where it starts from, so that what is far
            apart stays so, and no graph is too small or too broken to start.
        neighbours: Nearest rows of each row, itself among them; fewer than there are rows.
        seed: The same seed gives the same places on the same machine.

    Returns:
        `(num_texts, 2)` float32.

    Raises:
        MissingExtraError: If umap-learn is not installed.
    """
    umap = _umap()
    model = umap(
        n_neighbors=neighbours.rows.shape[1],
        metric="cosine",
        min_dist=0.0,  # groups stay dense: at 0.1 HDBSCAN found 3 of the 9 topics of the demo's sentences, here 5
        init="pca",
        random_state=seed,
        n_jobs=1,  # a seed and several threads exclude each other
        precomputed_knn=(neighbours.rows, neighbours.distances),
        disconnection_distance=np.inf,  # opposites may be each other's nearest among few texts
    )
    with warnings.catch_warnings():
        # it misses the search index that placing further texts would need; here all are placed at once
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\]", category=UserWarning)
        return np.asarray(model.fit_transform(vectors), dtype=np.float32)


def check_umap() -> None:
    """Find out whether texts can be placed, before an index is read for it."""
    from importlib.util import find_spec

    if find_spec("umap") is None:
        raise MissingExtraError("umap-learn", "maps", "map")


def _umap() -> Callable[..., Any]:
    """Return UMAP's class; untyped upstream."""
    check_umap()
    with warnings.catch_warnings():
        # umap announces on import that its neural variant would need TensorFlow
        warnings.simplefilter("ignore", ImportWarning)
        from umap import UMAP
    found: Callable[..., Any] = UMAP
    return found
