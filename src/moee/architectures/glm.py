"""GLM-4.5, 4.6V, 4.7-Flash and 5 (Z.ai), and Solar Open (Upstage), whose blocks follow GLM-4.5."""

from __future__ import annotations

from typing import Final

from moee.architectures.spec import LATENT, SMALL, Architecture

_GROUPS: Final = ("n_group", "topk_group", "top2_sum")
_BIAS = "mlp.gate.e_score_correction_bias"
_TINY = {
    **SMALL,
    "intermediate_size": 32,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "n_routed_experts": 8,
    "n_group": 2,
    "topk_group": 1,
}
_LATENT = {
    **_TINY,
    **LATENT,
    "num_key_value_heads": 4,
    "q_lora_rank": 8,
}
# the indexer keeps fewer tokens than the longest test text has; with few heads its scores would tie at zero
_INDEXED = {**_LATENT, "index_n_heads": 16, "index_head_dim": 16, "index_topk": 4}

ROWS = (
    Architecture(
        model_types=("glm4_moe",),
        router="mlp.gate",
        router_class="Glm4MoeTopkRouter",
        scoring_func="sigmoid",
        bias=_BIAS,
        groups=_GROUPS,
        gguf="glm4moe",
        tiny={**_TINY, "head_dim": 8, "first_k_dense_replace": 1},
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers glm4_moe, Glm4MoeTopkRouter",
    ),
    Architecture(
        model_types=("glm4_moe_lite",),
        router="mlp.gate",
        router_class="Glm4MoeLiteTopkRouter",
        scoring_func="sigmoid",
        bias=_BIAS,
        groups=_GROUPS,
        gguf="deepseek2",
        tiny=_LATENT,
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers glm4_moe_lite, Glm4MoeLiteTopkRouter",
    ),
    Architecture(
        model_types=("glm4v_moe_text",),
        router="mlp.gate",
        router_class="Glm4vMoeTextTopkRouter",
        scoring_func="sigmoid",
        bias=_BIAS,
        groups=_GROUPS,
        wrappers=("glm4v_moe",),
        gguf="glm4moe",
        tiny={
            **_TINY,
            "head_dim": 8,
            "first_k_dense_replace": 1,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [2, 1, 1],
                "partial_rotary_factor": 1.0,
            },
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers glm4v_moe, Glm4vMoeTextTopkRouter",
    ),
    Architecture(
        model_types=("glm_moe_dsa",),
        packs=False,
        router="mlp.gate",
        router_class="GlmMoeDsaTopkRouter",
        scoring_func="sigmoid",
        bias=_BIAS,
        groups=_GROUPS,
        gguf="glm-dsa",
        tiny={**_INDEXED, "first_k_dense_replace": 1},
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers glm_moe_dsa, GlmMoeDsaTopkRouter",
    ),
    Architecture(
        model_types=("glm5_next_text",),
        packs=False,
        router="mlp.gate",
        router_class="Glm5NextTextTopkRouter",
        scoring_func="sigmoid",
        bias=_BIAS,
        groups=_GROUPS,
        wrappers=("glm5_next",),
        gguf="glm5_next",
        tiny={
            **_INDEXED,
            "qk_rope_head_dim": 0,
            "mlp_layer_types": ["dense", "sparse", "sparse"],
            "linear_num_heads": 4,
            "linear_head_dim": 8,
            "index_kpool": 2,
            "hc_mult": 2,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers glm5_next, Glm5NextTextTopkRouter",
    ),
    Architecture(
        model_types=("solar_open",),
        router="mlp.gate",
        router_class="SolarOpenTopkRouter",
        scoring_func="sigmoid",
        bias=_BIAS,
        groups=_GROUPS,
        tiny={**_TINY, "head_dim": 8},
        tiny_layers=(0, 1, 2),
        tiny_experts=(8, 8, 8),
        source="transformers solar_open, SolarOpenTopkRouter",
    ),
)
