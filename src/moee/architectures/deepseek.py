"""DeepSeek-V2, V3, V3.2 and the OCR models (DeepSeek, Baidu) that use the V2 router."""

from __future__ import annotations

from typing import Final

from moee.architectures.spec import Architecture

_BASE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 4,
    "topk_group": 2,
}
_TINY = {
    **_BASE,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "first_k_dense_replace": 1,
}
_SOFTMAX_GROUPS: Final = ("n_group", "topk_group", "max")
_SIGMOID_GROUPS: Final = ("n_group", "topk_group", "top2_sum")

ROWS = (
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
)
