"""Inkling: sigmoid selection; in the first generation shared experts share the router's weight matrix."""

from __future__ import annotations

from moee.architectures.spec import Architecture

_ATTENTION = {
    "vocab_size": 64,
    "unpadded_vocab_size": 64,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "swa_head_dim": 8,
    "sliding_window_size": 4,
    "d_rel": 4,
    "rel_extent": 16,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "bos_token_id": None,
    "eos_token_id": None,
}

ROWS = (
    Architecture(
        model_types=("inkling_text",),
        packs=False,
        wrappers=("inkling_mm_model",),
        router="mlp.gate",
        router_class="InklingTopkRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        width_tensors=("mlp.gate.bias", "mlp.gate.e_score_correction_bias"),
        tiny={
            **_ATTENTION,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 3,
            "local_layer_ids": [0, 2],
            "mlp_layer_types": ["dense", "sparse", "sparse"],
            "n_shared_experts": 2,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers inkling, InklingTopkRouter",
        notes=(
            "The router's weight has one more row for each shared expert; they are never routed to, so they are not "
            "part of the routing weights."
        ),
    ),
    Architecture(
        model_types=("inkling2_text",),
        packs=False,
        wrappers=("inkling2",),
        router="mlp.gate",
        router_class="Inkling2TopKRouter",
        scoring_func="sigmoid",
        scoring_from=("scoring_func", {"sigmoid": "sigmoid", "softmax": "softmax", "sqrtsoftplus": "sqrtsoftplus"}),
        bias="mlp.gate.e_score_correction_bias",
        tiny={
            **_ATTENTION,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 2,
            "layer_types": ["hybrid_sliding", "hybrid"],
        },
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers inkling2, Inkling2TopKRouter",
    ),
)
