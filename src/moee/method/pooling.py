"""Which tokens of a batch count, and how much. The only place that knows how texts lie in a batch.

Works on torch tensors inside a backend, so that rows nobody pools never leave the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from moee.types import Pooling

if TYPE_CHECKING:
    import torch

PaddingSide = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Where the real tokens of a batch are: one text a row and padding, or all texts side by side in one row.

    Attributes:
        shape: Rows and width of the batch as the model gets it.
        places: `(tokens,)` int64, the real tokens in the flattened `(rows * width)` axis, text after text.
        lengths: `(texts,)` int64, tokens of each text, at least 1.
    """

    shape: tuple[int, int]
    places: torch.Tensor
    lengths: torch.Tensor

    @classmethod
    def padded(cls, lengths: torch.Tensor, width: int, side: PaddingSide) -> TokenLayout:
        """Lay out texts of `lengths` in rows of `width`, padded on `side`."""
        import torch

        positions = torch.arange(width, device=lengths.device)[None, :]
        real = positions < lengths[:, None] if side == "right" else positions >= width - lengths[:, None]
        return cls((len(lengths), width), real.flatten().nonzero()[:, 0], lengths)

    @classmethod
    def packed(cls, lengths: torch.Tensor) -> TokenLayout:
        """Lay out texts of `lengths` side by side in one row."""
        import torch

        total = int(lengths.sum())
        return cls((1, total), torch.arange(total, device=lengths.device), lengths)

    @property
    def rows(self) -> int:
        """Token rows of the batch, padding included."""
        return self.shape[0] * self.shape[1]

    @property
    def is_padded(self) -> bool:
        """Whether any position is padding."""
        return len(self.places) < self.rows

    @property
    def last(self) -> torch.Tensor:
        """The last token of every text, `(texts,)` indices into the flattened axis."""
        return self.places[self.lengths.cumsum(0) - 1]

    @property
    def mask(self) -> torch.Tensor:
        """`(rows, width)` bool, True on real tokens."""
        import torch

        flat = torch.zeros(self.rows, dtype=torch.bool, device=self.places.device)
        flat[self.places] = True
        return flat.view(self.shape)

    def positions(self) -> torch.Tensor:
        """Return the place of every real token in its own text, counted from 0: `(tokens,)` int64."""
        import torch

        starts = (self.lengths.cumsum(0) - self.lengths).repeat_interleave(self.lengths)
        return torch.arange(len(self.places), device=self.places.device) - starts

    def position_ids(self) -> torch.Tensor:
        """Return `positions` as `(rows, width)`; padding gets 0."""
        import torch

        flat = torch.zeros(self.rows, dtype=torch.long, device=self.places.device)
        flat[self.places] = self.positions()
        return flat.view(self.shape)

    def weights(self, pooling: Pooling) -> torch.Tensor:
        """Return the weight of every real token, `(tokens,)` float32; those of a text sum to 1.

        `weighted_mean` weighs the i-th token by i, counted from 1 (SGPT, 2202.08904 section 3.2).
        """
        import torch

        counts = self.positions().float() + 1 if pooling == "weighted_mean" else torch.ones_like(self.places).float()
        totals = counts.new_zeros(len(self.lengths)).index_add_(0, self.texts(), counts)
        return counts / totals[self.texts()]

    def texts(self) -> torch.Tensor:
        """Return which text every real token belongs to, `(tokens,)` int64."""
        import torch

        return torch.arange(len(self.lengths), device=self.places.device).repeat_interleave(self.lengths)


def pool(states: torch.Tensor, layout: TokenLayout, pooling: Pooling) -> torch.Tensor:
    """Pool token states into one float32 row per text.

    Args:
        states: `(rows, width, dim)` or `(rows * width, dim)`, any float dtype.
        layout: Layout of the same batch.
        pooling: How the tokens of a text become one row.

    Returns:
        `(texts, dim)` float32 on the device of `states`.
    """
    flat = states.reshape(-1, states.shape[-1])
    if pooling == "last_token":
        return flat[layout.last].float()
    # selected, not multiplied by zero: a padded position may hold anything, NaN included
    weighted = flat[layout.places].float() * layout.weights(pooling)[:, None]
    return weighted.new_zeros(len(layout.lengths), flat.shape[-1]).index_add_(0, layout.texts(), weighted)


def pool_own(states: torch.Tensor, layout: TokenLayout, before: int, after: int) -> torch.Tensor:
    """Average token states over what lies between the first `before` and the last `after` tokens of each text.

    Args:
        states: `(rows, width, dim)` or `(rows * width, dim)`, any float dtype.
        layout: Layout of the same batch.
        before: Tokens that are left out at the beginning of each text.
        after: Tokens that are left out at its end.

    Returns:
        `(texts, dim)` float32 on the device of `states`; zeros where nothing lies between.
    """
    import torch

    flat = states.reshape(-1, states.shape[-1])
    texts, positions = layout.texts(), layout.positions()
    own = (positions >= before) & (positions < layout.lengths[texts] - after)
    texts, rows = texts[own], flat[layout.places[own]].float()
    # summed in float32: bfloat16 has 8 bits, which a sum of some hundred tokens has used up
    total = rows.new_zeros(len(layout.lengths), flat.shape[-1]).index_add_(0, texts, rows)
    return total / torch.bincount(texts, minlength=len(layout.lengths)).clamp_min(1)[:, None]
