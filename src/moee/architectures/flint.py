"""Flint: sigmoid router without a correction bias."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("flint",),
        router="mlp.gate",
        router_class="FlintTopKRouter",
        scoring_func="sigmoid",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "num_hidden_layers": 4,
            "mlp_only_layers": [0, 1],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "sliding_window": 4,
            "num_experts": 8,
            "num_experts_per_tok": 2,
        },
        tiny_layers=(2, 3),
        tiny_experts=(8, 8),
        source="transformers flint, FlintTopKRouter",
    ),
)
