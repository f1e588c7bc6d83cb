"""ERNIE 4.5 (Baidu): softmax router with a correction bias on the probabilities."""

from __future__ import annotations

from moee.architectures.spec import Architecture

_TINY = {
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
        tiny={**_TINY, "moe_intermediate_size": 16, "moe_layer_start_index": 1},
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
            **_TINY,
            "moe_intermediate_size": [16, 8],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers ernie4_5_vl_moe, Ernie4_5_VLMoeMoeBlock: text tokens go to text_moe only",
        notes="The routers of the vision experts never see a text and are not read.",
    ),
)
