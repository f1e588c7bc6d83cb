"""`precision="int8"`: weights and activations of 8 bits, on a CPU.

`product` multiplies and rounds, `modules` are the layers that use it, `convert` puts them into a model.
"""

from __future__ import annotations

from moee.backends.int8.convert import Int8Report, quantize
from moee.backends.int8.modules import INT8_KERNEL, Int8Linear, PackedExperts, int8_experts
from moee.backends.int8.product import describe_arithmetic, is_available

__all__ = [
    "INT8_KERNEL",
    "Int8Linear",
    "Int8Report",
    "PackedExperts",
    "describe_arithmetic",
    "int8_experts",
    "is_available",
    "quantize",
]
