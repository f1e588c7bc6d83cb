"""ZAYA1 (Zyphra): the router is a small network whose state runs from layer to layer."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("zaya",),
        packs=False,
        router="mlp.gate",
        router_class="ZayaRouter",
        bias="mlp.gate.balancing_biases",
        checkpoint_routers=("mlp.gate.router_mlp.out_proj",),
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "router_hidden_size": 16,
            "num_experts": 8,
            "bos_token_id": None,
            "eos_token_id": None,
        },
        tiny_layers=(0, 1),
        tiny_experts=(9, 9),
        source="transformers zaya, ZayaRouter",
        notes="The last entry of every layer is the choice to skip the experts.",
    ),
)
