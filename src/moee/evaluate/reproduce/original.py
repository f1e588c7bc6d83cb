"""The vectors and similarities of the original code of arXiv 2410.10814, its defects included.

For comparison with published numbers only. Everything else in the package uses frozen statistics and one vector. What
the original does, step by step: `EmbedderConfig` recipe `paper`, `prompts.clean_paper`, `calibration.batch_standardise`
and `paired_similarity` below.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moee.errors import InputError
from moee.method.calibration import batch_standardise
from moee.method.fusion import unit
from moee.types import Array, Views


def paired_similarity(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """Return the original's similarity of each row of `a` with the same row of `b`: `1 - |a' - b'|^2 / 2`.

    On unit vectors this is the cosine. Zero vectors are left at zero, so that two of them score 1, and a zero vector
    scores 0.5 with any other; `moee.method.similarity` gives 0 for both.

    Args:
        a: `(n, dim)`.
        b: `(n, dim)`.

    Raises:
        InputError: If the shapes differ; names both.
    """
    left, right = np.asarray(a, dtype=np.float32), np.asarray(b, dtype=np.float32)
    if left.shape != right.shape or left.ndim != 2:
        raise InputError(f"Cannot compare row by row: the shapes are {left.shape} and {right.shape}.")
    return np.asarray(1.0 - 0.5 * np.square(unit(left) - unit(right)).sum(axis=1), dtype=np.float32)


def summed_similarity(a: Views, b: Views, *, alpha: float = 1.0, batch_size: int = 128) -> Array:
    """Return the original's "MoEE (sum)" score of paired texts: `cos_HS + alpha * cos_RW`, both standardised.

    Each side is standardised with the statistics of its own batches, as the original does when it encodes the two
    columns of a data set one after the other.

    Args:
        a: Views of the first texts, under the `paper` recipe.
        b: Views of the second texts.
        alpha: Weight of RW; the original's default is 1.
        batch_size: Texts in a batch; the original's published command uses 128.

    Returns:
        `(n,)` float32.
    """
    hidden = [batch_standardise(side.hidden_states, batch_size) for side in (a, b)]
    routing = [batch_standardise(side.routing_weights, batch_size) for side in (a, b)]
    return paired_similarity(*hidden) + np.float32(alpha) * paired_similarity(*routing)
