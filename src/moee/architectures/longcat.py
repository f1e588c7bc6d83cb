"""LongCat-Flash (Meituan): some experts are the identity, and a layer holds two attention blocks."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("longcat_flash",),
        trims_last_layer=False,
        router="mlp.router",
        router_class="LongcatFlashTopkRouter",
        top_k="moe_topk",
        bias="mlp.router.e_score_correction_bias",
        checkpoint_routers=("mlp.router.classifier",),
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "ffn_hidden_size": 32,
            "expert_ffn_hidden_size": 16,
            "num_layers": 2,
            "num_attention_heads": 4,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "head_dim": 8,
            "v_head_dim": 8,
            "n_routed_experts": 8,
            "zero_expert_num": 4,
            "moe_topk": 3,
        },
        tiny_layers=(0, 1),
        tiny_experts=(12, 12),
        source="transformers longcat_flash, LongcatFlashTopkRouter",
        notes="The last zero_expert_num entries of every layer are identity experts.",
    ),
)
