"""The vocabulary of the package: array aliases, literal modes, and the values that cross a layer boundary.

Imports nothing of ours, and neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
"""A float32 array; its shape is given in each docstring."""

View = Literal["hs", "rw", "tokens", "lexical"]
"""Names of the views of a text, and so of the blocks of its vector, in their order there."""
Fusion = Literal["weighted", "hs", "rw", "concat", "sum"]
SearchFusion = Literal["weighted", "hs", "rw", "sum"]
"""Fusions whose cosine is a weighted mean of the views' own, so that an index can be asked with them."""
Pooling = Literal["last_token", "mean", "weighted_mean"]
Scoring = Literal["softmax", "native", "logits", "topk"]
CalibrationMethod = Literal["none", "zscore", "spectral", "batch"]
Truncate = Literal["warn", "error", "end"]
EmptyText = Literal["error", "encode"]
Cleaning = Literal["none", "tidy", "paper"]
PromptTokens = Literal["apart", "filled"]
"""Whether template and text are tokenised apart and joined, or as one filled string."""
LayerChoice = Literal["all", "last"] | tuple[int, ...]
"""Layers that a view is made of. Negative numbers count from the end."""
RoutingLayers = Literal["all", "last", "last_third"] | tuple[int, ...]
"""Routers that a view is made of: `"last_third"` are the last of the MoE layers, rounded up."""
AlphaRule = Literal["slope", "scale"]
"""Rules that choose alpha from calibration texts without labels: the slope of the regression of cos_HS on cos_RW, or
the ratio of their standard deviations, the closed form of what arXiv 2410.10814 v2 describes."""
RoutingCalibration = Literal["whiten", "scale"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the layers above a backend may know of the model behind it.

    Attributes:
        name: What the user asked for: `"demo"`, a hub id, a folder.
        fingerprint: Identifies the weights, so that statistics fitted on one model are refused by another.
        model_type: The architecture's `model_type`.
        hidden_size: Width of the hidden state.
        num_layers: Number of decoder layers, dense ones included.
        layer_ids: Decoder layer of every captured router, ascending.
        num_experts: Width of every captured router's output, same order as `layer_ids`.
        top_k: Experts used per token in every captured router, same order.
        scoring_func: How the model itself turns logits into scores, a key of `routing.SCORING_FUNCS`.
        max_tokens: Longest prompt the model takes, in tokens; None if the model states no limit.
        dtype: Number type of the computation, for example `"float32"`.
        device: Device of the computation, for example `"cpu"`.
        precision: `"exact"`, or `"int8"` if weights and activations are rounded to 8 bits.
        batching: `"packed"` if texts run side by side, `"padded"` if each has a row filled up to the longest.
        kernel: What computes the experts.
        weights: Where they are: `"memory"`, or `"disk"` if layers are read one after the other.
    """

    name: str
    fingerprint: str
    model_type: str
    hidden_size: int
    num_layers: int
    layer_ids: tuple[int, ...]
    num_experts: tuple[int, ...]
    top_k: tuple[int, ...]
    scoring_func: str
    max_tokens: int | None
    dtype: str
    device: str
    precision: str = "exact"
    batching: Literal["packed", "padded"] = "padded"
    kernel: str = ""
    weights: Literal["memory", "disk"] = "memory"

    def describe(self) -> str:
        """Say in one line how the model is run."""
        dtype = self.dtype if self.precision == "exact" else f"{self.precision} ({self.dtype} between products)"
        kernel = f", experts {self.kernel}" if self.kernel else ""
        return (
            f"{self.model_type} on {self.device} in {dtype}, {self.batching} batches{kernel}, "
            f"weights {'in memory' if self.weights == 'memory' else 'from disk, a layer at a time'}"
        )


@dataclass(frozen=True, slots=True)
class CapturePlan:
    """Which rows of a forward pass a backend returns.

    Attributes:
        hidden_pooling: Pooling of the hidden state over the tokens of a text.
        hidden_layers: `"last"` is after the final norm; several layers are averaged. Layer `i` is the output of
            decoder layer `i`.
        routing_pooling: Pooling of the routers over the tokens of a text.
        routing_layers: Routers that are read, by decoder layer; `"all"` is every MoE layer.
        scoring: Used by the backend only when it pools routing over several tokens: weights are averaged, never logits.
        projections: Also return a seeded random projection of every router's input, as wide as the router: the control
            for the claim that a router knows more than any other linear map of what it reads.
        tokens_layer: Decoder layer whose output is averaged over each text's own tokens, that of the last layer after
            the final norm; negative numbers count from the end, and None leaves that view out.
        text_span: How many tokens the template has before and after every text: what lies between is the text's own.
    """

    hidden_pooling: Pooling = "last_token"
    hidden_layers: LayerChoice = "last"
    routing_pooling: Pooling = "last_token"
    routing_layers: RoutingLayers = "all"
    scoring: Scoring = "softmax"
    projections: bool = False
    tokens_layer: int | None = None
    text_span: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Activations:
    """All that a backend returns for one batch of token sequences.

    Attributes:
        hidden_states: `(batch, hidden_size)` float32.
        routing: `(batch, sum of num_experts)` float32, routers side by side in the order of `layer_ids`.
        is_scored: False: `routing` holds raw router logits of one token. True: routing weights, already scored and
            pooled.
        layer_ids: Decoder layer of every router in `routing`.
        num_experts: Width of every router in `routing`.
        top_k: Experts used per token by every router in `routing`.
        projections: Random projections of the routers' inputs, in the shape of `routing`, if they were asked for.
        tokens: `(batch, hidden_size)` float32, the mean of the output of `CapturePlan.tokens_layer` over each text's
            own tokens, if it was asked for; a text without any is a row of zeros.
    """

    hidden_states: Array
    routing: Array
    is_scored: bool
    layer_ids: tuple[int, ...]
    num_experts: tuple[int, ...]
    top_k: tuple[int, ...]
    projections: Array | None = None
    tokens: Array | None = None


@dataclass(frozen=True, slots=True)
class Views:
    """The views of a set of texts, before calibration and fusion.

    Attributes:
        hidden_states: `(num_texts, hidden_size)` float32 (HS).
        routing_weights: `(num_texts, sum of num_experts)` float32 (RW), scored, layers side by side.
        layer_ids: Decoder layer of every router in `routing_weights`.
        num_experts: Width of every router in `routing_weights`.
        projections: Random projections of the routers' inputs, in the shape of `routing_weights`: a control, present
            only if it was asked for.
        tokens: `(num_texts, hidden_size)` float32, the mean of a middle layer over each text's own tokens; a row of
            zeros where a text has none. Present only if it was asked for.
        texts: The texts themselves, from which the lexical view is made; None where they are not known.
    """

    hidden_states: Array
    routing_weights: Array
    layer_ids: tuple[int, ...]
    num_experts: tuple[int, ...]
    projections: Array | None = None
    tokens: Array | None = None
    texts: tuple[str, ...] | None = None

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.hidden_states)

    def take(self, rows: npt.NDArray[np.int64]) -> Views:
        """Return the views of some of the texts, in the order of `rows`; a row may be taken more than once."""
        return replace(
            self,
            hidden_states=self.hidden_states[rows],
            routing_weights=self.routing_weights[rows],
            projections=None if self.projections is None else self.projections[rows],
            tokens=None if self.tokens is None else self.tokens[rows],
            texts=None if self.texts is None else tuple(self.texts[row] for row in rows),
        )

    def routing_layer(self, layer_id: int) -> Array:
        """Return the weights of one MoE layer, `(num_texts, num_experts)`.

        Raises:
            KeyError: If `layer_id` is not one of `layer_ids`.
        """
        if layer_id not in self.layer_ids:
            raise KeyError(f"No router at layer {layer_id}. Layers with routers: {list(self.layer_ids)}.")
        position = self.layer_ids.index(layer_id)
        start = sum(self.num_experts[:position])
        return self.routing_weights[:, start : start + self.num_experts[position]]


def join_views(parts: Sequence[Views]) -> Views:
    """Return the views of several sets of texts as one, in their order.

    Args:
        parts: Views, at least one, all with the routers of the same model. Projections are left out.
    """
    tokens = [views.tokens for views in parts if views.tokens is not None]
    texts = [views.texts for views in parts if views.texts is not None]
    return Views(
        np.concatenate([views.hidden_states for views in parts]),
        np.concatenate([views.routing_weights for views in parts]),
        parts[0].layer_ids,
        parts[0].num_experts,
        tokens=np.concatenate(tokens) if len(tokens) == len(parts) else None,
        texts=sum(texts, ()) if len(texts) == len(parts) else None,
    )
