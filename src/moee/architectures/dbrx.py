"""DBRX (Databricks)."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("dbrx",),
        layers="blocks",
        router="ffn.router",
        router_class="DbrxRouter",
        output=None,
        top_k="ffn_config.moe_top_k",
        checkpoint_routers=("ffn.router.layer",),
        gguf="dbrx",
        tiny={
            "vocab_size": 64,
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 2,
            "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
            "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 8, "moe_top_k": 2},
        },
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers dbrx, DbrxRouter and DbrxFFN",
    ),
)
