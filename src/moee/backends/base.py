"""The seam between a model and everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from moee.types import Activations, CapturePlan, ModelInfo


class Backend(Protocol):
    """Runs a model on token sequences. Knows nothing of prompts, calibration or fusion."""

    @property
    def info(self) -> ModelInfo:
        """What the layers above may know of the model."""
        ...

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Turn prompts into token ids, with the tokenizer's own special tokens and no truncation."""
        ...

    def forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> Activations:
        """Run one batch, padded as the backend likes; the result does not depend on what shares the batch.

        Args:
            sequences: `batch` token sequences, each of at least one token.
            plan: What to return.

        Raises:
            NonFiniteActivationsError: If a returned value is NaN or infinite; `row` is its place in the batch.
        """
        ...

    def close(self) -> None:
        """Release the model. The backend cannot be used afterwards."""
        ...
