"""One vector from named blocks, one block for each view: hidden states (`hs`), routing weights (`rw`), and others.

MoEE (arXiv 2410.10814) defines its best variant as a weighted sum of two similarities, `cos_HS + alpha * cos_RW`. With
unit blocks h and r the vector `[h ; sqrt(alpha) r] / sqrt(1 + alpha)` has exactly that as its cosine, up to the factor
`1 / (1 + alpha)`. So k-means, classifiers and every vector store can use it as it is. The same holds for any number of
blocks and weights, and a fusion is a row of `FUSIONS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
VIEW_NAMES: Mapping[View, str] = MappingProxyType(
    {"hs": "hidden states (HS)", "rw": "routing weights (RW)", "tokens": "mean of tokens", "lexical": "words"}
)
"""What each view is called where people read it."""
DEFAULT_WEIGHTS: Mapping[View, float] = MappingProxyType({"hs": 1.0, "rw": 0.2, "tokens": 0.2, "lexical": 1.5})
"""What each view counts if nothing else is said: chosen on development sets of all task types, with `moee eval`; the
table is benchmarks/results/recipe-300.md."""
_ROWS = 4096
LARGEST_ALPHA = 1e6
"""The sum is then routing alone, to float32; far larger weights would overflow it."""
LEAST_WEIGHT = 1e-6
"""Least weight of a view that counts; far smaller ones alone would be rounded to 0 in float32."""


@dataclass(frozen=True, slots=True)
class Blend:
    """How a fusion makes one vector of several blocks.

    Attributes:
        views: Names of the blocks, in the order of the vector.
        weights: Function from alpha to what each block's cosine counts; None leaves the blocks at their own scale.
        is_named: Whether the views and what they count are given by name instead.
    """

    views: tuple[View, ...]
    weights: Callable[[float], tuple[float, ...]] | None = None
    is_named: bool = False


FUSIONS: Mapping[str, Blend] = MappingProxyType(
    {
        "weighted": Blend(VIEWS, is_named=True),
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
    if x.ndim == 2 and len(x) > _ROWS:  # so that a large matrix is never held a second time in float64
        units = np.empty(x.shape, dtype=np.float32)
        for start in range(0, len(x), _ROWS):
            units[start : start + _ROWS] = unit(x[start : start + _ROWS])
        return units
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


def check_weights(weights: object) -> dict[View, float]:
    """Return named weights as plain numbers, in the order of `VIEWS`.

    Raises:
        InputError: If it is no mapping, a weight is no number from `LEAST_WEIGHT` to `LARGEST_ALPHA` and not 0, or all
            are 0.
        UnknownNameError: If a view is unknown; suggests close matches.
    """
    if not isinstance(weights, Mapping):
        raise InputError(f'weights is {weights!r}; it must name what each view counts, as {{"hs": 1, "lexical": 0.5}}.')
    for view, weight in weights.items():
        check_choice("view", view, VIEWS)
        is_number = isinstance(weight, Real) and not isinstance(weight, bool)
        if not (is_number and (float(weight) == 0 or LEAST_WEIGHT <= float(weight) <= LARGEST_ALPHA)):
            raise InputError(
                f"The weight of the view {view!r} is {weight!r}; it must be a number from 0 to {LARGEST_ALPHA:,.0f}, "
                f"and if it counts at least {LEAST_WEIGHT:g}."
            )
    found = {view: float(weights[view]) for view in VIEWS if view in weights}
    if not any(found.values()):
        raise InputError(f"weights is {dict(weights)!r}; at least one of {', '.join(VIEWS)} must count more than 0.")
    return found


def check_together(fusion: str | None, alpha: object, weights: object) -> None:
    """Refuse a choice of fusion, alpha and weights of which one would not count; None is not given.

    Raises:
        InputError: If weights are given with a fusion of HS and RW alone, or beside alpha.
    """
    if weights is None:
        return
    if fusion is not None and not (fusion in FUSIONS and FUSIONS[fusion].is_named):
        raise InputError(
            f"fusion={fusion!r} takes no weights. Leave the fusion out, or use 'weighted'; with 'sum' alpha weighs RW."
        )
    if alpha is not None:
        raise InputError("alpha and weights are both given; weights name what every view counts. Leave alpha out.")


def parse_weights(text: str) -> dict[View, float]:
    """Return the named weights of a text such as `hs=1,rw=0.2,lexical=0.5`.

    Raises:
        InputError: If a part is no `view=number`, or a view is named twice; as `check_weights`.
        UnknownNameError: As `check_weights`.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        view, equals, number = (each.strip() for each in part.partition("="))
        try:
            if not equals or view in found:
                raise ValueError(part)
            found[view] = float(number)
        except ValueError as error:
            raise InputError(
                f"The weights are {text!r}; each view must be named once with a number, for example hs=1,lexical=0.5."
            ) from error
    return check_weights(found)


