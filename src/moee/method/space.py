"""The one owner of the way from views to a vector: named blocks, calibrated, weighted and put together.

Everything that needs vectors, blocks or weights asks a `VectorSpace`: encoding, indexes, the server, evaluation and
explanations. Calibration gives the blocks, `moee.method.fusion` says what each fusion makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from moee.errors import CalibrationError
from moee.method.calibration import Calibration, batch_standardise
from moee.method.config import EmbedderConfig
from moee.method.fusion import FUSIONS, cosine_weights, fuse, unit
from moee.types import Array, View, Views


@dataclass(frozen=True, slots=True)
class VectorSpace:
    """Where the texts of one configuration lie.

    Attributes:
        config: Every choice between a text and its vector.
        statistics: Frozen statistics of the configuration's prompt; None if it uses none.
    """

    config: EmbedderConfig
    statistics: Calibration | None = None

    @property
    def alpha(self) -> float:
        """The weight of RW in the sum: the configured number, or that of the statistics; 1 without any."""
        if self.config.alpha != "auto":
            return self.config.alpha
        return self.statistics.alpha(self.config.calibration) if self.statistics is not None else 1.0

    @property
    def is_by_batch(self) -> bool:
        """Whether a text's vector depends on the texts around it, as in the original code of arXiv 2410.10814."""
        # which standardises every method but its hidden-state baseline
        return self.config.calibration == "batch" and self.config.fusion != "hs"

    def replace(self, **changes: Any) -> VectorSpace:
        """Return the space with another fusion, alpha or length; those of `changes` that are None are left out.

        The statistics stay, so a setting that decides the views or the calibration cannot be changed here.
        """
        kept = {name: value for name, value in changes.items() if value is not None}
        return replace(self, config=self.config.replace(**kept)) if kept else self

    def blocks(self, views: Views) -> dict[View, Array]:
        """Return the calibrated blocks of some texts at their own scale.

        Args:
            views: Views of any texts; all of them, in their order, under `calibration="batch"`.

        Returns:
            By name `(num_texts, dim of the block)` float32, in the order of a stored vector.
        """
        blocks: dict[View, Array] = {"hs": views.hidden_states, "rw": views.routing_weights}
        if self.statistics is not None:
            return dict(zip(blocks, self.statistics.apply(views, self.config.calibration), strict=True))
        if self.is_by_batch:
            return {view: batch_standardise(block, self.config.batch_size) for view, block in blocks.items()}
        return blocks

    def units(self, views: Views) -> dict[View, Array]:
        """Return the blocks at unit length: what an index stores side by side, and is asked with.

        Weighted by `weights`, their products are the scores of a search, so alpha can be chosen when it is asked.
        """
        return {view: unit(block) for view, block in self.blocks(views).items()}

    def fuse(self, blocks: Mapping[View, Array]) -> Array:
        """Return the vectors of calibrated blocks, `(num_texts, dim)` float32."""
        return fuse(blocks, self.config.fusion, self.alpha, normalize=self.config.normalize)

    def vectors(self, views: Views) -> Array:
        """Return the vectors of views, `(num_texts, dim)` float32: all that is done after the model has run.

        Raises:
            CalibrationError: As `checked`.
        """
        return self.checked(self.fuse(self.blocks(views)))

    def checked(self, vectors: Array) -> Array:
        """Return vectors as they are about to leave the package, once each is seen to have a direction.

        Under `calibration="batch"` a zero is right, as in the original code: a text alone in its batch is its mean.

        Args:
            vectors: `(num_texts, dim)`.

        Raises:
            CalibrationError: If a vector is NaN, infinite or zero; names its place.
        """
        finite = np.asarray(np.isfinite(vectors).all(axis=1))
        fine = finite if self.is_by_batch else finite & np.asarray(vectors.any(axis=1))
        if not fine.all():
            row = int(np.argmin(fine))
            what = "zero in every dimension" if finite[row] else "NaN or infinite"
            raise CalibrationError(
                f"The vector of text {row} is {what} after calibration={self.config.calibration!r} and "
                f"fusion={self.config.fusion!r}, so it has no similarity to any other. Calibrate on texts that differ "
                "from each other, or use calibration='none'."
            )
        return vectors

    def weights(self, fusion: str | None = None, alpha: float | None = None) -> dict[View, float]:
        """Return what the cosine of every view counts in that of two vectors, divided by their sum.

        Args:
            fusion: None is the configured one.
            alpha: None is that of the space.

        Raises:
            InputError: If the fusion has no such weights, or alpha is negative or not finite.
        """
        return cosine_weights(fusion or self.config.fusion, self.alpha if alpha is None else alpha)

    def dims(self, views: Views) -> dict[View, int]:
        """Return the length of each block of a vector, in their order."""
        widths: dict[View, int] = {"hs": views.hidden_states.shape[1], "rw": views.routing_weights.shape[1]}
        return {view: widths[view] for view in FUSIONS[self.config.fusion].views}
