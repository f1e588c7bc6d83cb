"""JetMoE: experts in the feed-forward block and in the attention block."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("jetmoe",),
        trims_last_layer=False,
        router="mlp.router",
        router_class="JetMoeTopKGating",
        output=4,
        scoring_func="topk_softmax",
        attention_router="self_attention.experts.router",
        attention_output=4,
        checkpoint_routers=("mlp.router.layer",),
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "kv_channels": 8,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers jetmoe, JetMoeTopKGating",
        notes="The routers of the attention block are left out unless include_attention_routers is set.",
    ),
)
