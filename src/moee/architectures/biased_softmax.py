"""Models whose router takes a softmax and adds a correction bias to the probabilities, for the selection alone.

ERNIE 4.5 (Baidu); LongCat-Flash (Meituan), where some experts are the identity and a layer holds two attention blocks;
ZAYA1 (Zyphra), whose router is a small network with a state that runs from layer to layer.
"""

from __future__ import annotations

from moee.architectures.spec import Architecture

_ERNIE_TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "moe_num_experts": 8,
    "moe_k": 2,
    "moe_num_shared_experts": 1,
}

ROWS = (
    Architecture(
        model_types=("ernie4_5_moe",),
        router="mlp.gate",
        router_class="Ernie4_5_MoeTopKRouter",
        top_k="moe_k",
        bias="mlp.gate.moe_statics.e_score_correction_bias",
        gguf="ernie4_5-moe",
        tiny={**_ERNIE_TINY, "moe_intermediate_size": 16, "moe_layer_start_index": 1},
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers ernie4_5_moe, Ernie4_5_MoeTopKRouter",
    ),
    Architecture(
        model_types=("ernie4_5_vl_moe_text",),
        wrappers=("ernie4_5_vl_moe",),
        router="mlp.text_moe.gate",
        router_class="Ernie4_5_VLMoeMoeTopKRouter",
        top_k="moe_k",
        bias="mlp.text_moe.gate.moe_statics.e_score_correction_bias",
        checkpoint_routers=("mlp.gate",),
        # the published matrix is transposed, its bias has a row for each modality
        width_tensors=(
            "mlp.moe_statics.e_score_correction_bias",
            "mlp.text_moe.gate.moe_statics.e_score_correction_bias",
        ),
        tiny={
            **_ERNIE_TINY,
            "moe_intermediate_size": [16, 8],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers ernie4_5_vl_moe, Ernie4_5_VLMoeMoeBlock: text tokens go to text_moe only",
        notes="The routers of the vision experts never see a text and are not read.",
    ),
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
