"""Phi-3.5-MoE (Microsoft): SparseMixer routing."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("phimoe",),
        router="mlp.router",
        router_class="PhimoeTopKRouter",
        scoring_func="sparsemixer",
        # the threshold is part of the weights; every published checkpoint has this one
        scoring_from=("router_jitter_noise", {0.01: "sparsemixer"}),
        checkpoint_routers=("block_sparse_moe.gate",),
        gguf="phimoe",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers phimoe, PhimoeTopKRouter and sparsemixer",
    ),
)
