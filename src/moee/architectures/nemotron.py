"""Nemotron-H and Nemotron 3 (NVIDIA): a layer is Mamba, attention or experts, never two of them."""

from __future__ import annotations

from moee.architectures.spec import Architecture

ROWS = (
    Architecture(
        model_types=("nemotron_h",),
        packs=False,
        router="mixer.gate",
        router_class="NemotronHTopkRouter",
        scoring_func="sigmoid",
        bias="mixer.gate.e_score_correction_bias",
        groups=("n_group", "topk_group", "top2_sum"),
        wrappers=("nemotron_h_omni", "nemo_speechlm"),
        gguf="nemotron_h_moe",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "layers_block_type": ["mamba", "moe", "attention", "moe"],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "ssm_state_size": 8,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "n_groups": 2,
            "chunk_size": 8,
            "use_mamba_kernels": False,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "moe_intermediate_size": 16,
            "moe_shared_expert_intermediate_size": 16,
            "moe_latent_size": 16,
        },
        tiny_layers=(1, 3),
        tiny_experts=(8, 8),
        source="transformers nemotron_h, NemotronHTopkRouter",
        notes="Checkpoints without 'moe' layers are dense models.",
    ),
)
