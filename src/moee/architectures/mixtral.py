"""Mixtral (Mistral AI), and mixtures by other makers that were built like it.

A small gate gives logits, their softmax over all experts gives the weights, and a published checkpoint mostly has the
gate at `block_sparse_moe.gate`: MiniMax 01 and its followers M2 and M3, whose weights are sigmoids, Phi-3.5-MoE
(Microsoft), which weighs by SparseMixer, and DBRX (Databricks).
"""

from __future__ import annotations

from moee.architectures.spec import SMALL, Architecture

_TINY = {
    **SMALL,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_local_experts": 8,
}
_MINIMAX_TINY = {
    **SMALL,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_local_experts": 8,
}

ROWS = (
    Architecture(
        model_types=("mixtral",),
        router="mlp.gate",
        router_class="MixtralTopKRouter",
        checkpoint_routers=("block_sparse_moe.gate",),
        gguf="llama",
        tiny=_TINY,
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers mixtral, MixtralTopKRouter",
    ),
    Architecture(
        model_types=("minimax",),
        packs=False,
        router="mlp.gate",
        router_class="MiniMaxTopKRouter",
        checkpoint_routers=("block_sparse_moe.gate",),
        gguf="minimax_01",
        # one block of linear attention shorter than the longest text, so that blocks are carried over
        tiny={**_TINY, "layer_types": ["linear_attention", "full_attention"], "block_size": 4},
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers minimax, MiniMaxTopKRouter",
    ),
    Architecture(
        model_types=("minimax_m2",),
        router="mlp.gate",
        router_class="MiniMaxM2TopKRouter",
        scoring_func="sigmoid",
        bias="mlp.e_score_correction_bias",
        checkpoint_routers=("block_sparse_moe.gate",),
        gguf="minimax-m2",
        tiny=_MINIMAX_TINY,
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
            **_MINIMAX_TINY,
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
    Architecture(
        model_types=("phimoe",),
        router="mlp.router",
        router_class="PhimoeTopKRouter",
        scoring_func="sparsemixer",
        # the threshold is part of the weights; every published checkpoint has this one
        scoring_from=("router_jitter_noise", {0.01: "sparsemixer"}),
        checkpoint_routers=("block_sparse_moe.gate",),
        gguf="phimoe",
        tiny={
            **SMALL,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "num_local_experts": 8,
        },
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers phimoe, PhimoeTopKRouter and sparsemixer",
    ),
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
