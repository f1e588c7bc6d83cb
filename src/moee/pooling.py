"""Which tokens of a padded batch count, and how much. The only place that knows about padding.

Works on torch tensors inside a backend, so that rows nobody pools never leave the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from moee.types import Pooling

if TYPE_CHECKING:
    import torch

PaddingSide = Literal["left", "right"]
POOLINGS: tuple[Pooling, ...] = ("last_token", "mean", "weighted_mean")


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Where the real tokens of a padded batch are.

    Attributes:
        mask: `(batch, seq)` bool, True on real tokens.
        last: `(batch,)` int64, position of the last real token of every row.
    """

    mask: torch.Tensor
    last: torch.Tensor

    @classmethod
    def of(cls, lengths: torch.Tensor, width: int, side: PaddingSide) -> TokenLayout:
        """Lay out sequences of `lengths` (each >= 1) in rows of `width`, padded on `side`."""
        import torch

        positions = torch.arange(width, device=lengths.device)[None, :]
        if side == "right":
            return cls(positions < lengths[:, None], lengths - 1)
        return cls(positions >= width - lengths[:, None], torch.full_like(lengths, width - 1))

    @property
    def is_padded(self) -> bool:
        """Whether any position is padding."""
        return not bool(self.mask.all())

    def position_ids(self) -> torch.Tensor:
        """Return `(batch, seq)` positions that count real tokens from 0; padding before the text gets 0."""
        return (self.mask.long().cumsum(dim=-1) - 1).clamp_min(0)

    def flat_last(self) -> torch.Tensor:
        """Return the last tokens' indices into the flattened `(batch * seq)` axis."""
        batch, width = self.mask.shape
        return self.last.new_tensor(range(batch)) * width + self.last

    def weights(self, pooling: Pooling) -> torch.Tensor:
        """Return `(batch, seq)` float32 weights of the tokens; each row sums to 1.

        `weighted_mean` weighs the i-th real token by i, counted from 1 (SGPT, 2202.08904 section 3.2).
        """
        counts = self.mask.float()
        if pooling == "weighted_mean":
            counts = counts * counts.cumsum(dim=-1)
        return counts / counts.sum(dim=-1, keepdim=True)


def pool(states: torch.Tensor, layout: TokenLayout, pooling: Pooling) -> torch.Tensor:
    """Pool token states into one float32 row per text.

    Args:
        states: `(batch, seq, dim)`, any float dtype.
        layout: Of the same batch.
        pooling: How.

    Returns:
        `(batch, dim)` float32 on the device of `states`.
    """
    import torch

    if pooling == "last_token":
        rows = torch.arange(len(states), device=states.device)
        return states[rows, layout.last].float()
    # selected, not multiplied by zero: a padded position may hold anything, NaN included
    real = torch.where(layout.mask[:, :, None], states.float(), 0.0)
    return torch.einsum("bs,bsd->bd", layout.weights(pooling), real)
