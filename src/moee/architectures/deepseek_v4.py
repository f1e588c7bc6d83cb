"""DeepSeek-V4: the first layers choose experts by a table of token ids, the others by a learned router."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("deepseek_v4",),
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
            "vocab_size": 64,
            "hidden_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 3,
            "layer_types": ["heavily_compressed_attention", "compressed_sparse_attention", "sliding_attention"],
            "mlp_layer_types": ["hash_moe", "moe", "moe"],
            "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4},
            "num_attention_heads": 4,
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
            "num_experts_per_tok": 2,
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
