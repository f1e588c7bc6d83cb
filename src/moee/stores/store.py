"""What crosses the border of a store: records, queries, candidates, and the protocol that every store keeps.

A stored vector is `[h ; r]`, the two calibrated views of a text as unit blocks (`moee.method.space.VectorSpace.units`).
A query weighs the blocks when it is asked, so one index answers for every alpha, and for either view alone, without
embedding anything again. Scores are computed here, in float64, from the vectors that a store returns: all stores so
give the same numbers, and the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from moee.errors import InputError
from moee.method.fusion import query_vector, split_blocks
from moee.stores.filters import Filter
from moee.types import Array, View

FieldType = Literal["string", "integer", "number", "boolean"]
Value = str | int | float | bool | None

MARGIN = 16
"""Candidates that a store returns beyond those asked for: its own order is that of float32, or approximate."""
TIE = 1e-5
"""Scores closer than this may come in any order from a store that computes in float32."""
MAX_CANDIDATES = 4096
"""How far a search widens while scores are tied; beyond, which of the equal ones come is up to the store."""


@dataclass(frozen=True, slots=True)
class Record:
    """A text of an index.

    Attributes:
        id: Unique in the index.
        text: As it was embedded.
        fields: Values to filter by and to show, by the names of `Layout.fields`; a missing one is None.
    """

    id: str
    text: str
    fields: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape of an index; fixed when it is made.

    Attributes:
        hidden_dim: Length of the block `h`.
        routing_dim: Length of the block `r`.
        fields: The type of every field.
    """

    hidden_dim: int
    routing_dim: int
    fields: Mapping[str, FieldType]

    @property
    def dim(self) -> int:
        """Length of a stored vector."""
        return self.hidden_dim + self.routing_dim

    def split(self, vectors: Array) -> dict[View, Array]:
        """Return the blocks of stored vectors, `(num_records, dim)`, by name."""
        return split_blocks(vectors, {"hs": self.hidden_dim, "rw": self.routing_dim})


@dataclass(frozen=True, slots=True)
class Query:
    """A query's unit blocks, and what each counts.

    Attributes:
        blocks: By name, `(dim of the block,)` float32.
        weights: By name; 0 leaves a block out of the search.
    """

    blocks: Mapping[View, Array]
    weights: Mapping[View, float]

    def __post_init__(self) -> None:
        """Check the weights."""
        weights = list(self.weights.values())
        if not all(np.isfinite(weights)) or min(weights) < 0 or sum(weights) == 0:
            raise InputError(f"The views weigh {weights}; all must be 0 or larger, finite, and not all 0.")

    @property
    def dims(self) -> dict[View, int]:
        """Length of every block."""
        return {view: len(block) for view, block in self.blocks.items()}

    @property
    def vector(self) -> Array:
        """The vector whose dot product with a stored one ranks: `(dim,)` float32."""
        return query_vector(self.blocks, self.weights)


@dataclass(frozen=True, slots=True)
class Hit:
    """A text that was found.

    Attributes:
        record: The text with its fields.
        score: The weighted mean of the two cosines: `(cos_HS + alpha * cos_RW) / (1 + alpha)` in the sum.
        hidden: Cosine of the hidden states (HS).
        routing: Cosine of the routing weights (RW).
    """

    record: Record
    score: float
    hidden: float
    routing: float


@dataclass(frozen=True, slots=True)
class Candidates:
    """Records with their stored vectors, as a store returns them.

    Attributes:
        records: In any order.
        vectors: `(num_records, dim)` float32, decoded if the store keeps codes.
    """

    records: Sequence[Record]
    vectors: Array


class Store(Protocol):
    """Keeps records with their vectors. Not safe for several threads at once; one writer at a time."""

    @property
    def layout(self) -> Layout:
        """The shape that the store was made with."""
        ...

    def __len__(self) -> int:
        """Return the number of records."""
        ...

    def upsert(self, records: Sequence[Record], vectors: Array) -> None:
        """Add records; one of a known id replaces the former. All or none of a call survive a kill.

        Args:
            records: Records with different ids.
            vectors: `(num_records, dim)` float32, finite.

        Raises:
            InputError: If a field is unknown or of another type, an id comes twice, the shape does not fit, or a vector
                is not finite.
            OutputError: If it cannot be written; the store is as it was.
            StoreError: If another process is writing.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Delete records, in one transaction; return how many there were. Unknown ids are no error."""
        ...

    def texts_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the text of every one of `ids` that is stored."""
        ...

    def fetch(self, ids: Sequence[str]) -> Candidates:
        """Return those of `ids` that are stored, with their vectors."""
        ...

    def search(self, vector: Array, k: int, where: Filter | None = None) -> Candidates:
        """Return the `k` records of the largest dot product with `vector`, at least, of those that pass the filter.

        Args:
            vector: `(dim,)` float32, from `Query.vector`.
            k: How many, 1 or larger; fewer come back only if the filter leaves fewer.
            where: None for all.

        Raises:
            InputError: If the vector does not fit, or the filter names an unknown field or compares one with a value of
                another type.
            StoreError: If the store cannot be read.
        """
        ...

    def scan(self, batch_size: int = 4096) -> Iterator[Candidates]:
        """Yield all records in a fixed order, in batches."""
        ...

    def compact(self) -> None:
        """Tidy up after many writes, so that reading is as fast as it can be; no record changes.

        Raises:
            OutputError: If it cannot be written; the store is as it was.
        """
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...


def search(store: Store, query: Query, k: int, where: Filter | None = None) -> list[Hit]:
    """Return the `k` best records of a store, best first; equal scores in the order of their ids.

    A store cannot tell apart scores that differ less than its arithmetic errs, as those of repeated texts do. If the
    last candidates are still as good as the `k`-th, more are asked for, up to `MAX_CANDIDATES`.

    Raises:
        InputError: If `k` is not 1 or larger, the query's blocks do not fit, or the filter does not fit the fields.
        StoreError: If the store cannot be read.
    """
    if k < 1:
        raise InputError(f"k is {k}; it must be 1 or larger.")
    asked, kept = tuple(query.dims.values()), (store.layout.hidden_dim, store.layout.routing_dim)
    if asked != kept:
        raise InputError(
            f"The query has blocks of {asked[0]} and {asked[-1]} dimensions, the index of {kept[0]} and {kept[1]}. "
            "Query with the model that the index was built with."
        )
    limit = k + MARGIN
    while True:
        candidates = store.search(query.vector, limit, where)
        hits = rank(query, candidates, len(candidates.records))
        if len(hits) < limit or hits[k - 1].score - hits[-1].score > TIE or limit >= MAX_CANDIDATES:
            return hits[:k]
        limit = min(4 * limit, max(MAX_CANDIDATES, limit))


def rank(query: Query, candidates: Candidates, k: int) -> list[Hit]:
    """Score candidates exactly, and return the `k` best as `search` does."""
    if not len(candidates.records):
        return []
    stored = np.asarray(candidates.vectors, dtype=np.float64)
    # Not a matrix product: there the last bit of a row depends on its place, and equal vectors must score alike.
    cosines = {
        view: np.einsum("nd,d->n", block, query.blocks[view].astype(np.float64))
        for view, block in split_blocks(stored, query.dims).items()
    }
    scores = sum(query.weights[view] * each for view, each in cosines.items()) / sum(query.weights.values())
    hits = [
        Hit(record, float(score), float(h), float(r))
        for record, score, h, r in zip(candidates.records, scores, cosines["hs"], cosines["rw"], strict=True)
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.record.id))[:k]
