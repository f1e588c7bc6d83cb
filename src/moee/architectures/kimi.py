"""Kimi-Linear (Moonshot AI). Kimi-K2 is published as deepseek_v3."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("kimi_linear",),
        packs=False,
        router="mlp.gate",
        router_class="KimiLinearTopkRouter",
        scoring_func="sigmoid",
        top_k="num_experts_per_token",
        bias="mlp.gate.e_score_correction_bias",
        groups=("num_expert_group", "topk_group", "top2_sum"),
        checkpoint_routers=("block_sparse_moe.gate",),
        gguf="kimi-linear",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "num_experts": 8,
            "num_experts_per_token": 2,
            "num_expert_group": 2,
            "topk_group": 1,
            "kv_lora_rank": 8,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 8,
            "layer_types": ["linear_attention", "linear_attention", "full_attention"],
            "linear_head_dim": 8,
            "linear_num_heads": 4,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers kimi_linear, KimiLinearTopkRouter",
    ),
)
