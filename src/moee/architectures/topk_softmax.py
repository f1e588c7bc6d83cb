"""Models that choose experts by their logits and then take the softmax over the chosen ones alone.

gpt-oss and the token classifier that grew out of it (OpenAI), Aria (Rhymes AI), Command MoE (Cohere).
Granite and JetMoE, which do so too, are in `granite.py`.
"""

from __future__ import annotations

from moee.architectures.spec import SMALL, Architecture

_GPT_OSS_TINY = {
    **SMALL,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": 4,
    "num_local_experts": 8,
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
        tiny=_GPT_OSS_TINY,
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
        tiny=_GPT_OSS_TINY,
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers openai_privacy_filter, OpenAIPrivacyFilterTopKRouter",
        notes="An encoder: a token sees the window on both sides, so mean pooling fits it better than the last token.",
    ),
    Architecture(
        model_types=("aria_text",),
        wrappers=("aria",),
        router="mlp.router",
        router_class="AriaTextTopKRouter",
        before=("5.21", "AriaTextTopKRouter", 2),
        scoring_func="topk_softmax",
        top_k="moe_topk",
        tiny={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "moe_num_experts": 8,
            "moe_topk": 2,
            "moe_num_shared_experts": 1,
        },
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers aria, AriaTextTopKRouter",
    ),
    Architecture(
        model_types=("cohere2_moe",),
        router="mlp.gate",
        router_class="Cohere2MoeTopKRouter",
        scoring_func="topk_softmax",
        scoring_from=("expert_selection_fn", {"softmax": "topk_softmax", "sigmoid": "sigmoid"}),
        gguf="cohere2moe",
        tiny={
            **SMALL,
            "intermediate_size": 16,
            "prefix_dense_intermediate_size": 32,
            "num_hidden_layers": 3,
            "first_k_dense_replace": 1,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "sliding_window": 4,
            "sliding_window_pattern": 2,
            "num_experts": 8,
            "num_shared_experts": 1,
            "bos_token_id": None,
            "eos_token_id": None,
        },
        tiny_layers=(1, 2),
        tiny_experts=(8, 8),
        source="transformers cohere2_moe, Cohere2MoeTopKRouter",
    ),
)
