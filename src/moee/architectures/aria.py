"""Aria (Rhymes AI)."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("aria_text",),
        wrappers=("aria",),
        router="mlp.router",
        router_class="AriaTextTopKRouter",
        before=("5.21", "AriaTextTopKRouter", 2),
        scoring_func="topk_softmax",
        top_k="moe_topk",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "moe_num_experts": 8,
            "moe_topk": 2,
            "moe_num_shared_experts": 1,
        },
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers aria, AriaTextTopKRouter",
    ),
)
