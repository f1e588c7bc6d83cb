"""Qwen (Alibaba): Qwen1.5-MoE, Qwen2-MoE, Qwen3-MoE, Qwen3-Next, Qwen3.5, Qwen3-VL, Qwen3-Omni and Qwen4.

Mellum 2 (JetBrains) has the experts block of Qwen3-MoE.
"""

from __future__ import annotations

from moee.architectures.spec import SMALL, Architecture

_TINY = {
    **SMALL,
    "intermediate_size": 32,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_experts": 8,
}
_SHARED = {**_TINY, "shared_expert_intermediate_size": 16}
# linear attention in all layers but the last, which attends in full
_HYBRID = {
    **_SHARED,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "linear_attention", "full_attention"],
}
_SMALL_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}

ROWS = (
    Architecture(
        model_types=("qwen2_moe",),
        router="mlp.gate",
        router_class="Qwen2MoeTopKRouter",
        gguf="qwen2moe",
        tiny={**_SHARED, "mlp_only_layers": [1]},
        tiny_layers=(0, 2),
        tiny_experts=(8, 8),
        source="transformers qwen2_moe, Qwen2MoeTopKRouter",
        notes="A shared expert runs beside the routed ones; its sigmoid gate is not part of the routing weights.",
    ),
    Architecture(
        model_types=("qwen3_moe",),
        router="mlp.gate",
        router_class="Qwen3MoeTopKRouter",
        gguf="qwen3moe",
        tiny={**_TINY, "mlp_only_layers": [0]},
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers qwen3_moe, Qwen3MoeTopKRouter",
    ),
    Architecture(
        model_types=("qwen3_next",),
        packs=False,
        router="mlp.gate",
        router_class="Qwen3NextTopKRouter",
        gguf="qwen3next",
        tiny=_HYBRID,
        tiny_layers=(0, 1, 2),
        tiny_experts=(8, 8, 8),
        source="transformers qwen3_next, Qwen3NextTopKRouter",
    ),
    Architecture(
        model_types=("qwen3_5_moe_text",),
        packs=False,
        router="mlp.gate",
        router_class="Qwen3_5MoeTopKRouter",
        wrappers=("qwen3_5_moe",),
        gguf="qwen35moe",
        tiny={**_HYBRID, "rope_parameters": {**_SMALL_ROPE, "partial_rotary_factor": 1.0}},
        tiny_layers=(0, 1, 2),
        tiny_experts=(8, 8, 8),
        source="transformers qwen3_5_moe, Qwen3_5MoeTopKRouter",
    ),
    Architecture(
        model_types=("qwen3_vl_moe_text",),
        router="mlp.gate",
        router_class="Qwen3VLMoeTextTopKRouter",
        wrappers=("qwen3_vl_moe",),
        gguf="qwen3vlmoe",
        tiny={**_TINY, "rope_parameters": _SMALL_ROPE, "mlp_only_layers": [1]},
        tiny_layers=(0, 2),
        tiny_experts=(8, 8),
        source="transformers qwen3_vl_moe, Qwen3VLMoeTextTopKRouter",
    ),
    Architecture(
        model_types=("qwen3_omni_moe_text",),
        router="mlp.gate",
        router_class="Qwen3OmniMoeThinkerTextTopKRouter",
        wrappers=("qwen3_omni_moe", "qwen3_omni_moe_thinker"),
        gguf="qwen3vlmoe",
        tiny={**_TINY, "rope_parameters": _SMALL_ROPE},
        tiny_layers=(0, 1, 2),
        tiny_experts=(8, 8, 8),
        source="transformers qwen3_omni_moe, Qwen3OmniMoeThinkerTextTopKRouter",
        notes="Only the thinker is read; the talker that speaks its answers is not.",
    ),
    Architecture(
        model_types=("qwen4_exp_text",),
        packs=False,
        router="mlp.gate",
        router_class="Qwen4ExpTextTopKRouter",
        wrappers=("qwen4_exp",),
        gguf="qwen4exp",
        tiny={
            **_HYBRID,
            "rope_parameters": {**_SMALL_ROPE, "partial_rotary_factor": 1.0},
            "hc_count": 2,
            "hc_lowrank": 8,
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 8,
            "indexer_budget": 4,
            "indexer_compress_ratio": 2,
            "ple_layer_ids": [2],
            "eos_token_id": 1,
            "heads_per_ngram": 2,
            "ngram_vocab_size_base": 50,
            "make_ngram_vocab_size_divisible_by": 4,
            "split_ngram_parts": 2,
        },
        tiny_layers=(0, 1, 2),
        tiny_experts=(8, 8, 8),
        source="transformers qwen4_exp, Qwen4ExpTextTopKRouter",
    ),
    Architecture(
        model_types=("mellum",),
        router="mlp.gate",
        router_class="MellumTopKRouter",
        gguf="mellum",
        tiny={
            **SMALL,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 3,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "num_experts": 8,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "mlp_layer_types": ["dense", "sparse", "sparse"],
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers mellum, MellumTopKRouter",
    ),
)
