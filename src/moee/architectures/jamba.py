"""Jamba (AI21): Mamba and attention layers, experts in every second one."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("jamba",),
        packs=False,
        router="feed_forward.router",
        router_class="JambaTopKRouter",
        before=("5.21", "Linear", None),
        gguf="jamba",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 16,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "attn_layer_period": 4,
            "attn_layer_offset": 2,
            "mamba_d_state": 8,
            "use_mamba_kernels": False,
        },
        tiny_layers=(1, 3),
        tiny_experts=(8, 8),
        source="transformers jamba, JambaTopKRouter",
        notes="Layers between the expert layers are dense and have no router.",
    ),
)
