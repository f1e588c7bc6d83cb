"""Experts one after the other, each with all of its tokens at once.

The pairs of token and expert are sorted once. Every expert that was chosen gets one pair of matrix products over its
tokens; what it makes of them is weighed and summed over experts in float32. Nothing of the size
`tokens * top_k * dim` is ever held, so a batch may be long.

The weights may be kept in another dtype than the computation's (bfloat16 in memory on a processor that computes in
float32): one expert at a time is then cast, which costs little once an expert has a few hundred tokens.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from moee.backends.kernels.plain import is_plain
from moee.backends.kernels.row_counts import compiles_per_shape, few_shapes

if TYPE_CHECKING:
    import torch


def by_expert(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Compute the chosen experts of every token.

    Args:
        self: An experts module of transformers, of any layout that its expert interface describes.
        hidden_states: `(tokens, dim)`.
        top_k_index: `(tokens, top_k)` int64. An expert named twice counts twice.
        top_k_weights: `(tokens, top_k)`.

    Returns:
        `(tokens, dim)` in the dtype of `hidden_states`, the same sum as upstream's loop up to rounding. A token's sum
        runs over experts in ascending order, whatever else is in the batch.
    """
    import torch

    top_k = top_k_index.shape[-1]
    experts = top_k_index.reshape(-1)
    order = torch.argsort(experts, stable=True)
    tokens = order // top_k
    weights = top_k_weights.reshape(-1)[order].float()[:, None]
    counts = torch.bincount(experts, minlength=self.down_proj.shape[0]).tolist()
    rows_for = few_shapes if compiles_per_shape(hidden_states) else int
    most = rows_for(max(counts))
    # an expert is given rows of the next one too, or the first token's, and what it makes of them is dropped
    rows = torch.nn.functional.pad(tokens, (0, most))
    out = torch.zeros(hidden_states.shape, dtype=torch.float32, device=hidden_states.device)
    weighted = torch.empty(most, out.shape[1], dtype=torch.float32, device=out.device)
    run = _Plain(self, hidden_states, most) if is_plain(self) else partial(_expert, self, hidden_states)
    start = 0
    for expert, count in enumerate(counts):
        if count == 0:
            continue
        pairs = slice(start, start + count)
        found = run(expert, rows[start : start + rows_for(count)])[:count]
        # cast first: a product of two dtypes runs without vector instructions
        piece = weighted[:count].copy_(found).mul_(weights[pairs])
        out.index_add_(0, tokens[pairs], piece)
        start += count
    return out.to(hidden_states.dtype)


class _Plain:
    """Runs plain experts in memory of its own: new memory for each would cost a tenth of the time in page faults."""

    def __init__(self, module: Any, states: torch.Tensor, most: int) -> None:
        self._module = module
        self._states = states
        self._given = states.new_empty(most, states.shape[1])
        self._inner = states.new_empty(most, module.gate_up_proj.shape[1])
        self._outer = states.new_empty(most, module.down_proj.shape[1])

    def __call__(self, expert: int, tokens: torch.Tensor) -> torch.Tensor:
        import torch

        dtype = self._states.dtype
        first, second = (getattr(self._module, name)[expert].to(dtype) for name in ("gate_up_proj", "down_proj"))
        given = torch.index_select(self._states, 0, tokens, out=self._given[: len(tokens)])
        inner = torch.mm(given, first.t(), out=self._inner[: len(tokens)])
        gate, up = inner.chunk(2, dim=-1)
        active = torch.nn.functional.silu(gate, inplace=True).mul_(up)
        return torch.mm(active, second.t(), out=self._outer[: len(tokens)])


def _expert(module: Any, states: torch.Tensor, expert: int, tokens: torch.Tensor) -> torch.Tensor:
    """Run the states of some tokens through one expert, of any layout."""
    first = "gate_up_proj" if module.has_gate else "up_proj"
    inner = _linear(module, first, expert, states.index_select(0, tokens))
    inner = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
    out = _linear(module, "down_proj", expert, inner)
    # transformers 5.19 has no experts with a norm, nor the attribute
    return module.post_expert_norm(out) if getattr(module, "has_post_expert_norm", False) else out


def _linear(module: Any, name: str, expert: int, states: torch.Tensor) -> torch.Tensor:
    import torch

    weight = getattr(module, name)[expert].to(states.dtype)
    bias = getattr(module, f"{name}_bias")[expert].to(states.dtype) if module.has_bias else None
    return torch.nn.functional.linear(states, weight.t() if module.is_transposed else weight, bias)
