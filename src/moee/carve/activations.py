"""Passes over the dense model that see each feed-forward layer's input and neurons. Nothing grows with the text.

Hooks are installed by a context manager that always removes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from moee.carve.router import RegressionSums, energy_floor, targets_of
from moee.carve.sequences import PaddedTokens
from moee.errors import CheckpointError
from moee.types import Array

Visitor = Callable[[int, torch.Tensor, torch.Tensor], None]
"""A function of a layer's number, its input `(tokens, hidden_size)` and contributions `(tokens, neurons)`, unpadded."""

FFNs = Sequence[Any]
"""The feed-forward modules, with `gate_proj`, `up_proj` and `down_proj`; upstream's types differ by family."""


def feed_forwards(model: nn.Module) -> FFNs:
    """Return the feed-forward module of every decoder layer, in order."""
    layers: Any = model.get_submodule("model.layers")
    return [layer.mlp for layer in layers]


@contextmanager
def watch(ffns: FFNs, visitor: Visitor) -> Iterator[Callable[[torch.Tensor], None]]:
    """Call `visitor` for every layer of each forward pass.

    A neuron's contribution is |a| * ||column of down_proj||: how far the layer's output moves if it is left out.

    Yields:
        A function to call before each forward pass with its attention mask, `(batch, seq)`.

    Raises:
        CheckpointError: During a forward pass, if a contribution is NaN or infinite; names the layer.
    """
    real = torch.empty(0, dtype=torch.bool)
    inputs: dict[int, torch.Tensor] = {}

    def set_mask(attention_mask: torch.Tensor) -> None:
        nonlocal real
        real = attention_mask.reshape(-1).bool()

    def remember(layer: int) -> Callable[[Any, Any], None]:
        def hook(_module: Any, args: Any) -> None:
            inputs[layer] = args[0]

        return hook

    def visit(layer: int, norms: torch.Tensor) -> Callable[[Any, Any], None]:
        def hook(_module: Any, args: Any) -> None:
            contributions = args[0].flatten(0, -2)[real].abs() * norms
            if not torch.isfinite(contributions).all():
                raise CheckpointError(
                    f"The feed-forward layer {layer} of the dense model gives NaN or infinity on the calibration text. "
                    "Check the checkpoint: the same text should give finite logits."
                )
            visitor(layer, inputs.pop(layer).flatten(0, -2)[real], contributions)

        return hook

    handles = []
    try:
        for layer, ffn in enumerate(ffns):
            norms = ffn.down_proj.weight.detach().norm(dim=0)
            handles.append(ffn.register_forward_pre_hook(remember(layer)))
            handles.append(ffn.down_proj.register_forward_pre_hook(visit(layer, norms)))
        yield set_mask
    finally:
        for handle in handles:
            handle.remove()


def collect_profiles(model: nn.Module, batches: Iterable[PaddedTokens]) -> list[Array]:
    """Return the contributions of all neurons, one float16 array `(tokens, neurons)` for each layer.

    float16 keeps three digits, which is plenty to group neurons by; contributions above its range are capped.
    """
    ffns = feed_forwards(model)
    parts: list[list[Array]] = [[] for _ in ffns]
    largest = float(np.finfo(np.float16).max)

    def keep(layer: int, _inputs: torch.Tensor, contributions: torch.Tensor) -> None:
        parts[layer].append(contributions.clamp(max=largest).half().numpy())

    _run(model, batches, keep)
    return [np.concatenate(rows) for rows in parts]


def membership(order: npt.NDArray[np.int64], num_shared: int, num_experts: int) -> torch.Tensor:
    """Return which neuron is in which routed expert, `(neurons, num_experts)` of zeros and ones.

    Args:
        order: The neurons of a layer, shared ones first, then expert after expert, `(neurons,)`.
        num_shared: Shared neurons, whose rows are zeros.
        num_experts: Number of experts, all of equal size.
    """
    experts = order[num_shared:].reshape(num_experts, -1)
    table = torch.zeros(len(order), num_experts)
    for expert, members in enumerate(experts):
        table[torch.from_numpy(members), expert] = 1.0
    return table


def expert_floor(profiles: Array, members: torch.Tensor) -> float:
    """Return the energy floor of a layer from its profiles `(tokens, neurons)`, see `router.energy_floor`."""
    return energy_floor(_energy(torch.from_numpy(profiles).float(), members))


def _energy(contributions: torch.Tensor, members: torch.Tensor) -> npt.NDArray[np.float64]:
    """Return each expert's energy, `(tokens, num_experts)`: a product with zeros and ones is faster than a gather."""
    return (contributions.square() @ members).double().numpy()


def accumulate(
    model: nn.Module, batches: Iterable[PaddedTokens], members: Sequence[torch.Tensor], floors: Sequence[float]
) -> list[RegressionSums]:
    """Return the router regression's sums over all tokens, one for each layer."""
    ffns = feed_forwards(model)
    hidden_size = ffns[0].gate_proj.in_features
    sums = [RegressionSums.empty(hidden_size, table.shape[1]) for table in members]

    def add(layer: int, inputs: torch.Tensor, contributions: torch.Tensor) -> None:
        target = torch.from_numpy(targets_of(_energy(contributions, members[layer]), floors[layer]))
        total = sums[layer]
        # products of one batch in float32, sums of batches in float64
        total.inputs += (inputs.T @ inputs).double().numpy()
        total.cross += (inputs.T @ target.float()).double().numpy()
        total.targets += target.sum(dim=0).numpy()
        total.squares += target.square().sum(dim=0).numpy()
        total.count += len(inputs)

    _run(model, batches, add)
    return sums


def _run(model: nn.Module, batches: Iterable[PaddedTokens], visitor: Visitor) -> None:
    base: Any = model.get_submodule("model")  # without the LM head
    with torch.inference_mode(), watch(feed_forwards(model), visitor) as set_mask:
        for batch in batches:
            set_mask(batch.attention_mask)
            base(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
