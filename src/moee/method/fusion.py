"""One vector from two views: hidden states (HS) and routing weights (RW).

MoEE (arXiv 2410.10814) defines its best variant as a weighted sum of two similarities, `cos_HS + alpha * cos_RW`. With
unit blocks h and r the vector `[h ; sqrt(alpha) r] / sqrt(1 + alpha)` has exactly that as its cosine, up to the factor
`1 / (1 + alpha)`. So k-means, classifiers and every vector store can use it as it is.
"""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import numpy.typing as npt

from moee.errors import InputError, check_choice
from moee.types import Array, Fusion

FUSIONS: tuple[str, ...] = get_args(Fusion)
"""`hs`, `rw`, `concat`, `sum`."""
LARGEST_ALPHA = 1e6
"""The sum is then routing alone, to float32; far larger weights would overflow it."""


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


def check_alpha(alpha: float) -> float:
    """Return `alpha`, the weight of RW in the sum.

    Raises:
        InputError: If it is negative, NaN, or over `LARGEST_ALPHA`.
    """
    if not 0 <= alpha <= LARGEST_ALPHA:  # NaN compares as false
        raise InputError(
            f"alpha is {alpha!r}; it must be a number from 0 to {LARGEST_ALPHA:,.0f}. 0 leaves RW out, 1 weighs both "
            "similarities alike; fusion='rw' leaves HS out."
        )
    return float(alpha)


def _check_rows(h: Array, r: Array) -> None:
    if h.ndim != 2 or r.ndim != 2 or len(h) != len(r):
        raise InputError(
            f"The two views must be two matrices with one row per text; got shapes {h.shape} and {r.shape}."
        )


def fuse(h: Array, r: Array, fusion: Fusion, alpha: float = 1.0) -> Array:
    """Fuse two calibrated views into one vector per text.

    Args:
        h: Calibrated hidden states, `(num_texts, hidden_dim)`.
        r: Calibrated routing weights, `(num_texts, routing_dim)`.
        fusion: `"hs"` or `"rw"`: that view alone. `"sum"`: the unit blocks weighted so that the cosine is
            `(cos_HS + alpha * cos_RW) / (1 + alpha)`. `"concat"`: the calibrated blocks side by side at their own
            scale, as the paper concatenates its standardised views. A calibrated block has mean squared length equal
            to its dimension, so here a view weighs as much as it has dimensions.
        alpha: Weight of RW; used by `"sum"` alone.

    Returns:
        `(num_texts, dim)` float32 of unit length; `dim` is that of `h`, that of `r`, or their sum. In `"sum"`, a text
        with one zero block keeps the other at its usual length, and so is shorter than 1.

    Raises:
        InputError: If the shapes do not fit or alpha is negative or not finite.
        UnknownNameError: If the fusion is unknown.
    """
    check_choice("fusion", fusion, FUSIONS)
    if fusion == "hs":
        return unit(h)
    if fusion == "rw":
        return unit(r)
    _check_rows(h, r)
    if fusion == "concat":
        return unit(np.concatenate([h, r], axis=1))
    alpha = check_alpha(alpha)
    blocks = np.concatenate([unit(h), np.float32(math.sqrt(alpha)) * unit(r)], axis=1)
    return np.asarray(blocks / np.float32(math.sqrt(1.0 + alpha)), dtype=np.float32)


def fused_dim(hidden_dim: int, routing_dim: int, fusion: Fusion) -> int:
    """Return the length of the vectors that `fuse` makes of views of these lengths."""
    check_choice("fusion", fusion, FUSIONS)
    return {"hs": hidden_dim, "rw": routing_dim}.get(fusion, hidden_dim + routing_dim)


def stored_vector(h: Array, r: Array) -> Array:
    """Return `[h ; r]` of unit blocks: what to store when alpha is to be chosen at query time.

    Args:
        h: Calibrated hidden states, `(num_texts, hidden_dim)`.
        r: Calibrated routing weights, `(num_texts, routing_dim)`.

    Returns:
        `(num_texts, hidden_dim + routing_dim)` float32, of length sqrt(2).
    """
    _check_rows(h, r)
    return np.concatenate([unit(h), unit(r)], axis=1)


def query_vector(h: Array, r: Array, alpha: float) -> Array:
    """Return `[h ; alpha r]` of unit blocks: its dot product with a `stored_vector` is `cos_HS + alpha * cos_RW`.

    Args:
        h: Calibrated hidden states of the queries, `(num_texts, hidden_dim)`.
        r: Calibrated routing weights of the queries, `(num_texts, routing_dim)`.
        alpha: Weight of RW, 0 or larger.

    Returns:
        `(num_texts, hidden_dim + routing_dim)` float32.
    """
    _check_rows(h, r)
    return np.concatenate([unit(h), np.float32(check_alpha(alpha)) * unit(r)], axis=1)
