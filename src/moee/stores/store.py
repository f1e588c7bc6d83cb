"""What crosses the border of a store: records, queries, candidates and hits.

A stored vector is `[h ; r]`, the two calibrated views of a text as unit blocks (`moee.method.space.VectorSpace.units`).
A query weighs the blocks when it is asked, so one index answers for every alpha, and for either view alone, without
embedding anything again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from moee.errors import InputError
from moee.method.fusion import query_vector, split_blocks
from moee.types import Array, View

FieldType = Literal["string", "integer", "number", "boolean"]
Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Record:
    """A text of an index.

    Attributes:
        id: Unique in the index.
        text: The text as it was embedded.
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
        blocks: Blocks by name, `(dim of the block,)` float32.
        weights: Weights by name; 0 leaves a block out of the search.
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

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready mapping: `id`, `text` and `fields` of the record, and the three numbers."""
        record = {"id": self.record.id, "text": self.record.text, "fields": dict(self.record.fields)}
        return {**record, "score": self.score, "hidden": self.hidden, "routing": self.routing}


@dataclass(frozen=True, slots=True)
class Candidates:
    """Records with their stored vectors, as a store returns them.

    Attributes:
        records: Records in any order.
        vectors: `(num_records, dim)` float32, decoded if the store keeps codes.
    """

    records: Sequence[Record]
    vectors: Array
