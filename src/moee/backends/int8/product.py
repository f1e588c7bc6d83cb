"""Matrix products of 8-bit numbers: rounding, packing, and what this processor multiplies exactly.

Both sides are rounded linearly: a weight row (one output channel) and an activation row (one token) each have a scale
of their own, so what is computed for a token never depends on the other tokens of a batch. The product runs in oneDNN
with unsigned activations (zero point 128) and signed weights, and sums in 32 bits.

Before rounding, both sides are multiplied by the same block-diagonal Hadamard matrix. It is orthogonal, so the product
stays what it was, but a channel that is far larger than the others is spread over its block and no longer takes the
whole range of 8 bits for itself. The idea is QuaRot's (Ashkboos et al., arXiv 2404.00456); no calibration data is used.

Trap: processors with AVX2 but without VNNI multiply through `vpmaddubsw`, which adds two neighbouring products in 16
bits and saturates: 255 * 127 * 2 > 32767. There the weight scale is chosen so that no two neighbours of one sign add up
to more than 128: `255 * 128 < 32768`, so the product is exact again. The kernel is asked once what it can do, not the
list of processor features.

Processors with AMX run a kernel that turns the sum of unsigned activations and weights into float32 before it takes off
the share of the zero point. A sum beyond 2^24 is rounded there, by at most 2^-24 of itself. It takes a weight row whose
rotated sum is far from zero to get so far (2,048 equal weights do); `_ROUNDED` is what a sum may be off by.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

import torch

from moee.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

Arithmetic = Literal["full", "pairs", "halved"]
"""Which weights multiply exactly: any; those whose neighbours add up to at most 128; those of at most 64."""

ZERO = 128
"""What stands for 0 among unsigned activations."""
_RANGE = 127
_PAIR_RANGE = 128
_HALF_RANGE = 64
LARGEST_WIDTH = 1 << 16
"""Channels that can be summed: 255 * 127 * 2^16 is just below 2^31."""
_HADAMARD_WIDTH = 64
"""Width of the Hadamard matrix. Twice as much gained nothing on the demo, half as much lost; the cost grows with it."""
_FEW = 8
"""With fewer rows, float32 products may run another kernel that sums in another order: a token alone would then be
rounded otherwise than in a batch."""
_MAGIC = 12582912.0
"""1.5 * 2^23: added to a small float32, it leaves the nearest integer in the low bits. Three times as fast as rounding
and converting."""
_MAGIC_BITS = 0x4B400000
_TINY = 1e-30
"""Rows whose largest value is smaller count as rows of zeros; dividing by it cannot overflow."""
_ROUNDED = 2.0**-23
"""What float32 may lose of the sum with the zero point still in it, with room for the other roundings. A
saturated pair of products costs hundreds of times more."""
_ELEMENTS = 1 << 18
"""Numbers rounded at once, so that the steps in between stay in the cache."""


def is_available() -> str | None:
    """Say why 8-bit products cannot be computed here; None where they can."""
    if not torch.backends.mkldnn.is_available():
        return "this build of torch has no oneDNN"
    if not hasattr(torch.ops.onednn, "qlinear_pointwise") or not hasattr(torch.ops.onednn, "qlinear_prepack"):
        return f"torch {torch.__version__} has no quantised products of oneDNN"
    if not torch.cpu._is_avx2_supported():
        return "the processor is not an x86 with AVX2, and oneDNN would compute 8-bit products with a slow loop"
    return None


def describe_arithmetic() -> str:
    """Say for people how 8-bit products are computed on this processor."""
    weights = {
        "full": "8-bit weights",
        "pairs": "8-bit weights, neighbours bounded to 128 because this processor adds pairs of products in 16 bits",
        "halved": "7-bit weights, because this processor adds products in 16 bits",
    }
    return f"oneDNN, 8-bit activations, {weights[arithmetic()]}"


class PackedMatrix:
    """A weight matrix as int8 with one scale per output channel, rotated and laid out for oneDNN.

    Attributes:
        shape: `(outputs, inputs)`.
    """

    __slots__ = ("_packed", "_scale", "_zero", "shape")

    def __init__(self, weight: torch.Tensor) -> None:
        """Round and pack `weight`, `(outputs, inputs)` of any floating dtype, on the CPU.

        Raises:
            CheckpointError: If a weight is NaN or infinite.
        """
        quantized, scale = quantize_weight(weight)
        self.shape = (int(weight.shape[0]), int(weight.shape[1]))
        self._scale = scale
        self._zero = torch.zeros(len(scale), dtype=torch.int64)
        self._packed = torch.ops.onednn.qlinear_prepack(quantized, None)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.shape[0] * (self.shape[1] + self._scale.element_size() + self._zero.element_size())

    def multiply(self, rows: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """Multiply rounded activations.

        Args:
            rows: `(tokens, inputs)` uint8 of `quantize_rows`.
            scales: `(tokens, 1)` float32 of `quantize_rows`, or those times a factor per token.

        Returns:
            `(tokens, outputs)` float32.
        """
        out: torch.Tensor = _product(rows, self._packed, self._scale, self._zero)
        return out.mul_(scales)


def _product(rows: torch.Tensor, packed: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    # no output scale or zero point, no bias, nothing fused after the product
    out: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, ZERO, packed, scale, zero, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return out


@cache
def arithmetic() -> Arithmetic:
    """Find out which weights this processor multiplies exactly, by multiplying the worst ones."""
    if all(_is_exact(weights) for weights in _probes(_RANGE, _RANGE)):
        return "full"
    if all(_is_exact(weights) for weights in _probes(_RANGE, _PAIR_RANGE - _RANGE)):
        return "pairs"
    return "halved"


def _probes(large: int, small: int) -> Iterator[torch.Tensor]:
    """Yield weights whose neighbours are `large` and `small`, in both orders and signs, of several widths."""
    for inputs in (64, 70, 2048):
        row = torch.full((inputs,), small, dtype=torch.int8)
        row[::2] = large
        swapped = row.roll(1)
        # the large one first in one pair and second in the next, so that a kernel that pairs others is found out
        turned = torch.where(torch.arange(inputs) % 4 < 2, row, swapped)
        yield torch.stack([row, swapped, turned, -row, -swapped, -turned] * 6)


def _is_exact(weights: torch.Tensor) -> bool:
    outputs, inputs = weights.shape
    packed = torch.ops.onednn.qlinear_prepack(weights, None)
    scale, zero = torch.ones(outputs), torch.zeros(outputs, dtype=torch.int64)
    for tokens in (1, 5, 48, 130):  # oneDNN chooses its kernel by shape
        rows = torch.full((tokens, inputs), 2 * ZERO - 1, dtype=torch.uint8)
        rows[1::3] = 1
        whole = rows.long() @ weights.long().T
        expected = whole - ZERO * weights.long().sum(dim=1)
        off = (_product(rows, packed, scale, zero).double() - expected).abs()
        if bool((off > _ROUNDED * whole.abs()).any()):
            return False
    return True


def quantize_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate a weight matrix and round it to 8 bits, with one scale per output channel.

    Args:
        weight: `(outputs, inputs)`, any floating dtype.

    Returns:
        int8 of the same shape and float32 scales `(outputs,)`: weights times the rotation are about their product. A
        row of zeros stays one.

    Raises:
        CheckpointError: If a weight is NaN or infinite.
    """
    rotated = rotate(weight.detach().float())
    kind = arithmetic()
    largest = rotated.abs().amax(dim=1)
    scale = largest / (_HALF_RANGE if kind == "halved" else _RANGE)
    if kind == "pairs":
        # 127, not 128: rounding may add a half to either neighbour
        scale = torch.maximum(scale, _largest_pair(rotated) / (_PAIR_RANGE - 1))
    if not bool(torch.isfinite(scale).all()):
        row = int(torch.isfinite(scale).int().argmin())
        raise CheckpointError(
            f"Output channel {row} of a weight matrix {tuple(weight.shape)} holds NaN or infinity, so it cannot be "
            "rounded to 8 bits. The checkpoint is damaged; fetch it again."
        )
    scale = scale.clamp_min(_TINY)
    return rotated.div_(scale[:, None]).round_().to(torch.int8), scale


