"""Laguna (Poolside)."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("laguna",),
        router="mlp.gate",
        router_class="LagunaTopKRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        gguf="laguna",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_router_logit_softcapping": 2.0,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers laguna, LagunaTopKRouter",
        notes="Router logits are recorded after the optional tanh soft cap, as the model itself uses them.",
    ),
)
