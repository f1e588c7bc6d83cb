"""All experts of a layer in one masked product, for layers in which a token uses most of them.

When a token uses 30 of 32 small experts (the embedded default), one product over all of them, with the unused ones
weighed zero, is the same sum as a pair of products for each expert, with far fewer calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_MAX_ELEMENTS = 1 << 24
"""Of the product over all experts, held at once; more tokens are taken in turn. 64 MiB in float32."""
_DENSE_SHARE = 0.4
"""Worth it from this share of active experts on; below, skipping unused experts saves more than few calls do."""


def suits(module: Any, top_k: int) -> bool:
    """Whether the masked product computes what the experts `module` does, and is worth it."""
    plain = module.has_gate and module.is_concatenated
    normed = getattr(module, "has_post_expert_norm", False)  # transformers 5.19 has no such experts, nor the attribute
    odd = module.has_bias or module.is_transposed or normed
    return bool(plain and not odd and pays(top_k, module.gate_up_proj.shape[0]))


def pays(top_k: int, num_experts: int) -> bool:
    """Whether enough of the experts are active."""
    return top_k >= _DENSE_SHARE * num_experts


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
