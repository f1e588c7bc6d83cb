"""Texts and token sequences to views: duplicates once, similar lengths together, bounded batches, input order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from moee.backends.base import Backend, shareable
from moee.errors import InputError, NonFiniteActivationsError
from moee.method.config import EmbedderConfig
from moee.method.prompt_tokens import Apart
from moee.method.prompts import resolve_prompt
from moee.method.routing import score_layers
from moee.method.texts import check_texts, token_sequences
from moee.progress import progress_bar
from moee.types import Activations, Array, CapturePlan, ModelInfo, Views

OnBatch = Callable[[Sequence[int], Views], None]
"""A function that gets the places of texts that have just been finished, and their views, one row for each place."""

BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Default token budget of a batch, by device type."""
SMALL_MODEL = 1024
"""Below this hidden size, and with as many tokens, a batch's activations stay in a processor's cache: in float32 on two
cores with AVX2 the demo is 6 to 15 % faster with 1,024 tokens than with 2,048, and more than with 4,096. Experts of
large models want more tokens at once, and so does bfloat16 with AMX, where every batch pays for laying out weights
anew: with 4,096 tokens the demo is 1.4 times as fast (`moee bench -m demo --peers none --batch-tokens 1024`, and 4096).
"""

_SHORTEST_SHARED = 2
"""Tokens from which computing a shared beginning once pays."""


def default_batch_tokens(info: ModelInfo) -> int:
    """Return the token budget of a batch for a model on its device, padding counted."""
    device = info.device.split(":")[0]
    if device == "cpu" and info.dtype == "float32" and info.hidden_size < SMALL_MODEL:
        return SMALL_MODEL
    return BATCH_TOKENS.get(device, BATCH_TOKENS["cpu"])


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


def shared_length(sequences: Sequence[Sequence[int]]) -> int:
    """Return how many leading tokens all sequences share, leaving each at least one of its own.

    Found on token ids, never assumed from the prompt: tokenizers merge across words. 0 where sharing would not pay.
    """
    if len(sequences) < 2:
        return 0
    rows = [tuple(sequence) for sequence in sequences]
    first, last = min(rows), max(rows)  # in lexicographic order all others lie between these two
    shared = next(
        (place for place, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first)
    )
    shared = min(shared, min(len(sequence) for sequence in sequences) - 1)
    return shared if shared >= _SHORTEST_SHARED else 0


def compute_views(
    backend: Backend,
    sequences: Sequence[Sequence[int]],
    plan: CapturePlan,
    *,
    batch_tokens: int,
    on_batch: OnBatch | None = None,
) -> Views:
    """Run a backend over token sequences.

    Args:
        backend: Runs the model.
        sequences: Token ids of at least one text, each of at least one token.
        plan: What to capture.
        batch_tokens: Budget of a batch, in tokens, padding counted.
        on_batch: Called after every batch with what it settled, duplicates included.

    Returns:
        One row per sequence, in their order.

    Raises:
        NonFiniteActivationsError: If an activation is NaN or infinite; `row` is the first such sequence's index.
    """
    positions: dict[tuple[int, ...], list[int]] = {}
    for index, sequence in enumerate(sequences):
        positions.setdefault(tuple(sequence), []).append(index)
    unique = list(positions)
    # of the whole call, so that the same call computes the same numbers however it is cut into batches
    shared = shareable(plan, shared_length(unique))
    rows = _Rows(len(sequences))
    activations: Activations | None = None
    batches = plan_batches([len(sequence) - shared for sequence in unique], batch_tokens)
    running = backend.run([[unique[index] for index in batch] for batch in batches], plan, shared=shared)
    for batch in batches:
        try:
            activations = next(running)
        except NonFiniteActivationsError as error:
            raise NonFiniteActivationsError(row=positions[unique[batch[error.row]]][0], what=error.what) from error
        views = _views_of(activations, plan, backend.info.scoring_func)
        places = [positions[unique[index]] for index in batch]
        rows.put("hidden", places, views.hidden_states)
        rows.put("routing", places, views.routing_weights)
        if views.projections is not None:
            rows.put("projections", places, views.projections)
        if views.tokens is not None:
            rows.put("tokens", places, views.tokens)
        if on_batch is not None:
            repeats = np.repeat(np.arange(len(batch)), [len(each) for each in places])
            on_batch([place for each in places for place in each], views.take(repeats))
    if activations is None:
        raise InputError("No token sequences to run: got an empty list.")
    found = rows.arrays
    return Views(
        found["hidden"],
        found["routing"],
        activations.layer_ids,
        activations.num_experts,
        found.get("projections"),
        found.get("tokens"),
    )


