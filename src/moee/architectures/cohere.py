"""Command MoE (Cohere)."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("cohere2_moe",),
        router="mlp.gate",
        router_class="Cohere2MoeTopKRouter",
        scoring_func="topk_softmax",
        scoring_from=("expert_selection_fn", {"softmax": "topk_softmax", "sigmoid": "sigmoid"}),
        gguf="cohere2moe",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 16,
            "prefix_dense_intermediate_size": 32,
            "num_hidden_layers": 3,
            "first_k_dense_replace": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "sliding_window": 4,
            "sliding_window_pattern": 2,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "num_shared_experts": 1,
            "bos_token_id": None,
            "eos_token_id": None,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers cohere2_moe, Cohere2MoeTopKRouter",
    ),
)
