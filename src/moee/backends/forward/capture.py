"""Read routers and layers during one forward pass, through hooks on a twin that only this pass runs.

Only what pooling needs leaves a hook: one row per text for the last token, one pooled row otherwise. We never ask
transformers for `output_router_logits`: it keeps every token's row of every layer, and several releases returned
probabilities under that name (transformers issue 45120).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from moee.backends.forward.routers import RouterSite
from moee.backends.forward.twin import Twin
from moee.errors import UnsupportedArchitectureError
from moee.method.pooling import TokenLayout, pool, pool_own
from moee.method.routing import score_experts
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
        projections: The same for random projections of the router's input, if the plan asks for them.
        hidden: Per decoder layer: `(batch, hidden_size)` float32, pooled.
        tokens: `(batch, hidden_size)` float32, the mean over the text's own tokens, if the plan asks for it.
    """

    routing: dict[str, Array] = field(default_factory=dict)
    projections: dict[str, Array] = field(default_factory=dict)
    hidden: dict[int, torch.Tensor] = field(default_factory=dict)
    tokens: torch.Tensor | None = None

    def read_tokens(self, states: torch.Tensor, layout: TokenLayout, plan: CapturePlan, shared: int) -> None:
        """Average a layer's output over each text's own tokens.

        Args:
            states: `(rows, width, hidden_size)`.
            layout: Layout of the batch.
            plan: Says how many tokens are the template's.
            shared: The template's first tokens that are not in the batch.
        """
        before, after = plan.text_span
        self.tokens = pool_own(states, layout, before - shared, after)


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


def _layer_output(output: Any, layout: TokenLayout) -> torch.Tensor | None:
    """Pick the states out of what a decoder layer returned: `(rows, width, ...)`; None if it has no such thing."""
    import torch

    states = output[0] if isinstance(output, tuple) else output
    return states if isinstance(states, torch.Tensor) and states.shape[:2] == layout.shape else None


def _reduce_routing(
    site: RouterSite, logits: torch.Tensor, layout: TokenLayout, plan: CapturePlan, scoring_func: str
) -> Array:
    import torch

    if len(logits) != layout.rows:
        raise UnsupportedArchitectureError(
            f"The router {site.path!r} returned {len(logits)} rows for {layout.shape[0]} x {layout.shape[1]} tokens: "
            "its experts do not see every token on its own, so a text would depend on its neighbours."
        )
    if plan.routing_pooling == "last_token":
        return np.asarray(pool(logits, layout, "last_token").cpu().numpy())
    real = logits[layout.places].float().cpu().numpy()
    weights = score_experts(real, plan.scoring, scoring_func=scoring_func, top_k=min(site.top_k, logits.shape[-1]))
    tokens = TokenLayout.packed(layout.lengths.cpu())
    return np.asarray(pool(torch.from_numpy(weights), tokens, plan.routing_pooling).numpy())


@lru_cache(maxsize=512)
def _random_map(layer_id: int, width: int, num_experts: int) -> torch.Tensor:
    """Return a fixed Gaussian matrix `(width, num_experts)` that keeps lengths on average; the layer is its seed."""
    import torch

    generator = torch.Generator().manual_seed(1_000_003 + layer_id)
    return torch.randn(width, num_experts, generator=generator).div(width**0.5)


def _project(site: RouterSite, inputs: Sequence[Any], layout: TokenLayout, num_experts: int) -> Array:
    """Project the last token's router input at random, `(batch, num_experts)`."""
    import torch

    states = next((value for value in inputs if isinstance(value, torch.Tensor) and value.is_floating_point()), None)
    if states is None or states.numel() != layout.rows * states.shape[-1]:
        raise UnsupportedArchitectureError(
            f"The router {site.path!r} does not take one state per token, so random projections of its input cannot be "
            "had from this architecture."
        )
    rows = pool(states.detach(), layout, "last_token").cpu()
    return np.asarray((rows @ _random_map(site.layer_id, rows.shape[-1], num_experts)).numpy())


def _layer_hook(layer_id: int, captured: Captured, layout: TokenLayout, plan: CapturePlan) -> Any:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        states = _layer_output(output, layout)
        if states is None or states.dim() != 3:
            raise UnsupportedArchitectureError(
                f"Layer {layer_id} does not return one state per token, so hidden_layers other than 'last' "
                "cannot be used with this architecture."
            )
        captured.hidden[layer_id] = pool(states, layout, plan.hidden_pooling)

    return hook


def _tokens_hook(layer_id: int, captured: Captured, layout: TokenLayout, plan: CapturePlan, shared: int) -> Any:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        states = _layer_output(output, layout)
        if states is None:
            raise UnsupportedArchitectureError(
                f"Layer {layer_id} does not return the states of its tokens, so the view 'tokens' cannot be had "
                "from this architecture. Choose weights without it."
            )
        # residual streams side by side (DeepSeek-V4) are averaged as tokens are
        states = states.flatten(2, -2).mean(dim=2) if states.dim() > 3 else states
        captured.read_tokens(states, layout, plan, shared)

    return hook


@contextmanager
def capture(  # noqa: PLR0913 - what to read, where, and how
    twin: Twin,
    sites: Sequence[RouterSite],
    layers: Sequence[tuple[int, nn.Module]],
    layout: TokenLayout,
    plan: CapturePlan,
    *,
    scoring_func: str,
    trimmed: int | None = None,
    tokens_layer: tuple[int, nn.Module] | None = None,
    shared: int = 0,
    into: Captured | None = None,
) -> Iterator[Captured]:
    """Hook routers and layers for one forward pass.

    Args:
        twin: Twin of the model, or of the layer that is run alone; its modules get the hooks.
        sites: Routers of the model to read.
        layers: Decoder layers of the model whose output to pool, with their numbers.
        layout: Layout of the batch that the forward pass will run.
        plan: How to pool.
        scoring_func: The model's own, for pooled routing.
        trimmed: Decoder layer that gets the last token of every text alone, if one does.
        tokens_layer: Decoder layer of the model whose output to average over each text's own tokens, with its number.
        shared: First tokens of the texts that the batch is without.
        into: What earlier passes over other layers of the same batch have read.

    Yields:
        A value that fills while the model runs.
    """
    import torch

    captured = Captured() if into is None else into
    handles: list[Any] = []
    last_tokens = TokenLayout.packed(torch.ones_like(layout.lengths))

    def read_router(site: RouterSite) -> Any:
        def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if site.path in captured.routing:
                raise UnsupportedArchitectureError(
                    f"The router {site.path!r} ran twice in one forward pass; which call to read is not known."
                )
            logits = _router_tensor(site, output)
            given = last_tokens if site.layer_id == trimmed else layout
            captured.routing[site.path] = _reduce_routing(site, logits, given, plan, scoring_func)
            if plan.projections:
                inputs = (*args, *kwargs.values())
                captured.projections[site.path] = _project(site, inputs, given, logits.shape[-1])

        return hook

    try:
        for site in sites:
            handles.append(twin.of(site.module).register_forward_hook(read_router(site), with_kwargs=True))
        handles.extend(
            twin.of(module).register_forward_hook(_layer_hook(number, captured, layout, plan))
            for number, module in layers
        )
        if tokens_layer is not None:
            number, module = tokens_layer
            handles.append(twin.of(module).register_forward_hook(_tokens_hook(number, captured, layout, plan, shared)))
        yield captured
    finally:
        for handle in handles:
            handle.remove()
