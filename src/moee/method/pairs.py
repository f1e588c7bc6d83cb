"""Two texts to compare, each with a prompt and statistics of its own: from their views to the explanation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from moee.errors import InputError
from moee.method.calibration import Calibration, fused, routing_weight
from moee.method.config import EmbedderConfig
from moee.method.explanation import Explanation, explain_vectors
from moee.types import Views


@dataclass(frozen=True, slots=True)
class Side:
    """How one of two texts becomes a vector.

    Attributes:
        config: With the prompt of this text.
        statistics: Of that prompt; None if the configuration uses none.
    """

    config: EmbedderConfig
    statistics: Calibration | None


def check_pair(config: EmbedderConfig) -> None:
    """Refuse to explain a pair of texts whose vectors would depend on nothing but each other.

    Raises:
        InputError: If they are standardised over the batch: of two rows one is then the negative of the other, and
            their cosine is -1 whatever the texts are.
    """
    if config.calibration == "batch" and config.fusion != "hs":
        raise InputError(
            "calibration='batch' standardises texts over their batch, and any two texts come out as opposites. A pair "
            "can be explained with calibration='spectral', 'zscore' or 'none', or by its hidden states (fusion='hs')."
        )


def explain_pair(texts: tuple[str, str], views: Views, sides: tuple[Side, Side], *, model: str) -> Explanation:
    """Split the cosine of two texts into its parts.

    Args:
        texts: The two texts.
        views: Of the two texts, before calibration.
        sides: How each of them becomes a vector. Both have one fusion.
        model: Name of the model.

    Returns:
        Parts of the cosine of the two vectors. Each text's usual weights are those under its own prompt: under
        another, experts that only the prompt calls on would seem to mark the text. If each has its own weight of RW
        (`alpha="auto"`), the explanation's `alpha` is their geometric mean: the products of two `"sum"` vectors hold
        `cos_HS + sqrt(alpha_a * alpha_b) * cos_RW`, up to a factor.
    """
    rows = [fused(views.take(np.array([row])), side.config, side.statistics) for row, side in enumerate(sides)]
    one, other = (routing_weight(side.config, side.statistics) for side in sides)
    a, b = (side.statistics for side in sides)
    return explain_vectors(
        np.concatenate(rows),
        views,
        texts=texts,
        model=model,
        fusion=sides[0].config.fusion,
        alpha=one if one == other else math.sqrt(one * other),
        mean_weights=None if a is None or b is None else (a.routing_mean, b.routing_mean),
    )
