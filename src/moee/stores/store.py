"""What crosses the border of a store: records, queries, candidates and hits.

A stored vector has the calibrated views of a text side by side, each a block of unit length
(`moee.method.space.VectorSpace.units`). A query weighs the blocks when it is asked, so one index answers for all
weights, and for any view alone, without embedding anything again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from moee.errors import InputError
from moee.method.fusion import query_vector, split_blocks
from moee.types import Array, View

_FORMER_NAMES: Mapping[str, View] = MappingProxyType({"hidden": "hs", "routing": "rw"})

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
        dims: Length of each block, by the name of its view and in the order of a stored vector.
        fields: The type of every field.
        hybrid: Whether the words of the texts are kept too, for the view `lexical`, which then has no block.
    """

    dims: Mapping[View, int]
    fields: Mapping[str, FieldType]
    hybrid: bool = False

    @property
    def views(self) -> tuple[View, ...]:
        """The views that a search may weigh."""
        return (*self.dims, "lexical") if self.hybrid else tuple(self.dims)

    @property
    def dim(self) -> int:
        """Length of a stored vector."""
        return sum(self.dims.values())

    def split(self, vectors: Array) -> dict[View, Array]:
        """Return the blocks of stored vectors, `(num_records, dim)`, by name."""
        return split_blocks(vectors, self.dims)


@dataclass(frozen=True, slots=True)
class Query:
    """A query's unit blocks, and what each counts.

    Attributes:
        blocks: Blocks by name, `(dim of the block,)` float32, in the order of a stored vector.
        weights: Weights by name; 0 leaves a block out of the search, and so does a name that is missing.
        text: The query itself, for a hybrid index, whose view `lexical` has no block; None for any other.
    """

    blocks: Mapping[View, Array]
    weights: Mapping[View, float]
    text: str | None = None

    def __post_init__(self) -> None:
        """Check the weights, and give every view one."""
        views: tuple[View, ...] = tuple(self.blocks) if self.text is None else (*self.blocks, "lexical")
        object.__setattr__(self, "weights", weights_over(views, self.weights))

    @property
    def dims(self) -> dict[View, int]:
        """Length of every block."""
        return {view: len(block) for view, block in self.blocks.items()}

    @property
    def vector(self) -> Array:
        """The vector whose dot product with a stored one ranks: `(dim,)` float32."""
        return query_vector(self.blocks, self.weights)

    @property
    def is_dense(self) -> bool:
        """Whether a block counts, so that vectors are searched."""
        return any(self.weights[view] for view in self.blocks)

    @property
    def is_lexical(self) -> bool:
        """Whether words count that have no block, so that full text is searched."""
        return self.text is not None and self.weights["lexical"] > 0


@dataclass(frozen=True, slots=True)
class Hit:
    """A text that was found.

    Attributes:
        record: The text with its fields.
        score: The weighted mean of the cosines.
        cosines: Cosine of every view of the index, by name, also of those that the query left out. In a hybrid index
            `lexical` is BM25 over that of the best text, from 0 to 1, and there only if it counted.
    """

    record: Record
    score: float
    cosines: Mapping[View, float]

    @property
    def hidden(self) -> float:
        """Cosine of the hidden states (HS). A KeyError if the index has none."""
        return self.cosines["hs"]

    @property
    def routing(self) -> float:
        """Cosine of the routing weights (RW). A KeyError if the index has none."""
        return self.cosines["rw"]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready mapping: `id`, `text` and `fields` of the record, `score`, and `cosines`.

        The cosines of HS and RW stand there a second time, as `hidden` and `routing`: their names up to version 0.1.
        """
        record = {"id": self.record.id, "text": self.record.text, "fields": dict(self.record.fields)}
        former = {name: self.cosines[view] for name, view in _FORMER_NAMES.items() if view in self.cosines}
        return {**record, "score": self.score, "cosines": dict(self.cosines), **former}


@dataclass(frozen=True, slots=True)
class Candidates:
    """Records with their stored vectors, as a store returns them.

    Attributes:
        records: Records in any order.
        vectors: `(num_records, dim)` float32, decoded if the store keeps codes.
    """

    records: Sequence[Record]
    vectors: Array


def weights_over(views: Iterable[View], weights: Mapping[View, float]) -> dict[View, float]:
    """Return what each of some views counts, 0 where nothing is said.

    Raises:
        InputError: If a weight is negative or not finite, all are 0, or one is of another view.
    """
    found: dict[View, float] = {view: float(weights.get(view, 0.0)) for view in views}
    missing = [view for view, weight in weights.items() if weight != 0 and view not in found]
    if missing:
        raise InputError(
            f"The weights name {', '.join(missing)}, and there are the views {', '.join(found)} here. Weigh those."
        )
    values = list(found.values())
    if not all(np.isfinite(values)) or min(values, default=0) < 0 or sum(values) == 0:
        shown = ", ".join(f"{view}={weight:g}" for view, weight in found.items()) or "nothing"
        raise InputError(f"The views weigh {shown}; all must be 0 or larger, finite, and not all 0.")
    return found


def describe_dims(dims: Mapping[View, int]) -> str:
    """Return lengths of blocks for a message: `hs 576 + rw 960`."""
    return " + ".join(f"{view} {dim}" for view, dim in dims.items())
