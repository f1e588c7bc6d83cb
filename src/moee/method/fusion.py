"""One vector from named blocks, one block for each view: hidden states (`hs`) and routing weights (`rw`).

MoEE (arXiv 2410.10814) defines its best variant as a weighted sum of two similarities, `cos_HS + alpha * cos_RW`. With
unit blocks h and r the vector `[h ; sqrt(alpha) r] / sqrt(1 + alpha)` has exactly that as its cosine, up to the factor
`1 / (1 + alpha)`. So k-means, classifiers and every vector store can use it as it is. The same holds for any number of
blocks and weights, and a fusion is a row of `FUSIONS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import TypeVar, get_args

import numpy as np
import numpy.typing as npt

from moee.errors import InputError, check_choice
from moee.types import Array, Fusion, SearchFusion, View

_Float = TypeVar("_Float", bound=np.floating)

VIEWS: tuple[View, ...] = get_args(View)
"""Names of the blocks, in the order of a stored vector."""
LARGEST_ALPHA = 1e6
"""The sum is then routing alone, to float32; far larger weights would overflow it."""


@dataclass(frozen=True, slots=True)
class Blend:
    """How a fusion makes one vector of several blocks.

    Attributes:
        views: Names of the blocks, in the order of the vector.
        weights: Function from alpha to what each block's cosine counts; None leaves the blocks at their own scale.
    """

    views: tuple[View, ...]
    weights: Callable[[float], tuple[float, ...]] | None = None


FUSIONS: Mapping[str, Blend] = MappingProxyType(
    {
        "hs": Blend(("hs",)),
        "rw": Blend(("rw",)),
        # the paper concatenates its standardised views; a calibrated block has a mean squared length equal to its
        # dimension, so here a view weighs as much as it has dimensions
        "concat": Blend(("hs", "rw")),
        "sum": Blend(("hs", "rw"), lambda alpha: (1.0, alpha)),
    }
)


def unit(x: npt.NDArray[np.floating]) -> Array:
    """Scale every row to Euclidean length 1; a zero row stays zero.

    Args:
        x: `(num_texts, dim)`, any float dtype.

    Returns:
        `(num_texts, dim)` float32. A zero row means "no direction" (a text equal to the calibration mean in every
        dimension); its cosine with anything is 0.
    """
    # In float64: the squares of large float32 entries overflow in float32.
    wide = np.asarray(x, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=-1, keepdims=True)
    return np.asarray(wide / np.where(norms == 0.0, 1.0, norms), dtype=np.float32)


def check_alpha(alpha: object) -> float:
    """Return `alpha`, the weight of RW in the sum, as a float; numpy's scalars are numbers too.

    Raises:
        InputError: If it is no number, negative, NaN, or over `LARGEST_ALPHA`.
    """
    if isinstance(alpha, Real) and not isinstance(alpha, bool) and 0 <= float(alpha) <= LARGEST_ALPHA:  # not for NaN
        return float(alpha)
    raise InputError(
        f"alpha is {alpha!r}; it must be a number from 0 to {LARGEST_ALPHA:,.0f}. 0 leaves RW out, 1 weighs both "
        "similarities alike; fusion='rw' leaves HS out."
    )


def fuse(blocks: Mapping[View, Array], fusion: Fusion, alpha: float = 1.0, *, normalize: bool = True) -> Array:
    """Fuse calibrated blocks into one vector per text.

    Args:
        blocks: Blocks by name, each `(num_texts, dim of the block)`; those that the fusion leaves out may be missing.
        fusion: A key of `FUSIONS`: one view alone, the blocks at their own scale, or unit blocks with weights.
        alpha: Weight of RW in the sum.
        normalize: Give vectors at their own scale unit length. Weighted ones are made of unit blocks in any case.

    Returns:
        `(num_texts, dim)` float32. In a weighted fusion, a text with one zero block keeps the others at their usual
        length, and so is shorter than 1.

    Raises:
        InputError: If the shapes do not fit or alpha is negative or not finite.
        UnknownNameError: If the fusion is unknown.
    """
    check_choice("fusion", fusion, FUSIONS)
    blend = FUSIONS[fusion]
    chosen = [blocks[view] for view in blend.views]
    if any(block.ndim != 2 for block in chosen) or len({len(block) for block in chosen}) > 1:
        shapes = " and ".join(str(block.shape) for block in chosen)
        raise InputError(f"The views must be matrices with one row per text; got shapes {shapes}.")
    if blend.weights is None:
        joined = chosen[0] if len(chosen) == 1 else np.concatenate(chosen, axis=1)
        return unit(joined) if normalize else np.array(joined, dtype=np.float32, order="C")
    weights = blend.weights(check_alpha(alpha))
    roots = [np.float32(math.sqrt(weight)) * unit(block) for weight, block in zip(weights, chosen, strict=True)]
    return np.asarray(np.concatenate(roots, axis=1) / np.float32(math.sqrt(sum(weights))), dtype=np.float32)


def uses_alpha(fusion: str) -> bool:
    """Whether a fusion weighs its views by alpha."""
    return fusion in FUSIONS and FUSIONS[fusion].weights is not None


def split_blocks(vectors: npt.NDArray[_Float], dims: Mapping[View, int]) -> dict[View, npt.NDArray[_Float]]:
    """Return the blocks that lie side by side in vectors, `(..., dim)`, by name; `dims` has their lengths in order."""
    ends = np.cumsum(list(dims.values()))[:-1]
    return dict(zip(dims, np.split(vectors, ends, axis=-1), strict=True))


def join_blocks(blocks: Mapping[View, Array]) -> Array:
    """Return blocks side by side, `(..., dim)`: unit blocks so are a stored vector."""
    return np.concatenate(list(blocks.values()), axis=-1)


def query_vector(blocks: Mapping[View, Array], weights: Mapping[View, float]) -> Array:
    """Return unit blocks times their weights, side by side: what products with stored vectors weigh cosines by.

    Args:
        blocks: Unit blocks by name, `(..., dim of the block)`.
        weights: Weights by name, from `cosine_weights`.

    Returns:
        `(..., dim)` float32.
    """
    return join_blocks({view: np.float32(weights[view]) * block for view, block in blocks.items()})


def check_weighted(fusion: str, done: str) -> SearchFusion:
    """Return a fusion whose blocks can be kept apart.

    Args:
        fusion: Name of the fusion.
        done: What is done to it, for the message: `"searched"`.

    Raises:
        InputError: If its vectors are made of blocks at their own scale.
        UnknownNameError: If there is none of the name; suggests close matches.
    """
    weighted: tuple[SearchFusion, ...] = get_args(SearchFusion)
    if fusion in FUSIONS and fusion not in weighted:
        raise InputError(
            f"fusion={fusion!r} cannot be {done}: an index keeps each view at unit length, so that alpha can be chosen "
            f"when it is asked, and {fusion} weighs the views by their own lengths. Use {', '.join(weighted)}."
        )
    check_choice("fusion", fusion, weighted)
    return next(name for name in weighted if name == fusion)


def cosine_weights(fusion: str, alpha: float) -> dict[View, float]:
    """Return what the cosine of every view counts in a fusion; 0 for a view that is left out.

    Raises:
        InputError, UnknownNameError: As `check_weighted` and `check_alpha`.
    """
    blend, alpha = FUSIONS[check_weighted(fusion, "searched")], check_alpha(alpha)
    weights = (1.0,) if blend.weights is None else blend.weights(alpha)
    return dict.fromkeys(VIEWS, 0.0) | dict(zip(blend.views, weights, strict=True))
