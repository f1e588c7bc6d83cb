"""K-EXAONE (LG AI Research)."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("exaone_moe",),
        router="mlp.gate",
        router_class="ExaoneMoeTopkRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        groups=("n_group", "topk_group", "top2_sum"),
        gguf="exaone-moe",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "sliding_window": 4,
        },
        tiny_layers=(1, 2, 3),
        tiny_experts=(8, 8, 8),
        source="transformers exaone_moe, ExaoneMoeTopkRouter",
    ),
)
