"""gpt-oss and the token classifier that grew out of it (OpenAI)."""

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
    "sliding_window": 4,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "pad_token_id": None,
    "eos_token_id": None,
}

ROWS = (
    Architecture(
        model_types=("gpt_oss",),
        router="mlp.router",
        router_class="GptOssTopKRouter",
        scoring_func="topk_softmax",
        gguf="gpt-oss",
        tiny=_TINY,
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers gpt_oss, GptOssTopKRouter",
        notes="The router has a bias of its own; the recorded logits include it.",
    ),
    Architecture(
        model_types=("openai_privacy_filter",),
        packs=False,
        router="mlp.router",
        router_class="OpenAIPrivacyFilterTopKRouter",
        scoring_func="topk_softmax",
        causal=False,
        tiny=_TINY,
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers openai_privacy_filter, OpenAIPrivacyFilterTopKRouter",
        notes="An encoder: a token sees the window on both sides, so mean pooling fits it better than the last token.",
    ),
)
