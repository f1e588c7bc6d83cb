"""Muse Spark: sigmoid router over scaled logits, experts in a narrower space."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("muse_spark_text",),
        wrappers=("muse_spark",),
        router="mlp.gate",
        router_class="MuseSparkTopkRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "moe_hidden_size": 16,
            "num_hidden_layers": 3,
            "mlp_layer_types": ["dense", "sparse", "sparse"],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "sliding_window": 4,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "bos_token_id": None,
            "eos_token_id": None,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers muse_spark, MuseSparkTopkRouter",
        notes="Router logits are recorded after the configuration's output_multiplier, as the model itself uses them.",
    ),
)
