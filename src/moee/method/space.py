"""The one owner of the way from views to a vector: named blocks, calibrated, weighted and put together.

Everything that needs vectors, blocks or weights asks a `VectorSpace`: encoding, indexes, the server, evaluation and
explanations. Calibration gives the blocks, `moee.method.fusion` says what each fusion makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from moee.errors import CalibrationError, InputError
from moee.method.calibration import Calibration, batch_standardise, raw_blocks
from moee.method.chunks import Chunk, pool
from moee.method.config import EmbedderConfig
from moee.method.fusion import cosine_weights, fuse, unit
from moee.method.routing import chosen_layers
from moee.types import Array, ModelInfo, View, Views

_OWN: Mapping[View, str] = MappingProxyType({"tokens": "tokens", "lexical": "words"})
"""What a text may have none of, by the views that are made of it."""


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
        rule = self.config.alpha
        if isinstance(rule, float):
            return rule
        return self.statistics.alpha(self.config.calibration, rule) if self.statistics is not None else 1.0

    @property
    def is_by_batch(self) -> bool:
        """Whether a text's vector depends on the texts around it, as in the original code of arXiv 2410.10814."""
        # which standardises every method but its hidden-state baseline
        return self.config.calibration == "batch" and self.config.fusion != "hs"

    def replace(self, **changes: Any) -> VectorSpace:
        """Return the space with another fusion, weights, alpha or length; those that are None are left out.

        The statistics stay, so a setting that decides the views or the calibration cannot be changed here.
        """
        kept = {name: value for name, value in changes.items() if value is not None}
        return replace(self, config=self.config.replace(**kept)) if kept else self

    def blocks(self, views: Views) -> dict[View, Array]:
        """Return the calibrated blocks of some texts at their own scale: HS, RW, and the others that count.

        Args:
            views: Views of any texts; all of them, in their order, under `calibration="batch"`.

        Returns:
            By name `(num_texts, dim of the block)` float32, in the order of a stored vector.
        """
        if self.statistics is not None:
            return self.statistics.apply(views, self.config)
        blocks = raw_blocks(views, self.config)
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
        config = self.config
        return fuse(blocks, config.fusion, self.alpha, weights=config.weights, normalize=config.normalize)

    def vectors(self, views: Views, chunks: Sequence[Sequence[Chunk]] | None = None) -> Array:
        """Return the vectors of views, `(num_texts, dim)` float32: all that is done after the model has run.

        Args:
            views: Views of any texts.
            chunks: The chunks of every text, if the views are those of chunks, of all texts behind each other.

        Raises:
            CalibrationError: As `checked`.
            InputError: If chunks are pooled where a vector depends on its batch.
        """
        return self.checked(self.fuse(self.blocks(views) if chunks is None else self.pooled(views, chunks)))

    def pooled(self, views: Views, chunks: Sequence[Sequence[Chunk]]) -> dict[View, Array]:
        """Return the blocks of texts from the views of their chunks; see `blocks` and `moee.method.chunks.pool`.

        Args:
            views: Views of the chunks of all texts, behind each other.
            chunks: The chunks of every text.

        Raises:
            InputError: If a vector depends on its batch.
        """
        self.config.check_alone("pooled from chunks")
        return pool(self.blocks(views), chunks)

    def checked(self, vectors: Array) -> Array:
        """Return vectors as they are about to leave the package, once each is seen to have a direction.

        Under `calibration="batch"` a zero is right, as in the original code: a text alone in its batch is its mean.

        Args:
            vectors: `(num_texts, dim)`.

        Raises:
            CalibrationError: If a vector is NaN, infinite or zero; names its place.
            InputError: If it is zero because the text has nothing of what the weights count.
        """
        finite = np.asarray(np.isfinite(vectors).all(axis=1))
        fine = finite if self.is_by_batch else finite & np.asarray(vectors.any(axis=1))
        if not fine.all():
            row = int(np.argmin(fine))
            own = [_OWN[view] for view in self.config.views if view in _OWN]
            if finite[row] and len(own) == len(self.config.views):
                raise InputError(
                    f"Text {row} has no {' and no '.join(own)} of its own, and the weights count nothing else, so that "
                    "it has no vector. Leave it out, or give the view 'hs' a weight."
                )
            what = "zero in every dimension" if finite[row] else "NaN or infinite"
            raise CalibrationError(
                f"The vector of text {row} is {what} after calibration={self.config.calibration!r} and "
                f"fusion={self.config.fusion!r}, so it has no similarity to any other. Calibrate on texts that differ "
                "from each other, or use calibration='none'."
            )
        return vectors

    def weights(
        self, fusion: str | None = None, alpha: float | None = None, weights: Mapping[View, float] | None = None
    ) -> dict[View, float]:
        """Return what the cosine of every view counts in that of two vectors, divided by their sum.

        Args:
            fusion: None is the configured one.
            alpha: None is that of the space.
            weights: None is the configured ones; given alone they choose `fusion="weighted"`.

        Raises:
            InputError: If the fusion has no such weights, or one is negative or not finite.
        """
        changes = {"fusion": fusion, "alpha": alpha, "weights": weights}
        config = self.config.replace(**{name: value for name, value in changes.items() if value is not None})
        return cosine_weights(config.fusion, VectorSpace(config, self.statistics).alpha, config.weights)

    def dims(self, views: Views) -> dict[View, int]:
        """Return the length of each block of a vector, in their order."""
        return _dims(self.config, views.hidden_states.shape[1], views.routing_weights.shape[1])


def block_dims(info: ModelInfo, config: EmbedderConfig) -> dict[View, int]:
    """Return the length of each block of a vector, in their order, before any text is seen."""
    layers = chosen_layers(config.routing_layers, info.layer_ids, info.num_layers)
    experts = sum(width for layer, width in zip(info.layer_ids, info.num_experts, strict=True) if layer in layers)
    return _dims(config, info.hidden_size, experts)


def _dims(config: EmbedderConfig, hidden: int, experts: int) -> dict[View, int]:
    widths: dict[View, int] = {"hs": hidden, "rw": experts, "tokens": hidden, "lexical": config.lexical_dim}
    return {view: widths[view] for view in config.views}
