"""Router logits to routing weights.

Every architecture is recorded as raw logits; what they mean to the model (`scoring_func`) and what we make of them
(`Scoring`) are applied here, on numpy. Load-balancing devices (correction bias, group limits) never enter a weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from moee.errors import InputError, check_choice
from moee.types import Array, RoutingLayers, Scoring

SCORINGS: tuple[Scoring, ...] = ("softmax", "native", "logits", "topk")


def chosen_layers(choice: RoutingLayers, layer_ids: Iterable[int], num_layers: int) -> tuple[int, ...]:
    """Return the decoder layers whose routers a choice names, ascending.

    Args:
        choice: `"all"`, `"last"`, `"last_third"` (of the layers that have a router, rounded up), or numbers of layers,
            where negative ones count from the end.
        layer_ids: Decoder layers that have a router.
        num_layers: Number of decoder layers.

    Raises:
        InputError: If a number is none of them.
    """
    available = sorted(set(layer_ids))
    if choice == "all":
        return tuple(available)
    if choice == "last":
        return tuple(available[-1:])
    if choice == "last_third":
        return tuple(available[-math.ceil(len(available) / 3) :]) if available else ()
    wanted = {layer_number(number, num_layers) for number in choice}
    if missing := sorted(wanted - set(available)):
        raise InputError(f"routing_layers {missing} have no router. Layers with routers: {available}.")
    return tuple(sorted(wanted))


def layer_number(number: int, num_layers: int) -> int:
    """Return the decoder layer, from 0, that a number names; negative ones count from the end.

    Raises:
        InputError: If there is no such layer.
    """
    if not -num_layers <= number < num_layers:
        raise InputError(
            f"Layer {number} does not exist: the model has {num_layers} layers, 0 to {num_layers - 1} "
            f"(or -{num_layers} to -1)."
        )
    return number % num_layers


def softmax(logits: Array) -> Array:
    """Softmax over the last axis; rows of minus infinity only are not expected."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float32)


def _sigmoid(logits: Array) -> Array:
    # the two branches keep the argument of exp negative, so nothing overflows
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1.0, small) / (1.0 + small), dtype=np.float32)


def _sqrt_softplus(logits: Array) -> Array:
    """DeepSeek-V4's score, sqrt(log(1 + e^z))."""
    return np.asarray(np.sqrt(np.logaddexp(0.0, logits)), dtype=np.float32)


def _keep_top(values: Array, top_k: int) -> Array:
    """Zero all but the `top_k` largest entries of each row."""
    keep = np.argpartition(-values, top_k - 1, axis=-1)[..., :top_k]
    kept = np.zeros_like(values)
    np.put_along_axis(kept, keep, np.take_along_axis(values, keep, axis=-1), axis=-1)
    return kept


def _softmax_of_top(logits: Array, top_k: int) -> Array:
    """Softmax over the `top_k` largest logits only: gpt-oss, Granite, JetMoE."""
    probabilities = _keep_top(softmax(logits), top_k)
    return np.asarray(probabilities / probabilities.sum(axis=-1, keepdims=True), dtype=np.float32)


_SPARSEMIXER_JITTER = 0.01


def _sparsemixer(logits: Array) -> Array:
    """Phi-MoE's two masked softmaxes (SparseMixer-v2, 2409.12136 section 2).

    The first expert's weight is its softmax among the experts within the jitter threshold of the best; the second
    expert's likewise after the first is removed. The threshold applies in evaluation too.
    """
    weights = np.zeros_like(logits)
    rest = logits.astype(np.float32, copy=True)
    rows = np.arange(len(logits))
    for _ in range(2):
        best = rest.max(axis=-1, keepdims=True)
        factor = np.maximum(np.abs(logits), np.abs(best))
        far = (best - logits) / factor > 2 * _SPARSEMIXER_JITTER
        masked = np.where(far, -np.inf, rest)
        chosen = rest.argmax(axis=-1)
        weights[rows, chosen] = softmax(masked)[rows, chosen]
        rest[rows, chosen] = -np.inf
    return weights


SCORING_FUNCS: Mapping[str, Callable[[Array, int], Array]] = {
    "softmax": lambda logits, _top_k: softmax(logits),
    "sigmoid": lambda logits, _top_k: _sigmoid(logits),
    "sqrtsoftplus": lambda logits, _top_k: _sqrt_softplus(logits),
    "topk_softmax": _softmax_of_top,
    "topk_sigmoid": lambda logits, _top_k: _sigmoid(logits),
    "sparsemixer": lambda logits, _top_k: _sparsemixer(logits),
}
"""What a model computes from its logits, before bias and group limits: `(logits, top_k) -> scores`."""


def native_scores(router_logits: Array, scoring_func: str, top_k: int) -> Array:
    """Score experts as the model itself does, before bias and group limits.

    Args:
        router_logits: `(batch, num_experts)`.
        scoring_func: A key of `SCORING_FUNCS`.
        top_k: Experts used per token.

    Returns:
        `(batch, num_experts)` float32. Rows sum to 1 for softmax families, not for sigmoid ones.

    Raises:
        UnknownNameError: If `scoring_func` is unknown.
    """
    check_choice("scoring function", scoring_func, SCORING_FUNCS)
    return SCORING_FUNCS[scoring_func](np.asarray(router_logits, dtype=np.float32), top_k)


def score_experts(router_logits: Array, scoring: Scoring, *, scoring_func: str, top_k: int) -> Array:
    """Turn the logits of one router into routing weights.

    Args:
        router_logits: `(batch, num_experts)`.
        scoring: `softmax` over all experts, whatever the model does; `native` as the model does; `logits` unchanged;
            `topk` the native scores of the `top_k` best experts, renormalised to sum to 1, and 0 elsewhere.
        scoring_func: The model's own function, a key of `SCORING_FUNCS`.
        top_k: Experts used per token.

    Returns:
        `(batch, num_experts)` float32.

    Raises:
        UnknownNameError: If `scoring` or `scoring_func` is unknown.
    """
    check_choice("scoring", scoring, SCORINGS)
    logits = np.asarray(router_logits, dtype=np.float32)
    if scoring == "logits":
        return logits
    if scoring == "softmax":
        return softmax(logits)
    scores = native_scores(logits, scoring_func, top_k)
    if scoring == "native":
        return scores
    kept = _keep_top(scores, top_k)
    total = np.maximum(kept.sum(axis=-1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(kept / total, dtype=np.float32)


def score_layers(
    router_logits: Array,
    num_experts: Sequence[int],
    top_k: Sequence[int],
    scoring: Scoring,
    *,
    scoring_func: str,
) -> Array:
    """Score routers that lie side by side, each by itself.

    Args:
        router_logits: `(num_texts, sum of num_experts)` raw logits.
        num_experts: Width of every router.
        top_k: Experts used per token, by router.
        scoring: As `score_experts`.
        scoring_func: The model's own, as `score_experts`.

    Returns:
        Weights in the shape of `router_logits`, float32.
    """
    scored: list[Array] = []
    start = 0
    for width, chosen in zip(num_experts, top_k, strict=True):
        logits = router_logits[:, start : start + width]
        scored.append(score_experts(logits, scoring, scoring_func=scoring_func, top_k=min(chosen, width)))
        start += width
    return np.concatenate(scored, axis=1)
