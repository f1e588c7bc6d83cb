"""Kolibri: the correction bias is added to the logits, the weights are sigmoids."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("kolibri1",),
        router="mlp.gate",
        router_class="Kolibri1TopKRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        bias_on="logits",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention"],
            "num_experts": 8,
            "num_experts_per_tok": 2,
        },
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers kolibri1, Kolibri1TopKRouter",
    ),
)
