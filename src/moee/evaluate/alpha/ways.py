"""Named rules for alpha, the weight of RW in the sum of HS and RW, from cosines alone and without labels.

Over pairs of texts, with x the cosines of HS, y those of RW, and the fused similarity s = x + alpha y:

- `slope`: that of the regression of x on y, r sd(x) / sd(y), where r is their correlation. Routing that tells nothing
  of HS gets no weight, so the rule rewards routing that repeats HS: on views that complement each other it gives 0.
- `scale`: sd(x) / sd(y). Both cosines then vary alike in the sum, whatever r is. It is the closed form of what arXiv
  2410.10814 v2 describes: maximising, at test time, the correlation of s with x plus that with y. With Pearson's
  correlation the sum of the two is (1 + r) (a + b) / sqrt(a^2 + b^2 + 2 r a b) for a = sd(x) and b = alpha sd(y), which
  is largest at a = b for every r < 1.

Neither knows which view is better; an embedder with `alpha="slope"` or `"scale"` takes them from its statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moee.errors import InputError
from moee.evaluate.tasks import Numbers
from moee.types import Array

_ALIKE = 1e-6  # cosines of float32 vectors that vary less differ by rounding only


@dataclass(frozen=True, slots=True)
class PairCosines:
    """Cosines of both views over the same pairs of texts, `(num_pairs,)` each."""

    hidden: Numbers
    routing: Numbers

    def fused(self, alpha: float) -> Numbers:
        """Return the similarities under `alpha`; divided by 1 + alpha, the cosines of the fused vectors."""
        return (self.hidden + alpha * self.routing) / (1 + alpha)


def all_pairs(hidden: Array, routing: Array) -> PairCosines:
    """Return the cosines of every two different texts.

    Args:
        hidden: Unit HS blocks, `(num_texts, hidden_dim)`.
        routing: Unit RW blocks, `(num_texts, routing_dim)`.
    """
    above = np.triu_indices(len(hidden), k=1)
    return PairCosines(*((units.astype(np.float64) @ units.T)[above] for units in (hidden, routing)))


def slope(cosines: PairCosines) -> float:
    """Return the slope of the regression of cos_HS on cos_RW; 0 if it is negative."""
    sd_hidden, sd_routing, r = moments(cosines)
    return max(r * sd_hidden / sd_routing, 0.0)


def scale(cosines: PairCosines) -> float:
    """Return sd(cos_HS) / sd(cos_RW)."""
    sd_hidden, sd_routing, _ = moments(cosines)
    return sd_hidden / sd_routing


def moments(cosines: PairCosines) -> tuple[float, float, float]:
    """Return the standard deviations of cos_HS and cos_RW, and their correlation.

    Raises:
        InputError: If the cosines of a view are all alike: then no weight can be told from another.
    """
    deviations = []
    for name, values in (("HS", cosines.hidden), ("RW", cosines.routing)):
        deviation = float(values.std()) if len(values) > 1 else 0.0
        if deviation < _ALIKE:
            raise InputError(
                f"The {name} cosines of {len(values)} pairs of texts are all alike (deviation {deviation:.1e}), so no "
                "alpha can be told from another. Give more texts, and texts that differ in meaning."
            )
        deviations.append(deviation)
    x, y = cosines.hidden - cosines.hidden.mean(), cosines.routing - cosines.routing.mean()
    sd_hidden, sd_routing = deviations
    return sd_hidden, sd_routing, float(x @ y) / (len(x) * sd_hidden * sd_routing)
