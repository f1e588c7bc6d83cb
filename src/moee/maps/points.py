"""What is mapped: the records of an index with their fused vectors, or a sample of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moee.errors import InputError
from moee.index.folder import EMBEDDER, IndexFolder
from moee.index.searcher import settle_weights
from moee.method.fusion import fuse
from moee.method.saved import read_embedder
from moee.stores.store import Record
from moee.types import Array, View

MIN_TEXTS = 5
"""Different texts that a map needs: below that there are no neighbourhoods."""


@dataclass(frozen=True, slots=True)
class Points:
    """Records and their vectors.

    Attributes:
        records: Records in the order of the store.
        vectors: `(num_points, dim)` float32, of unit length.
        num_records: Records in the index; more than there are points if these are a sample.
        weights: What each view counts in the vectors.
    """

    records: Sequence[Record]
    vectors: Array
    num_records: int
    weights: Mapping[View, float]

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.records)


def read_points(
    index: IndexFolder,
    *,
    max_points: int,
    seed: int,
    weights: Mapping[View, float] | None = None,
    fusion: str | None = None,
    alpha: float | None = None,
) -> Points:
    """Read an index.

    Args:
        index: Open; its model is not needed.
        max_points: Records beyond this number are left out by chance.
        seed: Seed of the choice.
        weights: What each view counts, by name; None is the index's.
        fusion: `"hs"`, `"rw"` or `"sum"` in place of weights.
        alpha: Weight of the routing weights in `"sum"`; None is the index's.

    Raises:
        InputError: If fewer than `MIN_TEXTS` texts differ, or a value cannot be used.
        UnknownNameError: If the fusion or a view is unknown.
    """
    if max_points < MIN_TEXTS:
        raise InputError(f"max_points is {max_points}; a map needs {MIN_TEXTS} points or more.")
    config = read_embedder(index.folder / EMBEDDER).config
    chosen = settle_weights(index.manifest, config, weights, fusion=fusion, alpha=alpha, hybrid=False)
    count = len(index.store)
    kept = np.arange(count)
    if count > max_points:
        kept = np.sort(np.random.default_rng(seed).choice(count, max_points, replace=False))
    records: list[Record] = []
    vectors: list[Array] = []
    start = 0
    for batch in index.store.scan():
        end = start + len(batch.records)
        rows = kept[np.searchsorted(kept, start) : np.searchsorted(kept, end)] - start
        records += [batch.records[row] for row in rows]
        vectors.append(fuse(index.manifest.layout.split(batch.vectors[rows]), "weighted", weights=chosen))
        start = end
    _check_enough(vectors, count)
    return Points(records, np.concatenate(vectors), count, chosen)


def _check_enough(vectors: Sequence[Array], count: int) -> None:
    different: set[bytes] = set()
    for batch in vectors:
        for row in batch:
            different.add(row.tobytes())
            if len(different) >= MIN_TEXTS:
                return
    raise InputError(
        f"A map needs {MIN_TEXTS} texts that differ, and the index holds {count:,} texts of which {len(different)} "
        "differ. Add texts with: moee index add"
    )
