"""Mistral 4 and Mistral Large 4: softmax router over groups of experts."""

from __future__ import annotations

from moee.architectures.spec import Architecture

_TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "moe_intermediate_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "n_group": 4,
    "topk_group": 2,
    "num_experts_per_tok": 2,
}

ROWS = (
    Architecture(
        model_types=("mistral4",),
        router="mlp.gate",
        router_class="Mistral4TopkRouter",
        groups=("n_group", "topk_group", "top2_sum"),
        gguf="mistral4",
        tiny={**_TINY, "num_hidden_layers": 3, "first_k_dense_replace": 1, "q_lora_rank": 16},
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers mistral4, Mistral4TopkRouter",
    ),
    Architecture(
        model_types=("mistral_large4_text",),
        packs=False,
        wrappers=("mistral_large4",),
        router="mlp.gate",
        router_class="MistralLarge4TextTopkRouter",
        groups=("n_group", "topk_group", "top2_sum"),
        checkpoint_routers=("gate",),
        tiny={
            **_TINY,
            "num_hidden_layers": 3,
            "first_k_dense_replace": 1,
            "topk_group": 1,
            "index_topk": 4,
            "index_head_dim": 16,
            # the indexer sums rectified scores: with few heads many keys tie at exactly 0
            "index_n_heads": 8,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers mistral_large4, MistralLarge4TextTopkRouter",
    ),
)
