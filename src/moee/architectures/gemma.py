"""Gemma 4 with experts, and DiffusionGemma's text encoder (Google). Their routers return probabilities."""

from __future__ import annotations

from moee.architectures.spec import Architecture

_TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 8,
    "sliding_window": 4,
    "num_experts": 8,
    "top_k_experts": 2,
}

ROWS = (
    Architecture(
        model_types=("gemma4_text",),
        wrappers=("gemma4",),
        router="router",
        router_class="Gemma4TextRouter",
        reads="probabilities",
        top_k="top_k_experts",
        checkpoint_routers=("router.proj",),
        gguf="gemma4",
        tiny={**_TINY, "enable_moe_block": True, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64},
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers gemma4, Gemma4TextRouter",
        notes="Only configurations with enable_moe_block have experts. Logits are logarithms of probabilities.",
    ),
    Architecture(
        model_types=("diffusion_gemma_text",),
        wrappers=("diffusion_gemma",),
        router="router",
        router_class="DiffusionGemmaTextRouter",
        reads="probabilities",
        top_k="top_k_experts",
        checkpoint_routers=("router.proj",),
        tiny=_TINY,
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers diffusion_gemma, DiffusionGemmaTextRouter",
        notes="The causal text encoder is read; the block-diffusion decoder is not run.",
    ),
)
