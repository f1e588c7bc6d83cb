"""Token sequences to views: duplicates once, similar lengths together, bounded batches, input order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from moee.backends.base import Backend
from moee.errors import InputError, NonFiniteActivationsError
from moee.routing import score_experts
from moee.types import Activations, Array, CapturePlan, Views

Progress = Callable[[int], None]
"""Called with the number of texts that have just been finished."""


def plan_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Group sequences of similar length into batches of at most `max_tokens` tokens, padding counted.

    Args:
        lengths: Tokens of every sequence.
        max_tokens: Budget of a batch. A longer sequence gets a batch of its own.

    Returns:
        Indices into `lengths`, longest batch first, so that a run that will not fit in memory fails at once.
    """
    if max_tokens < 1:
        raise InputError(f"batch_tokens is {max_tokens}; it must be 1 or larger (4096 is a good start on a CPU).")
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def compute_views(
    backend: Backend,
    sequences: Sequence[Sequence[int]],
    plan: CapturePlan,
    *,
    batch_tokens: int,
    on_progress: Progress | None = None,
) -> Views:
    """Run a backend over token sequences.

    Args:
        backend: Runs the model.
        sequences: At least one, each of at least one token.
        plan: What to capture.
        batch_tokens: Budget of a batch, in tokens, padding counted.
        on_progress: Called after every batch with the number of sequences it settled, duplicates included.

    Returns:
        One row per sequence, in their order.

    Raises:
        NonFiniteActivationsError: If an activation is NaN or infinite; `row` is the first such sequence's index.
    """
    positions: dict[tuple[int, ...], list[int]] = {}
    for index, sequence in enumerate(sequences):
        positions.setdefault(tuple(sequence), []).append(index)
    unique = list(positions)
    hidden: Array | None = None
    routing: Array | None = None
    activations: Activations | None = None
    for batch in plan_batches([len(sequence) for sequence in unique], batch_tokens):
        try:
            activations = backend.forward([unique[index] for index in batch], plan)
        except NonFiniteActivationsError as error:
            raise NonFiniteActivationsError(row=positions[unique[batch[error.row]]][0], what=error.what) from error
        weights = _routing_weights(activations, plan, backend.info.scoring_func)
        if hidden is None or routing is None:
            hidden = np.empty((len(sequences), activations.hidden_states.shape[1]), dtype=np.float32)
            routing = np.empty((len(sequences), weights.shape[1]), dtype=np.float32)
        for row, index in enumerate(batch):
            places = positions[unique[index]]
            hidden[places] = activations.hidden_states[row]
            routing[places] = weights[row]
        if on_progress is not None:
            on_progress(sum(len(positions[unique[index]]) for index in batch))
    if activations is None or hidden is None or routing is None:
        raise InputError("No token sequences to run: got an empty list.")
    return Views(hidden, routing, activations.layer_ids, activations.num_experts)


def _routing_weights(activations: Activations, plan: CapturePlan, scoring_func: str) -> Array:
    """Score every router of a batch, layers side by side."""
    if activations.is_scored:
        return activations.routing
    blocks: list[npt.NDArray[np.float32]] = []
    start = 0
    for width, top_k in zip(activations.num_experts, activations.top_k, strict=True):
        logits = activations.routing[:, start : start + width]
        blocks.append(score_experts(logits, plan.scoring, scoring_func=scoring_func, top_k=min(top_k, width)))
        start += width
    return np.concatenate(blocks, axis=1)
