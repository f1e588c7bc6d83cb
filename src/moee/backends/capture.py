"""Read routers and layers during one forward pass, through hooks that are always removed.

Only what pooling needs leaves a hook: one row per text for the last token, one pooled row otherwise. We never ask
transformers for `output_router_logits`: it keeps every token's row of every layer, and several releases returned
probabilities under that name (transformers issue 45120).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from moee.backends.routers import RouterSite
from moee.errors import UnsupportedArchitectureError
from moee.pooling import TokenLayout, pool
from moee.routing import score_experts
from moee.types import Array, CapturePlan

if TYPE_CHECKING:
    import torch
    from torch import nn

_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(slots=True)
class Captured:
    """What the hooks of one forward pass have read.

    Attributes:
        routing: Per router site, by its path: `(batch, num_experts)` float32.
        hidden: Per decoder layer: `(batch, hidden_size)` float32, pooled.
    """

    routing: dict[str, Array] = field(default_factory=dict)
    hidden: dict[int, torch.Tensor] = field(default_factory=dict)


def _router_tensor(site: RouterSite, output: Any) -> torch.Tensor:
    """Pick the recorded element of a router's output, as raw logits, `(tokens, num_experts)`."""
    import torch

    value = output if site.output is None else output[site.output]
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        raise UnsupportedArchitectureError(
            f"The router {site.path!r} returned {type(value).__name__} where its logits were expected. "
            "The installed transformers may have changed it; `moee doctor` shows the tested version."
        )
    value = value.detach().reshape(-1, value.shape[-1])
    if site.reads == "probabilities":
        # softmax(log p) == p, so one rule serves every architecture from here on
        value = value.float().clamp_min(_SMALLEST).log()
    return value


def _reduce_routing(
    site: RouterSite, logits: torch.Tensor, layout: TokenLayout, plan: CapturePlan, scoring_func: str
) -> Array:
    batch, width = layout.mask.shape
    if len(logits) != batch * width:
        raise UnsupportedArchitectureError(
            f"The router {site.path!r} returned {len(logits)} rows for {batch} x {width} tokens: "
            "its experts do not see every token on its own, so a text would depend on its neighbours."
        )
    if plan.routing_pooling == "last_token":
        return np.asarray(logits[layout.flat_last()].float().cpu().numpy())
    weights = score_experts(
        logits.float().cpu().numpy(), plan.scoring, scoring_func=scoring_func, top_k=min(site.top_k, logits.shape[-1])
    ).reshape(batch, width, -1)
    token_weights = layout.weights(plan.routing_pooling).cpu().numpy()
    real = np.where(layout.mask.cpu().numpy()[:, :, None], weights, np.float32(0))
    return np.asarray(np.einsum("bs,bse->be", token_weights, real), dtype=np.float32)


@contextmanager
def capture(
    sites: Sequence[RouterSite],
    layers: Sequence[tuple[int, nn.Module]],
    layout: TokenLayout,
    plan: CapturePlan,
    *,
    scoring_func: str,
) -> Iterator[Captured]:
    """Hook routers and layers for one forward pass.

    Args:
        sites: Routers to read.
        layers: Decoder layers whose output to pool, with their numbers.
        layout: Of the batch that the forward pass will run.
        plan: How to pool.
        scoring_func: The model's own, for pooled routing.

    Yields:
        A value that fills while the model runs.
    """
    import torch

    captured = Captured()
    handles: list[Any] = []

    def read_router(site: RouterSite) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            if site.path in captured.routing:
                raise UnsupportedArchitectureError(
                    f"The router {site.path!r} ran twice in one forward pass; which call to read is not known."
                )
            captured.routing[site.path] = _reduce_routing(
                site, _router_tensor(site, output), layout, plan, scoring_func
            )

        return hook

    def read_layer(layer_id: int) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            states = output[0] if isinstance(output, tuple) else output
            if not isinstance(states, torch.Tensor) or states.shape[:2] != layout.mask.shape or states.dim() != 3:
                raise UnsupportedArchitectureError(
                    f"Layer {layer_id} does not return one state per token, so hidden_layers other than 'last' "
                    "cannot be used with this architecture."
                )
            captured.hidden[layer_id] = pool(states, layout, plan.hidden_pooling)

        return hook

    try:
        handles.extend(site.module.register_forward_hook(read_router(site)) for site in sites)
        handles.extend(module.register_forward_hook(read_layer(number)) for number, module in layers)
        yield captured
    finally:
        for handle in handles:
            handle.remove()
