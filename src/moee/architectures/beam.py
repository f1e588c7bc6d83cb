"""Beam."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("beam",),
        trims_last_layer=False,
        router="mlp.gate",
        router_class="BeamTopKRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        groups=("n_group", "topk_group", "top2_sum"),
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "n_group": 4,
            "topk_group": 2,
            "sliding_window": 4,
        },
        tiny_layers=(3,),
        tiny_experts=(8,),
        source="transformers beam, BeamTopKRouter",
    ),
)
