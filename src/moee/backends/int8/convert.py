"""Turn the products of a model, or of one decoder layer, into 8-bit ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import ref

from torch import nn

from moee.backends.int8.modules import INT8_KERNEL, FreedWeight, Int8Linear, PackedExperts, int8_experts
from moee.backends.int8.product import LARGEST_WIDTH, is_available
from moee.errors import InputError

SMALLEST = 1024
"""Least number of output channels. The fewer outputs, the more of the gain goes into rounding what comes in, with
nothing left near 200; the error is the same. On the embedded default, converting its layers of 512 and 576 outputs
besides the experts raised the speed from 1.2 to 1.4 times full precision, and lowered the cosine of its vectors to the
exact ones from 0.998 to 0.993 (precision.json in benchmarks/results/performance, on
calibration sentences)."""
_READ_DIRECTLY = frozenset({"dt_proj"})
"""Names of linear layers that upstream's code does not call but multiplies by (Mamba's time step)."""


@dataclass(frozen=True, slots=True)
class Int8Report:
    """What `quantize` did.

    Attributes:
        linears: Linear layers that now multiply in 8 bits.
        experts: Experts that do, over all layers.
        kept: Paths of linear layers left in full precision, routers included.
        bytes_before: Bytes of the weights that were converted.
        bytes_after: Bytes of what replaced them.
    """

    linears: int
    experts: int
    kept: tuple[str, ...]
    bytes_before: int
    bytes_after: int


def quantize(module: nn.Module, *, keep: Collection[nn.Module] = (), smallest: int = SMALLEST) -> Int8Report:
    """Convert, in place, all linear layers and fused experts under `module` to 8 bits.

    Routers, norms, embeddings, convolutions and linear layers with few outputs stay as they are. Weights that are
    converted are freed one after the other, so memory never holds much more than the larger of both models.

    Args:
        module: A text model, or one decoder layer of it, on the CPU.
        keep: Modules to leave alone with all that is under them: the routers.
        smallest: Linear layers with fewer outputs stay in full precision.

    Raises:
        InputError: If 8-bit products cannot be computed here, or `module` is not on the CPU. Nothing is changed then.
        CheckpointError: If a weight is NaN or infinite.
    """
    _check(module)
    kept = {id(inner) for each in keep for inner in each.modules()}
    linears: list[str] = []
    left: list[str] = []
    experts = before = after = 0
    for path, parent, name, child in list(_children(module)):
        if type(child) is nn.Linear:
            if id(child) in kept or not _pays(child, name, smallest):
                left.append(path)
                continue
            before += child.weight.nbytes
            converted = Int8Linear(child)
            after += converted.matrix.nbytes
            setattr(parent, name, converted)
            linears.append(path)
        elif _is_experts(child) and id(child) not in kept:
            freed, packed = _pack(child)
            before, after, experts = before + freed, after + packed.nbytes, experts + packed.num_experts
    return Int8Report(len(linears), experts, tuple(left), before, after)


def _check(module: nn.Module) -> None:
    if reason := is_available():
        raise InputError(f"precision='int8' cannot be used here: {reason}. Use precision='exact', the default.")
    devices = {parameter.device.type for parameter in module.parameters()} - {"cpu"}
    if devices:
        raise InputError(
            f"precision='int8' computes on the CPU, and weights of this model are on {', '.join(sorted(devices))}. "
            "Load it with device='cpu', or use precision='exact', the default."
        )


def _children(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Module]]:
    """Yield every module below `module` with its path, its parent and its name there."""
    for path, parent in module.named_modules():
        for name, child in parent.named_children():
            yield f"{path}.{name}".lstrip("."), parent, name, child


def _pays(linear: nn.Linear, name: str, smallest: int) -> bool:
    """Whether a linear layer can be computed in 8 bits, and gains by it."""
    return linear.out_features >= smallest and linear.in_features < LARGEST_WIDTH and name not in _READ_DIRECTLY


def _is_experts(module: Any) -> bool:
    """Whether `module` holds fused experts behind transformers' interface."""
    return hasattr(module, "is_concatenated") and hasattr(module, "down_proj") and not hasattr(module, "moee_int8")


def _pack(module: Any) -> tuple[int, PackedExperts]:
    """Pack the experts of one layer, free their weights, and return how many bytes those took."""
    packed = PackedExperts(module)
    freed = 0
    for name in ("gate_up_proj" if module.has_gate else "up_proj", "down_proj"):
        weights = getattr(module, name)
        freed += weights.nbytes
        delattr(module, name)
        setattr(module, name, FreedWeight(weights))
    module.moee_int8 = packed
    # on the module itself: whatever kernel the configuration selects, there are no other weights left
    module.forward = _Forward(module)
    _register()
    return freed, packed


class _Forward:
    """`int8_experts` of one module, without a hold on it: a layer is freed as it goes, not by the collector."""

    __slots__ = ("_module",)

    def __init__(self, module: nn.Module) -> None:
        self._module = ref(module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return int8_experts(self._module(), *args, **kwargs)


def _register() -> None:
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    if INT8_KERNEL not in ALL_EXPERTS_FUNCTIONS:
        ALL_EXPERTS_FUNCTIONS.register(INT8_KERNEL, int8_experts)
