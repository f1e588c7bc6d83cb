"""Models most of whose layers mix tokens by a state space or a short convolution, with attention in between.

Jamba (AI21) has Mamba and experts in every second layer; LFM2-MoE (Liquid AI) has convolutions; a layer of Nemotron-H
and Nemotron 3 (NVIDIA) is Mamba, attention or experts, never two of them.
"""

from __future__ import annotations

from moee.architectures.spec import SMALL, Architecture

ROWS = (
    Architecture(
        model_types=("jamba",),
        packs=False,
        router="feed_forward.router",
        router_class="JambaTopKRouter",
        before=("5.21", "Linear", None),
        gguf="jamba",
        tiny={
            **SMALL,
            "intermediate_size": 16,
            "num_hidden_layers": 4,
            "num_key_value_heads": 2,
            "num_experts": 8,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "attn_layer_period": 4,
            "attn_layer_offset": 2,
            "mamba_d_state": 8,
            "use_mamba_kernels": False,
        },
        tiny_layers=(1, 3),
        tiny_experts=(8, 8),
        source="transformers jamba, JambaTopKRouter",
        notes="Layers between the expert layers are dense and have no router.",
    ),
    Architecture(
        model_types=("lfm2_moe",),
        packs=False,
        router="feed_forward.gate",
        router_class="Lfm2MoeTopKRouter",
        scoring_func="sigmoid",
        bias="feed_forward.expert_bias",
        gguf="lfm2moe",
        tiny={
            **SMALL,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 4,
            "num_dense_layers": 1,
            "layer_types": ["conv", "full_attention", "conv", "full_attention"],
            "num_key_value_heads": 2,
            "num_experts": 8,
        },
        tiny_layers=(1, 2, 3),
        tiny_experts=(8, 8, 8),
        source="transformers lfm2_moe, Lfm2MoeTopKRouter",
    ),
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
            **SMALL,
            "intermediate_size": 32,
            "layers_block_type": ["mamba", "moe", "attention", "moe"],
            "num_key_value_heads": 2,
            "head_dim": 8,
            "ssm_state_size": 8,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "n_groups": 2,
            "chunk_size": 8,
            "use_mamba_kernels": False,
            "n_routed_experts": 8,
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
