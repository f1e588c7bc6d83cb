"""A batch of token sequences as the model gets it, and what is read from the model while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moee.backends.forward.capture import Captured
from moee.backends.forward.packing import Packing
from moee.method.pooling import TokenLayout, pool
from moee.types import CapturePlan

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, slots=True)
class Work:
    """What forward passes have computed; adds up.

    Attributes:
        sequences: Token sequences.
        tokens: Token rows that went through the layers, padding counted, a shared beginning once for each pass over it.
        last_layer_rows: Rows for which all of the last layer was computed, not its keys and values alone.
    """

    sequences: int = 0
    tokens: int = 0
    last_layer_rows: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.sequences + other.sequences,
            self.tokens + other.tokens,
            self.last_layer_rows + other.last_layer_rows,
        )


@dataclass
class Batch:
    """One input of the model.

    Attributes:
        inputs: Arguments of the model's forward.
        layout: Places of the texts in it.
        packing: How attention treats texts side by side; None for padded rows.
        trims: Whether the last layer runs for last tokens alone.
        shared: First tokens of the texts that are not in it.
        captured: What has been read so far.
    """

    inputs: Mapping[str, Any]
    layout: TokenLayout
    packing: Packing | None
    trims: bool
    shared: int = 0
    captured: Captured = field(default_factory=Captured)

    @property
    def after_last_layer(self) -> TokenLayout:
        """Where the texts are in what the last layer returns."""
        import torch

        return TokenLayout.packed(torch.ones_like(self.layout.lengths)) if self.trims else self.layout

    @property
    def work(self) -> Work:
        """What one pass over the batch computes."""
        return Work(len(self.layout.lengths), self.layout.rows, self.after_last_layer.rows)

    @contextmanager
    def in_attention(self, last_layer: nn.Module) -> Iterator[None]:
        """Inside the context, attention knows the batch, and `last_layer`, a twin's, is trimmed if it is to be."""
        with ExitStack() as stack:
            if self.packing is not None:
                stack.enter_context(self.packing.announced())
                if self.trims:
                    stack.enter_context(self.packing.last_layer_trimmed(last_layer))
            yield

    def read_output(self, states: torch.Tensor, layer: int, plan: CapturePlan) -> None:
        """Pool the model's output, which is that of its last layer, number `layer`, after the final norm."""
        self.captured.hidden[layer] = pool(states, self.after_last_layer, plan.hidden_pooling)

    def read_tokens(self, states: torch.Tensor, plan: CapturePlan) -> None:
        """Average the output of a layer that ran for all tokens over each text's own ones."""
        self.captured.read_tokens(states, self.layout, plan, self.shared)
