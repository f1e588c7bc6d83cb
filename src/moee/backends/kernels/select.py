"""Which kernel computes a layer's experts: chosen once for each layer, used only while we run the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moee.backends.kernels import masked_dense
from moee.backends.kernels.by_expert import by_expert
from moee.backends.kernels.masked_dense import masked_dense_experts

if TYPE_CHECKING:
    import torch
    from torch import nn

KERNEL = "moee"
"""Name by which transformers finds our kernels."""


def experts_of(model: nn.Module) -> list[Any]:
    """Return the modules of `model` whose expert kernel can be switched."""
    return [module for module in model.modules() if hasattr(module, "is_concatenated")]


def choose(module: Any, top_k: int) -> str:
    """Name the kernel that computes one experts module on a CPU: `"masked dense"`, `"by expert"` or `"int8"`.

    Args:
        module: An experts module of transformers.
        top_k: Experts per token.
    """
    if hasattr(module, "moee_int8"):
        return "int8"
    return "masked dense" if masked_dense.suits(module, top_k) else "by expert"


def run_experts(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Compute a layer's experts with the kernel that suits them. See `by_expert` for the arguments."""
    has_own_dtype = self.down_proj.dtype == hidden_states.dtype
    if has_own_dtype and choose(self, top_k_index.shape[-1]) == "masked dense":
        return masked_dense_experts(self, hidden_states, top_k_index, top_k_weights)
    return by_expert(self, hidden_states, top_k_index, top_k_weights)


def _uses_ours(model: nn.Module) -> bool:
    # elsewhere transformers' grouped product is one fused kernel, without a round trip for the number of tokens
    return next(model.parameters()).device.type == "cpu" and bool(experts_of(model))


def describe_kernel(model: nn.Module, top_k: int) -> str:
    """Say which kernel computes the experts of `model`, for people.

    Args:
        model: A text model in memory.
        top_k: Experts per token.
    """
    if not _uses_ours(model):
        return f"transformers' {getattr(model.config, '_experts_implementation', None) or 'own'}"
    return ", ".join(sorted({choose(module, top_k) for module in experts_of(model)}))


def experts_kernel(model: nn.Module) -> str:
    """Let the experts of `model` run with our kernel where that is faster.

    Args:
        model: A twin of a text model, or of one decoder layer of it.

    Returns:
        The name under which transformers finds the kernel in use.
    """
    if not _uses_ours(model):
        return str(getattr(getattr(model, "config", None), "_experts_implementation", None))
    _register()
    for module in experts_of(model):
        # the public attribute would also reach into configurations of other towers
        module.config._experts_implementation_internal = KERNEL
    return KERNEL


def _register() -> None:
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    if KERNEL not in ALL_EXPERTS_FUNCTIONS:
        ALL_EXPERTS_FUNCTIONS.register(KERNEL, run_experts)