def _largest_pair(weight: torch.Tensor) -> torch.Tensor:
    """Return per row the largest sum of two neighbours of one sign, `(outputs,)`."""
    even, odd = weight[:, ::2], weight[:, 1::2]
    if even.shape[1] > odd.shape[1]:
        odd = torch.nn.functional.pad(odd, (0, 1))
    above = even.clamp_min(0).add_(odd.clamp_min(0)).amax(dim=1)
    below = even.clamp_max(0).add_(odd.clamp_max(0)).amin(dim=1)
    return torch.maximum(above, -below)


@torch.no_grad()
def quantize_rows(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate activations and round them to 8 bits, with one scale per token.

    Args:
        states: `(tokens, inputs)`, any floating dtype.

    Returns:
        uint8 of the same shape, 128 standing for 0, and float32 scales `(tokens, 1)`. A row of zeros stays one. NaN or
        infinity makes its token's scale so, and hence all that is computed for the token: it does not pass unseen.
    """
    tokens, inputs = states.shape
    rows = torch.empty(tokens, inputs, dtype=torch.uint8)
    scales = torch.empty(tokens, 1, dtype=torch.float32)
    step = max(1, _ELEMENTS // inputs)
    for start in range(0, tokens, step):
        part = slice(start, start + step)
        rotated = rotate(states[part].float())
        largest = torch.maximum(rotated.amax(dim=1, keepdim=True), -rotated.amin(dim=1, keepdim=True))
        scale = torch.div(largest.clamp_min_(_TINY), _RANGE, out=scales[part])
        shifted = rotated.mul_(scale.reciprocal()).add_(_MAGIC + ZERO)
        rows[part] = shifted.view(torch.int32).sub_(_MAGIC_BITS)
    return rows, scales


def rotate(rows: torch.Tensor) -> torch.Tensor:
    """Multiply the last dimension by the block-diagonal Hadamard matrix, `(n, inputs)` float32; always a copy.

    Blocks are of the largest power of two up to 64 that divides the width; an odd width is left as it is.
    """
    width = rows.shape[-1]
    block = min(_HADAMARD_WIDTH, width & -width)
    if block == 1:
        return rows.clone()
    blocks = rows.reshape(-1, block)
    count = len(blocks)
    if count < _FEW:
        blocks = torch.nn.functional.pad(blocks, (0, 0, 0, _FEW - count))
    return torch.mm(blocks, _hadamard(block))[:count].reshape(rows.shape)


@cache
def _hadamard(size: int) -> torch.Tensor:
    """Return the symmetric orthogonal Hadamard matrix, `(size, size)` float32; `size` is a power of two."""
    with torch.inference_mode(False):  # it is kept, and a tensor made in inference mode could not be used outside
        matrix = torch.ones(1, 1)
        while len(matrix) < size:
            matrix = torch.cat([torch.cat([matrix, matrix], dim=1), torch.cat([matrix, -matrix], dim=1)])
        return matrix.div_(size**0.5)
