"""What reduction and quantisation lose, measured on texts of the corpus that neither was fitted on.

Some of the texts are queries and the rest are documents. Exact vectors say which documents are nearest and how alike
every pair is; recall@10 is the share of those neighbours that the shortened vectors also find, and Spearman's
correlation compares the similarities of all pairs. Only documents are rounded, as in an index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moee.errors import InputError
from moee.method.fusion import join_blocks, query_vector
from moee.method.moments import average_ranks, correlation
from moee.stores.quantize import CODECS, fit_codec
from moee.stores.reduce import MIN_DIMS, Blocks, Reducer
from moee.stores.store import weights_over
from moee.types import Array, View

NEIGHBOURS = 10
MIN_TEXTS = 40
"""Fewest texts; fewer would leave hardly more documents than neighbours."""

_QUERY_SHARE = 8
"""One text in this many is a query."""
_EXACT = "float32"


@dataclass(frozen=True, slots=True)
class Loss:
    """What one way to store vectors loses.

    Attributes:
        dims: Length of each block, by the name of its view.
        stored: `"float32"`, `"int8"` or `"binary"`.
        bytes_per_text: Bytes of a vector, without the text.
        recall: Mean share of the 10 exact neighbours that are found, 0 to 1.
        spearman: Correlation of the similarities of all pairs with the exact ones.
        is_chosen: Whether the index is built so.
    """

    dims: Mapping[View, int]
    stored: str
    bytes_per_text: int
    recall: float
    spearman: float
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class LossReport:
    """Losses of several ways to store vectors of the same corpus.

    Attributes:
        num_fitted: Texts that reducers and codecs were fitted on.
        num_queries: Texts that were searched with.
        num_documents: Texts that were searched.
        weights: What each view counts in the similarities.
        losses: The exact vectors first.
    """

    num_fitted: int
    num_queries: int
    num_documents: int
    weights: Mapping[View, float]
    losses: tuple[Loss, ...]


def measure(
    fitted: Blocks,
    held_out: Blocks,
    *,
    weights: Mapping[View, float],
    reducers: Sequence[Reducer] = (),
    chosen: tuple[Reducer | None, str | None] = (None, None),
) -> LossReport:
    """Measure what ways to store vectors lose: each reducer and none, with each codec and without.

    Args:
        fitted: Blocks that codecs are fitted on; the reducers were fitted on them too.
        held_out: Blocks of other texts.
        weights: What each view counts.
        reducers: Reducers to be measured besides the full vectors; turned before codes of one bit, as in an index.
        chosen: The reducer and the name of the codec of the index, to mark them.

    Raises:
        InputError: If fewer than 40 texts are held out.
    """
    num_texts = num_rows(held_out)
    if num_texts < MIN_TEXTS:
        raise InputError(
            f"Losses would be measured on {num_texts} held-out texts, and at least {MIN_TEXTS} are needed. "
            "Do without the report, or take more texts."
        )
    is_query = np.arange(num_texts) % _QUERY_SHARE == 0
    queries, documents = (take_rows(held_out, rows) for rows in (is_query, ~is_query))
    exact = _similarities(queries, join_blocks(documents), weights)
    compare = _comparison(exact)
    losses = []
    for reducer in (None, *reducers):
        for name in (None, *CODECS):
            used = reducer if reducer is None or name != "binary" else reducer.turned()
            sample, asked, stored = (
                blocks if used is None else used.reduce(blocks) for blocks in (fitted, queries, documents)
            )
            dims = {view: block.shape[1] for view, block in stored.items()}
            kept, size = _stored(name, join_blocks(sample), join_blocks(stored), dims)
            recall, spearman = compare(_similarities(asked, kept, weights))
            losses.append(Loss(dims, name or _EXACT, size, recall, spearman, (reducer, name) == chosen))
    counts = (num_rows(fitted), int(is_query.sum()), int((~is_query).sum()))
    return LossReport(*counts, dict(weights), tuple(losses))


def shorter_dims(dim: int, limit: int, least: int = MIN_DIMS) -> list[int]:
    """Return the dimensions worth a look for vectors of `dim`: halved and halved again, within both limits."""
    halves = (dim // 2, dim // 4, dim // 8, dim // 16)
    return [dims for dims in halves if least <= dims <= limit]


def num_rows(blocks: Blocks) -> int:
    """Return the number of texts."""
    return len(next(iter(blocks.values())))


def take_rows(blocks: Blocks, rows: npt.NDArray[np.bool_]) -> dict[View, Array]:
    """Return the blocks of some of the texts."""
    return {view: block[rows] for view, block in blocks.items()}


def _stored(name: str | None, sample: Array, vectors: Array, dims: Mapping[View, int]) -> tuple[Array, int]:
    """Return vectors as an index would give them back, and the bytes that each takes."""
    if name is None:
        return vectors, vectors.shape[1] * vectors.itemsize
    codec = fit_codec(name, sample, dims.values())
    return codec.decode(codec.encode(vectors)), codec.width


def _similarities(queries: Blocks, stored: Array, weights: Mapping[View, float]) -> Array:
    every = weights_over(queries, weights)
    return np.asarray(query_vector(queries, every) @ stored.T / sum(every.values()), dtype=np.float32)


def _comparison(exact: Array) -> Callable[[Array], tuple[float, float]]:
    """Return a function that gives the recall and the correlation of other similarities with the exact ones."""
    nearest = _nearest(exact)
    ranks = average_ranks(exact)

    def compare(found: Array) -> tuple[float, float]:
        shared = [len(np.intersect1d(a, b)) for a, b in zip(nearest, _nearest(found), strict=True)]
        return float(np.mean(shared)) / nearest.shape[1], correlation(ranks, average_ranks(found))

    return compare


def _nearest(similarities: Array) -> npt.NDArray[np.int64]:
    return np.argsort(-similarities, axis=1, kind="stable")[:, :NEIGHBOURS]
