"""Mixtral (Mistral AI) and MiniMax-01, whose blocks follow it."""

from __future__ import annotations

from moee.architectures.spec import Architecture

_TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}

ROWS = (
    Architecture(
        model_types=("mixtral",),
        router="mlp.gate",
        router_class="MixtralTopKRouter",
        checkpoint_routers=("block_sparse_moe.gate",),
        gguf="llama",
        tiny=_TINY,
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers mixtral, MixtralTopKRouter",
    ),
    Architecture(
        model_types=("minimax",),
        packs=False,
        router="mlp.gate",
        router_class="MiniMaxTopKRouter",
        checkpoint_routers=("block_sparse_moe.gate",),
        gguf="minimax_01",
        # one block of linear attention shorter than the longest text, so that blocks are carried over
        tiny={**_TINY, "layer_types": ["linear_attention", "full_attention"], "block_size": 4},
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers minimax, MiniMaxTopKRouter",
    ),
)
