"""Granite MoE (IBM) and JetMoE, from whose code it grew: softmax over the chosen logits only.

JetMoE has experts in the attention block, too.
"""

from __future__ import annotations

from moee.architectures.spec import SMALL, Architecture

_TINY = {
    **SMALL,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 8,
}


def _row(
    model_type: str, prefix: str, tiny: dict[str, object], *, gguf: str | None = None, notes: str = ""
) -> Architecture:
    return Architecture(
        model_types=(model_type,),
        packs=model_type != "granitemoehybrid",
        router="block_sparse_moe.router",
        router_class=f"{prefix}TopKRouter",
        before=None if model_type == "granitemoe_swa" else ("5.21", f"{prefix}TopKRouter", 2),
        scoring_func="topk_softmax",
        checkpoint_routers=("block_sparse_moe.router.layer",),
        gguf=gguf,
        tiny={**_TINY, **tiny},
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source=f"transformers {model_type}, {prefix}TopKRouter",
        notes=notes,
    )


ROWS = (
    _row("granitemoe", "GraniteMoe", {}, gguf="granitemoe"),
    _row("granitemoeshared", "GraniteMoeShared", {"shared_intermediate_size": 16}, gguf="granitemoe"),
    _row("granitemoe_swa", "GraniteMoeSWA", {"sliding_window": 4}),
    _row(
        "granitemoehybrid",
        "GraniteMoeHybrid",
        {
            "shared_intermediate_size": 16,
            "layer_types": ["linear_attention", "full_attention"],
            "mamba_n_heads": 8,
            "mamba_d_head": 8,
            "mamba_d_state": 8,
            "mamba_chunk_size": 8,
        },
        gguf="granitehybrid",
        notes="Configurations with num_local_experts = 0 are dense models.",
    ),
    Architecture(
        model_types=("jetmoe",),
        trims_last_layer=False,
        router="mlp.router",
        router_class="JetMoeTopKGating",
        output=4,
        scoring_func="topk_softmax",
        attention_router="self_attention.experts.router",
        attention_output=4,
        checkpoint_routers=("mlp.router.layer",),
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "kv_channels": 8,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers jetmoe, JetMoeTopKGating",
        notes="The routers of the attention block are left out unless include_attention_routers is set.",
    ),
)
