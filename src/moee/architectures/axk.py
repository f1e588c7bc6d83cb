"""A.X K1 and K2 (SK Telecom)."""

from __future__ import annotations

from moee.architectures.spec import Architecture

_TINY = {
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
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}

ROWS = (
    Architecture(
        model_types=("axk1",),
        router="mlp.gate",
        router_class="AXK1TopkRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        groups=("n_group", "topk_group", "top2_sum"),
        tiny=_TINY,
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers axk1, AXK1TopkRouter",
    ),
    Architecture(
        model_types=("axk2",),
        packs=False,
        router="mlp.gate",
        router_class="AXK2TopkRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        groups=("n_group", "topk_group", "top2_sum"),
        closed_score=0.0,
        # the indexer keeps fewer tokens than the longest test text has; with few heads its scores would tie at zero
        tiny={**_TINY, "index_n_heads": 16, "index_head_dim": 16, "index_topk": 4, "gated_norm_rank": 4},
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers axk2, AXK2TopkRouter",
        notes="Experts of closed groups count as 0, not as minus infinity; light checkpoints have no groups.",
    ),
)
