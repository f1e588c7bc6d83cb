"""LFM2-MoE (Liquid AI): short convolutions and attention, mixture-of-experts feed-forward."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("lfm2_moe",),
        packs=False,
        router="feed_forward.gate",
        router_class="Lfm2MoeTopKRouter",
        scoring_func="sigmoid",
        bias="feed_forward.expert_bias",
        gguf="lfm2moe",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 4,
            "num_dense_layers": 1,
            "layer_types": ["conv", "full_attention", "conv", "full_attention"],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_experts": 8,
            "num_experts_per_tok": 2,
        },
        tiny_layers=(1, 2, 3),
        tiny_experts=(8, 8, 8),
        source="transformers lfm2_moe, Lfm2MoeTopKRouter",
    ),
)