def fusion_views(fusion: str, weights: Mapping[View, float]) -> tuple[View, ...]:
    """Return the views that a fusion puts into a vector, in their order there.

    Args:
        fusion: A key of `FUSIONS`.
        weights: Weights by name, of a fusion that is made of named ones; views of weight 0 are left out.
    """
    blend = FUSIONS[fusion]
    return tuple(view for view in blend.views if weights.get(view)) if blend.is_named else blend.views


def blend_weights(fusion: str, alpha: float, weights: Mapping[View, float]) -> dict[View, float] | None:
    """Return what the cosine of every view of a fusion counts; None if its blocks keep their own scale."""
    blend = FUSIONS[fusion]
    if blend.is_named:
        return {view: weights[view] for view in fusion_views(fusion, weights)}
    return None if blend.weights is None else dict(zip(blend.views, blend.weights(check_alpha(alpha)), strict=True))


def fuse(
    blocks: Mapping[View, Array],
    fusion: Fusion,
    alpha: float = 1.0,
    *,
    weights: Mapping[View, float] = DEFAULT_WEIGHTS,
    normalize: bool = True,
) -> Array:
    """Fuse calibrated blocks into one vector per text.

    Args:
        blocks: Blocks by name, each `(num_texts, dim of the block)`; those that the fusion leaves out may be missing.
        fusion: A key of `FUSIONS`: one view alone, the blocks at their own scale, or unit blocks with weights.
        alpha: Weight of RW in the sum.
        weights: Weights by name, in `"weighted"`.
        normalize: Give vectors unit length. Those of a sum are made of unit blocks in any case.

    Returns:
        `(num_texts, dim)` float32. In `"sum"` a text with one zero block keeps the other at its usual length, and so is
        shorter than 1. In `"weighted"` the others carry such a text: they are scaled to unit length together.

    Raises:
        InputError: If the shapes do not fit or alpha is negative or not finite.
        UnknownNameError: If the fusion is unknown.
    """
    check_choice("fusion", fusion, FUSIONS)
    chosen = [blocks[view] for view in fusion_views(fusion, weights)]
    if any(block.ndim != 2 for block in chosen) or len({len(block) for block in chosen}) > 1:
        shapes = " and ".join(str(block.shape) for block in chosen)
        raise InputError(f"The views must be matrices with one row per text; got shapes {shapes}.")
    counts = blend_weights(fusion, alpha, weights)
    if counts is None:
        joined = chosen[0] if len(chosen) == 1 else np.concatenate(chosen, axis=1)
        return unit(joined) if normalize else np.array(joined, dtype=np.float32, order="C")
    joined = np.empty((len(chosen[0]), sum(block.shape[1] for block in chosen)), dtype=np.float32)
    start = 0
    for count, block in zip(counts.values(), chosen, strict=True):
        end = start + block.shape[1]
        np.multiply(np.float32(math.sqrt(count)), unit(block), out=joined[:, start:end])
        start = end
    joined /= np.float32(math.sqrt(sum(counts.values())))
    return unit(joined) if FUSIONS[fusion].is_named and normalize and not _all_present(chosen) else joined


def _all_present(chosen: Sequence[Array]) -> bool:
    return all(bool(block.any(axis=1).all()) for block in chosen)


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
        weights: Weights by name, from `cosine_weights`; a block that is not named counts 0.

    Returns:
        `(..., dim)` float32.
    """
    return join_blocks({view: np.float32(weights.get(view, 0.0)) * block for view, block in blocks.items()})


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


def cosine_weights(fusion: str, alpha: float, weights: Mapping[View, float] = DEFAULT_WEIGHTS) -> dict[View, float]:
    """Return what the cosine of every view counts in a fusion; views that are left out need not be named.

    Args:
        fusion: A fusion whose blocks can be kept apart.
        alpha: Weight of RW in the sum.
        weights: Weights by name, in `"weighted"`.

    Raises:
        InputError, UnknownNameError: As `check_weighted` and `check_alpha`.
    """
    fusion = check_weighted(fusion, "searched")
    counts = blend_weights(fusion, check_alpha(alpha), weights)
    if FUSIONS[fusion].is_named and counts is not None:
        return counts
    left_out: dict[View, float] = {"hs": 0.0, "rw": 0.0}
    return left_out | (dict.fromkeys(FUSIONS[fusion].views, 1.0) if counts is None else counts)
