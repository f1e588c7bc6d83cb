"""The row that describes one MoE architecture. Rows live in the files beside this one, which hold nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Where the routers of a family of models are and what they return.

    Paths are attribute paths. `layers` starts at the text model (the decoder that owns the embedding and the layers,
    without a language-model head); `router` starts at one decoder layer, and a layer without it is dense.

    Attributes:
        model_types: `model_type` of the (text) configurations that this row serves.
        router: Path of the router under a decoder layer.
        router_class: Class of that module. Checked on load: a layer that has something else at `router` is dense,
            and a class that was renamed upstream is an error instead of wrong numbers.
        layers: Path of the list of decoder layers.
        output: Element of the router's return value that is read; None if it returns a bare tensor.
        before: For older releases of transformers: the first release that this row describes as it stands, and
            `router_class` and `output` in those before it.
        reads: What that element holds. Probabilities are turned back into logits by a logarithm.
        scoring_func: What the model makes of its logits, a key of `routing.SCORING_FUNCS`.
        scoring_from: Configuration key that chooses the scoring function, and what its values mean. `scoring_func` is
            used where a configuration lacks the key; a value that is not listed is an error.
        top_k: Configuration key of the number of experts per token; dots reach into sub-configurations.
        bias: Path, under a decoder layer, of the correction bias that enters the selection and never a weight.
        bias_on: Whether that bias is added to the native scores or to the logits.
        groups: Configuration keys of the number of groups and of the open groups, and how a group is scored.
        closed_score: What an expert of a closed group counts as in the selection.
        attention_router: Path of a second router, in the attention block (JetMoE); left out unless asked for.
        attention_output: Element of that router's return value that is read.
        causal: Whether a token sees only earlier ones. If not, padding is always masked.
        packs: Whether texts can be run side by side in one row: every layer treats tokens alone, or is attention that
            goes through transformers' attention interface and adds no bias to its scores. Then the beginning that
            texts share need be computed only once, too. The others run padded.
        trims_last_layer: Whether the last layer of texts side by side can be run for their last tokens alone.
        left_padding: Whether the model gives the same result with padding on the left.
        wrappers: `model_type` of multimodal models whose text configuration is served by this row.
        native: `module:function` of ours that registers what transformers lacks for a model: its class, or a rule by
            which its files are read.
        unsupported: Why the model cannot serve embeddings; empty for a supported one.
        checkpoint_routers: Other names, under a layer, of the router's weight in published files.
        width_tensors: Tensors of published files, under a layer, that are as long as the router is wide; read
            instead of the router's weight where that has other rows too, or lies in layers that have no learned choice.
        gguf: Name of the architecture in GGUF files.
        tiny: Configuration of a small random model for the tests.
        tiny_layers: Layers of that model that have a router.
        tiny_experts: Width of each of those routers.
        source: The upstream class this was read from.
        notes: What a user of the model should know.
    """

    model_types: tuple[str, ...]
    router: str
    router_class: str
    layers: str = "layers"
    output: int | None = 0
    before: tuple[str, str, int | None] | None = None
    reads: Literal["logits", "probabilities"] = "logits"
    scoring_func: str = "softmax"
    scoring_from: tuple[str, Mapping[object, str]] | None = None
    top_k: str = "num_experts_per_tok"
    bias: str | None = None
    bias_on: Literal["scores", "logits"] = "scores"
    groups: tuple[str, str, Literal["max", "top2_sum"]] | None = None
    closed_score: float = -math.inf
    attention_router: str | None = None
    attention_output: int | None = None
    causal: bool = True
    packs: bool = True
    trims_last_layer: bool = True
    left_padding: bool = True
    wrappers: tuple[str, ...] = ()
    native: str | None = None
    unsupported: str = ""
    checkpoint_routers: tuple[str, ...] = ()
    width_tensors: tuple[str, ...] = ()
    gguf: str | None = None
    tiny: Mapping[str, object] = field(default_factory=dict)
    tiny_layers: tuple[int, ...] = ()
    tiny_experts: tuple[int, ...] = ()
    source: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        """Refuse a row that contradicts itself."""
        if not self.model_types:
            raise ValueError("An architecture row needs at least one model_type.")
        if not self.unsupported and len(self.tiny_layers) != len(self.tiny_experts):
            raise ValueError(
                f"Row of {self.model_types[0]!r}: {len(self.tiny_layers)} tiny_layers "
                f"but {len(self.tiny_experts)} tiny_experts; give one width per layer."
            )


SMALL: Mapping[str, object] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
}
"""Sizes that most tiny configurations share."""
LATENT: Mapping[str, object] = {"kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
"""Sizes of latent attention in tiny configurations."""
ROWS_ATTRIBUTE = "ROWS"
"""Every file of rows ends with a tuple of this name."""
