"""DeepSeek's mixtures, from DeepSeekMoE-16B to V4, and the OCR models (DeepSeek, Baidu) that use the V2 router.

V2 takes a softmax and opens groups by their best expert; V3 takes sigmoids, adds a bias to the selection and opens
groups by their two best; V4 has no groups, and its first layers choose experts by a table of token ids.
Models of other makers that choose as V3 does are in `grouped.py`.
"""

from __future__ import annotations

from typing import Final

from moee.architectures.spec import LATENT, SMALL, Architecture

_BASE = {
    **SMALL,
    "intermediate_size": 32,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "n_routed_experts": 8,
    "n_group": 4,
    "topk_group": 2,
}
_TINY = {
    **_BASE,
    **LATENT,
    "q_lora_rank": 8,
    "first_k_dense_replace": 1,
}
_SOFTMAX_GROUPS: Final = ("n_group", "topk_group", "max")
_SIGMOID_GROUPS: Final = ("n_group", "topk_group", "top2_sum")

ROWS = (
    Architecture(
        model_types=("deepseek",),
        router="mlp.gate",
        router_class="DeepseekOcr2TextTopkRouter",
        native="moee.backends.checkpoint.deepseek_moe:register",
        gguf="deepseek",
        tiny={
            **SMALL,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 3,
            "first_k_dense_replace": 1,
            "n_routed_experts": 8,
            "n_shared_experts": 2,
            "scoring_func": "softmax",
            "norm_topk_prob": False,
            "moe_layer_freq": 1,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="the paper (2401.06066) and the published configuration; the class is transformers deepseek_ocr2",
        notes="Runs without the code that the checkpoint carries.",
    ),
    Architecture(
        model_types=("deepseek_v2",),
        router="mlp.gate",
        router_class="DeepseekV2TopkRouter",
        groups=_SOFTMAX_GROUPS,
        gguf="deepseek2",
        tiny={**_TINY, "topk_method": "group_limited_greedy", "topk_group": 1},
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers deepseek_v2, DeepseekV2TopkRouter",
        notes="The group limit holds only for topk_method='group_limited_greedy'; V2-Lite is 'greedy'.",
    ),
    Architecture(
        model_types=("deepseek_ocr2_text",),
        router="mlp.gate",
        router_class="DeepseekOcr2TextTopkRouter",
        groups=_SOFTMAX_GROUPS,
        wrappers=("deepseek_ocr2",),
        gguf="deepseek2ocr",
        tiny={
            **_BASE,
            "topk_method": "group_limited_greedy",
            "topk_group": 1,
            "mlp_layer_types": ["dense", "sparse", "sparse"],
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers deepseek_ocr2, DeepseekOcr2TextTopkRouter",
    ),
    Architecture(
        model_types=("unlimited_ocr_text",),
        router="mlp.gate",
        router_class="UnlimitedOcrTextTopkRouter",
        groups=_SOFTMAX_GROUPS,
        wrappers=("unlimited_ocr",),
        gguf="deepseek2ocr",
        # a window shorter than the longest test text
        tiny={
            **_BASE,
            "topk_method": "group_limited_greedy",
            "topk_group": 1,
            "mlp_layer_types": ["dense", "sparse", "sparse"],
            "sliding_window": 4,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers unlimited_ocr, UnlimitedOcrTextTopkRouter",
    ),
    Architecture(
        model_types=("deepseek_v3",),
        router="mlp.gate",
        router_class="DeepseekV3TopkRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        groups=_SIGMOID_GROUPS,
        wrappers=("kimi_k25",),
        gguf="deepseek2",
        tiny=_TINY,
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers deepseek_v3, DeepseekV3TopkRouter",
        notes="Also Kimi-K2 and its relatives, which are published under this model_type.",
    ),
    Architecture(
        model_types=("deepseek_v32",),
        packs=False,
        router="mlp.gate",
        router_class="DeepseekV32TopkRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        groups=_SIGMOID_GROUPS,
        gguf="deepseek32",
        # the indexer keeps fewer tokens than the longest test text has; with few heads its scores would tie at zero
        tiny={**_TINY, "index_n_heads": 16, "index_head_dim": 16, "index_topk": 4},
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers deepseek_v32, DeepseekV32TopkRouter",
    ),
    Architecture(
        model_types=("deepseek_v4",),
        native="moee.backends.checkpoint.deepseek_v4:register",
        packs=False,
        router="mlp.gate",
        router_class="DeepseekV4TopKRouter",
        scoring_func="sqrtsoftplus",
        scoring_from=("scoring_func", {"sigmoid": "sigmoid", "softmax": "softmax", "sqrtsoftplus": "sqrtsoftplus"}),
        bias="mlp.gate.e_score_correction_bias",
        checkpoint_routers=("ffn.gate",),
        # layers that go by token id have a gate as well, but no bias
        width_tensors=("ffn.gate.bias", "mlp.gate.e_score_correction_bias"),
        gguf="deepseek4",
        tiny={
            **SMALL,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 3,
            "layer_types": ["heavily_compressed_attention", "compressed_sparse_attention", "sliding_attention"],
            "mlp_layer_types": ["hash_moe", "moe", "moe"],
            "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4},
            "head_dim": 16,
            "partial_rotary_factor": 0.5,
            "q_lora_rank": 16,
            "o_groups": 2,
            "o_lora_rank": 8,
            "index_n_heads": 2,
            "index_head_dim": 8,
            "index_topk": 4,
            "hc_mult": 2,
            "hc_sinkhorn_iters": 3,
            "sliding_window": 4,
            "n_routed_experts": 8,
            "bos_token_id": None,
            "eos_token_id": None,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers deepseek_v4, DeepseekV4TopKRouter",
        left_padding=False,
        notes=(
            "Attention compresses fixed windows counted from the first position, padding included, so padding on the "
            "left shifts every window. Layers that choose experts by token id (the first three of the published "
            "model) have no learned choice to read."
        ),
    ),
)
