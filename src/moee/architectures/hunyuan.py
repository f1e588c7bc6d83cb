"""Hunyuan-Large, Hy3 and Hy4 (Tencent)."""

from __future__ import annotations

from moee.architectures.spec import LATENT, Architecture

_TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}

ROWS = (
    Architecture(
        model_types=("hunyuan_v1_moe",),
        router="mlp.gate",
        router_class="HunYuanMoEV1Gate",
        top_k="moe_topk",
        checkpoint_routers=("mlp.gate.wg",),
        gguf="hunyuan-moe",
        tiny={**_TINY, "num_experts": 8, "moe_topk": [2, 3, 1], "eod_token_id": 1, "sep_token_id": 2},
        tiny_layers=(0, 1, 2),
        tiny_experts=(8, 8, 8),
        source="transformers hunyuan_v1_moe, HunYuanMoEV1Gate",
        notes="moe_topk may be one number or one for each layer.",
    ),
    Architecture(
        model_types=("hy_v3",),
        router="mlp.gate",
        router_class="HYV3TopKRouter",
        scoring_func="sigmoid",
        bias="mlp.e_score_correction_bias",
        checkpoint_routers=("mlp.router.gate",),
        gguf="hy_v3",
        tiny={**_TINY, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers hy_v3, HYV3TopKRouter",
    ),
    Architecture(
        model_types=("hy_v4",),
        packs=False,
        router="mlp.gate",
        router_class="HYV4TopkRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        groups=("n_group", "topk_group", "top2_sum"),
        gguf="hy_v4",
        # the indexer keeps fewer tokens than the longest test text has; with few heads its scores would tie at zero
        tiny={
            **_TINY,
            **LATENT,
            "num_key_value_heads": 4,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "moe_intermediate_size": 16,
            "q_lora_rank": 8,
            "index_n_heads": 16,
            "index_head_dim": 16,
            "index_topk": 4,
            "hc_mult": 2,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers hy_v4, HYV4TopkRouter",
    ),
)
