"""All experts of a layer in one masked product, for layers in which a token uses most of them.

When a token uses 30 of 32 small experts (the embedded default), one product over all of them, with the unused ones
weighed zero, is the same sum as a pair of products for each expert, with far fewer calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moee.backends.kernels.plain import is_plain

if TYPE_CHECKING:
    import torch

_MAX_ELEMENTS = 1 << 24
"""Numbers of the product over all experts held at once; more tokens are taken in turn. 64 MiB in float32."""
_DENSE_SHARE = 0.4
"""Share of active experts from which it pays; below, skipping unused experts saves more than few calls do."""


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
    activate = _plain(self) if is_plain(self) else _any(self)
    down = self.down_proj.permute(1, 0, 2).reshape(dim, -1)
    out = torch.empty_like(hidden_states)
    step = max(1, _MAX_ELEMENTS // (experts * double_width))
    for start in range(0, tokens, step):
        rows = slice(start, start + step)
        active = activate(hidden_states[rows]).view(-1, experts, double_width // 2).mul_(weights[rows, :, None])
        out[rows] = torch.nn.functional.linear(active.view(len(active), -1), down)
    return out


def _plain(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what makes of states the gated inner ones of all experts, `(tokens, experts * width)`.

    The gates of all experts are put side by side, and so is what they gate: on pieces of one expert's width, the steps
    between the products took as long as those.
    """
    import torch

    gates, ups = (half.reshape(-1, half.shape[-1]) for half in module.gate_up_proj.chunk(2, dim=1))

    def activate(states: torch.Tensor) -> torch.Tensor:
        gate = torch.nn.functional.linear(states, gates)
        return torch.nn.functional.silu(gate, inplace=True).mul_(torch.nn.functional.linear(states, ups))

    return activate


def _any(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the same for experts with a gate of their own."""
    import torch

    experts, double_width, dim = module.gate_up_proj.shape
    gate_up = module.gate_up_proj.reshape(-1, dim)

    def activate(states: torch.Tensor) -> torch.Tensor:
        both = torch.nn.functional.linear(states, gate_up)
        active: torch.Tensor = module._apply_gate(both.view(-1, experts, double_width))
        return active.reshape(len(active), -1)

    return activate
