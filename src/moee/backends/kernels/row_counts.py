"""How many rows a product is given, so that few different numbers occur.

oneDNN compiles machine code for every shape that it has not met, and keeps a thousand. Each expert of each layer and
batch gets its own number of tokens, so nearly every product would be a new shape: compiling took 10 ms before products
of 5 ms in bfloat16 (AMX). A few rows more cost less. Products in float32 go to another library, which compiles nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_LEAST = 16
"""Rows of a tile: fewer are computed as so many anyway."""
_STEPS = 16
"""Numbers between a power of two and the next: up to 6 % of rows are added, 3 % on average."""


def few_shapes(count: int) -> int:
    """Return the next larger number of rows that is used: one of 16 to an octave, and a multiple of 16."""
    step = max(_LEAST, (1 << (count.bit_length() - 1)) // _STEPS) if count else _LEAST
    return -(-count // step) * step


def compiles_per_shape(states: torch.Tensor) -> bool:
    """Whether products of `states` compile code for every shape: in 16 bits on a CPU."""
    return states.device.type == "cpu" and states.element_size() == 2
