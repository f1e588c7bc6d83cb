"""The seam between a model and everything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from moee.errors import InputError
from moee.types import Activations, CapturePlan, ModelInfo


class Backend(Protocol):
    """Runs a model on token sequences. Knows nothing of prompts, calibration or fusion."""

    @property
    def info(self) -> ModelInfo:
        """What the layers above may know of the model."""
        ...

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Turn prompts into token ids, with the tokenizer's own special tokens and no truncation.

        In `method.prompts.RenderedPrompts` only the template may name a control token. Several threads may
        ask at once.

        The two `method.prompts.TemplateParts` and the `method.prompts.TextParts` of a template are tokenised apart:
        special tokens that the tokenizer puts first are with what stands before the text, none else is added, and no
        text has more than `limit` tokens.
        """
        ...

    def detokenize(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Turn token ids back into texts, without the tokenizer's special tokens.

        Raises:
            InputError: If an id is not in the vocabulary, or the backend cannot do it.
        """
        ...

    def run(
        self, batches: Sequence[Sequence[Sequence[int]]], plan: CapturePlan, *, shared: int = 0
    ) -> Iterator[Activations]:
        """Run batches, laid out as the backend likes; a text's result does not depend on what shares its batch.

        Args:
            batches: Each of token sequences, each of those of at least one token.
            plan: What to return.
            shared: Tokens that all sequences begin with, fewer than the shortest has; they may be computed once.

        Yields:
            The activations of every batch, in order.

        Raises:
            NonFiniteActivationsError: If a value is NaN or infinite, when its batch is due; `row` is its place there.
        """
        ...

    def close(self) -> None:
        """Release the model. The backend cannot be used afterwards."""
        ...


def shareable(plan: CapturePlan, shared: int) -> int:
    """Return how many of `shared` first tokens may be computed once: those of which nothing but attention reads.

    A mean over the tokens of a text reads all of them, and one over the text's own tokens those behind the template's
    beginning, even where all texts begin alike.
    """
    if not plan.hidden_pooling == plan.routing_pooling == "last_token":
        return 0
    return shared if plan.tokens_layer is None else min(shared, plan.text_span[0])


def closed(name: str) -> InputError:
    """Return the error of a backend that is used after `close`."""
    return InputError(f"The model {name!r} is closed and its weights are gone. Load it again to go on with it.")
