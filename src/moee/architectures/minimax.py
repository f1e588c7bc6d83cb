"""MiniMax-M2 and M3 (MiniMax)."""

from __future__ import annotations

from moee.architectures.spec import Architecture

_TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}

ROWS = (
    Architecture(
        model_types=("minimax_m2",),
        router="mlp.gate",
        router_class="MiniMaxM2TopKRouter",
        scoring_func="sigmoid",
        bias="mlp.e_score_correction_bias",
        checkpoint_routers=("block_sparse_moe.gate",),
        gguf="minimax-m2",
        tiny=_TINY,
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers minimax_m2, MiniMaxM2TopKRouter",
    ),
    Architecture(
        model_types=("minimax_m3_vl_text",),
        router="mlp.gate",
        router_class="MiniMaxM3VLTopKRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        wrappers=("minimax_m3_vl",),
        checkpoint_routers=("block_sparse_moe.gate",),
        gguf="minimax_m3",
        tiny={
            **_TINY,
            "num_hidden_layers": 3,
            "dense_intermediate_size": 32,
            "shared_intermediate_size": 16,
            "rotary_dim": 4,
            "mlp_layer_types": ["dense", "sparse", "sparse"],
            "index_n_heads": 2,
            "index_head_dim": 8,
            "index_block_size": 2,
            "index_topk_blocks": 2,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers minimax_m3_vl, MiniMaxM3VLTopKRouter",
    ),
)
