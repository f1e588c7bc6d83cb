"""Smaller copies of evaluation sets, for analyses that need more passes of the model than a score does.

They are rows at equal distances, as `datasets` takes them for a limit: many sets are sorted by source or by class, so
their first rows are all of a kind.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moee.evaluate.tasks import ClusteringData, Indices, STSData, TaskData
from moee.method.moments import spread


def spread_pairs(data: STSData, count: int | None) -> STSData:
    """Return `count` pairs in the set's order, with only their texts; the whole set for None or if it has no more."""
    chosen = spread(len(data.left), count)
    order: dict[int, int] = {}
    left, right = (
        np.array([order.setdefault(int(row), len(order)) for row in side[chosen]], dtype=np.int64)
        for side in (data.left, data.right)
    )
    return replace(
        data,
        texts=tuple(data.texts[row] for row in order),
        left=left,
        right=right,
        scores=data.scores[chosen],
        groups=tuple(data.groups[place] for place in chosen) if data.groups else (),
    )


def spread_texts(data: TaskData, count: int | None) -> TaskData:
    """Return `count` different texts of any set as one set to be clustered; the labels play no part."""
    texts = tuple(data.texts[row] for row in spread(len(data.texts), count))
    everything: Indices = np.arange(len(texts), dtype=np.int64)
    return ClusteringData(data.name, texts, everything, np.zeros_like(everything), (everything,), ("all",))
