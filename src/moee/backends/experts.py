"""Expert kernels that a model uses only while we run it.

transformers gives every expert its own pair of small matrix products. When a token uses most of the experts anyway
(the embedded default: 30 of 32), one product over all experts with the unused ones weighed zero is the same sum with
far fewer calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

KERNEL = "moee_masked_dense"
_MAX_ELEMENTS = 1 << 24
"""Of the product over all experts, held at once; more tokens are taken in turn. 64 MiB in float32."""
_DENSE_SHARE = 0.4
"""Used from this share of active experts on; below it, skipping unused experts saves more than few calls do."""


def masked_dense_experts(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Compute all experts at once and weigh the ones a token did not choose with zero.

    Args:
        self: The experts module; `gate_up_proj` is `(experts, 2 * width, dim)`, `down_proj` `(experts, dim, width)`.
        hidden_states: `(tokens, dim)`.
        top_k_index: `(tokens, top_k)` int64.
        top_k_weights: `(tokens, top_k)`.

    Returns:
        `(tokens, dim)`, the same sum as the per-expert loop up to rounding.
    """
    import torch

    tokens, dim = hidden_states.shape
    experts, double_width, _ = self.gate_up_proj.shape
    weights = torch.zeros(tokens, experts, dtype=hidden_states.dtype, device=hidden_states.device)
    # added, not set: a table of fixed choices may name an expert twice (DeepSeek-V4)
    weights.scatter_add_(1, top_k_index, top_k_weights.to(weights.dtype))
    gate_up = self.gate_up_proj.reshape(-1, dim)
    down = self.down_proj.permute(1, 0, 2).reshape(dim, -1)
    out = torch.empty_like(hidden_states)
    step = max(1, _MAX_ELEMENTS // (experts * double_width))
    for start in range(0, tokens, step):
        rows = slice(start, start + step)
        both = torch.nn.functional.linear(hidden_states[rows], gate_up)
        active = self._apply_gate(both.view(-1, experts, double_width)).mul_(weights[rows, :, None])
        out[rows] = torch.nn.functional.linear(active.reshape(len(active), -1), down)
    return out


def _suits(module: Any, top_k: int) -> bool:
    """Whether the masked product computes what `module` does, and is worth it."""
    plain = module.has_gate and module.is_concatenated
    normed = getattr(module, "has_post_expert_norm", False)  # transformers 5.19 has no such experts, nor the attribute
    odd = module.has_bias or module.is_transposed or normed
    return bool(plain and not odd and top_k >= _DENSE_SHARE * module.gate_up_proj.shape[0])


def _register() -> None:
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    if KERNEL not in ALL_EXPERTS_FUNCTIONS:
        ALL_EXPERTS_FUNCTIONS.register(KERNEL, masked_dense_experts)


@contextmanager
def experts_kernel(model: nn.Module) -> Iterator[str]:
    """Select the expert kernel for the forward passes inside the context; restore the model's own afterwards.

    Yields:
        The name of the kernel in use.
    """
    experts: list[Any] = [module for module in model.modules() if hasattr(module, "is_concatenated")]
    config: Any = model.config
    top_k = getattr(config, "num_experts_per_tok", None)
    on_cpu = next(model.parameters()).device.type == "cpu"
    if not (on_cpu and experts and isinstance(top_k, int) and all(_suits(module, top_k) for module in experts)):
        yield str(getattr(config, "_experts_implementation", None))
        return
    _register()
    configs = {id(module.config): module.config for module in experts}.values()
    before = [each._experts_implementation for each in configs]
    for each in configs:
        each._experts_implementation = KERNEL
    try:
        yield KERNEL
    finally:
        for each, implementation in zip(configs, before, strict=True):
            each._experts_implementation = implementation
