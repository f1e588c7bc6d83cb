"""MiMo-V2-Flash (Xiaomi)."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("mimo_v2_flash",),
        router="mlp.gate",
        router_class="MiMoV2FlashTopkRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        groups=("n_group", "topk_group", "top2_sum"),
        gguf="mimo2",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "v_head_dim": 8,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "sliding_window": 4,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers mimo_v2_flash, MiMoV2FlashTopkRouter",
    ),
)
