"""Views of made-up texts whose meaning is known: a latent vector, of which HS and RW hold what a case says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moee import EmbedderConfig
from moee.backends.fake import FakeBackend
from moee.evaluate.tune.criterion import Cosines, Criterion
from moee.evaluate.tune.search import Candidate, cosines_of, with_layers
from moee.method.calibration import Calibration
from moee.method.space import VectorSpace
from moee.types import View, Views

Wide = npt.NDArray[np.float64]

HALF, LAYERS, EXPERTS, HIDDEN = 12, 6, 16, 48
CONFIG = EmbedderConfig(
    fusion="weighted",
    weights={"hs": 1, "rw": 0.2},
    calibration="zscore",
    routing_calibration="whiten",
    scoring="logits",
)
CASES = ("complementary", "worthless", "copy", "perfect")


@dataclass(frozen=True, slots=True)
class Planted:
    """A case: latents to views, through fixed maps and a constant offset."""

    case: str

    def views(self, latents: Wide, *, seed: int) -> Views:
        """Return the views of texts with these latents, `(n, 2 * HALF)`; the seed is that of the noise."""
        rng, fixed = np.random.default_rng([7, seed]), np.random.default_rng(8)
        seen = latents[:, :HALF]
        to_hidden = fixed.normal(size=(HALF, HIDDEN)) * np.linspace(0.3, 3.0, HIDDEN)
        offset = fixed.normal(size=HIDDEN) * 20
        hidden = seen @ to_hidden + offset + rng.normal(size=(len(latents), HIDDEN))
        routing = []
        for _ in range(LAYERS):
            maps = {width: fixed.normal(size=(width, EXPERTS)) for width in (HALF, 2 * HALF)}
            bias, noise = fixed.normal(size=EXPERTS) * 5, rng.normal(size=(len(latents), EXPERTS))
            read = {
                "complementary": latents[:, HALF:] @ maps[HALF],
                "worthless": 3 * rng.normal(size=(len(latents), EXPERTS)),
                "copy": seen @ maps[HALF],
                "perfect": latents @ maps[2 * HALF],
            }[self.case]
            routing.append(read + bias + 0.3 * noise)
        return Views(
            hidden.astype(np.float32),
            np.concatenate(routing, axis=1).astype(np.float32),
            tuple(range(LAYERS)),
            (EXPERTS,) * LAYERS,
        )

    def pairs(self, count: int, *, seed: int, likeness: float | None = None) -> tuple[Views, Views, Wide]:
        """Return the views of pairs of texts, and how alike each pair is: the mean of the likeness of both halves."""
        rng = np.random.default_rng([9, seed])
        rho = rng.uniform(-1, 1, size=(count, 2)) if likeness is None else np.full((count, 2), likeness)
        wide = np.repeat(rho, HALF, axis=1)
        left, other = rng.normal(size=(2, count, 2 * HALF))
        right = wide * left + np.sqrt(1 - wide**2) * other
        return self.views(left, seed=2 * seed), self.views(right, seed=2 * seed + 1), rho.mean(axis=1)

    def general(self, count: int = 1500) -> Views:
        """Return the views of other texts, as the built-in sentences are."""
        return self.views(np.random.default_rng(10).normal(size=(count, 2 * HALF)), seed=99)

    def space(self, layers: Sequence[int] = tuple(range(LAYERS)), fitted_on: Views | None = None) -> VectorSpace:
        """Return the space of some layers, with statistics of general texts unless others are given."""
        views = with_layers(self.general() if fitted_on is None else fitted_on, layers)
        statistics = Calibration.fit(views, info=FakeBackend().info, config=CONFIG)
        return VectorSpace(CONFIG.replace(weights={"hs": 1, "rw": 1}), statistics)

    def cosines(self, criterion: Criterion, pairs: tuple[Views, Views, Any]) -> dict[View, Wide]:
        """Return the cosines of pairs under all layers and general statistics."""
        return cosines_of(criterion, self.space(), pairs[0], pairs[1])

    def candidates(self, criterion: Criterion, left: Views, right: Views) -> list[Candidate]:
        """Return the present choice (all layers, general statistics), and others."""
        found = [Candidate("present", "present", cosines_of(criterion, self.space(), left, right))]
        for name, layers in (("last_half", (3, 4, 5)), ("last_sixth", (5,))):
            sides = (with_layers(side, layers) for side in (left, right))
            found.append(Candidate(name, "builtin", cosines_of(criterion, self.space(layers), *sides)))
        return found


def best_weight(criterion: Criterion, cosines: Cosines, grid: Sequence[float]) -> tuple[Mapping[View, float], float]:
    """Return the weights of a fine grid with the best score, and that score."""
    tried: list[Mapping[View, float]] = [{"hs": 1.0, "rw": weight} for weight in grid]
    best = max(tried, key=lambda weights: criterion.value(cosines, weights))
    return best, criterion.value(cosines, best)
