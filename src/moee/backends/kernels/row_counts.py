"""How many rows a product is given, so that few different numbers occur.

oneDNN compiles machine code for every shape that it has not met, and keeps a thousand. Each expert of each layer and
batch gets its own number of tokens, so nearly every product would be a new shape, and with AMX compiling takes longer
than the product. A few rows more cost less. Products in float32 go to another library, which compiles nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_LEAST = 16
"""Rows of a tile. Fewer stay as they are, as when texts come one by one: that is few numbers anyway."""
_STEPS = 16
"""Numbers between a power of two and the next: up to 6 % of rows are added, 3 % on average."""


def few_shapes(count: int) -> int:
    """Return how many rows `count` rows are computed as: beyond 16, a multiple of 16 and one of 16 to an octave."""
    if count <= _LEAST:
        return count
    step = max(_LEAST, (1 << (count.bit_length() - 1)) // _STEPS)
    return -(-count // step) * step


def compiles_per_shape(states: torch.Tensor) -> bool:
    """Whether products of `states` compile code for every shape: in 16 bits on a CPU."""
    return states.device.type == "cpu" and states.element_size() == 2
