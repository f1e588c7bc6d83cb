"""AFMoE (Arcee Trinity)."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("afmoe",),
        router="mlp.router",
        router_class="AfmoeTokenChoiceRouter",
        scoring_func="sigmoid",
        bias="mlp.expert_bias",
        checkpoint_routers=("mlp.router.gate",),
        gguf="afmoe",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 3,
            "num_dense_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "num_shared_experts": 1,
            "global_attn_every_n_layers": 2,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers afmoe, AfmoeTokenChoiceRouter",
    ),
)
