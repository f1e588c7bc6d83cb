"""Granite MoE (IBM): softmax over the chosen logits only."""

from __future__ import annotations

from moee.architectures.spec import Architecture

_TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
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
)
