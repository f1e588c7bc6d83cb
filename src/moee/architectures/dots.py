"""dots.llm1 and dots3 (rednote)."""

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
    "head_dim": 8,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
}

ROWS = (
    Architecture(
        model_types=("dots1",),
        router="mlp.gate",
        router_class="Dots1TopkRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        groups=("n_group", "topk_group", "top2_sum"),
        gguf="dots1",
        tiny={**_TINY, "first_k_dense_replace": 1},
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers dots1, Dots1TopkRouter",
    ),
    Architecture(
        model_types=("dots3_note_text",),
        packs=False,
        router="mlp.gate",
        router_class="Dots3NoteTextTopkRouter",
        scoring_func="sigmoid",
        bias="mlp.gate.e_score_correction_bias",
        groups=("n_group", "topk_group", "top2_sum"),
        wrappers=("dots3_note",),
        gguf="dots3note",
        # the indexer keeps fewer tokens than the longest test text has; with few heads its scores would tie at zero
        tiny={
            **_TINY,
            "kv_lora_rank": 8,
            "q_lora_rank": 8,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 8,
            "mlp_layer_types": ["dense", "sparse", "sparse"],
            "index_n_heads": 16,
            "index_head_dim": 16,
            "index_topk": 4,
            "shared_experts_intermediate_size": 16,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers dots3_note, Dots3NoteTextTopkRouter",
    ),
)
