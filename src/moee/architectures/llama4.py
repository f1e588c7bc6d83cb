"""Llama 4 (Meta): the routers' sigmoids scale the input of the experts."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("llama4_text",),
        wrappers=("llama4",),
        router="feed_forward.router",
        router_class="Llama4Router",
        output=1,
        scoring_func="sigmoid",
        gguf="llama4",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 16,
            "intermediate_size_mlp": 32,
            "num_hidden_layers": 4,
            "interleave_moe_layer_step": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "num_local_experts": 8,
            "num_experts_per_tok": 1,
        },
        tiny_layers=(1, 3),
        tiny_experts=(8, 8),
        source="transformers llama4, Llama4Router",
        notes="transformers computes every expert for every token of this architecture, so it is slow there.",
    ),
)
