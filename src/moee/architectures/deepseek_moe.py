"""DeepSeekMoE-16B, the first DeepSeek mixture of experts. Its later ones are in other files."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("deepseek",),
        router="mlp.gate",
        router_class="DeepseekOcr2TextTopkRouter",
        native="moee.backends.checkpoint.deepseek_moe:register",
        gguf="deepseek",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 3,
            "first_k_dense_replace": 1,
            "num_attention_heads": 4,
            "n_routed_experts": 8,
            "n_shared_experts": 2,
            "num_experts_per_tok": 2,
            "scoring_func": "softmax",
            "norm_topk_prob": False,
            "moe_layer_freq": 1,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="the paper (2401.06066) and the published configuration; the class is transformers deepseek_ocr2",
        notes="Runs without the code that the checkpoint carries.",
    ),
)
