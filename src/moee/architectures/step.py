"""Step-3.5-Flash and Step-3.7-Flash (StepFun)."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("step3p5",),
        router="mlp.gate",
        router_class="Step3p7TopKRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        wrappers=("step3p7",),
        checkpoint_routers=("moe.gate",),
        gguf="step35",
        tiny={
            "vocab_size": 64,
            "pad_token_id": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "share_expert_dim": 16,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
            "sliding_window": 4,
        },
        tiny_layers=(1, 2, 3),
        tiny_experts=(8, 8, 8),
        source="transformers step3p7, Step3p7TopKRouter",
    ),
)