def views_of_texts(  # noqa: PLR0913 - the choices of one call
    backend: Backend,
    texts: Iterable[str],
    config: EmbedderConfig,
    *,
    batch_tokens: int,
    progress: str | None = None,
    projections: bool = False,
    on_batch: OnBatch | None = None,
    token_ids: Sequence[list[int]] | None = None,
    with_tokens: bool = False,
) -> Views:
    """Run a backend over texts, as a configuration says.

    Args:
        backend: Runs the model.
        texts: Strings.
        config: Every choice between a text and its views.
        batch_tokens: Token budget of a batch, padding counted.
        progress: Label of a progress bar; None shows none.
        projections: Also give random projections of the routers' inputs.
        on_batch: Called after every batch with what it settled.
        token_ids: Token ids of the prompts, where they are known already.
        with_tokens: Also capture the view `tokens` where the configuration gives it no weight.

    Raises:
        InputError, TextTypeError, TruncationError, NonFiniteActivationsError: As `MoEE.encode`.
    """
    checked = check_texts(texts, on_empty=config.on_empty)
    limits = [limit for limit in (config.max_length, backend.info.max_tokens) if limit is not None]
    sequences = token_sequences(
        checked,
        resolve_prompt(config.prompt),
        backend.tokenize,
        cleaning=config.cleaning,
        truncate=config.truncate,
        max_tokens=min(limits, default=None),
        known=token_ids,
        prompt_tokens=config.prompt_tokens,
    )
    plan = config.capture_plan(projections=projections)
    if with_tokens or "tokens" in config.captured:
        plan = replace(
            plan, tokens_layer=config.middle_layer(backend.info.num_layers), text_span=_span(backend, config)
        )
    with progress_bar(progress or "", len(checked), enabled=progress is not None) as advance:

        def finished(places: Sequence[int], views: Views) -> None:
            if on_batch is not None:
                on_batch(places, replace(views, texts=tuple(checked[place] for place in places)))
            advance(len(places))

        try:
            views = compute_views(backend, sequences, plan, batch_tokens=batch_tokens, on_batch=finished)
        except NonFiniteActivationsError as error:
            raise NonFiniteActivationsError(row=error.row, what=error.what, text=checked[error.row][:60]) from error
        return replace(views, texts=tuple(checked))


def _span(backend: Backend, config: EmbedderConfig) -> tuple[int, int]:
    if config.prompt_tokens != "apart":
        raise InputError(
            f"prompt_tokens is {config.prompt_tokens!r}: in a filled template a text's own tokens cannot be told from "
            "the template's, so there is no view 'tokens'. Use prompt_tokens='apart'."
        )
    return Apart(resolve_prompt(config.prompt), backend.tokenize, config.cleaning).span


class _Rows:
    """Arrays that fill batch by batch; their widths are known only once the first batch has run."""

    def __init__(self, num_texts: int) -> None:
        self._num_texts = num_texts
        self.arrays: dict[str, Array] = {}

    def put(self, name: str, places: Sequence[Sequence[int]], values: Array) -> None:
        """Copy row i of `values` to all of `places[i]`."""
        if name not in self.arrays:
            self.arrays[name] = np.empty((self._num_texts, values.shape[1]), dtype=np.float32)
        for row, targets in enumerate(places):
            self.arrays[name][targets] = values[row]


def _views_of(activations: Activations, plan: CapturePlan, scoring_func: str) -> Views:
    """Score every router of a batch, layers side by side."""
    routing = activations.routing
    if not activations.is_scored:
        routing = score_layers(
            routing, activations.num_experts, activations.top_k, plan.scoring, scoring_func=scoring_func
        )
    return Views(
        activations.hidden_states,
        routing,
        activations.layer_ids,
        activations.num_experts,
        activations.projections,
        activations.tokens,
    )
